"""Where a message comes from, as ZeroMQ says of the connection that it came by."""

from __future__ import annotations

import os
import resource
import socket as unix
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from helpers.places import short_folder
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import origins as origins_, sockets
from taskmaster.bus.onwire import Overlong
from taskmaster.bus.origins import AHEAD, Origins

Receive = Callable[..., Any]
_SAY = "import sys, zmq; s = zmq.Context().socket(zmq.DEALER); s.connect(sys.argv[1]); s.send(b'hi'); s.recv()"


class Made:
    """Sockets, which are closed when all is over."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._all: list[object] = []

    def __call__(self, make: Callable[[zmq.Context[zmq.Socket[bytes]]], zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket = make(self.context)
        self._all.append(socket)
        return socket

    def counting(self, router: zmq.Socket[bytes]) -> Origins:
        """The origins of a router's peers, who are counted."""
        origins = Origins(router, counts=True)
        self._all.append(origins)
        return origins


@pytest.fixture
def made() -> Iterator[Made]:
    made = Made()
    yield made
    made.context.destroy(linger=0)


@pytest.fixture
def near() -> Iterator[str]:
    with short_folder() as folder:
        yield f"ipc://{folder}/socket"


def arrived(socket: zmq.Socket[bytes], receive: Receive, origins: Origins) -> list[bytes]:
    assert socket.poll(round(PATIENCE * 1e3))
    received = receive(socket, origins=origins)
    frames: list[bytes] = received if isinstance(received, list) else received[0]
    return frames


def given(router: zmq.Socket[bytes], k: int) -> bytes:
    """The routing id that a ROUTER gives to the ``k``-th who comes after the first."""
    number = (origins_._first_ids[router] + k) & 0xFFFFFFFF
    return b"\0" + number.to_bytes(4, "big")


@pytest.mark.parametrize("receive", [sockets.receive, sockets.receive_from])
def test_peers_are_where_they_come_from(made: Made, near: str, receive: Receive) -> None:
    router = made(sockets.router)
    origins = Origins(router)
    router.bind(near)
    network = sockets.bind(router, "tcp://127.0.0.1:*", "it")
    peers = [made(sockets.dealer) for _ in range(2)]
    for peer, address in zip(peers, (near, network)):
        peer.connect(address)
    for where, peer in ((f"uid {os.getuid()} pid {os.getpid()}", peers[0]), ("127.0.0.1", peers[1])):
        for k in range(3):
            peer.send_multipart([b"hello", b"%d" % k])
            frames = arrived(router, receive, origins)
            assert frames[1:] == [b"hello", b"%d" % k], "nothing is missing of it"
            assert origins.of(frames[0]) == where
    with subprocess.Popen([sys.executable, "-c", _SAY, near]) as other:
        frames = arrived(router, receive, origins)
        assert origins.of(frames[0]) == f"uid {os.getuid()} pid {other.pid}"
        sockets.send(router, [frames[0], b""])
    assert origins.of(b"nobody") == ""


@pytest.mark.parametrize("receive", [sockets.receive, sockets.receive_from])
@pytest.mark.parametrize("like_given", [False, True])
def test_who_takes_the_name_of_another_is_where_they_are(
    made: Made, near: str, receive: Receive, like_given: bool
) -> None:
    """Routing ids that peers choose come again: of each message it is asked."""
    router = made(sockets.router)
    name = given(router, -1) if like_given else b"anna"
    origins = Origins(router)
    router.bind(near)
    network = sockets.bind(router, "tcp://127.0.0.1:*", "it")
    for address, where in ((near, f"uid {os.getuid()} pid {os.getpid()}"), (network, "127.0.0.1"), (near, "uid")):

        def is_heard(address: str = address) -> bool:
            """Until ZeroMQ has noticed that one of this name has gone, another one is turned away for good."""
            peer = made(sockets.dealer)
            peer.routing_id = name
            peer.connect(address)
            peer.send(b"hello")
            heard = bool(router.poll(200))
            peer.close(linger=0)
            return heard

        eventually(is_heard, "somebody of this name to be let in")
        assert arrived(router, receive, origins) == [name, b"hello"]
        assert origins.of(name).startswith(where)
        assert name not in origins
        while router.poll(0):
            router.recv_multipart()


def test_a_router_counts_from_where_nobody_knows() -> None:
    """Whoever knew which number is next could choose it, and so end the process."""
    program = "import zmq; from taskmaster.bus import origins as o, sockets as s; "
    program += "r = s.router(zmq.Context()); print(o._first_ids[r])"
    said = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(said) == 3


