"""The tasks of a run that are in doubt, and what is known of each. Pure state, see `run`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter

import msgspec
from msgspec.structs import replace

__all__ = ["Doubt", "Held"]


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """What happened to the tasks ``first ≤ i < end``."""

    first: int
    end: int
    #: the number of the evaluation that was lost
    attempt: int
    #: name of the worker that had them
    worker: str
    #: seconds since 1970
    since: float
    reason: str


_first = attrgetter("first")
_end = attrgetter("end")


class Held:
    """Tasks in doubt, kept as those that were lost together. ``len`` counts tasks, iteration yields ``(low, high)``."""

    __slots__ = ("_doubts", "_size")

    def __init__(self) -> None:
        #: disjoint, in order
        self._doubts: list[Doubt] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, index: int) -> bool:
        return self._at(index, index + 1) != (0, 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self._doubts == other._doubts

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(doubt.first, doubt.end) for doubt in self._doubts])

    def after(self, index: int) -> Iterator[tuple[int, Doubt]]:
        """Every task above ``index``, in order, with what happened to it."""
        for doubt in self._doubts[bisect_right(self._doubts, index + 1, key=_end) :]:
            for task in range(max(doubt.first, index + 1), doubt.end):
                yield task, doubt

    def count(self, low: int, high: int) -> int:
        """How many of ``low ≤ i < high`` are in doubt."""
        start, stop = self._at(low, high)
        return sum(min(doubt.end, high) - max(doubt.first, low) for doubt in self._doubts[start:stop])

    def add(self, doubt: Doubt) -> None:
        """These are in doubt now; what was known of them before is forgotten."""
        self.remove(doubt.first, doubt.end)
        insort(self._doubts, doubt, key=_first)
        self._size += doubt.end - doubt.first

    def remove(self, low: int, high: int) -> None:
        """The tasks ``low ≤ i < high`` are in doubt no more."""
        start, stop = self._at(low, high)
        if start == stop:
            return
        self._size -= self.count(low, high)
        self._doubts[start:stop] = [
            replace(doubt, first=first, end=end)
            for doubt in self._doubts[start:stop]
            for first, end in ((doubt.first, min(doubt.end, low)), (max(doubt.first, high), doubt.end))
            if first < end
        ]

    def _at(self, low: int, high: int) -> tuple[int, int]:
        """Which of the doubts, ``start ≤ k < stop``, are about any of ``low ≤ i < high``; ``(0, 0)`` for none."""
        start = bisect_right(self._doubts, low, key=_end)
        stop = bisect_left(self._doubts, high, key=_first)
        return (start, stop) if start < stop else (0, 0)
