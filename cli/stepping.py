"""Stepping through a replay at a terminal: each ask and each result, with what the learner is like behind it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, TypeAlias

import numpy as np

from taskmaster.bus import values
from taskmaster.bus.errors import TaskMasterError
from taskmaster.cli.output import count, number, say, value_text
from taskmaster.learners.protocol import Learner, Lossy, Optimizing, ask, describe, loss_of
from taskmaster.learners.replay import AskStep, Step, TellStep
from taskmaster.learners.typing_in import typed_line
from taskmaster.learners.wrapper import Wrapper

__all__ = ["Left", "Stepper", "points_text", "state_text"]

#: Points of an ask, and attributes of a learner, that are shown.
_SHOWN = 4
_ATTRIBUTES = 16
#: Characters of an attribute that are shown.
_WIDTH = 70
#: Items of a list, and bytes of an array, up to which any change of it is seen; of longer ones both ends are looked at.
_ITEMS = 1000
_BYTES = 1 << 20
_KEYS = "Enter: one step; a number: so many; c: to the end; p: the next point; d: Python's debugger; q: leave"


#: Replays a run again, with a hook, and returns the learner when that raises Left.
_Again: TypeAlias = Callable[[Callable[[Step], None]], Learner]


class Left(Exception):
    """Whoever steps has seen enough."""


class Stepper:
    """The hook of a replay that is stepped through: from event ``until`` on it stops at each step.

    ``again(hook)`` replays the same to another such learner, which it returns when ``hook`` raises Left; it is needed
    where a learner cannot be copied, to see what it would ask next.
    """

    def __init__(self, learner: Learner, until: int, again: _Again | None = None) -> None:
        self._learner = learner
        self._until = until
        self._again = again
        #: steps so far
        self._steps = 0
        self._known = _Known()
        self._attributes = _Attributes(learner)
        #: steps that are made without stopping
        self._left: float = 0
        self._has_said = False

    def __call__(self, step: Step) -> None:
        self._known.take(step)
        self._steps += 1
        if step.told < self._until and not (isinstance(step, AskStep) and step.divergence is not None):
            return
        say(_step_text(step))
        say(f"  {state_text(self._learner, self._known.told)}")
        for line in (*self._known.lines(self._learner), *self._attributes.lines()):
            say(f"  {line}")
        self._left -= 1
        while self._left <= 0:
            self._heed(self._asked(), step)

    def _asked(self) -> str:
        if not self._has_said:
            say(f"  ({_KEYS})")
            self._has_said = True
        try:
            return typed_line("step: ").strip().lower()
        except EOFError:  # Ctrl-D
            say("")
            return "q"

    def _heed(self, word: str, step: Step) -> None:
        if word == "q":
            raise Left
        if word == "p":
            say(f"  {self._next_text()}")
        elif word == "d":
            say("  learner and step are here; b FILE:LINE sets a breakpoint, c comes back to the steps, q leaves")
            _debug(self._learner, step)
        elif word == "c":
            self._left = math.inf
        elif word == "" or (word.isdecimal() and int(word) > 0):
            self._left = int(word or 1)
        else:
            say(f"  {_KEYS}")

    def _next_text(self) -> str:
        """What the learner would ask now, by a copy of it: asking itself would change what comes."""
        try:
            twin = copy.deepcopy(self._learner)
        except Exception as error:  # noqa: BLE001 - a learner's own, of which some cannot be copied, as those with generators
            if self._again is None:
                return f"its next point cannot be known without asking it: {error}"
            say(f"  (it cannot be copied, so the record is played to another one: {error})")
            twin = self._brought_here(self._again)
        try:
            points = ask(twin, 1)
        except Exception as error:  # noqa: BLE001 - a learner's own
            return f"it would raise {type(error).__name__}: {error}"
        return f"it would ask {points_text(points)}"

    def _brought_here(self, again: _Again) -> Learner:
        """Another such learner, as far as this one is."""
        left = self._steps

        def stop(step: Step) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Left

        return again(stop)


def _debug(learner: Learner, step: Step) -> None:
    """Where whoever typed d finds the learner."""
    breakpoint()
    return  # here, at the latest


# -- in words ---------------------------------------------------------------------------------------------------------


def _step_text(step: Step) -> str:
    if isinstance(step, AskStep):
        text = f"{step.told:>6}  asked for {step.asked}: {points_text(step.points)}"
        if step.divergence is not None:
            text += f"\n{'':8}other than then: {points_text(step.recorded)}\n{'':8}{step.divergence}"
        return text
    result = step.result
    came = f"→ {value_text(result.output)}" if result.outcome == "done" else result.outcome
    how = {"told": "told", "failed": "told of", "again": "not told of, it was put again:"}[step.how]
    return f"{step.told:>6}  {how} task {result.index}, {value_text(result.input)} {came}"


def points_text(points: Sequence[Any]) -> str:
    """The first few points."""
    more = f", and {len(points) - _SHOWN} more" if len(points) > _SHOWN else ""
    return "; ".join(value_text(point) for point in points[:_SHOWN]) + more or "nothing"


def state_text(learner: Learner, told: int | None = None) -> str:
    """A learner in a line: what it is, how many points it has (as far as it says, else ``told``), its loss."""
    parts = [describe(learner)]
    npoints = getattr(learner, "npoints", told)
    if isinstance(npoints, int):
        parts.append(count(npoints, "point"))
    if isinstance(learner, Lossy):
        parts.append(f"loss {number(loss_of(learner))}")
    return ", ".join(parts)


class _Known:
    """What a learner has been asked and told up to here."""

    def __init__(self) -> None:
        self.told = 0
        self._in_flight: list[Any] = []
        self._least: tuple[float, Any] | None = None
        self._most: tuple[float, Any] | None = None

    def take(self, step: Step) -> None:
        """One step more."""
        if isinstance(step, AskStep):
            self._in_flight += step.points
            return
        if step.how != "again":
            self._end(step.result.input)
        if step.how == "told":
            self._tell(step)

    def _end(self, point: Any) -> None:
        for k, other in enumerate(self._in_flight):
            if _is(other, point):
                del self._in_flight[k]
                return

    def _tell(self, step: TellStep) -> None:
        self.told += 1
        output, point = step.result.output, step.result.input
        if not isinstance(output, (int, float)) or math.isnan(output):
            return
        if self._least is None or output < self._least[0]:
            self._least = output, point
        if self._most is None or output > self._most[0]:
            self._most = output, point

    def lines(self, learner: Learner) -> Iterator[str]:
        """In words."""
        if self._in_flight:
            yield f"{len(self._in_flight)} in flight: {points_text(self._in_flight)}"
        if isinstance(learner, Optimizing):
            try:
                point, output = learner.incumbent()
            except TaskMasterError:  # there is none yet
                return
            yield f"best {number(output)} at {value_text(point)}"
        elif self._least is not None and self._most is not None:
            ends = dict.fromkeys(
                f"{number(output)} at {value_text(point)}" for output, point in (self._least, self._most)
            )
            yield f"outputs from {' to '.join(ends)}" if len(ends) > 1 else f"output {next(iter(ends))}"


def _is(given: Any, put: Any) -> bool:
    """Whether a point that a learner has given is one that was put: 1 is 1.0 there, where a number is declared."""
    try:
        return bool(given == put)
    except ValueError:  # of arrays
        return values.encode(values.keep(given)) == values.encode(put)


class _Attributes:
    """The attributes of one's own learner, and which of them have changed since they were shown last."""

    def __init__(self, learner: Learner) -> None:
        while isinstance(learner, Wrapper):
            learner = learner.learner
        self._is_own = type(learner).__module__.partition(".")[0] != "taskmaster"
        self._learner = learner
        self._before: dict[str, Any] = {}

    def lines(self) -> Iterator[str]:
        """Each public attribute in a line, with an asterisk before those that have changed."""
        if not self._is_own:
            return
        public = {name: value for name, value in vars(self._learner).items() if not name.startswith("_")}
        now = {name: _look(value) for name, value in public.items()}
        before, self._before = self._before, now
        for name in list(public)[:_ATTRIBUTES]:
            mark = "*" if before and before.get(name) != now[name] else " "
            yield f"{mark} {name} = {_brief(public[name])}"
        if len(public) > _ATTRIBUTES:
            yield f"  and {len(public) - _ATTRIBUTES} attributes more"


