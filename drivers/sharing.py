"""What a worker on the daemon's machine shares with it: large inputs and outputs, see `taskmaster.bus.segments`.

Whether each can take the other's is found out when the worker says hello: with that goes a segment for the daemon to
take, with the welcome one for the worker. Where one cannot (a container, another user), frames go through the socket.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from taskmaster.bus import segments
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import Buffer
from taskmaster.bus.wire import Segment

__all__ = ["Sharing", "sharing_with"]


class Sharing:
    """A worker's end."""

    def __init__(self) -> None:
        self._segments = segments.Segments()
        #: for the daemon to try
        self.proof = self._segments.put([os.urandom(32)])
        #: whether the daemon takes what is put here
        self.puts = False
        self._daemon = 0
        self._fails = False

    def meet(self, daemon: int, proof: Segment | None, *, takes: bool) -> tuple[int, ...]:
        """The daemon with this process id has said so, and given a ``proof`` of its own; which of its are taken now."""
        self.puts = takes
        self._daemon = daemon
        if proof is None or self._fails:
            return ()
        try:
            self.take(proof)
        except ProtocolError:
            return ()
        return (proof.number,)

    def put(self, frames: Sequence[Buffer]) -> Segment | None:
        """Have these in a segment, if they are worth it, and the daemon takes it."""
        if not self.puts or sum(map(len, frames)) < segments.SEGMENT_BYTES:
            return None
        try:
            return self._segments.put(frames)
        except OSError:  # no memory of that kind, or no descriptor: there is another way
            return None

    def take(self, segment: Segment) -> list[memoryview]:
        """The frames of one of the daemon's. Raises ProtocolError."""
        try:
            return segments.take(self._daemon, segment)
        except ProtocolError:
            self._fails = True  # at the next hello the daemon is not told that this worker can
            raise

    def take_back(self, segment: Segment) -> list[memoryview]:
        """The frames of one of this worker's."""
        return segments.take(os.getpid(), segment)

    def release(self, numbers: Iterable[int]) -> None:
        """The daemon has what is in these."""
        self._segments.release(numbers)

    def close(self) -> None:
        """Let go of all."""
        self._segments.close()


def sharing_with(address: str) -> Sharing | None:
    """A worker's end towards the daemon at an address; None where that is another machine, or cannot be."""
    try:
        return Sharing() if address.startswith("ipc://") else None
    except OSError:
        return None
