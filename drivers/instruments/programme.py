"""A head whose task is a whole programme: setpoints over hours, days or weeks, and what is measured meanwhile.

It works a head of commands or of a class, whose `set` and `read` speak of setpoints. Setpoints are sent when they
change, and all of them at the beginning and whenever the instrument may have forgotten them: after an interruption, or
over a new connection. At every sample the outputs are read; they are progress, and the last of them the output of the
task. From its checkpoints a programme goes on after whatever has interrupted it; see :mod:`elapsed` for what time is
then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from taskmaster.bus.errors import ConfigError, InvalidTask
from taskmaster.bus.fields import Schema
from taskmaster.drivers.instruments.course import Course, read_course, setpoint_fields
from taskmaster.drivers.instruments.elapsed import SYSTEM, Clocks, Kept, Stopwatch
from taskmaster.drivers.instruments.errors import CONNECTING, Stopped
from taskmaster.drivers.instruments.head import Head, HeadContext

__all__ = ["ProgrammeHead", "rehearsal"]

#: Seconds between two checkpoints, at least: each is put on disk twice.
KEEP_EVERY = 1.0
#: After so long the clock is looked at again: a machine that slept has slept through what was to come.
_LONGEST_SLEEP = 5.0

#: Times that the outputs at the end are asked for again, and seconds between them.
_ATTEMPTS, _PAUSE = 4, 1.0
#: Of a rehearsal: its samples, and the updates of a ramp that took a whole round.
_SAMPLES, _UPDATES = 8, 48

Values = dict[str, Any]
#: What a programme yields, and at its end the outputs.
Evaluation = Generator[Values, None, Values]


@dataclass(frozen=True)
class _Limit:
    """An output beyond which a programme ends early."""

    output: str
    above: float | None = None
    below: float | None = None

    def is_passed(self, outputs: Mapping[str, Any]) -> bool:
        value = outputs.get(self.output, math.nan)
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)


class ProgrammeHead(Head):
    """Runs programmes at the head that ``make`` makes, by the options `programme` and `setpoints`."""

    def __init__(self, context: HeadContext, make: Callable[[HeadContext], Head], clocks: Clocks = SYSTEM) -> None:
        """Raises ConfigError where that head cannot set without reading, or the options do not fit."""
        super().__init__(context)
        self._table: Mapping[str, Any] = self.options["programme"]
        self._setpoints = Schema(setpoint_fields(self.options), context.label, "setpoint")
        #: does it; what it is told are setpoints
        self.inner = make(replace(context, parameters=self._setpoints, on_acting=self.begin_acting))
        self.marks_acting = self.inner.marks_acting
        if not self.inner.applies:
            raise ConfigError(f"{context.label}: its class has no apply(self, x), which a programme needs")
        self._limits = tuple(_Limit(**limit) for limit in self._table.get("stop_when") or ())
        self._speed = float(self._table.get("speed") or 1.0)
        self._clocks = clocks
        self._keep_again = -math.inf

    # -- as the head that it works ------------------------------------------------------------------------------------

    def open(self) -> None:
        self.inner.open()

    def connect(self) -> None:
        self.inner.connect()

    def identify(self) -> str:
        return self.inner.identify()

    def read(self) -> Any:
        return self.inner.read()

    def look(self, table: Mapping[str, Any]) -> Any:
        return self.inner.look(table)

    def safe(self) -> None:
        self.inner.safe()

    def arm_watchdog(self) -> None:
        self.inner.arm_watchdog()

    def feed_watchdog(self) -> None:
        self.inner.feed_watchdog()

    def disarm_watchdog(self) -> None:
        self.inner.disarm_watchdog()

    def close(self) -> None:
        self.inner.close()

    def begin_task(self) -> None:
        super().begin_task()
        self.inner.begin_task()

    # -- a programme --------------------------------------------------------------------------------------------------

    def evaluate(self, x: Any) -> Evaluation:
        """The whole of it, from the beginning. Raises InvalidTask where the parameters make no programme."""
        course = self._course(x)
        return self._follow(course, Stopwatch(0.0, self._speed, self._clocks), is_new=True)

    def resume(self, x: Any, token: bytes) -> Evaluation:
        """The rest of it. The time of the interruption has elapsed, too, unless `interruption` says that it paused."""
        course, kept = self._course(x), Kept.read(token)
        counts = self._table.get("interruption", "counts") == "counts"
        stopwatch = Stopwatch.resumed(kept, self._speed, counts=counts, clocks=self._clocks)
        return self._follow(course, stopwatch, is_new=False)

    def _course(self, x: Any) -> Course:
        x = {} if x is None else x
        if not isinstance(x, Mapping):
            raise InvalidTask(f"{self.context.label}: a task is a table of the declared parameters, not {x!r}")
        return read_course(self._table, self._setpoints, self.context.parameters, x)

    def _follow(self, course: Course, stopwatch: Stopwatch, *, is_new: bool) -> Evaluation:
        every = float(self._table.get("sample") or 60.0)
        sent: Values | None = None
        change_at = sample_at = self._keep_again = -math.inf
        while (elapsed := stopwatch.elapsed) < course.duration:
            if elapsed >= change_at or not self.inner.is_as_applied:
                values, change_at = course.values(elapsed), course.next_change(elapsed)
                if values != sent or not self.inner.is_as_applied:
                    self.inner.apply(values)
                    if is_new and sent is None:
                        self._keep(stopwatch)  # from here on it need not begin again
                    sent = values
            if elapsed >= sample_at:
                outputs, trouble = self._sample(may_fail=sample_at > 0 or not is_new)
                yield _told(elapsed, values, outputs, trouble)
                self._keep(stopwatch)
                if any(limit.is_passed(outputs) for limit in self._limits):
                    return outputs
                sample_at = (math.floor(elapsed / every) + 1) * every
            if self.inner.is_as_applied:
                until = min(change_at, sample_at, course.duration)
                self.sleep(min(stopwatch.until(until), _LONGEST_SLEEP))
        return self._harvest()

    def _sample(self, *, may_fail: bool) -> tuple[Values, str]:
        """The outputs as they are, or why there are none: no reason to end an experiment of weeks."""
        try:
            return dict(self.inner.read()), ""
        except (*CONNECTING, Stopped):
            raise
        except Exception as error:  # whatever a library raises, the outputs cannot be had now
            if not may_fail:
                raise
            return {}, f"{type(error).__name__}: {error}"

    def _harvest(self) -> Values:
        """The outputs at the end; asked for some times before all was in vain."""
        for _ in range(_ATTEMPTS):
            outputs, trouble = self._sample(may_fail=True)
            if not trouble:
                return outputs
            self.sleep(_PAUSE)
        return dict(self.inner.read())

    def _keep(self, stopwatch: Stopwatch) -> None:
        now = time.monotonic()
        if now >= self._keep_again:
            self._keep_again = now + KEEP_EVERY
            self.checkpoint(stopwatch.keep())


def rehearsal(
    options: Mapping[str, Any], parameters: Schema | None, x: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """A head's options with a programme that takes no longer than so many seconds, slow setting of values included.

    Of its samples there are a few, and of its ramps a few points.
    """
    programme, commands = options["programme"], options.get("commands") or {}
    course = read_course(programme, Schema(setpoint_fields(options), "the head", "setpoint"), parameters, x)
    speed = max(course.duration / seconds, programme.get("speed", 1.0))
    rehearsed = {
        "speed": speed,
        "sample": max(course.duration / _SAMPLES, programme.get("sample", 0.0)),
        "update": max((course.cycle or course.duration) / _UPDATES, course.update),
    }
    ramps = {name: {**ramp, "every": ramp["every"] / speed} for name, ramp in (commands.get("ramps") or {}).items()}
    return {**options, "programme": {**programme, **rehearsed}, "commands": {**commands, "ramps": ramps}}


def _told(elapsed: float, values: Mapping[str, Any], outputs: Mapping[str, Any], trouble: str) -> Values:
    """A sample as progress: time in seconds, setpoints as ``set.NAME``, and of the outputs what is a single value."""
    told = {"elapsed": round(elapsed, 3), **{f"set.{name}": value for name, value in values.items()}}
    told |= {name: value for name, value in outputs.items() if np.ndim(value) == 0}
    return told | {"trouble": trouble} if trouble else told
