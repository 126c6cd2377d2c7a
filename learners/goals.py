"""When a Loop has reached what it was started for.

Goals combine: ``npoints(200) | seconds(3600)`` stops at what comes first, ``npoints(50) & loss(0.01)`` at the later.

A goal also says how many results are missing at most, so that a Loop puts no task that nobody would wait for; and when
to look at it again though no result may have come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, TypeAlias

from taskmaster.bus.errors import CallerError
from taskmaster.learners.arguments import Whole, duration as in_seconds, whole
from taskmaster.learners.protocol import Learner, Lossy, loss_of

if TYPE_CHECKING:
    from taskmaster.learners.loop import Loop

__all__ = ["Goal", "GoalLike", "as_goal", "loss", "npoints", "seconds", "until"]

#: How long a loop that waits for a time of day does not look at the clock, which may be set meanwhile.
_CLOCK_SECONDS = 60.0

#: Loss is looked at after every result at first, then after each further 2 % of the points: it can cost more than all
#: of a learner's learning, and has to be looked at after the same points in every run.
_LOSS_SHARE = 50


class Goal:
    """A condition on a Loop, and how near it is."""

    def __init__(
        self,
        reached: Callable[[Loop], bool],
        text: str,
        fraction: Callable[[Loop], float] = lambda loop: 0.0,
        missing: Callable[[Loop], float] = lambda loop: math.inf,
        due: Callable[[Loop], float] = lambda loop: math.inf,
        require: Callable[[Learner], object] = lambda learner: None,
    ) -> None:
        self._reached = reached
        self._fraction = fraction
        self._missing = missing
        self._due = due
        self._require = require
        self._text = text

    def reached(self, loop: Loop) -> bool:
        """Whether the loop may stop."""
        return self._reached(loop)

    def fraction(self, loop: Loop) -> float:
        """How much of the way is behind the loop, from 0 to 1, as far as that can be known."""
        return min(1.0, max(0.0, self._fraction(loop)))

    def missing(self, loop: Loop) -> float:
        """With so many further results it is reached at the latest; infinite where their number decides nothing."""
        return self._missing(loop)

    def due(self, loop: Loop) -> float:
        """Seconds until it may be reached by the passing of time alone; infinite if it cannot be, or has been."""
        return self._due(loop)

    def require(self, learner: Learner) -> None:
        """Raise CallerError if a loop with this learner could never tell whether it is reached."""
        self._require(learner)

    def __or__(self, other: GoalLike) -> Goal:
        second = as_goal(other)
        return Goal(
            lambda loop: self.reached(loop) or second.reached(loop),
            f"{self} or {second}",
            lambda loop: max(self.fraction(loop), second.fraction(loop)),
            lambda loop: min(self.missing(loop), second.missing(loop)),
            lambda loop: min(self.due(loop), second.due(loop)),
            lambda learner: (self._require(learner), second._require(learner)),
        )

    def __and__(self, other: GoalLike) -> Goal:
        second = as_goal(other)
        return Goal(
            lambda loop: self.reached(loop) and second.reached(loop),
            f"{_part(self)} and {_part(second)}",
            lambda loop: min(self.fraction(loop), second.fraction(loop)),
            lambda loop: max(self.missing(loop), second.missing(loop)),
            lambda loop: min(self.due(loop), second.due(loop)),
            lambda learner: (self._require(learner), second._require(learner)),
        )

    def __ror__(self, other: GoalLike) -> Goal:
        return as_goal(other) | self

    def __rand__(self, other: GoalLike) -> Goal:
        return as_goal(other) & self

    def __repr__(self) -> str:
        return self._text


def _part(goal: Goal) -> str:
    """A goal, as a part of one that is several together."""
    text = repr(goal)
    return f"({text})" if " or " in text else text


GoalLike: TypeAlias = "Goal | int | timedelta | datetime | time | Callable[[Loop], bool]"


def npoints(n: Whole) -> Goal:
    """``n`` results have been told to the learner (failed ones do not count).

    Raises CallerError for what is no number of points.
    """
    n = whole(n, "a goal of points", 1, 2**53)
    return Goal(
        lambda loop: loop.told >= n, f"{n} points", lambda loop: loop.told / n, missing=lambda loop: n - loop.told
    )


def loss(target: float) -> Goal:
    """The learner's loss is at most ``target``.

    Raises CallerError for what is no number. A Loop refuses it for a learner without a loss.
    """
    if not isinstance(target, (int, float)) or math.isnan(target):
        raise CallerError(f"a goal of loss is a number, not {target!r}")

    def lossy(learner: Learner) -> Lossy:
        if not isinstance(learner, Lossy):
            raise CallerError(
                f"a goal of loss ≤ {target:g} needs a learner with a loss(); {type(learner).__name__} has none"
            )
        return learner

    def reached(loop: Loop) -> bool:
        learner = lossy(loop.learner)
        if not loop.told or loop.told % max(1, loop.told // _LOSS_SHARE):
            return False
        return loss_of(learner) <= target

    return Goal(reached, f"loss ≤ {target:g}", require=lossy)


def seconds(duration: float) -> Goal:
    """This long after the loop was started, whatever is being evaluated then.

    Raises CallerError for what is no duration above 0.
    """
    duration = in_seconds(duration, "a goal of time")
    if not duration > 0:
        raise CallerError(f"a goal of {duration:g} seconds is reached before it begins")

    def due(loop: Loop) -> float:
        left = duration - loop.elapsed
        return left if left > 0 else math.inf

    return Goal(lambda loop: loop.elapsed >= duration, f"{duration:g} s", lambda loop: loop.elapsed / duration, due=due)


def until(moment: datetime | time | str) -> Goal:
    """The clock shows this time: a datetime, or the next time of day after the loop was started.

    Also as text: ``"18:00"``, ``"2026-11-23 06:30"``. Without a time zone it is local time. It is the system's clock
    that counts, at which a loop looks once a minute at least: where that is set, the goal comes sooner or later.

    Raises CallerError for what is no moment.
    """
    wanted = _moment(moment)

    def target(loop: Loop) -> float:
        if isinstance(wanted, datetime):
            return wanted.timestamp()
        return _next(wanted, loop.started_at)

    def due(loop: Loop) -> float:
        left = target(loop) - loop.now()
        return min(left, _CLOCK_SECONDS) if left > 0 else math.inf

    def fraction(loop: Loop) -> float:
        whole = target(loop) - loop.started_at
        return (loop.now() - loop.started_at) / whole if whole > 0 else 1.0

    text = f"until {wanted:%Y-%m-%d %H:%M:%S}" if isinstance(wanted, datetime) else f"until {wanted:%H:%M:%S}"
    return Goal(lambda loop: loop.now() >= target(loop), text, fraction, due=due)


def _moment(moment: datetime | time | str) -> datetime | time:
    if isinstance(moment, (datetime, time)):
        return moment
    for read in (time.fromisoformat, datetime.fromisoformat):
        try:
            return read(moment)
        except (ValueError, TypeError):
            continue
    raise CallerError(f"a goal of time is a datetime, or text like '18:00' or '2026-11-23 06:30', not {moment!r}")


def _next(wanted: time, after: float) -> float:
    """When it is next this time of day. A day may have 23 hours, or 25, so that days are not added as seconds."""
    day = datetime.fromtimestamp(after, wanted.tzinfo).date()
    today = datetime.combine(day, wanted).timestamp()
    return today if today > after else datetime.combine(day + timedelta(days=1), wanted).timestamp()


def as_goal(goal: GoalLike | None) -> Goal:
    """A number stands for that many points, a function of the loop for itself, None for a learner's own end.

    A timedelta stands for :func:`seconds`, a datetime or a time for :func:`until`.

    The function is called after each result, and again before the loop waits for the next one.

    Raises CallerError for what stands for none.
    """
    if goal is None:
        return Goal(lambda loop: False, "the learner's own end")
    if isinstance(goal, Goal):
        return goal
    if isinstance(goal, timedelta):
        return seconds(goal.total_seconds())
    if isinstance(goal, (datetime, time)):
        return until(goal)
    if isinstance(goal, (str, bool)):
        raise CallerError(
            "a goal is a number of points, npoints(n), loss(x), seconds(s), until('18:00') or a function of the loop, "
            f"not {goal!r}"
        )
    if not callable(goal):
        return npoints(goal)
    condition = goal
    return Goal(
        lambda loop: loop.told + loop.failed > 0 and condition(loop), getattr(condition, "__name__", "a condition")
    )
