"""Connections of real sockets, counted and ended: those that are too many, and those that send what nobody reads."""

from __future__ import annotations

import contextlib
import socket as net
import time
from collections.abc import Callable, Iterator

import pytest
import zmq
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import sockets
from taskmaster.bus.onwire import size_on_wire
from taskmaster.daemon import connections as connections_module
from taskmaster.daemon.connections import Connection, Connections
from taskmaster.daemon.memory import resident_bytes

#: ZMTP 3.0's greeting of a peer without security, and its READY as a DEALER.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
LARGEST = 1 << 20


class House:
    """A ROUTER with its connections."""

    def __init__(self, most: int = 100, descriptors: int = 4096, secret: bytes = b"") -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = sockets.router(self.context, LARGEST)
        self.router.backlog = 1000
        if secret:
            self.router.curve_server, self.router.curve_secretkey = True, secret
        self.connections = Connections([self.router], most, LARGEST, descriptors)
        self.gone: list[Connection] = []
        self.connections.on_end = self.gone.append
        self.port = self.router.bind_to_random_port("tcp://127.0.0.1")

    def close(self) -> None:
        self.context.destroy(linger=0)

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


#: The first frame of a message with more to come, of a size beside which those of all tests are small.
BEGUN = b"\x03" + (LARGEST - 64).to_bytes(8, "big") + bytes(LARGEST - 64)
#: What is borne of the connections of one owner: of two that send half of that, one is too many.
BORNE = (128 << 20) + 4 * LARGEST
HALF = BORNE // 2 // LARGEST + 1


def begins(house: House, user: str, frames: int, source: str = "127.0.0.1") -> net.socket:
    """Somebody who has sent a message, if it is known whose it was, and of the next so many frames, not the last."""
    known = {connection.descriptor for connection in house.connections}
    raw = speak(house.raw(source))
    house.until(lambda: len(house.connections) == len(known) + 1, "it to be known")
    [connection] = [one for one in house.connections if one.descriptor not in known]
    if user:
        raw.sendall(b"\x00\x05hello")
        assert house.router.poll(round(1e3 * PATIENCE))
        [frames_read, _, origin] = sockets.receive_from(house.router) or pytest.fail("nothing has come")
        connection = house.connections.of(origin, user, time.monotonic())
        connection.read += size_on_wire(frames_read)
    for _ in range(frames):
        raw.sendall(BEGUN)
    # ZeroMQ reads from the system's queue in which it has come.
    eventually(lambda: has_come(connection) >= frames * len(BEGUN), "all of it to have come")
    return raw


def has_come(connection: Connection) -> int:
    return connections_module._received_by(connection.descriptor) or 0


def left(house: House, *, looks: int = 1, stands: bool = False) -> list[str]:
    """Whose connections are not ended after so many looks, in which memory does not grow."""
    for _ in range(looks):
        house.heed()
        house.connections.look(time.monotonic(), 0, stands=stands)
    return sorted(connection.user or connection.address for connection in house.connections if not connection.is_ended)


def test_connections_of_one_key_share_what_may_be_unread(house: House) -> None:
    """A message that is begun by each of them: nobody else's are ended for it, and of these no more than it takes."""
    with contextlib.ExitStack() as stack:
        crowd = [("mad", HALF), ("anna", HALF), ("mad", HALF + 5), ("mad", 1), ("anna", 1), ("mad", HALF + 9)]
        peers = [stack.enter_context(begins(house, *one)) for one in crowd]
        assert left(house) == ["anna", "anna", "mad", "mad"]
        for (user, frames), raw in zip(crowd, peers, strict=True):
            if user == "mad" and frames > HALF:
                assert _is_ended(raw), "it had more than the others"
        house.until(lambda: len(house.connections) == 4, "both to be gone")
        assert left(house) == ["anna", "anna", "mad", "mad"]


def test_as_long_as_nothing_is_received_all_of_a_key_end(house: House) -> None:
    """What came by one that ends stays in memory: else they could send as much by the next, and so on."""
    with contextlib.ExitStack() as stack:
        for one in (("mad", HALF), ("anna", HALF), ("mad", HALF), ("mad", 0), ("anna", 1)):
            stack.enter_context(begins(house, *one))
        assert left(house, stands=True) == ["anna", "anna"]


