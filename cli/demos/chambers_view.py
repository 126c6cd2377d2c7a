"""The chambers' demonstration: the climate in each of them, and how its plant does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskmaster.bus.status import HeadInfo
from taskmaster.cli.demos.headlines import state_style
from taskmaster.cli.demos.view import View

__all__ = ["RoomView", "climate_text"]

#: The mass of a plant is drawn from the least to the most, in g, on a logarithmic scale of so many characters.
_LEAST, _MOST, _BAR = 0.05, 40.0, 14


class RoomView(View):
    """One line for each chamber."""

    def __init__(
        self, console: Console, total: int, *, live: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, total, live=live, clock=clock)
        self._doing = "the chambers are being connected"
        self._day = 0.0
        self._heads: Sequence[HeadInfo] = ()
        self._truth: Mapping[str, Mapping[str, float]] = {}
        self._rates: dict[str, float] = {}
        self._best = ""

    def look(self, day: float, heads: Sequence[HeadInfo], truth: Mapping[str, Mapping[str, float]]) -> None:
        """How the chambers are on a ``day``."""
        self._day, self._heads, self._truth = day, heads, truth

    def do(self, what: str) -> None:
        """What is going on from now on."""
        self._doing = what
        if not self._is_live:
            self.say(f"day {self._day:4.1f}: {what}")

    def grown(self, chamber: str, rate: float, best: str) -> None:
        """What has come of a climate: a relative growth rate per day; and the ``best`` so far, in words."""
        self._rates[chamber] = rate
        self._best = best

    def draw(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "left", *["right"] * 5, "left", "right"):
            table.add_column(justify=justify, no_wrap=True)  # type: ignore[arg-type]
        headings = ("chamber", "state", "°C", "%", "light", "CO₂", "g", "plant", "last/d")
        table.add_row(*(Text(heading, "dim") for heading in headings))
        for info in self._heads:
            table.add_row(*self._row(info, self._truth.get(info.head, {})))
        return Group(
            Text(f"day {self._day:4.1f}  {self._doing}", "bold"),
            Padding(ProgressBar(self._pace.total, self._pace.told, width=self._console.width - 1), 0),
            table,
            Text(self._best),
        )

    def plain(self) -> list[str]:
        tripped = [head for head, values in self._truth.items() if values["tripped"]]
        return [f"{self._pace.told}/{self._pace.total} climates", self._best, *(f"{head} tripped" for head in tripped)]

    def _row(self, info: HeadInfo, truth: Mapping[str, float]) -> list[Text]:
        state = Text(f"{info.state:<11}", state_style(info.state))
        if not truth:
            return [Text(info.head), state]
        if truth["tripped"]:
            state = Text(f"{'limiter':<11}", "bold red")
        hot = "bold red" if truth["temperature"] > 40 else ""
        rate = self._rates.get(info.head)
        return [
            Text(info.head),
            state,
            Text(f"{truth['temperature']:.1f}", hot),
            Text(f"{truth['humidity']:.0f}"),
            Text(f"{truth['light']:.0f}", "yellow" if truth["light"] else "dim"),
            Text(f"{truth['co2']:.0f}"),
            Text(f"{truth['biomass']:.2f}"),
            _plant(truth["biomass"]),
            Text("" if rate is None else f"{rate:.3f}"),
        ]


def _plant(mass: float) -> Text:
    share = math.log(max(mass, _LEAST) / _LEAST) / math.log(_MOST / _LEAST)
    return Text(f"{'▇' * round(1 + share * (_BAR - 1)):<{_BAR}}", "green")


def climate_text(climate: Mapping[str, float]) -> str:
    """A climate for people."""
    units = {"temperature": " °C", "humidity": " %", "light": " µmol/m²/s", "co2": " ppm CO₂"}
    return ", ".join(f"{climate[name]:.0f}{unit}" for name, unit in units.items())
