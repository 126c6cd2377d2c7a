"""Whether a programme agrees with the rest of its Master's table: its setpoints, parameters, outputs and commands.

As in :mod:`agreement`, what is wrong by itself is somebody else's complaint. A parameter may be anything within its
limits, so that whatever a learner chooses makes a programme: its steps in order, its setpoints within their limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.text import did_you_mean_or, format_duration, parse_duration
from taskmaster.config.base import declared
from taskmaster.config.lines import KeyPath
from taskmaster.config.members import parameters_of
from taskmaster.config.parameters import OutputSettings, ParameterSettings
from taskmaster.config.programme import ProgrammeSettings, SetpointSettings, StepSettings
from taskmaster.config.templates import Template
from taskmaster.config.values import show

__all__ = ["of_programme", "with_setpoints"]

Found = Iterator[tuple[KeyPath, str]]
Model = TypeVar("Model", bound=BaseModel)

#: What samples say beside setpoints and outputs.
_TOLD = ("elapsed", "trouble")
#: A ramp that ends with its cycle does so though its end is a sum.
_ROUNDING = 1e-9


def with_setpoints(check: Callable[[Mapping[str, Any]], Found], table: Mapping[str, Any]) -> Found:
    """What ``check`` finds of parameters and what sends them. In a programme these are its setpoints, by that name."""
    if "programme" not in table:
        yield from check(table)
        return
    for path, text in check({**table, "parameters": table.get("setpoints", {})}):
        path = ("setpoints", *path[1:]) if path[:1] == ("parameters",) else path
        yield path, re.sub(r"\bparameter(s?)\b", r"setpoint\1", text)


def of_programme(table: Mapping[str, Any]) -> Found:
    """A programme beside the other tables of its Master."""
    setpoints = _dict(table.get("setpoints"))
    if "programme" not in table:
        if setpoints:
            yield ("setpoints",), "have no effect without a programme; add one, or remove them"
        return
    if not setpoints:
        yield ("setpoints",), "are missing; declare what the programme sets, for example temperature = { unit = '°C' }"
    yield from ((("setpoints", name), "is a key of steps; rename it") for name in setpoints if name in ("at", "ramp"))
    for name in _dict(table.get("outputs")):
        if name in _TOLD or name.startswith("set."):
            yield ("outputs", name), "is what samples of a programme call something else; rename it"
    yield from _reads(table, setpoints)
    programme = _valid(ProgrammeSettings, table["programme"])
    if programme is not None:
        yield from _Agreement(programme, table).found()


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _valid(model: type[Model], table: object) -> Model | None:
    try:
        return model.model_validate(table)
    except ValidationError:
        return None


def _all_valid(model: type[Model], tables: object) -> dict[str, Model]:
    found = {name: _valid(model, table) for name, table in _dict(tables).items()}
    return {name: settings for name, settings in found.items() if settings is not None}


def _reads(table: Mapping[str, Any], setpoints: Mapping[str, Any]) -> Found:
    """Samples are read without setting anything."""
    needed = [*_in_queries(_dict(_dict(table.get("commands")).get("read"))), *parameters_of("read", table.get("read"))]
    for path, name in needed:
        if name in setpoints:
            yield path, f"samples are read without setting anything, so there is no value of {name!r} here"


def _in_queries(readings: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for name, reading in readings.items():
        path: KeyPath = ("commands", "read", name, "query") if isinstance(reading, dict) else ("commands", "read", name)
        text = reading.get("query") if isinstance(reading, dict) else reading
        try:
            fields = Template(text).fields if isinstance(text, str) else ()
        except ValueError:
            continue  # its own complaint
        yield from ((path, field) for field in fields)


@dataclass(frozen=True)
class _Span:
    """All that a time may be, in seconds."""

    low: float
    high: float

    def __str__(self) -> str:
        return _time(self.low) if self.low == self.high else f"{_time(self.low)} … {_time(self.high)}"


class _Agreement:
    """One programme that is right by itself."""

    def __init__(self, programme: ProgrammeSettings, table: Mapping[str, Any]) -> None:
        self._programme = programme
        self._table = table
        self._setpoints = _all_valid(SetpointSettings, table.get("setpoints"))
        self._parameters = _all_valid(ParameterSettings, table.get("parameters"))
        self._names = set(_dict(table.get("parameters")))

    def found(self) -> Found:
        steps = self._programme.steps
        for i, step in enumerate(steps):
            yield from _below(("programme", "steps", i), self._of_step(step))
        yield from _below(("programme", "steps"), self._unnamed())
        yield from _below(("programme",), self._times())
        yield from _below(("programme", "stop_when"), self._stops())
        yield from self._unused()

    # -- values -------------------------------------------------------------------------------------------------------

    def _of_step(self, step: StepSettings) -> Found:
        known = _dict(self._table.get("setpoints"))
        for name, value in _named(step).items():
            if name not in known:
                others = [*known, *declared(StepSettings)]
                yield (name,), f"there is no setpoint {name!r}{did_you_mean_or(name, others)}"
            elif name in self._setpoints:
                yield from (((name,), text) for text in self._misfit(self._setpoints[name], value))

    def _misfit(self, setpoint: SetpointSettings, value: Any) -> Iterator[str]:
        if not isinstance(value, str) or (setpoint.kind == "str" and value not in self._names):
            yield from _of_value(setpoint, value)
        elif value not in self._names:
            yield f"there is no parameter {value!r}{did_you_mean_or(value, self._names)}"
        elif value in self._parameters:
            yield from _of_parameter(setpoint, value, self._parameters[value])

    def _unnamed(self) -> Found:
        first, *later = map(_named, self._programme.steps)
        for i, step in enumerate(later, 1):
            for name in step:
                if name in self._setpoints and name not in first:
                    yield (i, name), "the first step does not say what it is until then; add it there"
                    first[name] = None
        for name in self._setpoints:
            if name not in first:
                yield (0,), f"no step says what the setpoint {name!r} is; add it to this one"

    # -- times --------------------------------------------------------------------------------------------------------

    def _times(self) -> Found:
        steps = self._programme.steps
        moments: list[tuple[KeyPath, float | str]] = [(("duration",), self._programme.duration)]
        for i, step in enumerate(steps):
            moments += [(("steps", i, "at"), step.at), (("steps", i, "ramp"), step.ramp)]
        yield from ((path, text) for path, moment in moments if (text := self._no_time(moment)))
        duration, spans = self._span(self._programme.duration), [self._span(step.at) for step in steps]
        if duration is not None and duration.low <= 0:
            yield ("duration",), f"expected more than 0 s, got {duration}"
        yield from self._order(spans)
        for i, at in enumerate(spans):
            if at is not None:
                yield from ((("steps", i, "at"), text) for text in self._beyond(at, duration))
                yield from ((("steps", i, "ramp"), text) for text in self._too_long(i, at, spans))
        yield from self._timeout(duration)

    def _no_time(self, moment: float | str) -> str:
        """Why the name of a parameter cannot stand for a time; empty if it can."""
        if not isinstance(moment, str):
            return ""
        if moment not in self._names:
            return f"there is no parameter {moment!r}{did_you_mean_or(moment, self._names)}"
        parameter = self._parameters.get(moment)
        if parameter is None:
            return ""
        if _unit(parameter) is None:
            return f"{moment!r} is in {parameter.unit!r}, which is no unit of time; write 's', 'min', 'h' or 'd'"
        if parameter.min is None or parameter.max is None or parameter.min < 0:
            return f"parameter {moment!r} needs min and max, from 0 on: whatever it is has to make a programme"
        return ""

    def _span(self, moment: float | str) -> _Span | None:
        """Seconds that it may be; None where that cannot be told."""
        if not isinstance(moment, str):
            return _Span(moment, moment)
        parameter = self._parameters.get(moment)
        if parameter is None or self._no_time(moment) or parameter.min is None or parameter.max is None:
            return None
        unit = _unit(parameter) or 1.0
        return _Span(parameter.min * unit, parameter.max * unit)

    def _order(self, spans: Sequence[_Span | None]) -> Found:
        if spans[0] is not None and spans[0] != _Span(0, 0):
            yield ("steps", 0, "at"), f"the first step is at 0, not at {spans[0]}"
        for i, (earlier, later) in enumerate(pairwise(spans), 1):
            if earlier is not None and later is not None and later.low <= earlier.high:
                yield ("steps", i, "at"), f"expected later than the step before, at {earlier}; got {later}"

    def _beyond(self, at: _Span, duration: _Span | None) -> Iterator[str]:
        cycle = self._programme.cycle
        if cycle is not None and at.high >= cycle:
            yield f"{at} is not before the end of the cycle, {_time(cycle)}"
        elif cycle is None and duration is not None and at.low >= duration.high > 0:
            yield f"{at} is not before the end of the programme, {_time(duration.high)}"

    def _too_long(self, i: int, at: _Span, spans: Sequence[_Span | None]) -> Iterator[str]:
        """A ramp has ended when its setpoint changes again: so it is known where the next one begins."""
        steps, cycle = self._programme.steps, self._programme.cycle
        ramp = self._span(steps[i].ramp)
        later = (k for k in range(i + 1, len(steps)) if _named(steps[i]).keys() & _named(steps[k]).keys())
        after = next(later, None)
        end = spans[after] if after is not None else None if cycle is None else _Span(cycle, cycle)
        if ramp is not None and end is not None and at.high + ramp.high > end.low * (1 + _ROUNDING):
            what = "its setpoints change again" if after is not None else "the cycle ends"
            yield f"{ramp} from {at} on is not over when {what}, at {end}"

    def _timeout(self, duration: _Span | None) -> Found:
        timeout = self._table.get("timeout")
        try:
            limit = parse_duration(timeout) if timeout is not None else math.inf
        except ValueError:
            return
        if duration is not None and limit <= duration.high / self._programme.speed:
            yield ("duration",), f"is not over before timeout = {show(timeout)}; make that longer, or remove it"

    # -- outputs ------------------------------------------------------------------------------------------------------

    def _stops(self) -> Found:
        outputs = _dict(self._table.get("outputs"))
        valid = _all_valid(OutputSettings, outputs)
        as_list = isinstance(_dict(self._table["programme"]).get("stop_when"), list)
        for i, stop in enumerate(self._programme.stop_when):
            path: KeyPath = (i, "output") if as_list else ("output",)
            if stop.output not in outputs:
                yield path, f"there is no output {stop.output!r}{did_you_mean_or(stop.output, outputs)}"
            elif (output := valid.get(stop.output)) is not None and (
                output.shape or output.kind not in ("float", "int")
            ):
                yield path, f"only a number can end it, and {stop.output!r} is none"

    # -- parameters ---------------------------------------------------------------------------------------------------

    def _unused(self) -> Found:
        programme = self._programme
        used = {programme.duration}
        for step in programme.steps:
            used |= {step.at, step.ramp, *(value for value in _named(step).values() if isinstance(value, str))}
        for name in _dict(self._table.get("parameters")):
            if name not in used:
                yield ("parameters", name), "nothing in the programme uses it; name it in a step, or remove it"


def _named(step: StepSettings) -> dict[str, Any]:
    """The setpoints of a step."""
    return dict(step.model_extra or {})


def _below(path: KeyPath, found: Found) -> Found:
    return (((*path, *within), text) for within, text in found)


def _time(seconds: float) -> str:
    return format_duration(seconds) if seconds else "0 s"


def _unit(parameter: ParameterSettings) -> float | None:
    """Seconds of what a parameter is in; None where that is no time."""
    try:
        return parse_duration(f"1 {parameter.unit or 's'}")
    except ValueError:
        return None


def _of_value(setpoint: SetpointSettings, value: Any) -> Iterator[str]:
    """A value that stands in the file."""
    from taskmaster.bus.fields import Schema  # numpy with it, which a reader of other settings does not need

    field = setpoint.field("it")
    try:
        Schema([field], "").row({"it": value})
    except InvalidTask:
        yield f"expected {field.describe()}, got {show(value)}"


def _of_parameter(setpoint: SetpointSettings, name: str, parameter: ParameterSettings) -> Iterator[str]:
    """A parameter's value, whatever that is."""
    if parameter.unit and setpoint.unit and parameter.unit != setpoint.unit:
        yield f"parameter {name!r} is in {parameter.unit!r}, and the setpoint in {setpoint.unit!r}"
    fits = not parameter.shape and parameter.kind in (
        ("float", "int") if setpoint.kind == "float" else (setpoint.kind,)
    )
    if setpoint.choices:
        fits = fits and bool(parameter.choices) and set(parameter.choices) <= set(setpoint.choices)
    elif fits and setpoint.kind in ("float", "int"):
        (low, high), (least, most) = _limits(parameter), _limits(setpoint)
        fits = least <= low and high <= most
    if not fits:
        given, wanted = parameter.field("").describe(), setpoint.field("").describe()
        yield f"parameter {name!r} may be {given}, and the setpoint has to be {wanted}"


def _limits(settings: ParameterSettings) -> tuple[float, float]:
    if settings.choices:
        numbers = [float(choice) for choice in settings.choices]
        return min(numbers), max(numbers)
    return (-math.inf if settings.min is None else settings.min, math.inf if settings.max is None else settings.max)
