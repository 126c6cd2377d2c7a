"""How many evaluations each task has used up without an outcome. Pure state, see `run`."""

from __future__ import annotations

from collections.abc import Iterator

from taskmaster.bus.intervals import IntervalSet

__all__ = ["Attempts"]


class Attempts:
    """Counts by task, kept as the intervals that have the same one: a lost chunk costs as much as a lost task.

    There are as many distinct counts as a task may have attempts, which are few, so each is looked at.
    """

    __slots__ = ("_by_count",)

    def __init__(self) -> None:
        #: count → the tasks that have it; none is empty
        self._by_count: dict[int, IntervalSet] = {}

    def __bool__(self) -> bool:
        return bool(self._by_count)

    def __getitem__(self, index: int) -> int:
        """What one task has used up."""
        return next((count for count, tasks in self._by_count.items() if index in tasks), 0)

    def pieces(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """``(first, end, count)`` of the tasks ``low ≤ i < high``, in order; those of one piece have the same count."""
        charged = sorted((*part, count) for count, tasks in self._by_count.items() for part in tasks.within(low, high))
        pieces = []
        for first, end, count in charged:
            if low < first:
                pieces.append((low, first, 0))
            pieces.append((first, end, count))
            low = end
        if low < high:
            pieces.append((low, high, 0))
        return pieces

    def alike(self, low: int, high: int) -> tuple[int, int]:
        """``(end, count)`` of those from ``low`` on, and before ``high``, that have the same count."""
        own = 0
        for count, tasks in self._by_count.items():
            reach = tasks.reach(low)
            if reach is None:
                continue
            first, end = reach
            if first <= low:
                own, high = count, min(high, end)
            else:
                high = min(high, first)
        return high, own

    def set(self, low: int, high: int, count: int) -> None:
        """The tasks ``low ≤ i < high`` have used up so many."""
        self.forget(low, high)
        if low < high:
            self._by_count.setdefault(count, IntervalSet()).add(low, high)

    def forget(self, low: int, high: int) -> None:
        """The tasks ``low ≤ i < high`` have ended."""
        self.forget_all(IntervalSet([(low, high)]))

    def forget_all(self, ended: IntervalSet) -> None:
        """So have these."""
        for count, tasks in list(self._by_count.items()):
            tasks.remove_all(ended)
            if not tasks:
                del self._by_count[count]

    def items(self) -> Iterator[tuple[int, int]]:
        """``(task, count)`` of every task that has used up any."""
        for count, tasks in self._by_count.items():
            for index in tasks.indices():
                yield index, count
