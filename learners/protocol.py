"""What a learner is: it asks, and is told.

Two methods make a learner, :meth:`Learner.ask` and :meth:`Learner.tell`. Whatever else it can do is a capability: a
protocol of its own below, which whoever drives learners (a Loop, the command line) looks for with :func:`isinstance`.
A class has a capability by having its methods; nothing needs to be inherited or registered.

A learner is driven by one thread at a time, and must be deterministic: the same calls in the same order give bitwise
the same points. Randomness comes from :meth:`Seeded.seed` alone. That is what makes a run resume and replay from the
journal without the learner saving anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from taskmaster.bus.fields import Field

__all__ = [
    "Bindable",
    "Configured",
    "Describable",
    "Endable",
    "Failable",
    "Frugal",
    "Learner",
    "Lossy",
    "Optimizing",
    "Point",
    "Recalling",
    "Seeded",
    "best_in_flight",
    "describe",
    "prepare",
]

#: Tasks in flight for each slot, where the learner does not say.
IN_FLIGHT_PER_SLOT = 2

#: One input of a Master: a dict of its declared parameters, or, where it declares none, any value that can travel.
Point: TypeAlias = Any


@runtime_checkable
class Learner(Protocol):
    """Chooses points from the outputs of earlier ones."""

    def ask(self, n: int, /) -> Sequence[Point]:
        """At most ``n`` further points; fewer, or none, while nothing is left to ask before more is told."""

    def tell(self, point: Point, output: Any, /) -> None:
        """The Master evaluated ``point``: the value of its only output, or a dict of its outputs."""


@runtime_checkable
class Failable(Protocol):
    """Wants to hear of points that will never have an output; other learners are not told of them."""

    def fail(self, point: Point, error: BaseException, /) -> None:
        """``point`` ended without an output: it failed or was cancelled. May raise, if learning cannot go on."""


@runtime_checkable
class Endable(Protocol):
    """Knows when it is finished; a Loop's goal is the usual stop."""

    def done(self) -> bool:
        """Whether it has heard of every point it asked for and will ask for no more."""


@runtime_checkable
class Seeded(Protocol):
    """Uses randomness."""

    def seed(self, rng: np.random.Generator, /) -> None:
        """Take ``rng``, made from the run's recorded seed, as the only source of randomness; before the first ask."""


@runtime_checkable
class Lossy(Protocol):
    """Knows how far it is from having learnt all there is."""

    def loss(self) -> float:
        """A figure that falls as it learns, infinite as long as it knows too little. May be costly to compute."""


@runtime_checkable
class Optimizing(Protocol):
    """Looks for the best point."""

    def incumbent(self) -> tuple[Point, float]:
        """The best point told so far, by what it optimises, and that output. Raises CallerError if there is none."""


@runtime_checkable
class Bindable(Protocol):
    """Wants to know the Master it will ask."""

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = (), /) -> None:
        """The Master's parameters and outputs, in order, before the first ask. Raises CallerError if it cannot work."""


@runtime_checkable
class Recalling(Protocol):
    """Would not give the same again if it were asked again: a person."""

    def recall(self, points: Sequence[Point], /) -> None:
        """It was asked, and gave these: that is on record in a run that is gone on with, or replayed.

        It is not asked for what is on record, and is told how these points ended as if it had been.
        """


@runtime_checkable
class Describable(Protocol):
    """Has words for itself."""

    def describe(self) -> str:
        """What it is, in a few words: ``Sobol over log_C, log_gamma``."""


@runtime_checkable
class Frugal(Protocol):
    """Learns from each result, so that it had better choose late."""

    def best_in_flight(self, slots: int, /) -> int:
        """How many tasks to keep in flight at a Master that evaluates ``slots`` at a time, unless somebody says so."""


@runtime_checkable
class Configured(Protocol):
    """Knows what it was made with."""

    def made_with(self) -> Mapping[str, Any]:
        """The arguments of its class by their names: recorded with a run, for whoever has to make such a one again."""


def best_in_flight(learner: object, slots: int) -> int:
    """How many tasks to keep in flight for a learner at a Master with so many slots: as it says, else two for each.

    One is being evaluated, and one waits, so that no slot is idle while a result is on its way and the learner thinks.
    More would have the learner choose from older knowledge; so would these, if it learns much from each.
    """
    return learner.best_in_flight(slots) if isinstance(learner, Frugal) else IN_FLIGHT_PER_SLOT * slots


def prepare(learner: Learner, parameters: Sequence[Field], outputs: Sequence[Field], seed: int) -> None:
    """What a learner hears before its first ask: of the Master, and the run's seed, as far as it wants to."""
    if isinstance(learner, Bindable):
        learner.bind(parameters, outputs)
    if isinstance(learner, Seeded):
        learner.seed(np.random.default_rng(seed))


def describe(learner: object) -> str:
    """What ``learner`` is, for people: its own words, else the qualified name of its class."""
    if isinstance(learner, Describable):
        return learner.describe()
    kind = type(learner)
    return kind.__qualname__ if kind.__module__ == "__main__" else f"{kind.__module__}.{kind.__qualname__}"
