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

from taskmaster.bus.errors import CallerError, InvalidTask
from taskmaster.bus.fields import Field, Schema, shown
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.declared import as_fields

__all__ = ["Axis", "Interval", "Levels", "Parameters", "axes_of", "distinct", "require_names", "require_taken"]

#: So many values that a Master does not take are named.
_FEW = 3

#: A Master's ``parameters``, or ``{name: (min, max)}``, ``{name: [value, value, …]}``, ``{name: {"kind": "int", …}}``
#: with the keys of the configuration file; also mixed.
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

    A Field gives its choices, or its limits. In a mapping, a tuple of two numbers is ``(min, max)``, a dict what the
    configuration file has; any other sequence lists the values. Raises CallerError naming the parameter, and
    ``learner``, if it is neither bounded nor listed.
    """
    given: Any = parameters
    if not isinstance(given, Mapping):
        given = tuple(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else given
        if not isinstance(given, tuple) or not all(isinstance(field, Field) for field in given):
            raise CallerError(
                f"the parameters of {learner} are a Master's, master.parameters, or {{name: (min, max)}}; "
                f"not {shown(parameters)}"
            )
        parameters = given
    if isinstance(parameters, Mapping):
        axes = tuple(_named_axis(name, spec, learner) for name, spec in parameters.items())
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


def require_taken(axes: Sequence[Axis], parameters: Sequence[Field], learner: str) -> None:
    """Raise CallerError where a Master with these ``parameters`` would not take every point of ``axes``.

    A Master that declares none takes anything. ``learner`` is who would ask, for messages.
    """
    if not parameters:
        return
    require_names([axis.name for axis in axes], parameters, learner)
    fields = {field.name: field for field in parameters}
    for axis in axes:
        _require_axis(axis, fields[axis.name], learner)


def require_names(names: Sequence[str], parameters: Sequence[Field], learner: str) -> None:
    """Raise CallerError unless a Master with these ``parameters`` has those ``names``, and no others."""
    fields = [field.name for field in parameters]
    for name in names:
        if name not in fields:
            raise CallerError(
                f"{learner} asks for {name!r}, but the Master has no parameter {name!r}"
                f"{did_you_mean_or(name, fields, 'it has')}"
            )
    left_out = [name for name in fields if name not in names]
    if left_out:
        raise CallerError(
            f"{learner} over {', '.join(names)} leaves out {', '.join(map(repr, left_out))}, which the Master needs "
            "with each point"
        )


def _require_axis(axis: Axis, field: Field, learner: str) -> None:
    values = axis.values if isinstance(axis, Levels) else (axis.low,) if axis.low == axis.high else None
    if values is not None:
        refused = [value for value in values if not _takes(field, value)]
        if not refused:
            return
        asked = ", ".join(map(shown, refused[:_FEW])) + (", …" if len(refused) > _FEW else "")
    else:
        assert isinstance(axis, Interval)
        low, high = field.limits
        takes_numbers = not field.choices and not field.shape and field.kind not in ("str", "bool")
        if takes_numbers and low <= axis.low and axis.high <= high and (axis.whole or field.kind != "int"):
            return
        asked = f"{'whole' if axis.whole else 'real'} numbers in [{axis.low:g}, {axis.high:g}]"
    raise CallerError(
        f"{learner} asks for {axis.name!r} of {asked}, but the Master's parameter {axis.name!r} takes "
        f"{field.describe()}; give the learner the Master's parameters, or others within these"
    )


def _takes(field: Field, value: Any) -> bool:
    """Whether a Master would take a value for one of its parameters."""
    try:
        Schema((field,), "").row({field.name: value})
    except InvalidTask:
        return False
    return True


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


def _named_axis(name: str, spec: Any, learner: str) -> Axis:
    if isinstance(spec, Mapping):
        (spec,) = as_fields({name: spec})
    return _field_axis(spec, learner) if isinstance(spec, Field) else _given_axis(name, spec, learner)


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
