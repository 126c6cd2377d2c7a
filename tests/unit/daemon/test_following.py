"""Whose subscriptions hold, at a real results socket with keys: what one connection says is about that one only."""

from __future__ import annotations

import contextlib
import os
import socket as unix
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import zmq
from helpers.places import short_folder
from helpers.waiting import PATIENCE

from taskmaster.bus import sockets
from taskmaster.bus.keys import Credentials, KeyPair, new_pair
from taskmaster.config.authorised import Grant, RoleName, edit
from taskmaster.daemon import bounds, following
from taskmaster.daemon.connections import Connections
from taskmaster.daemon.doorkeeper import LOCAL_DOMAIN, NETWORK_DOMAIN
from taskmaster.daemon.following import FEW, TOPIC_BYTES, Following
from taskmaster.daemon.gatehouse import open_gatehouse

TOPIC = b"square/1/io"
PATIENCE_MS = round(1e3 * PATIENCE)


class House:
    """A results socket on tcp and at a Unix socket, with two who may follow ``square``, and others who may not."""

    ROLES: tuple[tuple[str, RoleName, str], ...] = (
        ("anna", "observer", "square"),
        ("bob", "observer", "square"),
        ("mad", "worker", "echo"),
        ("eve", "observer", "echo"),
        ("zed", "observer", "echo"),
    )

    def __init__(self, folder: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.own = new_pair()
        self.pairs: dict[str, KeyPair] = {name: new_pair() for name, _, _ in self.ROLES}
        self._grants = {
            name: Grant(name, self.pairs[name].public, role, masters=frozenset([master]))
            for name, role, master in self.ROLES
        }
        (folder / "keys.toml").write_text("")
        edit(folder / "keys.toml", self._grants)
        self.gatehouse = open_gatehouse(self.context, folder / "keys.toml", time.time(), 1e6)
        self.xpub = sockets.publisher(self.context)
        self.connections = Connections([self.xpub], 1000, 1 << 20, 4096)
        self.gatehouse.watch(self.connections)
        sockets.guard(self.xpub, LOCAL_DOMAIN)
        self.near = sockets.bind(self.xpub, f"ipc://{folder}/results", "the socket")
        sockets.secure(self.xpub, self.own.secret, NETWORK_DOMAIN)
        self.far = sockets.bind(self.xpub, "tcp://127.0.0.1:*", "the socket")
        self.changes: list[tuple[bytes, bool]] = []
        self.following = Following(self.xpub, self.gatehouse, lambda topic, comes: self.changes.append((topic, comes)))
        self._sockets: list[zmq.Socket[bytes]] = []
        self._clients: list[zmq.Context[zmq.Socket[bytes]]] = []

    def close(self) -> None:
        for client in (*self._clients, self.context):
            client.destroy(linger=0)

    def wait(self) -> None:
        """Let whoever is at the door in; read nothing of what they follow, nor who has come and gone."""
        door = self.gatehouse.doorkeeper.socket
        if door.poll(10):
            self.gatehouse.serve({door: zmq.POLLIN}, time.monotonic())
        self.gatehouse.doorkeeper.look(time.monotonic())
        for socket in self._sockets:  # ZeroMQ's XSUB asks again, after it was cut off, when it is looked at
            if not socket.closed:
                socket.poll(0)

    def await_word(self) -> None:
        """Until there is something to be read of what they follow; let whoever is at the door in."""
        deadline = time.monotonic() + PATIENCE
        while not self.xpub.poll(0):
            assert time.monotonic() < deadline, "nothing is said"
            self.wait()

    def turn(self) -> None:
        self.wait()
        while self.following.take():
            pass
        self.gatehouse.serve(dict.fromkeys(self.connections.monitors, zmq.POLLIN), time.monotonic())

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}"
            self.turn()

    def come(self, name: str, *said: bytes, near: bool = False) -> zmq.Socket[bytes]:
        """Somebody's connection, that says this as soon as it is let in."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._clients.append(context)
        socket = context.socket(zmq.XSUB)
        socket.linger, socket.sndhwm = 0, 0
        if not near:
            Credentials(self.pairs[name], self.own.public).apply(socket)
        socket.connect(self.near if near else self.far)
        self._sockets.append(socket)
        for one in said:
            socket.send(one)
        return socket

    @contextlib.contextmanager
    def raw(self) -> Iterator[unix.socket]:
        """A peer at the Unix socket that is not ZeroMQ: it sends what it likes."""
        ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04XSUB"
        with unix.socket(unix.AF_UNIX) as raw:
            raw.connect(self.near.removeprefix("ipc://"))
            raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
            raw.sendall(bytes([4, len(ready)]) + ready)
            raw.setblocking(False)
            got = b""
            deadline = time.monotonic() + PATIENCE
            while len(got) <= 64:  # its greeting, and the READY that says that the authenticator has been asked
                assert time.monotonic() < deadline, "it is not let in"
                self.wait()
                with contextlib.suppress(BlockingIOError):
                    got += raw.recv(4096)
            raw.setblocking(True)
            yield raw

    def follows(self, name: str, topic: bytes = TOPIC, *, near: bool = False) -> zmq.Socket[bytes]:
        """Somebody who follows a topic."""
        before = len(self.changes)
        socket = self.come(name, b"\1" + topic, near=near)
        self.until(lambda: (topic, True) in self.changes[before:], "the subscription")
        return socket

    def leave(self, socket: zmq.Socket[bytes], left: int | None = None) -> None:
        """Have a connection end, and hear all that is said of that; so many are ``left``."""
        if left is None:
            left = len(self._alive) - 1
        socket.close()
        self.until(lambda: len(self._alive) == left, "a connection to end")
        for _ in range(5):  # what ZeroMQ tells of its subscriptions
            self.turn()

    @property
    def _alive(self) -> set[int]:
        return set(self.following.followers._connections)

    def hears(self, socket: zmq.Socket[bytes], topic: bytes = TOPIC) -> bool:
        """Whether somebody gets what is published."""
        while socket.poll(0):
            socket.recv_multipart()
        sockets.send(self.xpub, [topic, b"news"])
        return bool(socket.poll(PATIENCE_MS)) and socket.recv_multipart() == [topic, b"news"]

    def is_at(self, name: str, topics: int) -> bool:
        return self.topics_of(name) == topics

    def topics_of(self, name: str) -> int:
        account = self.gatehouse.bounds._accounts.get(name)
        return 0 if account is None else account.topics


def frame(content: bytes) -> bytes:
    """As ZMTP has it."""
    return bytes([0, len(content)]) + content


@pytest.fixture
def house() -> Iterator[House]:
    with short_folder() as folder:
        house = House(folder)
        yield house
        house.close()


def refused(house: House, count: int) -> None:
    house.until(lambda: house.following.refused >= count, f"{count} to be refused")


@pytest.mark.parametrize("near", [False, True], ids=["far", "near"])
def test_the_end_of_those_who_were_refused_silences_nobody(house: House, near: bool) -> None:
    anna = house.follows("anna", near=near)
    mad = house.come("mad", *[b"\1" + TOPIC] * 5, b"\1square/2/o")
    refused(house, 6)
    house.leave(mad)
    assert (TOPIC, False) not in house.changes
    assert TOPIC in house.following.followers
    assert house.hears(anna)
    house.leave(anna)
    assert house.changes[-1] == (TOPIC, False)
    assert len(house.following.followers) == 0


@pytest.mark.parametrize("name", ["mad", "bob"])
def test_the_end_of_those_who_are_kept_out_silences_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whether they meant harm or not: `bob` may follow what he asks for, but not so much."""
    monkeypatch.setattr(bounds, "MOST_TOPICS", 10)
    anna = house.follows("anna")
    mad = house.come(name, *(b"\1square/%d/o" % k for k in range(11)), *[b"\1" + TOPIC] * 5)
    house.until(lambda: name in house.gatehouse.bounds.barred(time.monotonic()), "it to be kept out")
    house.leave(mad, left=1)
    assert (TOPIC, False) not in house.changes
    assert house.hears(anna)
    assert (house.topics_of(name), house.topics_of("anna")) == (0, 1)
    assert len(house.following.followers) == 1


