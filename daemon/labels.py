"""Something that is known of each task of a run, kept as the intervals of which the same is known. Pure state."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from taskmaster.bus.intervals import IntervalSet

__all__ = ["Labels"]

L = TypeVar("L", bound=Hashable)


class Labels(Generic[L]):
    """A label by task; most have the ``default``, which is not kept. A chunk of a label costs as much as a task of it.

    There are few distinct labels, so each is looked at.
    """

    __slots__ = ("_by_label", "_default")

    def __init__(self, default: L) -> None:
        self._default = default
        #: label → the tasks that have it; none is empty
        self._by_label: dict[L, IntervalSet] = {}

    def __bool__(self) -> bool:
        return bool(self._by_label)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and self._by_label == other._by_label

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, index: int) -> L:
        """The label of one task."""
        return next((label for label, tasks in self._by_label.items() if index in tasks), self._default)

    def pieces(self, low: int, high: int) -> list[tuple[int, int, L]]:
        """``(first, end, label)`` of the tasks ``low ≤ i < high``, in order; those of one piece have the same label."""
        labelled = sorted(
            ((*part, label) for label, tasks in self._by_label.items() for part in tasks.within(low, high)),
            key=lambda piece: piece[0],
        )
        pieces = []
        for first, end, label in labelled:
            if low < first:
                pieces.append((low, first, self._default))
            pieces.append((first, end, label))
            low = end
        if low < high:
            pieces.append((low, high, self._default))
        return pieces

    def alike(self, low: int, high: int) -> tuple[int, L]:
        """``(end, label)`` of those from ``low`` on, and before ``high``, that have the same label."""
        own = self._default
        for label, tasks in self._by_label.items():
            reach = tasks.reach(low)
            if reach is None:
                continue
            first, end = reach
            if first <= low:
                own, high = label, min(high, end)
            else:
                high = min(high, first)
        return high, own

    def set(self, low: int, high: int, label: L) -> None:
        """The tasks ``low ≤ i < high`` have this label."""
        self.forget(low, high)
        if low < high and label != self._default:
            self._by_label.setdefault(label, IntervalSet()).add(low, high)

    def forget(self, low: int, high: int) -> None:
        """The tasks ``low ≤ i < high`` have ended."""
        self.forget_all(IntervalSet([(low, high)]))

    def forget_all(self, ended: IntervalSet) -> None:
        """So have these."""
        for label, tasks in list(self._by_label.items()):
            tasks.remove_all(ended)
            if not tasks:
                del self._by_label[label]

    def items(self) -> Iterator[tuple[int, L]]:
        """``(task, label)`` of every task that has another than the default."""
        for label, tasks in self._by_label.items():
            for index in tasks.indices():
                yield index, label
