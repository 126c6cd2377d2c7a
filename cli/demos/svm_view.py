"""The classifier's demonstration: how far it is, and the best settings so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskmaster.cli.demos.view import View
from taskmaster.learners.protocol import Point

__all__ = ["DemoView", "point_text"]


class DemoView(View):
    """A few lines. ``output`` is what the best point is best in."""

    def __init__(
        self,
        console: Console,
        total: int,
        output: str,
        *,
        live: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, total, live=live, clock=clock)
        self._output = output
        self._loss = math.inf
        self._best: tuple[Point, float] | None = None

    def update(self, told: int, loss: float, point: Point, output: float) -> None:
        """The learner has been told of ``point``, and knows ``told`` by now."""
        self._loss = loss
        if self._best is None or output > self._best[1]:
            self._best = (point, output)
        self.on_progress(told)

    def draw(self) -> RenderableType:
        pace = self._pace
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_column(justify="right", no_wrap=True, min_width=12)
        bar.add_row(ProgressBar(pace.total, pace.told), Text(pace.points_text, "bold"), Text(pace.time_left))
        return Group(bar, Text(self._rate_and_loss()), Text(self._best_so_far()))

    def plain(self) -> list[str]:
        return [self._pace.points_text, self._rate_and_loss(), self._best_so_far(), self._pace.time_left]

    def _rate_and_loss(self) -> str:
        loss = f"{self._loss:.4f}" if math.isfinite(self._loss) else "–"
        return f"{self._pace.rate_text}  loss {loss}"

    def _best_so_far(self) -> str:
        if self._best is None:
            return ""
        return f"best {self._output} {self._best[1]:.4f} at {point_text(self._best[0])}"


def point_text(point: Point) -> str:
    """A point for people: ``log_C = 1.25, log_gamma = -1.5``."""
    return ", ".join(f"{name} = {value:.2f}" for name, value in point.items())
