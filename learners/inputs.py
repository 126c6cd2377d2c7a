"""The inputs of tasks that a client has put: its results need not bring them along."""

from __future__ import annotations

from bisect import bisect_right

from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.table import Table

__all__ = ["Inputs"]

#: Blocks that are through are let go of in one piece once so many are; each by itself would move all the others.
_LET_GO = 1024


class Inputs:
    """Blocks of a run, in the order of their tasks; several seconds' worth of single puts are many."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._tables: list[Table | None] = []
        #: blocks before this one are through
        self._at = 0
        self._through = IntervalSet()

    def append(self, first: int, table: Table) -> None:
        """The block of tasks ``first …``, behind all others."""
        self._firsts.append(first)
        self._tables.append(table)

    def cut(self, end: int) -> None:
        """Forget the blocks from task ``end`` on: the daemon has not taken them."""
        while len(self._firsts) > self._at and self._firsts[-1] >= end:
            self._firsts.pop()
            self._tables.pop()

    def cover(self, low: int, high: int) -> bool:
        """Whether tasks ``low ≤ i < high`` are within what is here."""
        if len(self._firsts) == self._at:
            return False
        last = self._tables[-1]
        return self._firsts[self._at] <= low and last is not None and high <= self._firsts[-1] + last.n

    def of(self, low: int, high: int) -> tuple[Table, ...]:
        """The inputs of tasks ``low ≤ i < high``, in pieces."""
        k = max(self._at, bisect_right(self._firsts, low) - 1)
        pieces = []
        while k < len(self._firsts) and self._firsts[k] < high:
            first, table = self._firsts[k], self._tables[k]
            if table is not None and low < first + table.n:
                pieces.append(table.slice(max(low, first) - first, min(high, first + table.n) - first))
            k += 1
        return tuple(pieces)

    def done(self, low: int, high: int) -> None:
        """Tasks ``low ≤ i < high`` have ended: let go of the blocks, from the first on, that are through."""
        self._through.add(low, high)
        while self._at < len(self._firsts):
            first, table = self._firsts[self._at], self._tables[self._at]
            assert table is not None, "only blocks that are through have been let go of"
            if not self._through.covers(first, first + table.n):
                break
            self._tables[self._at] = None
            self._at += 1
        if self._at > _LET_GO and 2 * self._at > len(self._firsts):
            del self._firsts[: self._at], self._tables[: self._at]
            self._at = 0
