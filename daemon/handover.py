"""Large frames between the daemon and the workers on its machine, by `taskmaster.bus.segments`.

A worker can be had this way when it has shown, by taking a segment that came with its welcome, that it can; the daemon
takes outcomes so from a worker whose own it could take when that said hello. All by connection: a worker that comes by
another one shows it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from taskmaster.bus import messages as m, segments
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import Buffer
from taskmaster.daemon.effects import Sender

__all__ = ["Handover"]


@dataclass(slots=True)
class _Neighbour:
    """A worker on this machine, as far as this goes."""

    #: whose segments are taken
    pid: int
    #: of the segment that it is to take, 0 when it has
    proof: int = 0
    #: segments for it, that it has yet to return
    waiting: set[int] = field(default_factory=set)

    @property
    def takes(self) -> bool:
        return not self.proof


class Handover:
    """The daemon's end, for all workers."""

    def __init__(self, max_message: int | None = None) -> None:
        """What workers put into one segment is no more than what one message may have."""
        self._max_message = max_message
        self._segments = segments.Segments()
        self._taken = segments.Taken()
        self._neighbours: dict[bytes, _Neighbour] = {}
        #: connections by which a segment came that could not be had: what comes by them is to come otherwise
        self._distrusted: set[bytes] = set()

    def __len__(self) -> int:
        """How many segments workers have."""
        return len(self._segments)

    def on_hello(self, sender: Sender, hello: m.WorkerHello) -> None:
        """A worker says hello: see whether what it puts into segments can be had."""
        self.forget(sender.address)
        if hello.proof is None or not sender.peer.is_local or sender.address in self._distrusted:
            return
        try:
            self._taken.take(hello.pid, hello.proof, most=segments.SEGMENT_BYTES)
        except ProtocolError:
            return
        self._neighbours[sender.address] = _Neighbour(hello.pid)

    def welcome(self, address: bytes, message: m.Welcome) -> m.Welcome:
        """The welcome, with what there is to say of this."""
        neighbour = self._neighbours.get(address)
        if neighbour is None:
            return message
        try:
            proof = self._segments.put([os.urandom(32)])
        except OSError:
            return replace(message, takes=True)
        neighbour.proof = proof.number
        neighbour.waiting.add(proof.number)
        return replace(message, takes=True, pid=os.getpid(), proof=proof)

    def on_returned(self, sender: Sender, returned: m.Returned) -> None:
        """A worker does not read these any more."""
        neighbour = self._neighbours.get(sender.address)
        if neighbour is None or not sender.peer.is_local:
            return
        numbers = neighbour.waiting.intersection(returned.numbers)
        if neighbour.proof in numbers:
            neighbour.proof = 0
        neighbour.waiting -= numbers
        self._segments.reuse(numbers)

    def returns(self) -> list[tuple[bytes, m.Returned]]:
        """Which segments of workers nobody reads here any more, and by which connections to say so."""
        numbers: dict[bytes, list[int]] = {}
        for address, number in self._taken.ended():
            numbers.setdefault(address, []).append(number)
        known = numbers.keys() & self._neighbours.keys()
        return [(address, m.Returned(tuple(numbers[address]))) for address in known]

    def take(self, sender: Sender, segment: m.Segment) -> list[memoryview] | None:
        """The frames of a worker's segment.

        None where they cannot be had: the worker has shown nothing to this daemon yet, which may be another than the
        one it sent them to, or this process can have no more of them. Asked to say hello, it sends them otherwise.
        """
        neighbour = self._neighbours.get(sender.address)
        if neighbour is None or not sender.peer.is_local:
            return None
        try:
            return self._taken.take(neighbour.pid, segment, sender.address, self._max_message)
        except ProtocolError:
            self._distrusted.add(sender.address)
            return None

    def give(
        self, address: bytes, message: m.Dispatch, frames: Sequence[Buffer]
    ) -> tuple[m.Dispatch, Sequence[Buffer]]:
        """A dispatch with its frames, which are in a segment if they are worth it and the worker takes it."""
        neighbour = self._neighbours.get(address)
        if neighbour is None or not neighbour.takes or sum(map(len, frames)) < segments.SEGMENT_BYTES:
            return message, frames
        if len(neighbour.waiting) >= segments.MOST_SEGMENTS:
            return message, frames
        try:
            segment = self._segments.put(frames)
        except OSError:
            return message, frames
        neighbour.waiting.add(segment.number)
        return replace(message, segment=segment), ()

    def forget(self, address: bytes) -> None:
        """Nobody is to be heard of by this connection any more."""
        neighbour = self._neighbours.pop(address, None)
        if neighbour is not None:
            self._segments.release(neighbour.waiting)

    def look(self, known: Collection[bytes]) -> None:
        """Once in a while: let go of what was for connections other than these, which are those of workers."""
        for address in self._neighbours.keys() - set(known):
            self.forget(address)
        self._distrusted.intersection_update(known)
        self._segments.tidy(time.monotonic())