def test_who_holds_a_number_that_is_given_soon_is_seen(made: Made, near: str) -> None:
    """It would end the process when that is given: also of somebody who says nothing."""
    router = made(sockets.router)
    origins = made.counting(router)
    router.bind(near)
    network = sockets.bind(router, "tcp://127.0.0.1:*", "it")
    honest, wicked, far = (made(sockets.dealer) for _ in range(3))
    wicked.routing_id, far.routing_id = given(router, AHEAD), given(router, -AHEAD)

    def next_taken() -> list[bytes]:
        origins.ask()
        origins.ask()
        taken: list[bytes] | None = None
        while taken is None:
            [ours, token] = arrived(router, sockets.receive_from, origins)
            assert token == origins.token
            assert not router.poll(0), "asked once"
            taken = origins.answered(ours)
            assert ours not in origins
        return taken

    assert next_taken() == []
    honest.connect(network)
    honest.send(b"hello")
    [who, _] = arrived(router, sockets.receive_from, origins)
    assert who in origins
    assert next_taken() == []
    for peer in (wicked, far):
        peer.connect(network)
    eventually(lambda: next_taken() == [wicked.routing_id], "it to be seen")
    assert wicked.recv() == b""
    assert not far.poll(0)
    assert not honest.poll(0)
    wicked.close(linger=0)
    eventually(lambda: next_taken() == [], "it to be gone")
    for _ in range(AHEAD + 3):  # the number comes, and is nobody's
        next_taken()


def test_who_comes_while_it_is_looked_has_chosen_nothing(made: Made, near: str) -> None:
    """As hundreds do, when the daemon is back."""
    router = made(sockets.router)
    origins = made.counting(router)
    router.bind(near)
    origins.ask()
    assert router.poll(round(PATIENCE * 1e3))  # a number is given to us
    crowd = [made(sockets.dealer) for _ in range(20)]
    for peer in crowd:
        peer.connect(near)
        peer.send(b"hello")
    [ours, token] = arrived(router, sockets.receive_from, origins)
    assert token == origins.token
    for _ in crowd:
        assert arrived(router, sockets.receive_from, origins)[0] in origins
    assert origins.answered(ours) is None, "these have the next numbers"
    [ours, token] = arrived(router, sockets.receive_from, origins)
    assert token == origins.token
    assert origins.answered(ours) == []
    for peer in crowd:  # hears a message that says nothing, and leaves it out
        assert peer.poll(round(PATIENCE * 1e3))
        assert sockets.receive(peer) is None
    origins.ask()
    assert router.poll(round(PATIENCE * 1e3))
    late = made(sockets.dealer)
    late.connect(near)
    late.send(b"hello")
    [ours, _] = arrived(router, sockets.receive_from, origins)
    arrived(router, sockets.receive_from, origins)
    assert origins.answered(ours, newcomers=1) == [], "who is on their way is not looked at"
    assert not late.poll(0)


def test_it_is_looked_where_no_descriptors_are_left(made: Made) -> None:
    router = made(sockets.router)
    origins = made.counting(router)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(zmq.ZMQError):
            router.context.socket(zmq.DEALER)
        origins.ask()
        [ours, _] = arrived(router, sockets.receive_from, origins)
        assert origins.answered(ours) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_message_of_too_many_frames_leaves_nothing_behind(made: Made, near: str) -> None:
    router = made(sockets.router)
    router.bind(near)
    peer = made(sockets.dealer)
    peer.connect(near)
    for frames in ([b""] * 9, [b"next"]):
        peer.send_multipart(frames)
    assert router.poll(round(PATIENCE * 1e3))
    origins = Origins(router)
    overlong = sockets.receive(router, 4, origins)
    assert isinstance(overlong, Overlong)
    assert (list(overlong), overlong.frames, overlong.on_wire) == ([], 9, 9 * 35)
    assert router.poll(round(PATIENCE * 1e3))
    assert (sockets.receive(router, 4, origins) or [b""])[1:] == [b"next"]


def test_what_is_no_socket_cannot_be_borrowed_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with open(tmp_path / "file", "wb") as file:
        before = descriptors()
        with pytest.raises(OSError, match="non-socket"), sockets.borrowed(file.fileno()):
            pytest.fail("it is a file")
        assert descriptors() == before
    with unix.create_server(("127.0.0.1", 0)) as server:
        with sockets.borrowed(server.fileno()) as ours:
            assert ours.getsockname() == server.getsockname()
        assert server.fileno() >= 0
        with unix.create_connection(server.getsockname()):
            server.accept()[0].close()
