"""What it takes to go from one point to another: a probe's way, a chamber's ramp, a filter's change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.protocol import Point

__all__ = ["Travel"]


class Travel:
    """Seconds from one point to another.

    ``speeds`` are those of parameters that are numbers, in their unit a second; ``changes`` are the seconds that any
    change of a parameter takes. Parameters in neither cost nothing. They move ``together``, so that the slowest counts,
    or one after the other.

        Travel({"x": 2e-6, "y": 2e-6}, {"filter": 30.0})

    Raises CallerError for no speeds and no changes, a speed that is not above 0, and a change that takes less than
    nothing.
    """

    def __init__(
        self, speeds: Mapping[str, float], changes: Mapping[str, float] | None = None, *, together: bool = True
    ) -> None:
        for given in (speeds, changes):
            if given is not None and not isinstance(given, Mapping):
                raise CallerError(f'Travel takes the speeds of parameters, like {{"x": 2e-6}}, got {given!r}')
        self._speeds = dict(speeds)
        self._changes = dict(changes or {})
        self._together = together
        for name, speed in self._speeds.items():
            if not (_is_number(speed) and 0 < speed < math.inf):
                raise CallerError(f"the speed of parameter {name!r} must be a number above 0, got {speed!r}")
        for name, seconds in self._changes.items():
            if not (_is_number(seconds) and 0 <= seconds < math.inf):
                raise CallerError(f"a change of parameter {name!r} must take 0 seconds or more, got {seconds!r}")
        if not self._speeds and not self._changes:
            raise CallerError("Travel needs the speed of a parameter at least, or the seconds that a change takes")

    def require(self, parameters: Mapping[str, bool]) -> None:
        """Raise CallerError if it is about other parameters than these; the values say which of them are numbers."""
        for name in [*self._speeds, *self._changes]:
            if name not in parameters:
                raise CallerError(f"Travel is about parameter {name!r}{did_you_mean_or(name, parameters, 'there are')}")
        for name in self._speeds:
            if not parameters[name]:
                raise CallerError(
                    f"parameter {name!r} is no number, so it has no speed; say how many seconds a change of it takes"
                )

    def require_of(self, fields: Sequence[Field]) -> None:
        """The same, of a Master's parameters."""
        self.require({field.name: _takes_numbers(field) for field in fields})

    def times(self, start: Point, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Seconds from ``start`` to each of ``n`` points, given as a column, ``(n,)``, for each parameter."""
        ways = [np.abs(columns[name] - start[name]) / speed for name, speed in self._speeds.items()]
        ways += [(columns[name] != start[name]) * seconds for name, seconds in self._changes.items()]
        stacked = np.array(ways, dtype=np.float64)
        seconds: NDArray[np.float64] = stacked.max(axis=0) if self._together else stacked.sum(axis=0)
        return seconds

    def time(self, start: Point, end: Point) -> float:
        """Seconds from ``start`` to ``end``. Raises CallerError if they lack one of its parameters."""
        return float(self.nearest(start, [end])[1])

    def nearest(self, start: Point, ends: Sequence[Point]) -> tuple[int, float]:
        """Which of ``ends`` is reached first, the earliest of equals, and after how many seconds."""
        names = [*self._speeds, *self._changes]
        try:
            columns = {name: np.array([end[name] for end in ends]) for name in names}
            times = self.times(start, columns)
        except (KeyError, TypeError, IndexError):
            raise CallerError(
                f"there is no way from {start!r}: points need the parameters {', '.join(names)}"
            ) from None
        i = int(np.argmin(times))
        return i, float(times[i])


def _takes_numbers(field: Field) -> bool:
    return all(map(_is_number, field.choices)) if field.choices else field.kind in ("float", "int", "any")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
