"""The space of a Master's parameters as learners see it: one axis for each parameter.

An axis is either an :class:`Interval` or :class:`Levels`. Both map a number in [0, 1) to a value, so that one sampler
of the unit cube serves real, whole and categorical parameters alike; both list the values of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field

__all__ = ["Axis", "Interval", "Levels", "Parameters", "axes_of", "distinct"]

#: A Master's ``parameters``, or ``{name: (min, max)}`` and ``{name: [value, value, …]}``, also mixed.
Parameters: TypeAlias = "Mapping[str, Any] | Iterable[Field]"


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``, both included; only the whole numbers of it if ``whole``."""

    name: str
    low: float
    high: float
    whole: bool = False

    @property
    def size(self) -> float:
        """How many values it has; infinitely many, where they are real."""
        return int(self.high) - int(self.low) + 1 if self.whole else 1 if self.low == self.high else math.inf

    def at(self, u: float) -> float:
        """The value at ``u`` in [0, 1): linear, or whole numbers with equal shares (exact for spans below 2⁵³)."""
        if self.whole:
            low, high = int(self.low), int(self.high)
            return min(low + math.floor(u * (high - low + 1)), high)
        # The convex form cannot overflow; rounding may still leave the interval by one step.
        return min(max((1.0 - u) * self.low + u * self.high, self.low), self.high)

    def grid(self, n: int) -> list[float]:
        """``n`` evenly spaced values with both ends; of whole numbers no more than there are."""
        if self.low == self.high:
            return [self.low]
        if self.whole:
            low, span = int(self.low), int(self.high) - int(self.low)
            n = min(n, span + 1)
            return [low + (2 * span * i + n - 1) // (2 * (n - 1)) for i in range(n)]
        values: list[float] = np.linspace(self.low, self.high, n).tolist()
        return values


@dataclass(frozen=True, slots=True)
class Levels:
    """These values and no others."""

    name: str
    values: tuple[Any, ...]

    @property
    def size(self) -> float:
        """How many values it has."""
        return len(self.values)

    def at(self, u: float) -> Any:
        """The value at ``u`` in [0, 1), each with an equal share."""
        return self.values[min(math.floor(u * len(self.values)), len(self.values) - 1)]


Axis: TypeAlias = Interval | Levels


def axes_of(parameters: Parameters, learner: str) -> tuple[Axis, ...]:
    """The axes of ``parameters``, in order.

    A Field gives its choices, or its limits. In a mapping, a tuple of two numbers is ``(min, max)``; any other sequence
    lists the values. Raises CallerError naming the parameter, and ``learner``, if it is neither bounded nor listed.
    """
    if isinstance(parameters, Mapping):
        axes = tuple(
            _field_axis(spec, learner) if isinstance(spec, Field) else _given_axis(name, spec, learner)
            for name, spec in parameters.items()
        )
    else:
        axes = tuple(_field_axis(field, learner) for field in parameters)
    if not axes:
        raise CallerError(
            f"{learner} needs to know the parameters: declare them for the Master, or pass {{name: (min, max)}}"
        )
    return axes


def distinct(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """``axes``, with each listed value once, for learners that ask nothing twice.

    Raises CallerError for values that cannot be told from each other.
    """
    return tuple(axis if isinstance(axis, Interval) else Levels(axis.name, _once(axis)) for axis in axes)


def _once(axis: Levels) -> tuple[Any, ...]:
    try:
        return tuple(dict.fromkeys(axis.values))
    except TypeError:
        raise CallerError(
            f"parameter {axis.name!r} has values that are lists or arrays, which cannot be looked up; "
            "list names for them instead, and have the Master know what they mean"
        ) from None


def _field_axis(field: Field, learner: str) -> Axis:
    if field.shape:
        raise CallerError(f"parameter {field.name!r} is an array, {learner} varies single values; use Sequence instead")
    if field.choices:
        return Levels(field.name, field.choices)
    if field.kind == "bool":
        return Levels(field.name, (False, True))
    if field.kind not in ("float", "int"):
        raise CallerError(
            f"parameter {field.name!r} takes {field.describe()}: {learner} needs min and max, or choices; "
            f"give it choices in the Master's configuration, or pass {{{field.name!r}: [value, …]}} to {learner}"
        )
    low, high = field.limits
    if field.kind == "int" and math.isfinite(low) and math.isfinite(high):
        return _interval(field.name, math.ceil(low), math.floor(high), learner, whole=True)
    return _interval(field.name, low, high, learner)


def _given_axis(name: str, spec: Any, learner: str) -> Axis:
    if isinstance(spec, tuple) and len(spec) == 2 and all(_is_number(limit) for limit in spec):
        return _interval(name, float(spec[0]), float(spec[1]), learner)
    if isinstance(spec, np.ndarray):
        spec = spec.tolist()
    if not isinstance(spec, Sequence) or isinstance(spec, (str, bytes)) or len(spec) == 0:
        raise CallerError(
            f"parameter {name!r} of {learner} must be (min, max) or a list of values, with at least one; got {spec!r}"
        )
    return Levels(name, tuple(value.item() if isinstance(value, np.generic) else value for value in spec))


def _interval(name: str, low: float, high: float, learner: str, whole: bool = False) -> Interval:
    missing = " and ".join(word for word, limit in (("min", low), ("max", high)) if not math.isfinite(limit))
    if missing:
        raise CallerError(
            f"parameter {name!r} has no finite {missing}, {learner} needs both limits: "
            f"declare them in the Master's configuration, or pass {{{name!r}: (min, max)}} to {learner}"
        )
    if low > high:
        raise CallerError(f"parameter {name!r} of {learner} is empty: its min {low:g} is above its max {high:g}")
    return Interval(name, low, high, whole)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
