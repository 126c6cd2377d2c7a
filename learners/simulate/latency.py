"""How long evaluations take, in virtual seconds.

A latency model is anything that, given a source of randomness, gives a sampler: a function from the point to the
seconds its evaluation takes. Draws are made in blocks: one at a time, numpy's overhead would cost more than all else
that a simulated task does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import shown

__all__ = [
    "Constant",
    "Exponential",
    "HalfNormal",
    "Latency",
    "LatencyLike",
    "OfPoint",
    "Pareto",
    "Recorded",
    "Sampler",
    "as_latency",
]

#: Seconds that the evaluation of this point takes.
Sampler: TypeAlias = Callable[[Any], float]
#: Draws so many durations, an array of shape ``(n,)``.
_Draw: TypeAlias = Callable[[int], NDArray[np.float64]]

#: Draws made at a time.
_BLOCK = 1024


@runtime_checkable
class Latency(Protocol):
    """A model of how long evaluations take."""

    def sampler(self, rng: np.random.Generator, /) -> Sampler:
        """Durations drawn from ``rng`` and nothing else, one for each call, in seconds."""


#: A number of seconds stands for :class:`Constant`, a function for :class:`OfPoint`.
LatencyLike: TypeAlias = "Latency | float | Callable[[Any], float]"


def as_latency(latency: LatencyLike, what: str = "latency") -> Latency:
    """What a caller gave as a latency. Raises CallerError naming ``what`` it was given for."""
    if isinstance(latency, Latency):
        return latency
    if callable(latency):
        return OfPoint(latency)
    return Constant(_seconds(latency, what))


class Constant:
    """Always ``seconds``.

    Raises CallerError for what is no duration.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = _seconds(seconds, "a constant latency")

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """The same for every point."""
        seconds = self.seconds
        return lambda point: seconds

    def __repr__(self) -> str:
        return f"Constant({self.seconds:g})"


class HalfNormal:
    """``least`` plus the absolute value of a normal variable of which the mean is ``mean - least``.

    Work that is mostly short: its density falls from ``least`` on, and two of three take less than the mean.

    Raises CallerError for what are no durations, and a mean below the least.
    """

    def __init__(self, mean: float, least: float = 0.0) -> None:
        self.mean, self.least = _mean(mean, least, "half-normal")

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """The mean of \\|N(0, σ)\\| is σ √(2/π)."""
        scale = (self.mean - self.least) / math.sqrt(2 / math.pi)
        return _in_blocks(lambda n: self.least + scale * np.abs(rng.standard_normal(n)))

    def __repr__(self) -> str:
        return f"HalfNormal({self.mean:g}, {self.least:g})"


class Exponential:
    """``least`` plus an exponential variable, ``mean`` in all: work that may end at any moment.

    Raises CallerError for what are no durations, and a mean below the least.
    """

    def __init__(self, mean: float, least: float = 0.0) -> None:
        self.mean, self.least = _mean(mean, least, "exponential")

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """Independent of the point."""
        return _in_blocks(lambda n: self.least + (self.mean - self.least) * rng.standard_exponential(n))

    def __repr__(self) -> str:
        return f"Exponential({self.mean:g}, {self.least:g})"


class Pareto:
    """At least ``least`` and with a heavy tail: P(t > s) = (least/s)^shape.

    Of ``shape`` ≤ 2 the variance is infinite, of ``shape`` ≤ 1 the mean, too: one task now and then takes as long as
    all others together, as where a probe crashes and a person has to come.

    Raises CallerError for a least that is no duration, and a shape that is not above 0.
    """

    def __init__(self, least: float, shape: float) -> None:
        self.least = _seconds(least, "the least duration of a Pareto latency")
        if not (0 < shape < math.inf):
            raise CallerError(f"the shape of a Pareto latency must be a number above 0, not {shown(shape)}")
        self.shape = float(shape)

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """numpy's pareto is Lomax's, which begins at 0."""
        return _in_blocks(lambda n: self.least * (1.0 + rng.pareto(self.shape, n)))

    def __repr__(self) -> str:
        return f"Pareto({self.least:g}, {self.shape:g})"


class OfPoint:
    """What ``f(point)`` says, in seconds: a long exposure in a dark corner, a far corner of the sample."""

    def __init__(self, f: Callable[[Any], float]) -> None:
        self.f = f

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """Raises CallerError for what is no duration, and what the function raises, with a note."""
        f = self.f

        def seconds(point: Any) -> float:
            try:
                value = f(point)
            except Exception as error:
                error.add_note(f"The function of the latency raised that for the point {shown(point)}.")
                raise
            return _seconds(value, f"the latency of point {shown(point)}")

        return seconds

    def __repr__(self) -> str:
        return f"OfPoint({getattr(self.f, '__name__', self.f)})"


class Recorded:
    """Durations that were measured, ``(n,)`` seconds: drawn from at random, or taken ``in_order``, again and again.

    Where neighbours take about equally long (a laboratory that is slower by day), ``in_order`` keeps that; where they
    do not, drawing gives another history for each seed. See :func:`~taskmaster.learners.simulate.recorded.durations_of`
    for those of a run.

    Raises CallerError for no durations, and for what is none.
    """

    def __init__(self, durations: Sequence[float] | NDArray[np.float64], *, in_order: bool = False) -> None:
        try:
            values = np.asarray(durations, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            raise CallerError(
                f"Recorded takes durations in seconds, not {shown(durations)}; those of a run are had by "
                'durations_of(lab, run), with a run of lab.runs(), or durations_in("run.csv"), of its export, both in '
                "taskmaster.learners.simulate.recorded"
            ) from None
        if not len(values) or not (np.isfinite(values) & (values >= 0)).all():
            raise CallerError(
                f"recorded durations must be one or more numbers of seconds, not {shown(durations)}; "
                "those of tasks that did not end have to be left out"
            )
        self.durations = values
        self.in_order = in_order

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """Independent of the point."""
        values = self.durations
        if self.in_order:
            return _from(_cycle(values))
        return _in_blocks(lambda n: values[rng.integers(len(values), size=n)])

    def __repr__(self) -> str:
        return f"Recorded({len(self.durations)} durations of {self.durations.mean():g} s{' in order' * self.in_order})"


def _cycle(values: NDArray[np.float64]) -> Iterator[float]:
    plain = values.tolist()
    while True:
        yield from plain


def _in_blocks(draw: _Draw) -> Sampler:
    def values() -> Iterator[float]:
        while True:
            yield from draw(_BLOCK).tolist()

    return _from(values())


def _from(values: Iterator[float]) -> Sampler:
    following = values.__next__
    return lambda point: following()


def _seconds(value: Any, what: str) -> float:
    try:
        seconds = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise CallerError(f"{what} must be a number of seconds, 0 or more, not {shown(value)}")
    return seconds


def _mean(mean: float, least: float, law: str) -> tuple[float, float]:
    mean, least = _seconds(mean, f"the mean of a {law} latency"), _seconds(least, f"the least {law} latency")
    if mean < least:
        raise CallerError(f"the mean of a {law} latency, {mean:g} s, lies below its least, {least:g} s")
    return mean, least