def test_cancelling_what_one_never_had_changes_nothing(house: House) -> None:
    anna = house.follows("anna")
    with house.raw() as raw:
        for _ in range(3):
            raw.sendall(frame(b"\0" + TOPIC))
        raw.sendall(frame(b"\1square/2/o"))
        house.until(lambda: (b"square/2/o", True) in house.changes, "its last word")
        assert TOPIC in house.following.followers
    house.until(lambda: (b"square/2/o", False) in house.changes, "it to be gone")
    assert (TOPIC, False) not in house.changes
    assert house.hears(anna)


def test_who_asks_twice_is_counted_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = house.come("bob", *[b"\1square/%d/o" % (k // 2) for k in range(20)])
    house.until(lambda: (b"square/9/o", True) in house.changes, "the first")
    for said in (b"\0square/0/o", b"\0square/0/o", b"\1square/10/o"):  # ZeroMQ tells of the second cancellation only
        bob.send(said)

    house.until(lambda: (b"square/10/o", True) in house.changes, "the last")
    assert house.topics_of("bob") == len(house.following.followers) == 10
    assert house.changes[-2] == (b"square/0/o", False)
    house.leave(bob)
    assert house.topics_of("bob") == len(house.following.followers) == 0


def test_what_is_refused_takes_no_room_and_who_follows_little_always_may(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "TOPICS", FEW + 10)
    house.come("mad", *(b"\1echo/%d/o" % k for k in range(2 * FEW)))
    refused(house, 2 * FEW)
    assert len(house.following.followers) == 0
    house.come("bob", *(b"\1square/%d/o" % k for k in range(2 * FEW)))
    refused(house, 3 * FEW - 10)
    assert len(house.following.followers) == FEW + 10
    assert house.hears(house.follows("anna"))
    assert house.hears(house.follows("", near=True))


def test_who_comes_by_the_descriptor_of_somebody_who_has_gone_keeps_what_they_follow(house: House) -> None:
    """The end of the one and the coming of the other are both unheard yet when the other's first word is read."""
    again = 0
    for k in range(4, 12):
        spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(k)]  # what the second opens itself, it has of these
        first = house.follows("anna")
        before = house._alive
        first.close()
        house.await_word()  # the end of its subscription
        for descriptor in spare:
            os.close(descriptor)
        second = house.come("anna", b"\1" + TOPIC)
        for _ in range(5):
            house.wait()
        house.changes.clear()
        house.until(partial(house.changes.__contains__, (TOPIC, True)), "the second")
        again += bool(house._alive & before)
        for _ in range(5):
            house.turn()
        assert house.hears(second)
        assert TOPIC in house.following.followers
        house.leave(second)
        assert TOPIC not in house.following.followers
    assert again, "no descriptor was used again"


def test_amid_what_is_no_subscription_nothing_is_granted_to_others(house: House) -> None:
    """ZeroMQ loses count of whose the subscriptions are that it gives us."""
    eve, zed = house.follows("eve", b"echo/9/o"), house.follows("zed", b"echo/9/o")
    anna = house.follows("anna", b"square/9/o")
    eve.send(b"\5not a subscription")
    house.await_word()
    for socket, said in ((anna, b"\1" + TOPIC), (zed, b"\1echo/1/o")):
        socket.send(said)
        time.sleep(0.1)  # nothing tells that it has come, behind what is there; were it late, it would be granted
        house.xpub.poll(0)
    house.until(lambda: (TOPIC, True) in house.changes, "anna to come again")
    assert house.hears(anna)
    while zed.poll(100):
        assert zed.recv_multipart()[0] != TOPIC, "it was granted to somebody else"
    assert "eve" in house.gatehouse.bounds.barred(time.monotonic())
    assert "anna" not in house.gatehouse.bounds.barred(time.monotonic())


@pytest.mark.parametrize("said", [b"\1" + b"x" * (TOPIC_BYTES + 1), b"", b"\2"])
def test_who_sends_what_no_program_does_is_kept_out(house: House, said: bytes) -> None:
    house.come("bob", said)
    house.until(lambda: "bob" in house.gatehouse.bounds.barred(time.monotonic()), "it to be kept out")
    house.until(lambda: not house._alive, "it to be gone")


def test_when_all_are_let_in_anew_nothing_is_left_of_before(house: House) -> None:
    anna, near = house.follows("anna"), house.follows("", near=True)
    house.follows("bob", b"square/2/o")
    sockets.rebind(house.xpub, house.far)
    house.following.on_readmitted()
    assert house.changes[-1] == (b"square/2/o", False)
    assert (house.topics_of("anna"), house.topics_of("bob")) == (0, 0)
    assert TOPIC in house.following.followers, "who is near has stayed"
    house.until(lambda: house.topics_of("anna") == house.topics_of("bob") == 1, "them to be back")
    assert house.hears(anna)
    assert house.hears(near)
    house.leave(near)
    assert house.hears(anna)
