"""What a worker on the daemon's machine shares with it: large inputs and outputs, see `taskmaster.bus.segments`.

Whether each can take the other's is found out when the worker says hello: with that goes a segment for the daemon to
take, with the welcome one for the worker. Where one cannot (a container, another user), frames go through the socket.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from itertools import count

from taskmaster.bus import segments
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import Buffer
from taskmaster.bus.wire import Segment

__all__ = ["Sharing", "sharing_with"]

#: How long the daemon may read what it has settled, before that is not waited for any more.
_PATIENCE_SECONDS = 10.0


class Sharing:
    """A worker's end."""

    def __init__(self) -> None:
        self._segments = segments.Segments()
        self._taken = segments.Taken()
        #: of those that the daemon was sent, those it was sent once, …
        self._once: set[int] = set()
        #: … those that it has returned, and those that it has but needs no more, since when (monotonic)
        self._returned: set[int] = set()
        self._settled: dict[int, float] = {}
        #: for the daemon to try
        self.proof = self._segments.put([os.urandom(32)])
        #: whether the daemon takes what is put here
        self.puts = False
        self._daemon = 0
        #: what is taken from now on is of this meeting: another daemon's numbers are not the present one's
        self._meeting = b""
        self._meetings = count(1)
        self._fails = False

    def meet(self, daemon: int, proof: Segment | None, *, takes: bool) -> None:
        """The daemon with this process id has said so, and given a ``proof`` of its own: to be returned."""
        self.puts = takes
        if daemon != self._daemon:  # what was on the way from the one before could not be had when that was gone
            self._fails = False
        self._daemon = daemon
        self._meeting = b"%d" % next(self._meetings)
        if proof is not None and not self._fails:
            with contextlib.suppress(ProtocolError):
                self.take(proof)

    def put(self, frames: Sequence[Buffer]) -> Segment | None:
        """Have these in a segment, if they are worth it, and the daemon takes it."""
        if not self.puts or sum(map(len, frames)) < segments.SEGMENT_BYTES:
            return None
        if len(self._segments) >= segments.MOST_SEGMENTS:
            return None
        try:
            segment = self._segments.put(frames)
        except OSError:  # no memory of that kind, or no descriptor: there is another way
            return None
        self._once.add(segment.number)
        return segment

    def take(self, segment: Segment) -> list[memoryview]:
        """The frames of one of the daemon's. Raises ProtocolError."""
        try:
            return self._taken.take(self._daemon, segment, self._meeting)
        except ProtocolError:
            self._fails = True  # at the next hello the daemon is not told that this worker can
            raise

    def take_back(self, segment: Segment) -> list[memoryview]:
        """The frames of one of this worker's."""
        return self._segments.frames(segment)

    def returns(self) -> tuple[int, ...]:
        """Which of the daemon's nobody reads here any more, since this was last asked.

        Those of before the latest welcome it has let go of, and another daemon may have given their numbers to others.
        """
        return tuple(number for meeting, number in self._taken.ended() if meeting == self._meeting)

    def on_returned(self, numbers: Iterable[int]) -> None:
        """The daemon reads these no more."""
        for number in self._once.intersection(numbers):
            if number in self._settled:
                self._let_go(number, again=True)
            else:
                self._returned.add(number)

    def sent_again(self, numbers: Iterable[int]) -> None:
        """The daemon may take these twice, and return them when it has done so once."""
        self._once.difference_update(numbers)

    def settled(self, numbers: Iterable[int]) -> None:
        """The daemon has what is in these, and may read it still."""
        for number in numbers:
            if number in self._once and number not in self._returned:
                self._settled[number] = time.monotonic()
            else:
                self._let_go(number, again=number in self._returned and number in self._once)

    def release(self, numbers: Iterable[int]) -> None:
        """These have gone another way."""
        for number in numbers:
            self._let_go(number, again=False)

    def _let_go(self, number: int, *, again: bool) -> None:
        self._settled.pop(number, None)
        self._returned.discard(number)
        self._once.discard(number)
        if again:
            self._segments.reuse((number,))
        else:
            self._segments.release((number,))

    def tidy(self, now: float) -> None:
        """Once in a while (monotonic): let go of what the daemon does not return, and of what is not used."""
        for number in [number for number, since in self._settled.items() if now > since + _PATIENCE_SECONDS]:
            self._let_go(number, again=False)
        self._segments.tidy(now)

    def close(self) -> None:
        """Let go of all."""
        self._segments.close()


def sharing_with(address: str) -> Sharing | None:
    """A worker's end towards the daemon at an address; None where that is another machine, or cannot be."""
    try:
        return Sharing() if address.startswith("ipc://") else None
    except OSError:
        return None
