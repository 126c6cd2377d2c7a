"""The news that tasks of a run are in doubt: nothing comes of them by itself, and whoever waits has to know."""

from __future__ import annotations

from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import EventHead
from taskmaster.bus.text import how_to_resolve

__all__ = ["Doubts"]


class Doubts:
    """Tasks of one run that came to be in doubt, until that is said, or is over."""

    __slots__ = ("_heads", "_tasks")

    def __init__(self) -> None:
        self._heads: list[EventHead] = []
        self._tasks = IntervalSet()

    def __bool__(self) -> bool:
        return bool(self._heads)

    def note(self, head: EventHead) -> None:
        """The next event of the run."""
        if head.kind == "held":
            self._heads.append(head)
            self._tasks.add(head.first, head.first + head.n)
        elif head.kind not in ("closed", "reopened"):
            self._tasks.remove(head.first, head.first + head.n)

    def take(self, master: str, run: int, name: str) -> list[str]:
        """What is to be said now, a line each, of those tasks whose doubt is not over."""
        lines = []
        for head in self._heads:
            reason = head.errors[0].message if head.errors else "nobody knows how far it came"
            for low, high in self._tasks.within(head.first, head.first + head.n):
                if high - low == 1:
                    lines.append(f"task {low} of run {name!r} is in doubt ({reason}): {how_to_resolve(run, low)}")
                else:
                    which = f"tasks {low} to {high - 1} of run {name!r} are in doubt ({reason})"
                    lines.append(f"{which}: 'taskmaster held {master}' lists them, {how_to_resolve(run, low)}")
        self._heads.clear()
        self._tasks = IntervalSet()
        return lines
