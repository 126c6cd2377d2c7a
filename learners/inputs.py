"""The inputs of the tasks that a client has put itself: what an event says nothing of, because they are still here."""

from __future__ import annotations

from bisect import bisect_right

from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.table import Table, concatenate

__all__ = ["OwnInputs"]

#: Blocks up to so many bytes are joined, so many at a time: puts one by one, each acknowledged before the next, would
#: leave a table with its overhead for every task.
_SMALL_BYTES = 1024
_JOINED = 64


class OwnInputs:
    """Tables of inputs by the index of their first task, without gaps, until every task of a table has ended."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._tables: list[Table] = []
        #: how many tables at the end are small, of one layout, and not joined yet
        self._loose = 0
        self._ended = IntervalSet()

    def __len__(self) -> int:
        """How many tables there are."""
        return len(self._tables)

    def add(self, first: int, table: Table) -> None:
        """Keep the inputs of the tasks from ``first`` on, which follow those that were kept before."""
        if table.nbytes > _SMALL_BYTES:
            self._loose = 0
        elif self._loose and self._tables[-1].layout == table.layout:
            self._loose += 1
        else:
            self._loose = 1
        self._firsts.append(first)
        self._tables.append(table)
        if self._loose == _JOINED:
            self._tables[-_JOINED:] = [concatenate(self._tables[-_JOINED:])]
            del self._firsts[1 - _JOINED :]
            self._loose = 0

    def drop_from(self, index: int) -> None:
        """Tasks from ``index`` on do not exist after all."""
        self._loose = 0
        while self._firsts and self._firsts[-1] >= index:
            self._firsts.pop()
            self._tables.pop()
        if self._firsts and index < self._firsts[-1] + self._tables[-1].n:
            self._tables[-1] = self._tables[-1].slice(0, index - self._firsts[-1])

    def cover(self, low: int, high: int) -> bool:
        """Whether the inputs of all tasks ``low ≤ i < high`` are here."""
        firsts = self._firsts
        return bool(firsts) and firsts[0] <= low and high <= firsts[-1] + self._tables[-1].n

    def of(self, low: int, high: int) -> tuple[Table, ...]:
        """The inputs of the tasks ``low ≤ i < high``, as far as they are here."""
        return tuple([table.slice(start, stop) for table, start, stop in self.places(low, high)])

    def places(self, low: int, high: int) -> list[tuple[Table, int, int]]:
        """Where the inputs of these tasks are: tables, and which of their rows."""
        firsts = self._firsts
        found = []
        k = max(0, bisect_right(firsts, low) - 1)
        while k < len(firsts) and firsts[k] < high:
            first, table = firsts[k], self._tables[k]
            if low < first + table.n:
                found.append((table, max(low, first) - first, min(high, first + table.n) - first))
            k += 1
        return found

    def on_ended(self, low: int, high: int) -> None:
        """The tasks ``low ≤ i < high`` have ended: let go of the tables at the front of which all have."""
        self._ended.add(low, high)
        firsts, through = self._firsts, 0
        while through < len(firsts) and self._ended.covers(firsts[through], firsts[through] + self._tables[through].n):
            through += 1
        if through:
            del firsts[:through], self._tables[:through]
            self._loose = min(self._loose, len(firsts))