def _brief(value: Any) -> str:
    """A value in a line; an array by its shape, unless it is small."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"{value.dtype} array of shape {value.shape}"
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # noqa: BLE001 - of anybody's class
        text = f"{type(value).__qualname__}, whose repr raises {type(error).__name__}"
    if len(text) <= _WIDTH:
        return text
    if isinstance(value, (Sequence, Mapping, Set)) and not isinstance(value, (str, bytes)):
        return f"{type(value).__name__} of {len(value)}: {text[: _WIDTH - 20]}…"
    return f"{text[: _WIDTH - 1]}…"


def _look(value: Any) -> Any:
    """What is different as soon as the value is, as far as that can be seen at a glance."""
    if isinstance(value, np.ndarray):
        kept = value if value.nbytes <= _BYTES else np.concatenate([value.ravel()[:_ITEMS], value.ravel()[-_ITEMS:]])
        return value.shape, str(value.dtype), kept.tobytes() if value.dtype != object else repr(kept)
    if isinstance(value, Sequence) and len(value) > _ITEMS:
        return len(value), _repr(value[: _ITEMS // 2]), _repr(value[-_ITEMS // 2 :])
    if isinstance(value, (Mapping, Set)) and len(value) > _ITEMS:
        return len(value)
    return _repr(value)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - of anybody's class
        return type(error).__name__
