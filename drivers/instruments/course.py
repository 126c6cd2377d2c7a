"""What setpoints are over time: steps, ramps between them, cycles. No I/O and no clock: time is seconds since the
beginning.

A step changes some setpoints at its moment, at once or along a straight line; those that it does not name stay as they
are. The first step is at 0 and names all of them. Where the steps repeat, the first ramp of a round begins at the last
value of the one before; at the very beginning nothing is known of what was before, and all is set at once.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any

import msgspec

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.text import format_duration, parse_duration

__all__ = ["Change", "Course", "read_course", "setpoint_fields"]

#: What is this close ahead is now: a moment that rounding has put a little later than it is meant to be. Seconds.
_NOW = 1e-6


@dataclass(frozen=True)
class Change:
    """One setpoint goes ``to`` a value, ``at`` a moment of the round, within ``ramp``; both in seconds."""

    at: float
    ramp: float
    to: Any

    def is_gradual(self, before: Any) -> bool:
        """Whether there is anything between the value ``before`` and this one."""
        return self.ramp > 0 and before != self.to and not isinstance(self.to, (bool, str))

    def value(self, before: Any, since: float) -> Any:
        """The value so many seconds after its moment; a whole number where that is what it goes to."""
        if since >= self.ramp or not self.is_gradual(before):
            return self.to
        between = before + (self.to - before) * (since / self.ramp)
        low, high = sorted((before, self.to))
        return round(between) if isinstance(self.to, int) else min(max(between, low), high)


@dataclass(frozen=True)
class Course:
    """All setpoints from the beginning to the end.

    ``changes``, by setpoint, are in the order of their moments; the first of each is at 0. All times are in seconds.
    """

    changes: Mapping[str, tuple[Change, ...]]
    duration: float
    #: the steps repeat after so long
    cycle: float | None = None
    #: how often a value changes while it is on a ramp
    update: float = 60.0

    def values(self, elapsed: float) -> dict[str, Any]:
        """What every setpoint is at this time, by name."""
        rounds, within = self._position(elapsed)
        values = {}
        for name, changes in self.changes.items():
            i, before = _present(changes, rounds, within)
            values[name] = changes[i].value(before, within - changes[i].at)
        return values

    def next_change(self, elapsed: float) -> float:
        """The next time, after this one, at which a setpoint may be another; infinity if there is none."""
        rounds, within = self._position(elapsed)
        after = min(self._after(changes, rounds, within) for changes in self.changes.values())
        return rounds * (self.cycle or 0.0) + after

    def _position(self, elapsed: float) -> tuple[float, float]:
        """How many rounds are over, and the time in the present one."""
        return divmod(elapsed + _NOW, self.cycle) if self.cycle is not None else (0.0, elapsed + _NOW)

    def _after(self, changes: Sequence[Change], rounds: float, within: float) -> float:
        i, before = _present(changes, rounds, within)
        change = changes[i]
        if change.is_gradual(before) and within < change.at + change.ramp:
            steps = math.floor((within - change.at) / self.update) + 1
            return change.at + min(steps * self.update, change.ramp)
        if i + 1 < len(changes):
            return changes[i + 1].at
        return math.inf if self.cycle is None else self.cycle


def _present(changes: Sequence[Change], rounds: float, within: float) -> tuple[int, Any]:
    """Which of the changes was the last one, and the value before it."""
    i = bisect_right(changes, within, key=attrgetter("at")) - 1
    if i > 0 or rounds > 0:
        return i, changes[i - 1].to
    return i, changes[i].to


# -- from the configuration --------------------------------------------------------------------------------------------


def setpoint_fields(options: Mapping[str, Any]) -> tuple[Field, ...]:
    """The setpoints in a head's options."""
    tables: Mapping[str, Mapping[str, Any]] = options.get("setpoints") or {}
    return tuple(msgspec.convert({**table, "name": name}, Field) for name, table in tables.items())


def read_course(
    programme: Mapping[str, Any], setpoints: Schema, parameters: Schema | None, x: Mapping[str, Any]
) -> Course:
    """The course of one task: that of the table ``programme``, with the task's parameters ``x`` in it.

    Raises InvalidTask, naming the step, where they do not make one.
    """
    reader = _Reader({field.name: field for field in parameters.fields} if parameters else {}, x)
    steps: Sequence[Mapping[str, Any]] = programme["steps"]
    moments = [reader.seconds(step["at"]) for step in steps]
    changes = {}
    for field in setpoints.fields:
        one = Schema([field], setpoints.owner, setpoints.role)
        changes[field.name] = tuple(
            Change(at, reader.seconds(step.get("ramp", 0.0)), one.row({field.name: reader.value(step[field.name])})[0])
            for at, step in zip(moments, steps)
            if field.name in step
        )
    course = Course(
        changes, reader.seconds(programme["duration"]), programme.get("cycle"), programme.get("update", 60.0)
    )
    _check(course, moments, setpoints.owner)
    return course


@dataclass(frozen=True)
class _Reader:
    """Puts the values of parameters where their names stand."""

    parameters: Mapping[str, Field]
    x: Mapping[str, Any]

    def seconds(self, entry: float | str) -> float:
        if not isinstance(entry, str):
            return float(entry)
        unit = self.parameters[entry].unit if entry in self.parameters else ""
        return float(self.value(entry)) * parse_duration(f"1 {unit or 's'}")

    def value(self, entry: Any) -> Any:
        return self.x[entry] if isinstance(entry, str) and entry in self.parameters else entry


def _check(course: Course, moments: Sequence[float], owner: str) -> None:
    if moments[0] != 0 or any(later <= earlier for earlier, later in pairwise(moments)):
        shown = ", ".join(map(format_duration, moments))
        raise InvalidTask(f"{owner}: the steps of a programme begin at 0 and follow each other, not at {shown}")
    end = math.inf if course.cycle is None else course.cycle
    if moments[-1] >= end:
        raise InvalidTask(
            f"{owner}: a step at {format_duration(moments[-1])} is beyond the cycle of {format_duration(end)}"
        )
    for name, changes in course.changes.items():
        if not changes or changes[0].at > 0:
            raise InvalidTask(f"{owner}: the first step does not say what {name!r} is")
        for change, after in zip(changes, [*(change.at for change in changes[1:]), end]):
            if change.at + change.ramp > after + _NOW:
                raise InvalidTask(
                    f"{owner}: the ramp of {name!r} that begins at {format_duration(change.at)} takes "
                    f"{format_duration(change.ramp)}, and its next one begins at {format_duration(after)}"
                )
