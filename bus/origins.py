"""Where the peers of a daemon's ROUTER are, and whether they go by the routing ids that it has given them.

A ROUTER of libzmq gives each peer an id: a zero byte, and the next number. A peer can choose one for itself instead,
and of that form, too. Where it is the number that is to be given next, libzmq 4.3.5 ends the process (an assertion).
Against that are three things. The numbers begin where nobody knows. Who speaks by an id that was not given is not
heard (:class:`Origins`). And it is looked whether somebody has a number that is near, who has not said anything yet
(:meth:`Origins.ask`).

That somebody has one does not say that they have chosen it: some come while it is looked, after an outage hundreds,
and are given the next ones. But numbers are given in order. So the ROUTER is asked twice: who had a number before one
that is not beyond it was given to us has chosen it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import zmq

__all__ = ["AHEAD", "Origins", "begin_anywhere", "find_first"]

#: How ZeroMQ names who comes by a Unix socket, and peers that are remembered at most.
_NEAR = re.compile(r"(?:localhost)?:(\d+):\d+:(\d+)")
_ORIGINS = 65_536

#: Bytes of a routing id that a ROUTER gives.
_GIVEN_BYTES = 5
#: Numbers that may have been given since the last that was heard of, where nobody counts who comes.
_SILENT_PEERS = 1 << 20
#: Where it is counted: how many may come until the ROUTER is asked again …
AHEAD = 256
#: … and how many of the next numbers are looked at, or the further half of them. Until it is looked again no more than
#: half of them are given, to those who were on their way as well: so each has been looked at before.
_LOOK = 4 * AHEAD
#: Numbers beyond the last that is known by which peers are heard still: ZeroMQ's own thread may lag behind.
_ON_THEIR_WAY = 1 << 14
_PLACES = count()
_libc = ctypes.CDLL(None)
#: the number that each ROUTER has given first
_first_ids: WeakKeyDictionary[zmq.Socket[bytes], int] = WeakKeyDictionary()
# As in `bus.sockets`: the method of the compiled base class.
_send: Callable[..., Any] = zmq.backend.Socket.send
_FIRST, _LAST = int(zmq.NOBLOCK | zmq.SNDMORE), int(zmq.NOBLOCK)


def begin_anywhere() -> None:
    """Have ROUTERs that are made from now on count from a random number: libzmq has it from rand(3), unseeded."""
    _libc.srand(int.from_bytes(os.urandom(4), sys.byteorder))


def find_first(router: zmq.Socket[bytes]) -> None:
    """Find the number in the id that a ROUTER gives to the first that comes: to us. To be called before any can."""
    place = f"inproc://first-{next(_PLACES)}"
    router.bind(place)
    with router.context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(place)
        peer.send(b"")
        given, _ = router.recv_multipart()
    router.unbind(place)
    _first_ids[router] = int.from_bytes(given[1:], "big")


class Origins:
    """Where the peers of a ROUTER are, by their routing ids, as ZeroMQ says of the connection of each.

    To ask for it takes as long as to receive a frame. A routing id that the ROUTER has given no other connection gets:
    so that is asked once. One that a peer has chosen for itself may be another's later, and is asked with each message.

    With ``counts`` no more than :data:`AHEAD` are let in between two answers to :meth:`ask`.
    """

    def __init__(self, router: zmq.Socket[bytes], *, counts: bool = False) -> None:
        self._router = router
        self._counts = counts
        self._settled: dict[bytes, str] = {}
        self._chosen: dict[bytes, str] = {}
        self._first = _first_ids[router]
        #: how many have been given, as far as they have been heard of
        self._given = 0
        #: who was heard of for the first time last
        self._newcomer = b""
        #: what the answer to `ask` is known by: nobody else knows it
        self.token = os.urandom(16)
        self._place = f"inproc://next-{next(_PLACES)}"
        #: which of the next numbers somebody was found to have, until the ROUTER has answered for the second time
        self._found: list[bytes] = []
        self._is_asking = False
        if counts:
            router.bind(self._place)
            # Kept: where there are no descriptors left, no socket can be made.
            self._asking = router.context.socket(zmq.DEALER)
            self._asking.linger = 0

    def __contains__(self, peer: bytes) -> bool:
        """Whether this is the routing id of somebody who has been heard of, and has not chosen it."""
        return peer in self._settled

    def _is_given(self, peer: bytes) -> bool:
        if len(peer) != _GIVEN_BYTES or peer[0]:
            return False
        number = self._number(peer)
        if self._counts:
            return number <= self._given + _ON_THEIR_WAY
        if number > self._given + _SILENT_PEERS:
            return False
        self._given = max(self._given, number)
        return True

    def _number(self, peer: bytes) -> int:
        """How many were given an id before."""
        return (int.from_bytes(peer[1:], "big") - self._first) & 0xFFFFFFFF

    def note(self, peer: bytes, frame: zmq.Frame) -> None:
        """A message of this peer, by one of its frames."""
        try:
            origin = _origin(str(frame.get("Peer-Address")))
        except zmq.ZMQError:
            origin = ""
        self._newcomer = peer
        known = self._settled if self._is_given(peer) else self._chosen
        if len(known) >= _ORIGINS:
            known.clear()  # they are asked for again
        known[peer] = origin

    def is_first(self, peer: bytes) -> bool:
        """Whether this peer was not heard of before its latest message; to be asked once of that."""
        is_newcomer, self._newcomer = peer == self._newcomer, b""
        return is_newcomer

    def of(self, peer: bytes) -> str:
        """Where the peer is whose message was received last under this routing id; empty where that is not known."""
        origin = self._settled.get(peer)
        return self._chosen.get(peer, "") if origin is None else origin

    def ask(self) -> None:
        """Have the ROUTER tell which number is next: by a message of two frames, whose second is the ``token``."""
        if not self._is_asking:
            self._is_asking = True
            self._asking.connect(self._place)
            self._asking.send(self.token)

    def answered(self, given: bytes, newcomers: int = 0) -> list[bytes] | None:
        """The answer has come, from the id that was given to us: which of the next ones somebody has chosen already.

        None where that is known when it has been answered once more, for which it has been asked. Whoever has one of
        the next is sent a message that says nothing: there is no other way to know. So those are left out that are
        given to the ``newcomers`` who may be on their way; of these the further ones have been looked at before.
        """
        self._asking.disconnect(self._place)
        self._is_asking = False
        self._settled.pop(given, None)
        self._given = self._number(given)
        if self._found:
            found, self._found = self._found, []
            return [peer for peer in found if self._number(peer) > self._given]
        latest, nearest = int.from_bytes(given[1:], "big"), 1 + min(newcomers, _LOOK // 2)
        following = (b"\0" + ((latest + k) & 0xFFFFFFFF).to_bytes(4, "big") for k in range(nearest, _LOOK + 1))
        self._found = [peer for peer in following if self._is_there(peer)]
        if not self._found:
            return []
        self.ask()
        return None

    def _is_there(self, peer: bytes) -> bool:
        """Whether the ROUTER, which is one that says so (ROUTER_MANDATORY), knows somebody by this id."""
        try:
            _send(self._router, peer, _FIRST)
        except zmq.Again:
            return True  # and takes nothing
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return False
            raise
        _send(self._router, b"", _LAST)
        return True


def _origin(said: str) -> str:
    """A network address as it is; of a Unix socket ZeroMQ says ``localhost:UID:GID:PID``."""
    near = _NEAR.fullmatch(said)
    return said if near is None else f"uid {near[1]} pid {near[2]}"
