"""Questions that are answered by reading, and what it may cost to answer them.

A request of a few bytes can ask for a page of half a megabyte, and ZeroMQ queues ten thousand messages for a peer that
does not read them. So each peer has two answers on their way at most (one, and one behind it, so that neither side
waits for the other); what it asks beyond that waits here, where it costs next to nothing, and a repetition of what
waits or is on its way is dropped. Somebody with a key can have thousands of peers: so all of theirs together have some
answers on their way, too, and some thousand questions waiting. In one turn so many bytes are answered with, to each
owner of a key in turn, of theirs to each peer, and the rest in the turns to come: whoever asks for much delays itself.

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
#: The same of all peers with one key, of which those go that are the oldest of whoever asks.
OWNER_ON_THE_WAY = 32
OWNER_WAITING = 16_384
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


class _Asker:
    """What the peers of somebody have asked and are being sent.

    That is the owner of a key; or one peer that came by a Unix socket, for the daemon's own user is not bounded.
    """

    __slots__ = ("questions", "sending", "waiting")

    def __init__(self) -> None:
        #: peer → what it has asked, oldest first; the peers in the order of their turns
        self.waiting: dict[bytes, dict[tuple[object, ...], Query]] = {}
        #: how many questions wait
        self.questions = 0
        #: peer → what it is being sent, which it may not have taken yet
        self.sending: dict[bytes, list[tuple[tuple[object, ...], Sending]]] = {}

    def ask(self, key: tuple[object, ...], query: Query) -> None:
        """Take note of a question."""
        if any(key == sent for sent, _ in self._on_the_way(query.address)):
            return
        waiting = self.waiting.setdefault(query.address, {})
        if key in waiting:
            return
        waiting[key] = query
        self.questions += 1
        if len(waiting) > WAITING or self.questions > OWNER_WAITING:
            self._take_oldest(query.address)

    def _take_oldest(self, peer: bytes) -> tuple[tuple[object, ...], Query]:
        waiting = self.waiting[peer]
        key = next(iter(waiting))
        query = waiting.pop(key)
        self.questions -= 1
        if not waiting:
            del self.waiting[peer]
        return key, query

    def take(self, peer: bytes) -> tuple[tuple[object, ...], Query]:
        """A peer's oldest question; the peer comes behind the others."""
        taken = self._take_oldest(peer)
        if peer in self.waiting:
            self.waiting[peer] = self.waiting.pop(peer)
        return taken

    def forget(self, peer: bytes) -> None:
        """Nothing that a peer has asked is to be answered any more."""
        self.questions -= len(self.waiting.pop(peer, ()))

    def next(self) -> bytes | None:
        """The peer that may be answered next; None if there is none."""
        if not self.waiting:
            return None
        self.tidy()
        if sum(map(len, self.sending.values())) >= OWNER_ON_THE_WAY:
            return None
        # Not many are looked at in vain, however many there are: of few is anything on its way.
        return next((peer for peer in self.waiting if len(self.sending.get(peer, ())) < ON_THE_WAY), None)

    def tidy(self) -> None:
        """Forget the answers that were taken."""
        for peer in list(self.sending):
            self._on_the_way(peer)

    def _on_the_way(self, peer: bytes) -> list[tuple[tuple[object, ...], Sending]]:
        sending = [sent for sent in self.sending.get(peer, ()) if not sent[1].done]
        if sending:
            self.sending[peer] = sending
        else:
            self.sending.pop(peer, None)
        return sending


class Answers:
    """The questions that wait, by asker. ``answer`` finds the answer to one; it raises nothing that is the peer's."""

    def __init__(self, socket: zmq.Socket[bytes], answer: Callable[[Question, Peer], Answer]) -> None:
        self._socket = socket
        self._answer = answer
        #: by the name of their key, or by the peer that came by a Unix socket
        self._askers: dict[str | bytes, _Asker] = {}
        #: those of whom anything waits, in the order of their turns
        self._waiting: dict[str | bytes, _Asker] = {}
        #: when to look again though nothing may have been asked
        self.due = math.inf
        self._pause = FIRST_LOOK

    def ask(self, query: Query) -> None:
        """Take note of a question."""
        name = query.address if query.peer.is_local else query.peer.name
        asker = self._askers.get(name)
        if asker is None:
            asker = self._askers[name] = _Asker()
        asker.ask((type(query.message), *astuple(query.message)), query)
        if asker.waiting:
            self._waiting.setdefault(name, asker)

    def forget(self, peers: Callable[[Peer], bool]) -> None:
        """What these peers have asked and not been answered is not answered any more."""
        for name, asker in list(self._waiting.items()):
            for address, waiting in list(asker.waiting.items()):
                if any(peers(query.peer) for query in waiting.values()):
                    asker.forget(address)
            if not asker.waiting:
                del self._waiting[name]

    def give(self, now: float) -> None:
        """Answer what may be answered in this turn."""
        self.due = math.inf
        if not self._waiting:
            return
        left, ready = TURN_BYTES, self._ready()
        gave = bool(ready)
        while ready and left > 0:
            for name, address in ready:
                left -= max(LEAST_BYTES, self._give_next(name, address))
                if left <= 0:
                    break
            ready = self._ready()
        self._pause = FIRST_LOOK if gave else min(2 * self._pause, LAST_LOOK)
        if self._waiting:
            self.due = now if ready else now + self._pause

    def tidy(self) -> None:
        """Once in a while: forget who has taken everything."""
        for name, asker in list(self._askers.items()):
            asker.tidy()
            if not asker.waiting and not asker.sending:
                del self._askers[name]

    def _ready(self) -> list[tuple[str | bytes, bytes]]:
        """Who may be answered, in turn, and by which peer: as many as a turn has room for."""
        ready = ((name, asker.next()) for name, asker in self._waiting.items())
        return list(islice(((name, peer) for name, peer in ready if peer is not None), TURN_BYTES // LEAST_BYTES))

    def _give_next(self, name: str | bytes, address: bytes) -> int:
        """Answer a peer's oldest question and put who asked behind the others; returns the bytes of the answer."""
        asker = self._waiting.pop(name)
        key, query = asker.take(address)
        frames = framed(*self._answer(query.message, query.peer))
        sending = sockets.send_tracked(self._socket, [address, *frames])
        if sending is None:  # it is gone
            asker.forget(address)
        else:
            asker.sending.setdefault(address, []).append((key, sending))
        if asker.waiting:
            self._waiting[name] = asker
        return 0 if sending is None else sum(map(len, frames))
