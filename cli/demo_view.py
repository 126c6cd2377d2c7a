"""What a person sees while the demo runs: a few live lines on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskmaster.bus.text import format_duration
from taskmaster.learners.protocol import Point

__all__ = ["DemoView", "point_text"]

#: Between two plain lines where there is no terminal.
PLAIN_SECONDS = 3.0
#: The rate is that of the latest so many seconds: what it is now, yet steady enough to read …
RATE_SECONDS = 10.0
#: … and is not given before so many points have come.
RATE_POINTS = 8


class DemoView:
    """Progress towards ``total`` points. ``live`` draws in place, for a terminal; else lines are printed.

    ``output`` is what the best point is best in.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        output: str,
        *,
        live: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._console = console
        self._total = total
        self._output = output
        self._told = 0
        self._loss = math.inf
        self._best: tuple[Point, float] | None = None
        #: when how many points were there
        self._marks: deque[tuple[float, int]] = deque()
        self._printed_at = -math.inf
        self._live = Live(console=console, get_renderable=self.__rich__, refresh_per_second=8) if live else None

    def __enter__(self) -> DemoView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, told: int, loss: float, point: Point, output: float) -> None:
        """The learner has been told of ``point``, and knows ``told`` by now."""
        now = self._clock()
        self._told, self._loss = told, loss
        if self._best is None or output > self._best[1]:
            self._best = (point, output)
        self._marks.append((now, told))
        while len(self._marks) > RATE_POINTS and now - self._marks[1][0] > RATE_SECONDS:
            self._marks.popleft()
        if self._live is None and (now - self._printed_at >= PLAIN_SECONDS or told == self._total):
            self._printed_at = now
            parts = [f"{told}/{self._total} points", self._pace(), self._best_so_far(), self._time_left()]
            self._console.print("  ".join(filter(None, parts)), highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A line of its own, above what is drawn in place."""
        self._console.print(text, highlight=False, soft_wrap=self._live is None)

    def __rich__(self) -> RenderableType:
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_column(justify="right", no_wrap=True, min_width=12)
        bar.add_row(
            ProgressBar(self._total, self._told),
            Text(f"{self._told}/{self._total} points", "bold"),
            Text(self._time_left()),
        )
        return Group(bar, Text(self._pace()), Text(self._best_so_far()))

    def _pace(self) -> str:
        rate = self._rate()
        loss = f"{self._loss:.4f}" if math.isfinite(self._loss) else "–"
        return f"{f'{rate:.1f}' if rate else '–'} points/s  loss {loss}"

    def _best_so_far(self) -> str:
        if self._best is None:
            return ""
        return f"best {self._output} {self._best[1]:.4f} at {point_text(self._best[0])}"

    def _rate(self) -> float:
        """Points a second lately; 0 while nothing can be said. Falls while nothing comes."""
        if len(self._marks) < RATE_POINTS:
            return 0.0
        (since, before), (_, told) = self._marks[0], self._marks[-1]
        return (told - before) / max(1e-9, self._clock() - since)

    def _time_left(self) -> str:
        rate, left = self._rate(), self._total - self._told
        return f"{format_duration(math.ceil(left / rate))} left" if rate and left else ""


def point_text(point: Point) -> str:
    """A point for people: ``log_C = 1.25, log_gamma = -1.5``."""
    return ", ".join(f"{name} = {value:.2f}" for name, value in point.items())
