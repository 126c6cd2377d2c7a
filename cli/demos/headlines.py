"""The heads of an instrument as a demonstration shows them: one line each."""

from __future__ import annotations

import textwrap
import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from taskmaster.bus.status import HeadInfo

__all__ = ["HeadLines", "state_style"]

#: How busy a head is counts over so many seconds.
_BUSY_SECONDS = 4.0
#: Lines that the reason for a bad state may take.
_REASON_LINES = 2
_COLOURS = {"busy": "green", "ready": "green", "connecting": "yellow", "away": "yellow"}


class HeadLines:
    """State, latest task, tasks done and how busy, of each head."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, dict[str, float]]] = deque()
        self._heads: Sequence[HeadInfo] = ()
        self._latest: dict[str, int] = {}

    def look(self, heads: Sequence[HeadInfo]) -> None:
        """How the heads are now."""
        now = self._clock()
        self._looks.append((now, {info.head: info.busy for info in heads}))
        while len(self._looks) > 2 and now - self._looks[1][0] > _BUSY_SECONDS:
            self._looks.popleft()
        self._heads = heads

    def on_result(self, head: str, index: int) -> None:
        """A head has ended a task."""
        self._latest[head] = index

    def busy_share(self, head: str) -> float | None:
        """Of its time lately, which part a head was evaluating; None while that is not known."""
        if len(self._looks) < 2:
            return None
        (since, before), (now, after) = self._looks[0], self._looks[-1]
        seconds = after.get(head, 0.0) - before.get(head, 0.0)
        # A daemon that was started again counts from 0.
        return min(1.0, max(0.0, seconds / (now - since))) if now > since else None

    def draw(self, width: int) -> RenderableType:
        """A table, with the reasons of bad states below their heads."""
        table = Table.grid(padding=(0, 1))
        for justify in ("left", "left", "right", "right", "right"):
            table.add_column(justify=justify, no_wrap=True)
        table.add_row(*(Text(heading, "dim") for heading in ("head", "state", "task", "done", "busy")))
        parts: list[RenderableType] = []
        for info in self._heads:
            task = f"#{self._latest[info.head]}" if info.head in self._latest else ""
            state = Text(f"{info.state:<11}", state_style(info.state))
            table.add_row(info.head, state, task, str(info.tasks), self._busy_text(info.head))
            parts += _reason(info, width)
        return Group(table, *parts)

    def plain(self) -> str:
        """All heads in a line: ``tip-1 busy 103, tip-2 parked 33``."""
        return ", ".join(f"{info.head} {info.state} {info.tasks}" for info in self._heads)

    def _busy_text(self, head: str) -> str:
        share = self.busy_share(head)
        return "" if share is None else f"{share:.0%}"


def state_style(state: str) -> str:
    """How a head's state is shown: at work, about to be, or in need of somebody."""
    return _COLOURS.get(state, "bold red")


def _reason(info: HeadInfo, width: int) -> list[Text]:
    if not info.reason:
        return []
    text = textwrap.shorten(f"{info.head}: {info.reason}", _REASON_LINES * width, placeholder=" …")
    return [Text(line, "yellow") for line in textwrap.wrap(text, width)[:_REASON_LINES]]