def test_where_memory_has_grown_by_much_it_is_looked_at_once(house: House) -> None:
    """A second is long: in one a network brings gigabytes."""
    now, before = time.monotonic(), 1 << 30
    house.connections.look(now, before)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(begins(house, "mad", HALF))
        house.heed()
        house.connections.glance(now, before + (1 << 20))
        assert house.connections.ended == 0
        house.connections.glance(now, 2 * before)
        assert house.connections.ended


def test_of_those_who_have_said_nothing_yet_connections_of_one_address_do(house: House) -> None:
    with contextlib.ExitStack() as stack:
        for source in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            stack.enter_context(begins(house, "", HALF, source))
        stack.enter_context(begins(house, "anna", HALF, "127.0.0.1"))
        assert left(house) == ["127.0.0.1", "127.0.0.2", "anna"]


def test_among_very_many_they_are_found_though_memory_does_not_grow() -> None:
    """What was seen of one counts while the others are looked at."""
    looks = 0
    with contextlib.closing(House(most=1000)) as house, contextlib.ExitStack() as stack:
        stack.enter_context(begins(house, "mad", HALF))
        for _ in range(600):
            stack.enter_context(house.raw("127.0.0.2"))
        house.until(lambda: len(house.connections) == 601, "all of them")
        house.connections.look(time.monotonic(), 0)
        stack.enter_context(begins(house, "mad", HALF))
        while left(house).count("mad") == 2:
            looks += 1
            assert looks < 16
        assert left(house).count("127.0.0.2") == 600


def test_all_together_may_have_so_much_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them within what its owner may: the largest are ended, as many as it takes."""
    monkeypatch.setattr(connections_module, "_UNREAD_IN_ALL", 140 << 20)
    monkeypatch.setattr(connections_module, "machine_bytes", lambda: 8 << 20)
    with contextlib.closing(House()) as house, contextlib.ExitStack() as stack:
        for k, frames in enumerate((30, 50, 40, 60, 20)):
            stack.enter_context(begins(house, f"key {k}", frames))
        assert left(house) == ["key 0", "key 1", "key 2", "key 4"], "200 MiB less 60 are borne"


def test_what_one_has_not_sent_in_months_is_not_saved_up_for_it(house: House) -> None:
    """There may be heartbeats between messages; a silent connection does not earn gigabytes by them."""
    with begins(house, "mad", 0) as raw:
        now, year = time.monotonic(), 365 * 86400.0
        house.connections.look(now + year, 0)
        for _ in range(2 * HALF):
            raw.sendall(BEGUN)
        [connection] = house.connections
        eventually(lambda: has_come(connection) >= 2 * HALF * len(BEGUN), "all of it to have come")
        house.connections.look(now + year + 1, 0)
        assert house.connections.ended == 1


def test_what_was_read_is_what_has_come_by_a_connection_that_encrypts() -> None:
    """Neither too little, or who sends much would be ended, nor too much, or what it sends next would not be seen."""
    public, secret = zmq.curve_keypair()
    house = House(secret=secret)
    dealer = house.context.socket(zmq.DEALER)
    dealer.curve_serverkey = public
    dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
    dealer.connect(f"tcp://127.0.0.1:{house.port}")

    counted = 0

    def takes(*frames: bytes) -> int:
        """Bytes that have come beyond those counted, when this has been sent and received."""
        nonlocal counted
        dealer.send_multipart(frames)
        assert house.router.poll(round(1e3 * PATIENCE))
        received, _, origin = sockets.receive_from(house.router) or pytest.fail("nothing has come")
        assert received[1:] == list(frames)
        counted += size_on_wire(received)
        return has_come(house.connections.of(origin, "anna", 0.0)) - counted

    with contextlib.closing(house):
        began = time.monotonic()
        handshake = takes(b"hello")
        for n in range(1000):
            beyond = takes(bytes(n)) if n % 3 else takes(b"", bytes(n), bytes(100 * n))
        heartbeats = connections_module._HEARTBEATS * (time.monotonic() - began)
        assert 0 <= beyond - handshake <= heartbeats
