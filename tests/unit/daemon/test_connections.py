"""Connections of real sockets, counted and ended: those that are too many, and those that send what nobody reads."""

from __future__ import annotations

import contextlib
import socket as net
import time
from collections.abc import Callable, Iterator

import pytest
import zmq
from helpers.waiting import PATIENCE

from taskmaster.bus import sockets
from taskmaster.daemon.connections import Connection, Connections, size_on_wire
from taskmaster.daemon.memory import resident_bytes

#: ZMTP 3.0's greeting of a peer without security, and its READY as a DEALER.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
LARGEST = 1 << 20


class House:
    """A ROUTER with its connections."""

    def __init__(self, most: int = 100, descriptors: int = 4096) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = sockets.router(self.context, LARGEST)
        self.connections = Connections([self.router], most, LARGEST, descriptors)
        self.gone: list[Connection] = []
        self.connections.on_end = self.gone.append
        self.port = self.router.bind_to_random_port("tcp://127.0.0.1")

    def heed(self) -> None:
        [monitor] = self.connections.monitors
        self.connections.heed({monitor: zmq.POLLIN}, time.monotonic())

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}"
            self.connections.monitors[0].poll(10)
            self.heed()

    def raw(self, source: str = "127.0.0.1") -> net.socket:
        return net.create_connection(("127.0.0.1", self.port), source_address=(source, 0))


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.context.destroy(linger=0)


def speak(raw: net.socket) -> net.socket:
    """Greet as ZeroMQ does."""
    raw.sendall(GREETING + b"\x04" + bytes([len(READY)]) + READY)
    got = b""
    while len(got) < 64 + 2 + len(READY):
        got += raw.recv(4096)
    return raw


def test_who_comes_and_goes_is_counted(house: House) -> None:
    with house.raw(), house.raw("127.0.0.2"):
        house.until(lambda: len(house.connections) == 2, "both")
    house.until(lambda: len(house.connections) == 0, "both to be gone")
    assert sorted(ended.address for ended in house.gone) == ["127.0.0.1", "127.0.0.2"]
    assert house.connections.ended == 0, "they went by themselves"


def test_what_is_told_late_of_one_socket_is_not_held_against_the_connections_of_another() -> None:
    """Descriptors are used again, and each socket tells of its own by itself."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    routers = [sockets.router(context, LARGEST) for _ in range(2)]
    connections = Connections(routers, 100, LARGEST, 4096)
    first, second = (router.bind_to_random_port("tcp://127.0.0.1") for router in routers)
    one, other = connections.monitors

    def heed(monitor: zmq.Socket[bytes]) -> list[int]:
        assert monitor.poll(int(1e3 * PATIENCE))
        connections.heed({monitor: zmq.POLLIN}, 0.0)
        return [connection.descriptor for connection in connections]

    for _ in range(100):
        with net.create_connection(("127.0.0.1", first)):
            before = heed(one)
        assert one.poll(int(1e3 * PATIENCE)), "it has gone, which is not heeded yet"
        with net.create_connection(("127.0.0.1", second)):
            after = heed(other)
            assert heed(one) == [descriptor for descriptor in after if descriptor not in before or after == before]
        assert heed(other) == []
        if after == before:
            break
    else:
        pytest.fail("the descriptor was never used again")
    context.destroy(linger=0)


def test_those_that_are_too_many_are_ended_and_others_stay() -> None:
    house = House(most=3)
    with contextlib.ExitStack() as stack:
        here = [stack.enter_context(house.raw()) for _ in range(3)]
        house.until(lambda: len(house.connections) == 3, "three")
        fourth, elsewhere = stack.enter_context(house.raw()), stack.enter_context(house.raw("127.0.0.3"))
        house.until(lambda: house.connections.ended == 1 and len(house.connections) == 4, "one to be ended")
        assert _is_ended(fourth)
        for raw in (*here, elsewhere):
            speak(raw)
    house.context.destroy(linger=0)


def test_what_has_no_descriptors_left_is_ended() -> None:
    house = House(descriptors=8)
    with contextlib.ExitStack() as stack:
        for k in range(6):
            stack.enter_context(house.raw(f"127.0.0.{k + 2}"))
        house.until(lambda: house.connections.ended == 2 and len(house.connections) == 4, "two to be ended")
    house.context.destroy(linger=0)


def _is_ended(raw: net.socket) -> bool:
    raw.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionError):
        while raw.recv(4096):
            pass
    return True


def sends_without_end(house: House, raw: net.socket, frame: bytes) -> int:
    """Bytes that a peer can send before it is ended."""
    raw.settimeout(0.2)
    sent, deadline, left = 0, time.monotonic() + PATIENCE, memoryview(frame)
    with contextlib.suppress(ConnectionError):
        while True:
            assert time.monotonic() < deadline, "everything is borne"
            with contextlib.suppress(TimeoutError):
                taken = raw.send(left)
                sent += taken
                left = left[taken:] or memoryview(frame)
            house.heed()
            house.connections.look(time.monotonic(), resident_bytes())
    return sent


@pytest.mark.parametrize("flags", [b"\x03", b"\x02"], ids=["of a message without end", "of messages that nobody reads"])
def test_who_sends_what_is_not_read_is_ended(house: House, flags: bytes) -> None:
    """ZeroMQ gathers all frames of a message before it gives any, and bounds its queues by messages alone."""
    payload = bytes(LARGEST - 64)
    with speak(house.raw()) as raw:
        sent = sends_without_end(house, raw, flags + len(payload).to_bytes(8, "big") + payload)
    assert sent < 300 << 20
    house.until(lambda: len(house.connections) == 0, "it to be gone")


def test_who_sends_much_that_is_read_stays(house: House) -> None:
    payload, read = bytes(LARGEST - 64), 0
    with speak(house.raw()) as raw:
        frame = b"\x02" + len(payload).to_bytes(8, "big") + payload
        while read < 400 << 20:
            raw.sendall(frame)
            house.router.poll()
            while received := sockets.receive_from(house.router):
                frames, user, origin = received
                connection = house.connections.of(origin, user, time.monotonic())
                connection.read += size_on_wire(frames)
                read += size_on_wire(frames)
            house.heed()
            house.connections.look(time.monotonic(), resident_bytes())
    assert house.connections.ended == 0
