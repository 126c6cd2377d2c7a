"""What a person sees of a demonstration: drawn in place on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

from taskmaster.cli.demos.pace import Pace

__all__ = ["View"]

#: Drawings a second.
_REFRESH = 8


class View(ABC):
    """Shows progress towards ``total`` points. ``live`` draws in place, for a terminal; else lines are printed.

    What is drawn is looked at from a thread of its own.
    """

    def __init__(
        self, console: Console, total: int, *, live: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._pace = Pace(total, clock)
        self._is_live = live
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._is_live:
            self._live = Live(console=self._console, get_renderable=self.draw, refresh_per_second=_REFRESH)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line of its own, above what is drawn in place."""
        self._console.print(text, highlight=False, soft_wrap=not self._is_live)

    def on_progress(self, told: int) -> None:
        """So many points are told by now; prints a line if one is due."""
        self._pace.note(told)
        if not self._is_live and self._pace.is_due():
            self._console.print("  ".join(filter(None, self.plain())), highlight=False, soft_wrap=True)

    @abstractmethod
    def draw(self) -> RenderableType:
        """What is drawn in place."""

    @abstractmethod
    def plain(self) -> list[str]:
        """The parts of a plain line; empty ones are left out."""
