"""Points and outputs in another form for a learner than for its Master.

A learner that knows no logarithms, only minimises, or learns a single number serves more Masters with these around it.
What the wrappers keep in ``data``, and compare in ``best``, is what the Master said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import msgspec

from taskmaster.bus.errors import CallerError, TaskFailed
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.inflight import InFlight
from taskmaster.learners.protocol import Learner, Point, ask
from taskmaster.learners.record import chosen_output, real, select
from taskmaster.learners.wrapper import Wrapper

__all__ = ["DataSaver", "Filter", "Form", "Linear", "Log", "Mapped", "Transform"]

#: Asks in a row of which no point is kept, after which there is none for now.
_PATIENCE = 1000
#: How a Transform is told which output is meant.
_BY = "output=NAME of the Transform (on the command line, wrap.output=NAME)"
#: What other units may make of a limit, as a share of it.
_ROUNDING = 1e-12


@runtime_checkable
class Mapped(Protocol):
    """How the values of a parameter look to the learner; rising, and reversible to a rounding."""

    def inward(self, value: float) -> float:
        """The learner's for the Master's."""

    def outward(self, value: float) -> float:
        """The Master's for the learner's."""

    def unit(self, unit: str) -> str:
        """What the learner's is in, where the Master's is in ``unit``."""


class Log:
    """The decimal logarithm, for parameters that vary by orders of magnitude."""

    def inward(self, value: float) -> float:
        """Raises CallerError for what has no logarithm."""
        if not value > 0:
            raise CallerError(
                f"{value!r} has no logarithm; a parameter that the learner sees by it needs a min above 0"
            )
        return math.log10(value)

    def outward(self, value: float) -> float:
        """Ten to the power of ``value``."""
        return float(10.0**value)

    def unit(self, unit: str) -> str:
        """``log10(V)``."""
        return f"log10({unit})" if unit else "log10"


class Linear:
    """Other units: the learner's value is ``factor * value + offset``; ``factor`` is above 0.

    Raises CallerError for a factor that is not above 0.
    """

    def __init__(self, factor: float, offset: float = 0.0, unit: str = "") -> None:
        if not (factor > 0 and math.isfinite(factor) and math.isfinite(offset)):
            raise CallerError(f"Linear needs a factor above 0 and an offset, got {factor!r} and {offset!r}")
        self._factor = factor
        self._offset = offset
        self._unit = unit

    def inward(self, value: float) -> float:
        """``factor * value + offset``."""
        return self._factor * value + self._offset

    def outward(self, value: float) -> float:
        """``(value - offset) / factor``."""
        return (value - self._offset) / self._factor

    def unit(self, unit: str) -> str:
        """As it was given."""
        return self._unit


@dataclass(frozen=True)
class Form:
    """What a learner sees of a Master: parameters as they are mapped, one output, the other sign."""

    mapped: Mapping[str, Mapped]
    output: str | None = None
    negate: bool = False
    #: makes of the output, chosen and not negated yet, what the learner is told
    function: Callable[[Any], Any] | None = None

    def parameters(self, fields: Sequence[Field]) -> list[Field]:
        """A Master's parameters as the learner sees them. Raises CallerError for what has no such form."""
        names = [field.name for field in fields]
        for name in self.mapped:
            if names and name not in names:
                raise CallerError(f"the Master has no parameter {name!r}{did_you_mean_or(name, names)}")
        return [self._parameter(field) if field.name in self.mapped else field for field in fields]

    def _parameter(self, field: Field) -> Field:
        if field.kind not in ("float", "int") or field.choices or field.shape:
            raise CallerError(f"parameter {field.name!r} takes {field.describe()}, of which Transform makes no number")
        mapped = self.mapped[field.name]
        try:
            low, high = (None if limit is None else mapped.inward(limit) for limit in (field.min, field.max))
        except CallerError as error:
            raise CallerError(f"parameter {field.name!r} takes {field.describe()}: {error}") from error
        return msgspec.structs.replace(field, kind="float", min=low, max=high, unit=mapped.unit(field.unit))

    def outputs(self, fields: Sequence[Field]) -> list[Field]:
        """A Master's outputs as the learner sees them, none where nobody knows. Raises CallerError."""
        if self.function is not None:
            if self.output is not None:
                chosen_output(fields, self.output)
            return []
        wants_one = self.output is not None or self.negate
        chosen = chosen_output(fields, self.output, _BY) if wants_one else None
        return [self._output(field) for field in (fields if chosen is None else [chosen])]

    def _output(self, field: Field) -> Field:
        if not self.negate:
            return field
        low, high = (None if limit is None else -limit for limit in (field.max, field.min))
        return msgspec.structs.replace(field, min=low, max=high)

    def learnt(self, output: Any) -> Any:
        """What the learner is told of ``output``. Raises CallerError."""
        if self.output is not None:
            output = select(output, self.output)
        if self.function is not None:
            output = self.function(output)
        return -real(output, None, "Transform") if self.negate else output

    def inward(self, point: Point) -> Point:
        """The learner's form of a point, to a rounding."""
        if not self.mapped or not isinstance(point, Mapping):
            return point
        mapped = self.mapped
        return {name: mapped[name].inward(value) if name in mapped else value for name, value in point.items()}

    def outward(self, asked: Point, fields: Mapping[str, Field]) -> Point:
        """The Master's form of a learner's point, within the limits of ``fields``. Raises CallerError."""
        if not self.mapped:
            return asked
        if not isinstance(asked, Mapping):
            raise CallerError(f"Transform changes parameters by their names, but the learner asks {asked!r}")
        return {name: self._outward(name, value, fields.get(name)) for name, value in asked.items()}

    def _outward(self, name: str, value: Any, field: Field | None) -> Any:
        if name not in self.mapped:
            return value
        number = self.mapped[name].outward(value)
        if field is None:
            return number
        low, high = field.limits
        number = min(max(number, low), high)
        return round(number) if field.kind == "int" else number


