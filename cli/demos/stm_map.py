"""A map that fills in: what was measured over two parameters, in the characters of a terminal."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

__all__ = ["TerminalMap"]

#: Matplotlib's viridis at ten places, for terminals with colours …
_COLOURS = np.array(
    [
        (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
        (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
    ],
    dtype=float,
)  # fmt: skip
#: … which darken by so much for each pixel that the nearest point is away, down to the darkest …
_DARKER, _DARKEST = 0.15, 0.4
#: … and characters for those without.
_SHADES = " .:-=+*#%@"
#: Outliers do not stretch the scale: it leaves out this share at each end.
_OUTLIERS = 0.02


class TerminalMap:
    """A square of ``side`` × ``side`` pixels over the unit square; two pixels, one above the other, make a character.

    Each pixel shows the nearest point measured (a Voronoi diagram), the darker, the farther that is away.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        middles = (np.arange(side) + 0.5) / side
        self._x, self._y = middles[np.newaxis, :], middles[::-1, np.newaxis]  # y grows upwards, lines downwards
        self._distance = np.full((side, side), np.inf)
        self._nearest = np.full((side, side), np.nan)
        self._values: list[float] = []

    def add(self, x: float, y: float, value: float) -> None:
        """``value`` was measured at a place in the unit square."""
        distance = np.hypot(self._x - x, self._y - y)
        nearer = distance < self._distance
        self._distance[nearer] = distance[nearer]
        self._nearest[nearer] = value
        self._values.append(value)

    @property
    def scale(self) -> tuple[float, float]:
        """The values at the ends of the colours."""
        if not self._values:
            return 0.0, 1.0
        low, high = np.quantile(self._values, [_OUTLIERS, 1 - _OUTLIERS])
        return float(low), float(max(high, low + 1e-12))

    def lines(self, *, colours: bool) -> list[Text]:
        """``side / 2`` lines of ``side`` characters."""
        low, high = self.scale
        levels = np.clip((self._nearest - low) / (high - low), 0, 1)
        if not colours:
            return _in_characters(levels, self._distance <= math.sqrt(0.5) / self.side)
        shown = np.nan_to_num(levels) * (len(_COLOURS) - 1)
        rgb = np.stack([np.interp(shown, np.arange(len(_COLOURS)), channel) for channel in _COLOURS.T], axis=-1)
        rgb *= np.clip(1 + _DARKER * (1 - self._distance * self.side), _DARKEST, 1)[..., np.newaxis]
        rgb[np.isnan(levels)] = 0
        return _in_colours(rgb.astype(int))

    def legend(self, width: int, *, colours: bool) -> Text:
        """The colours from low to high, in a line."""
        if not colours:
            return Text("".join(_SHADES[i * len(_SHADES) // width] for i in range(width)))
        places = np.linspace(0, len(_COLOURS) - 1, width)
        rgb = np.stack([np.interp(places, np.arange(len(_COLOURS)), channel) for channel in _COLOURS.T], axis=-1)
        return Text.assemble(*(("█", _style(colour)) for colour in rgb.astype(int)))


def _in_colours(rgb: NDArray[np.int_]) -> list[Text]:
    lines = []
    for upper, lower in zip(rgb[0::2], rgb[1::2], strict=True):
        pairs = list(zip(map(tuple, upper.tolist()), map(tuple, lower.tolist()), strict=True))
        parts = ((one, sum(1 for _ in same)) for one, same in groupby(pairs))
        lines.append(Text.assemble(*(("▀" * n, f"{_style(above)} on {_style(below)}") for (above, below), n in parts)))
    return lines


def _style(colour: tuple[int, ...] | NDArray[np.int_]) -> str:
    red, green, blue = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def _in_characters(levels: NDArray[np.float64], measured: NDArray[np.bool_]) -> list[Text]:
    """Of each two pixels the upper one that was measured; where none was, nothing."""
    lines = []
    for upper, lower, has_upper, has_lower in zip(
        levels[0::2], levels[1::2], measured[0::2], measured[1::2], strict=True
    ):
        level = np.where(has_upper, upper, np.where(has_lower, lower, np.nan))
        at = np.nan_to_num(1 + level * (len(_SHADES) - 2)).astype(int)
        lines.append(Text("".join(_SHADES[i] for i in at)))
    return lines
