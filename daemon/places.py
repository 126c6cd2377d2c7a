"""Where the tasks of a run are to be evaluated, for those that ask for it. Pure state, see `run`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import Where
from taskmaster.daemon.labels import Labels

__all__ = ["ANYWHERE", "PlacedQueue", "Places"]

ANYWHERE = Where()


class Places(Labels[Where]):
    """What tasks ask for, of those that do."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ANYWHERE)


class PlacedQueue(IntervalSet):
    """A queue of tasks that also knows the first one that fits a head, however many wait for others."""

    __slots__ = ("_parts", "_places")

    def __init__(self, tasks: Iterable[tuple[int, int]], places: Places) -> None:
        """``places`` may change only for tasks that are not queued."""
        self._places = places
        self._parts: dict[Where, IntervalSet] = {}
        super().__init__(tasks)

    def first_for(self, fits: Callable[[Where], bool]) -> tuple[int, int] | None:
        """The lowest interval of tasks that ask for the same, if that fits; None if there is none."""
        firsts = [part.first for where, part in self._parts.items() if part and fits(where)]
        return min(firsts, default=None)

    def counts(self) -> Iterator[tuple[Where, int]]:
        """How many tasks ask for what, of those that do."""
        return ((where, len(part)) for where, part in self._parts.items() if part and where != ANYWHERE)

    def add(self, low: int, high: int) -> None:
        super().add(low, high)
        for first, end, where in self._places.pieces(low, high):
            self._parts.setdefault(where, IntervalSet()).add(first, end)

    def remove(self, low: int, high: int) -> int:
        for part in self._parts.values():
            part.remove(low, high)
        return super().remove(low, high)

    def remove_all(self, other: IntervalSet) -> None:
        for part in self._parts.values():
            part.remove_all(other)
        super().remove_all(other)

    def pop_first(self, n: int) -> tuple[int, int]:
        low, high = super().pop_first(n)
        for part in self._parts.values():
            part.remove(low, high)
        return low, high