class Transform(Wrapper):
    """``learner``, to whom parameters look as ``parameters`` says, and the output called ``output`` as a number.

    ``negate`` makes a learner that minimises maximise. ``function`` is called with the output, chosen and not negated
    yet, and returns what the learner is told instead.

        Transform(learner, {"dose": Log(), "length": Linear(1e9, unit="nm")}, output="yield", negate=True)

    Raises CallerError for what is no learner, and forms that are none; in :meth:`bind`, a parameter that has no such
    form, as one without a min above 0 has no logarithm.
    """

    def __init__(
        self,
        learner: Learner,
        parameters: Mapping[str, Mapped] | None = None,
        *,
        output: str | None = None,
        negate: bool = False,
        function: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(learner)
        if parameters is not None and not isinstance(parameters, Mapping):
            raise CallerError(f'Transform takes forms of parameters by name, like {{"x": Log()}}; got {parameters!r}')
        if function is not None and not callable(function):
            raise CallerError(f"function of Transform is called with the output; got {function!r}")
        for name, mapped in (parameters or {}).items():
            if isinstance(mapped, type) or not isinstance(mapped, Mapped):
                raise CallerError(
                    f"Transform shows parameter {name!r} as a Log(), a Linear(…), or what has inward(), outward() and "
                    f"unit(); got {mapped!r}"
                )
        self.form = Form(dict(parameters or {}), output, negate, function)
        self._fields: dict[str, Field] = {}
        #: the learner's points by the Master's: what was rounded has no way back
        self._in_flight: InFlight[Point] = InFlight()

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Let the learner know the Master as it shall see it. Raises CallerError where the two do not fit."""
        self._fields = {field.name: field for field in parameters}
        mapped, seen = self.form.mapped, self.form.parameters(parameters)
        room = [_with_room(field) if field.name in mapped else field for field in seen]
        try:
            super().bind(room, self.form.outputs(outputs))
        except CallerError as error:
            if not mapped:
                raise
            raise CallerError(f"{error} (all of {', '.join(mapped)} as Transform shows it to the learner)") from error

    def _incumbent(self) -> tuple[Point, float]:
        point, output = super()._incumbent()
        return self.form.outward(point, self._fields), -output if self.form.negate else output

    def ask(self, n: int) -> list[Point]:
        """The learner's points, as the Master takes them."""
        points = []
        for asked in ask(self.learner, n):
            point = self.form.outward(asked, self._fields)
            self._in_flight.add(point, asked)
            points.append(point)
        return points

    def tell(self, point: Point, output: Any) -> None:
        """Tell the learner, in its form."""
        self._end(point, lambda own: self.learner.tell(own, self.form.learnt(output)))
        super(Wrapper, self).tell(point, output)

    def fail(self, point: Point, error: BaseException) -> None:
        """Tell the learner of the failure, in its form."""
        self._end(point, lambda own: self._fail(own, error))
        super(Wrapper, self).fail(point, error)

    def _end(self, point: Point, pass_on: Callable[[Point], None]) -> None:
        """Pass on the end of ``point`` in the learner's form: bitwise the one it asked, if it did."""
        asked = self._in_flight.find(point)
        if asked is None:
            pass_on(self.form.inward(point))
        else:
            pass_on(asked.what)
            self._in_flight.end(asked)


def _with_room(field: Field) -> Field:
    """A field whose limits are a rounding further out: what is beyond those of the Master is moved to them anyway."""
    return msgspec.structs.replace(
        field,
        min=None if field.min is None else field.min - _ROUNDING * abs(field.min),
        max=None if field.max is None else field.max + _ROUNDING * abs(field.max),
    )


class DataSaver(Wrapper):
    """``learner`` is told what ``pick`` makes of an output, or the output of that name; ``data`` keeps them whole.

    DataSaver(learner, lambda output: output["spectrum"].max())

    Raises CallerError for what is no learner, and what picks nothing.
    """

    def __init__(self, learner: Learner, pick: str | Callable[[Any], Any]) -> None:
        super().__init__(learner)
        if not isinstance(pick, str) and not callable(pick):
            raise CallerError(f"DataSaver picks an output by its name, or by a function of the output; got {pick!r}")
        self._pick = pick

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Let the learner know the Master, with the output that it learns, as far as that is known."""
        chosen = chosen_output(outputs, self._pick) if isinstance(self._pick, str) else None
        super().bind(parameters, () if chosen is None else [chosen])

    def tell(self, point: Point, output: Any) -> None:
        """Keep the whole output; tell the learner its part."""
        self.learner.tell(point, select(output, self._pick) if isinstance(self._pick, str) else self._pick(output))
        super(Wrapper, self).tell(point, output)


class Filter(Wrapper):
    """``learner``, of whose points only those are evaluated that ``keep`` returns true for.

    The others count as failed to the learner; with ``penalty`` it is told that as their output. ``rejected`` counts
    them.

        Filter(learner, lambda point: point["x"] ** 2 + point["y"] ** 2 < 1)

    Raises CallerError for what is no learner, and ``keep`` that is no function.
    """

    def __init__(self, learner: Learner, keep: Callable[[Point], bool], penalty: Any = None) -> None:
        super().__init__(learner)
        if not callable(keep):
            raise CallerError(f"Filter keeps the points that a function of the point returns true for; got {keep!r}")
        self._keep = keep
        self._penalty = penalty
        self.rejected = 0

    def ask(self, n: int) -> list[Point]:
        """At most ``n`` points that are kept."""
        kept: list[Point] = []
        patience = _PATIENCE
        while len(kept) < n and patience:
            asked = ask(self.learner, n - len(kept))
            if not asked:
                break
            new = [point for point in asked if self._is_kept(point)]
            kept += new
            patience = _PATIENCE if new else patience - 1
        return kept

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"{super().describe()}, filtered"

    def _is_kept(self, point: Point) -> bool:
        if self._keep(point):
            return True
        self.rejected += 1
        if self._penalty is not None:
            self.learner.tell(point, self._penalty)
        else:
            self._fail(point, TaskFailed(f"{point!r} was left out by a Filter", "Rejected"))
        return False
