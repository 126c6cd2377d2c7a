"""Where a Loop stands, as numbers and as a line for people."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from taskmaster.bus.text import count, format_duration

__all__ = ["LoopStatistics", "Pace", "mishaps_text", "statistics_text"]

#: Results that are looked at to tell how fast they come.
_LATEST = 64


@dataclass(frozen=True)
class LoopStatistics:
    """Where a loop stands."""

    #: results told to the learner
    told: int
    #: points that ended without an output
    failed: int
    #: tasks put and not ended
    in_flight: int
    #: seconds since the start
    elapsed: float
    #: results a second, over the latest ones
    rate: float
    #: the learner's loss as last looked at; NaN if it has none
    loss: float
    #: how much of the goal is reached, from 0 to 1, as far as it can be known
    fraction: float
    #: seconds until the goal at the present rate; infinite if nobody can tell
    remaining: float
    #: of :attr:`failed`, those that the learner does not know of: it has no ``fail``
    dropped: int = 0
    #: points put again after a failure
    retried: int = 0
    #: points asked for while the same point was in flight already
    repeated: int = 0
    #: outputs with a NaN, told or (see ``nan`` of the Loop) taken for failures
    nans: int = 0
    #: results of points that this learner has not asked for
    unasked: int = 0


class Pace:
    """How fast results come: the latest of them."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_LATEST)

    def note(self, now: float) -> None:
        """One has come."""
        self._times.append(now)

    @property
    def rate(self) -> float:
        """Results a second; 0 as long as that is not known."""
        times = self._times
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0

    def remaining(self, done: int, fraction: float) -> float:
        """Seconds until a goal of which this ``fraction`` is reached by so many results; infinite if unknown."""
        rate = self.rate
        return done * (1 - fraction) / fraction / rate if fraction > 0 and rate > 0 else math.inf


def statistics_text(seen: LoopStatistics) -> str:
    """Where a loop stands, in a line."""
    parts = [count(seen.told, "point"), *mishaps_text(seen)]
    parts.append(f"{seen.rate:.1f} points/s" if seen.rate < 100 else f"{seen.rate:.0f} points/s")
    if not math.isnan(seen.loss):
        parts.append(f"loss {seen.loss:.4g}")
    parts.append(f"{seen.in_flight} in flight")
    if seen.fraction < 1 and math.isfinite(seen.remaining):
        parts.append(f"{format_duration(seen.remaining)} left")
    return "  ".join(parts)


def mishaps_text(seen: LoopStatistics) -> list[str]:
    """What went wrong, as far as anything did."""
    parts = []
    if seen.failed:
        parts.append(f"{seen.failed} failed" + (f" ({seen.dropped} dropped)" if seen.dropped else ""))
    for number, what in (
        (seen.retried, "tried again"),
        (seen.repeated, "asked twice"),
        (seen.nans, "with NaN"),
        (seen.unasked, "never asked"),
    ):
        if number:
            parts.append(f"{number} {what}")
    return parts
