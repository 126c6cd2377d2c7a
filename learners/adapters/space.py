"""The space that an optimiser searches: a Master's parameters, some of them on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field, shown
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.axes import Interval, Levels, Parameters, axes_of, distinct, require_taken
from taskmaster.learners.protocol import Point

__all__ = ["Key", "Space"]

#: A point's values in the order of the axes: what tells points from each other.
Key: TypeAlias = tuple[Any, ...]

#: What a library may be outside of the limits, as a part of them: it has computed its points.
_ROUNDING = 1e-9


class Space:
    """One axis for each parameter; those named in ``log`` are searched by their logarithm.

    ``parameters`` is a Master's ``parameters``, or ``{name: (min, max)}`` and ``{name: [value, …]}``; ``who`` is the
    learner, for messages. Raises CallerError for a parameter that is neither bounded nor listed, and for a logarithmic
    one that is not a real or whole number above zero.
    """

    def __init__(self, parameters: Parameters, who: str, log: Collection[str] = ()) -> None:
        self.axes = distinct(axes_of(parameters, who))
        self.names = tuple(axis.name for axis in self.axes)
        self.log = frozenset([log] if isinstance(log, str) else log)
        self._who = who
        for name in self.log:
            if name not in self.names:
                raise CallerError(f"{who} has no parameter {name!r} for log{did_you_mean_or(name, self.names)}")
        for axis in self.axes:
            if axis.name in self.log and not (isinstance(axis, Interval) and axis.low > 0):
                raise CallerError(
                    f"parameter {axis.name!r} of {who} cannot be searched by its logarithm: that takes numbers with "
                    "limits above zero"
                )

    @property
    def sizes(self) -> list[float]:
        """How many values each parameter has; infinite if it is a real number."""
        return [axis.size for axis in self.axes]

    def key(self, point: Point) -> Key:
        """What tells ``point`` from others. Raises CallerError if it is no point of these parameters."""
        try:
            return tuple(point[name] for name in self.names)
        except (KeyError, TypeError, IndexError):
            raise CallerError(
                f"{self._who} was told of {point!r}, which is no point of {', '.join(self.names)}"
            ) from None

    def point(self, values: Mapping[str, Any]) -> Point:
        """The Master's form of what a library suggests: plain values, inside their limits whatever rounding did."""
        return {axis.name: _plain(axis, values[axis.name]) for axis in self.axes}

    def require_inside(self, values: Mapping[str, Any], what: str) -> None:
        """Raise CallerError for what is outside of the limits by more than rounding does: ``what``, for a message."""
        for axis in self.axes:
            value = values[axis.name]
            if not isinstance(axis, Interval) or not isinstance(value, (int, float, np.number)):
                continue
            slack = _ROUNDING * max(axis.high - axis.low, abs(axis.low), abs(axis.high))
            if not axis.low - slack <= value <= axis.high + slack:
                raise CallerError(f"{what}: {axis.name!r} is from {axis.low:g} to {axis.high:g}, not {shown(value)}")

    def at(self, unit: Sequence[float]) -> Point:
        """The point at a place of the unit cube."""
        return {axis.name: self._at(axis, u) for axis, u in zip(self.axes, unit, strict=True)}

    def place(self, point: Point) -> list[float] | None:
        """Where in the unit cube a point lies, the middle of what becomes the same point; None: outside."""
        unit = [self._place(axis, point[axis.name]) for axis in self.axes]
        return None if any(u is None for u in unit) else [u for u in unit if u is not None]

    def _at(self, axis: Interval | Levels, u: float) -> Any:
        u = min(max(float(u), 0.0), 1.0)
        if not isinstance(axis, Interval) or axis.name not in self.log:
            return axis.at(min(u, math.nextafter(1.0, 0.0)) if axis.size < math.inf else u)
        low, high = _log_limits(axis)
        value = math.exp(low + u * (high - low))
        value = math.floor(value) if axis.whole else value
        return min(max(value, _typed(axis, axis.low)), _typed(axis, axis.high))

    def _place(self, axis: Interval | Levels, value: Any) -> float | None:
        if isinstance(axis, Levels):
            return (axis.values.index(value) + 0.5) / len(axis.values) if value in axis.values else None
        if not axis.low <= value <= axis.high:
            return None
        if axis.low == axis.high:
            return 0.5
        if axis.name in self.log:
            low, high = _log_limits(axis)
            return (math.log(value + 0.5 * axis.whole) - low) / (high - low)
        return float((value - axis.low + 0.5 * axis.whole) / (axis.high - axis.low + axis.whole))

    def require_within(self, parameters: Sequence[Field]) -> None:
        """Raise CallerError where a Master with these ``parameters`` would not take points of this space."""
        require_taken(self.axes, parameters, self._who)


def _log_limits(axis: Interval) -> tuple[float, float]:
    """Those of a whole number reach to where the next one would begin, so that each has its share."""
    return math.log(axis.low), math.log(axis.high + axis.whole)


def _typed(axis: Interval, value: float) -> float:
    return int(value) if axis.whole else float(value)


def _plain(axis: Interval | Levels, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(axis, Levels):
        return value
    return min(max(_typed(axis, value), _typed(axis, axis.low)), _typed(axis, axis.high))
