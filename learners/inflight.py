"""Which of a learner's points a result is of: what is asked is remembered until it has ended.

A Loop tells a learner of the very object that it gave. So equal points are told apart by which object they are, and not
by when they were asked: two learners that ask for the same point on one Master each get their own result. Whoever else
drives a learner may tell it of an equal point; then it is the earliest of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from taskmaster.learners.looping.points import same_point
from taskmaster.learners.protocol import Point

__all__ = ["Entry", "InFlight"]

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Entry(Generic[T]):
    """A point that has been asked and has not ended, and what it stands for."""

    point: Point
    what: T


class InFlight(Generic[T]):
    """Points in flight, in the order of asking, each with what it stands for."""

    def __init__(self) -> None:
        #: dicts keep the order, and forget from the middle. An entry holds its point, so its id is nobody else's.
        self._entries: dict[int, dict[int, Entry[T]]] = {}
        self._order: dict[int, Entry[T]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._order.values())

    def __getstate__(self) -> list[Entry[T]]:
        return list(self)

    def __setstate__(self, entries: list[Entry[T]]) -> None:
        self._entries, self._order = {}, {}
        for entry in entries:  # of a copy, whose points are other objects
            self._add(entry)

    def add(self, point: Point, what: T) -> None:
        """``point`` has been asked."""
        self._add(Entry(point, what))

    def _add(self, entry: Entry[T]) -> None:
        self._order[id(entry)] = self._entries.setdefault(id(entry.point), {})[id(entry)] = entry

    def find(self, point: Point) -> Entry[T] | None:
        """The earliest entry of this very object, else of an equal one; None if it was not asked, or has ended."""
        own = self._entries.get(id(point))
        if own is not None:
            return next(iter(own.values()))
        return next((entry for entry in self if same_point(entry.point, point)), None)

    def end(self, entry: Entry[T]) -> None:
        """It has ended, and its learner knows."""
        del self._order[id(entry)]
        own = self._entries[id(entry.point)]
        del own[id(entry)]
        if not own:
            del self._entries[id(entry.point)]
