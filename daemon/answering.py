"""Questions that are answered by reading, and what it may cost to answer them.

A request of a few bytes can ask for a page of half a megabyte, and ZeroMQ queues ten thousand messages for a peer that
does not read them. So each peer has two answers on their way at most (one, and one behind it, so that neither side
waits for the other); what it asks beyond that waits here, where it costs next to nothing, and a repetition of what
waits or is on its way is dropped. In one turn so many bytes are answered with, to each peer in turn, and the rest in
the turns to come: whoever asks for much delays itself.

Whether an answer is on its way is known from ZeroMQ, which lets go of a message when the network has taken it or the
connection is gone. The alternatives were worse: a client of another language need not ask in an order from which it
could be guessed, and a low mark on the socket would drop acknowledgements too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeAlias

import zmq
from msgspec.structs import astuple

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.errors import TooLarge
from taskmaster.bus.sockets import Sending
from taskmaster.bus.table import Buffer
from taskmaster.daemon.effects import Query, WasForked, WasOpened
from taskmaster.daemon.roles import Peer

__all__ = ["Answers", "framed"]

Question: TypeAlias = (
    m.Describe
    | m.ListRuns
    | m.ListHeads
    | m.Replay
    | m.ReadAsks
    | m.ReadWriters
    | m.Status
    | m.ListHeld
    | m.ListAlarms
    | m.ReadProgress
    | m.ReadSamples
    | m.ListRequests
    | m.ListProposed
    | m.ReadAudit
    | WasOpened
    | WasForked
)
Answer: TypeAlias = tuple[m.DaemonMessage, Sequence[Buffer]]

#: Answers on their way to one peer at most.
ON_THE_WAY = 2
#: Questions of one peer that wait at most; the oldest go, and are asked again if they are still of interest.
WAITING = 1024
#: Bytes of answers in a turn …
TURN_BYTES = 2 << 20
#: … of which each counts for so many at least, for to read little takes time too.
LEAST_BYTES = 64 << 10
#: Seconds after which to look whether a peer has taken its answers, from the first time on, doubled up to the last.
FIRST_LOOK, LAST_LOOK = 0.001, 0.05


def framed(message: m.DaemonMessage, frames: Sequence[Buffer] = ()) -> list[Buffer]:
    """An answer as it is sent; a refusal in its place where it is more than a message can hold."""
    try:
        return [codec.encode(message), *frames]
    except TooLarge as error:
        return [codec.encode(m.Refused(error.code, str(error), getattr(message, "id", 0)))]


class Answers:
    """The questions that wait, by peer. ``answer`` finds the answer to one; it raises nothing that is the peer's."""

    def __init__(self, socket: zmq.Socket[bytes], answer: Callable[[Question, Peer], Answer]) -> None:
        self._socket = socket
        self._answer = answer
        #: peer → what it has asked, oldest first; the peers in the order of their turns
        self._waiting: dict[bytes, dict[tuple[object, ...], Query]] = {}
        #: peer → what it is being sent, which it may not have taken yet
        self._sending: dict[bytes, list[tuple[tuple[object, ...], Sending]]] = {}
        #: when to look again though nothing may have been asked
        self.due = math.inf
        self._pause = FIRST_LOOK

    def ask(self, query: Query) -> None:
        """Take note of a question."""
        key = (type(query.message), *astuple(query.message))
        if any(key == sent for sent, _ in self._on_the_way(query.address)):
            return
        waiting = self._waiting.setdefault(query.address, {})
        waiting.setdefault(key, query)
        if len(waiting) > WAITING:
            del waiting[next(iter(waiting))]

    def forget(self, peers: Callable[[Peer], bool]) -> None:
        """What these peers have asked and not been answered is not answered any more."""
        for address, waiting in list(self._waiting.items()):
            if any(peers(query.peer) for query in waiting.values()):
                del self._waiting[address]

    def give(self, now: float) -> None:
        """Answer what may be answered in this turn."""
        self.due = math.inf
        if not self._waiting:
            return
        left, ready = TURN_BYTES, self._ready()
        gave = bool(ready)
        while ready and left > 0:
            for address in ready:
                left -= max(LEAST_BYTES, self._give_next(address))
                if left <= 0:
                    break
            ready = self._ready()
        self._pause = FIRST_LOOK if gave else min(2 * self._pause, LAST_LOOK)
        if self._waiting:
            self.due = now if ready else now + self._pause

    def tidy(self) -> None:
        """Once in a while: forget who has taken everything."""
        for address in list(self._sending):
            self._on_the_way(address)

    def _ready(self) -> list[bytes]:
        """The peers that may be answered, in turn: as many as a turn has room for."""
        ready = (address for address in self._waiting if len(self._on_the_way(address)) < ON_THE_WAY)
        return list(islice(ready, TURN_BYTES // LEAST_BYTES))

    def _on_the_way(self, address: bytes) -> list[tuple[tuple[object, ...], Sending]]:
        sending = [sent for sent in self._sending.get(address, ()) if not sent[1].done]
        if sending:
            self._sending[address] = sending
        else:
            self._sending.pop(address, None)
        return sending

    def _give_next(self, address: bytes) -> int:
        """Answer a peer's oldest question and put the peer behind the others; returns the bytes of the answer."""
        waiting = self._waiting.pop(address)
        key = next(iter(waiting))
        query = waiting.pop(key)
        frames = framed(*self._answer(query.message, query.peer))
        if waiting:
            self._waiting[address] = waiting
        sending = sockets.send_tracked(self._socket, [address, *frames])
        if sending is None:  # it is gone
            self._waiting.pop(address, None)
            return 0
        self._sending.setdefault(address, []).append((key, sending))
        return sum(map(len, frames))
