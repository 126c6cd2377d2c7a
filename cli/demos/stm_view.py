"""The probe's demonstration: the surface as far as it is known, and what each head does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskmaster.bus.status import HeadInfo
from taskmaster.cli.demos.headlines import HeadLines
from taskmaster.cli.demos.stm_map import TerminalMap
from taskmaster.cli.demos.view import View

__all__ = ["SurfaceView"]

#: What the heads beside the map need, and the lines that are left for what is said above it, in characters.
_BESIDE, _ABOVE = 36, 5
_SMALLEST, _LARGEST = 12, 60


class SurfaceView(View):
    """A map beside the heads. The surface is a square of ``size`` (in the unit of the parameters)."""

    def __init__(
        self,
        console: Console,
        total: int,
        size: float,
        *,
        live: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, total, live=live, clock=clock)
        self._size = size
        self._heads = HeadLines(clock)
        self._loss = math.inf
        self._map = TerminalMap(map_side(console.width, console.height))

    def look(self, heads: Sequence[HeadInfo]) -> None:
        """How the heads are now."""
        self._heads.look(heads)

    def measured(self, told: int, loss: float, head: str, index: int, place: tuple[float, float], level: float) -> None:
        """A head has measured the ``level``, a logarithm, at a place; the learner knows ``told`` points by now."""
        self._loss = loss
        self._heads.on_result(head, index)
        self._map.add(place[0] / self._size, place[1] / self._size, level)
        self.on_progress(told)

    def draw(self) -> RenderableType:
        colours = not self._console.no_color and self._console.color_system not in (None, "standard")
        table = Table.grid(padding=(0, 2))
        surface = Group(*self._map.lines(colours=colours))
        table.add_row(surface, self._beside(self._console.width - self._map.side - 2, colours=colours))
        return table

    def _beside(self, room: int, *, colours: bool) -> RenderableType:
        width = max(20, min(room, 2 * _BESIDE))
        low, high = self._map.scale
        ends = f"{10**low:.1e} A", f"{10**high:.1e} A"
        legend = self._map.legend(max(4, min(width, _BESIDE) - sum(map(len, ends)) - 2), colours=colours)
        return Group(
            Text(f"{self._pace.points_text}  {self._pace.time_left}", "bold"),
            Padding(
                ProgressBar(self._pace.total, self._pace.told, width=min(width, _BESIDE)), 0
            ),  # which ends its line
            Text(self._rate_and_loss()),
            Text(),
            self._heads.draw(width),
            Text(),
            Text.assemble(ends[0], " ", legend, " ", ends[1]),
        )

    def plain(self) -> list[str]:
        return [self._pace.points_text, self._rate_and_loss(), self._heads.plain(), self._pace.time_left]

    def _rate_and_loss(self) -> str:
        loss = f"{self._loss:.4f}" if math.isfinite(self._loss) else "–"
        return f"{self._pace.rate_text}  loss {loss}"


def map_side(width: int, height: int) -> int:
    """How many pixels, two to a character's height, a map may have on a terminal of so many characters."""
    side = min(width - _BESIDE - 3, 2 * (height - _ABOVE), _LARGEST)
    return max(_SMALLEST, side - side % 2)
