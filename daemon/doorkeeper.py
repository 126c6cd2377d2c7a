"""Answers ZeroMQ's question, at each handshake, of whom to admit (ZAP, RFC 27).

It is served by the broker's loop, so there is no authenticator that could die alone: as long as the loop does not turn,
nobody is admitted. Should it not answer all the same, which the daemon sees by asking it, the daemon listens to the
network no more.

Who is to wait gets no answer for as long as ZeroMQ waits for one. To tell them to come again later would have them back
at once, with a further handshake, which takes more time than what they are kept out for.
"""

from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import dataclass

import zmq

from taskmaster.bus.keys import public_text
from taskmaster.bus.origins import AHEAD
from taskmaster.bus.sockets import HANDSHAKE_SECONDS
from taskmaster.bus.text import format_duration
from taskmaster.daemon.bounds import Bounds
from taskmaster.daemon.gate import LOCAL_USER, Gate

__all__ = ["LOCAL_DOMAIN", "NETWORK_DOMAIN", "Doorkeeper"]

log = logging.getLogger("taskmaster.daemon")

#: ZAP's domains: what is bound to the network, and to Unix sockets. They are the daemon's own word at its sockets.
NETWORK_DOMAIN = "taskmaster"
LOCAL_DOMAIN = "taskmaster-local"

_AUTHENTICATOR = "inproc://zeromq.zap.01"
#: Seconds between two questions that the daemon asks its own authenticator, and after which one without an answer is
#: trouble, …
_PROBE_SECONDS = 5.0
_PATIENCE_SECONDS = 15.0
#: … if it has looked for it so often at the least: the loop may have stood still.
_LOOKS = 3
#: Handshakes answered in one turn.
_HANDSHAKES = 64
#: Those that wait for their answer at most; whoever comes beyond is told to come again.
_MOST_WAITING = 10_000


@dataclass(slots=True)
class _Waiting:
    """A handshake whose answer is held back."""

    #: ZeroMQ's way back, version, number
    question: list[bytes]
    user: str
    name: str
    #: when ZeroMQ waits no more (monotonic)
    until: float


class Doorkeeper:
    """To be made before any socket is bound."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], gate: Gate, bounds: Bounds) -> None:
        self._gate = gate
        self._bounds = bounds
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.sndhwm = self.socket.rcvhwm = 0
        self.socket.bind(_AUTHENTICATOR)
        #: handshakes that were refused
        self.refused = 0
        #: … those that were admitted, and up to how many may be until it was looked what their numbers are
        self.admitted = 0
        self._room = AHEAD
        self._waiting: list[_Waiting] = []
        self._probe = context.socket(zmq.DEALER)
        self._probe.linger = 0
        self._probe.connect(_AUTHENTICATOR)
        #: when it was asked last, and when the first question was that has had no answer (monotonic)
        self._asked = -math.inf
        self._unanswered: float | None = None
        self._looks = 0

    def probe(self, now: float) -> None:
        """Once in a while: ask as ZeroMQ does, to see that whoever comes is answered."""
        while self._probe.poll(0):
            self._probe.recv_multipart()
            self._unanswered = None
        self._looks += 1
        if now < self._asked + _PROBE_SECONDS:
            return
        self._asked = now
        if self._unanswered is None:
            self._unanswered = now
            self._looks = 0
        with contextlib.suppress(zmq.Again):
            question = [b"", b"1.0", b"probe", LOCAL_DOMAIN.encode(), b"", b"", b"NULL"]
            self._probe.send_multipart(question, zmq.NOBLOCK)

    def trouble(self, now: float) -> str:
        """What is wrong with it; empty if nothing is."""
        if self._unanswered is None or now < self._unanswered + _PATIENCE_SECONDS or self._looks < _LOOKS:
            return ""
        return (
            f"the authenticator has not answered for {format_duration(now - self._unanswered)}: the daemon listens to "
            "the network no more; restart it"
        )

    @property
    def is_crowded(self) -> bool:
        """Whether so many were admitted that it should be looked soon what their numbers are."""
        return self.admitted > self._room - AHEAD // 2

    def make_room(self) -> None:
        """It was looked: as many may be admitted again."""
        self._room = self.admitted + AHEAD

    def serve(self, now: float) -> None:
        """Answer what is asked."""
        for _ in range(_HANDSHAKES):
            if self.admitted >= self._room or not self.socket.poll(0):
                return
            self._answer(self.socket.recv_multipart(), now)

    def look(self, now: float) -> None:
        """Once in a while: answer those who had to wait, and need not any more."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if now >= one.until:
                continue  # an answer would reach nobody, and count as a connection of theirs
            if self._gate.peer(one.user) is None:
                self._refuse(one.question, b"this key is not in force here")
            elif self.admitted < self._room and self._may_come(one.name, now):
                self._admit(one.question, one.user)
            else:
                self._waiting.append(one)

    def _answer(self, request: list[bytes], now: float) -> None:
        """To a way back, version, number, domain, address, identity, mechanism, credentials."""
        question, (domain, address, _, mechanism, *credentials) = request[:4], request[4:]
        user: str | None = None
        if mechanism == b"CURVE" and domain == NETWORK_DOMAIN.encode() and len(credentials) == 1:
            user = self._gate.user(credentials[0])
        elif mechanism == b"NULL" and domain == LOCAL_DOMAIN.encode():
            user = LOCAL_USER
        peer = None if user is None else self._gate.peer(user)
        if user is None or peer is None:
            self._note_refused(address, credentials)
            self._refuse(question, b"this key is not in force here")
        elif peer.is_local or self._may_come(peer.name, now):
            self._admit(question, user)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(_Waiting(question, user, peer.name, now + HANDSHAKE_SECONDS))
        else:
            self.socket.send_multipart([*question, b"300", b"try again later", b"", b""])

    def _may_come(self, name: str, now: float) -> bool:
        return not self._bounds.is_barred(name, now) and self._bounds.knock(name, now)

    def _admit(self, question: list[bytes], user: str) -> None:
        self.admitted += 1
        self.socket.send_multipart([*question, b"200", b"", user.encode(), b""])

    def _refuse(self, question: list[bytes], why: bytes) -> None:
        self.socket.send_multipart([*question, b"400", why, b"", b""])

    def _note_refused(self, address: bytes, credentials: list[bytes]) -> None:
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:  # 1, 2, 4, 8, …: a flood must not fill the log
            shown = public_text(credentials[0]) if credentials and len(credentials[0]) == 32 else "no key"
            where = address.decode("ascii", "replace")
            log.warning("refused connection %d: %s shows %s, which is not in force", self.refused, where, shown)
