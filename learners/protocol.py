"""What a learner is: it asks, and is told.

Two methods make a learner, :meth:`Learner.ask` and :meth:`Learner.tell`. Whatever else it can do is a capability: a
protocol of its own below, which whoever drives learners (a Loop, the command line) looks for with :func:`isinstance`.
A class has a capability by having its methods; nothing needs to be inherited or registered.

A learner is driven by one thread at a time, and must be deterministic: the same calls in the same order give bitwise
the same points. Randomness comes from :meth:`Seeded.seed` alone. That is what makes a run resume and replay from the
journal without the learner saving anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from itertools import islice
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field, shown
from taskmaster.bus.text import count

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
    "ask",
    "best_in_flight",
    "bind",
    "describe",
    "given",
    "loss_of",
    "prepare",
    "require",
    "start",
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
    """Would not give the same again if it were asked again: a person.

    A Loop asks it for one point at a time, and puts that before it asks for the next.
    """

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


#: What a learner must have, and what it may have; and how each is called.
_METHODS = {"ask": "ask(n), which gives points", "tell": "tell(point, output), which learns"}
_CAPABILITIES = {
    "fail": "fail(point, error)",
    "done": "done()",
    "seed": "seed(rng)",
    "loss": "loss()",
    "incumbent": "incumbent()",
    "best_in_flight": "best_in_flight(slots)",
    "bind": "bind(parameters, outputs)",
    "recall": "recall(points)",
    "describe": "describe()",
    "made_with": "made_with()",
}
_ABSENT = object()
#: What libraries ask by themselves, by package and class; and what has it asked here. Some have an ask and a tell, too,
#: and would be taken for learners until their first point.
_FOREIGN = {
    ("adaptive", "BaseLearner"): "AdaptiveLearner(learner)",
    ("optuna", "Study"): "OptunaLearner(master.parameters, study=study)",
    ("optuna", "BaseSampler"): "OptunaLearner(master.parameters, sampler)",
    ("cma", "CMAEvolutionStrategy"): "CmaLearner(master.parameters)",
    ("nevergrad", "Optimizer"): 'NevergradLearner(master.parameters, "NGOpt")',
    ("gest_api", "Generator"): "GestLearner(vocs, generator)",
}


def require(learner: Any) -> None:
    """Raise CallerError for what is no learner, or has something else where a learner's capability would be.

    Both would be found out in the middle of a run.
    """
    if isinstance(learner, type):
        raise CallerError(f"a learner is an object, not a class: make one of {learner.__name__}")
    for kind in type(learner).__mro__:
        package = kind.__module__.partition(".")[0]
        if adapter := _FOREIGN.get((package, kind.__name__)):
            raise CallerError(
                f"{_class(learner)} is of {package}, which has its own way of asking; it is a learner here as "
                f"{adapter}, of taskmaster.learners"
            )
    for method, what in _METHODS.items():
        if not callable(getattr(learner, method, None)):
            raise CallerError(f"{shown(learner)} is no learner: it has no {what}")
    for name, call in _CAPABILITIES.items():
        value = getattr(learner, name, _ABSENT)
        if value is not _ABSENT and not callable(value):
            raise CallerError(
                f"the learner ({_class(learner)}) has an attribute {name!r}, {shown(value)}: what has that name is "
                f"called, as {call}; make it a method, or give it another name"
            )


def best_in_flight(learner: object, slots: int) -> int:
    """How many tasks to keep in flight for a learner at a Master with so many slots: as it says, else two for each.

    One is being evaluated, and one waits, so that no slot is idle while a result is on its way and the learner thinks.
    More would have the learner choose from older knowledge; so would these, if it learns much from each.
    """
    return learner.best_in_flight(slots) if isinstance(learner, Frugal) else IN_FLIGHT_PER_SLOT * slots


def prepare(learner: Learner, parameters: Sequence[Field], outputs: Sequence[Field], seed: int) -> None:
    """What a learner hears before its first ask: of the Master, and the run's seed, as far as it wants to."""
    bind(learner, parameters, outputs)
    start(learner, seed)


def bind(learner: Learner, parameters: Sequence[Field], outputs: Sequence[Field]) -> None:
    """Let a learner know the Master, if it wants to. Raises CallerError if it cannot work there."""
    if isinstance(learner, Bindable):
        learner.bind(parameters, outputs)


def start(learner: Learner, seed: int) -> None:
    """Give a learner the run's seed, if it uses randomness."""
    if isinstance(learner, Seeded):
        learner.seed(np.random.default_rng(seed))


def loss_of(learner: Lossy) -> float:
    """How far a learner says that it is from having learnt all. Raises CallerError where that is no number."""
    figure: Any = learner.loss()
    try:
        if isinstance(figure, (bool, str, bytes)):  # Python would make numbers of these
            raise TypeError
        return float(figure)
    except (TypeError, ValueError):
        raise CallerError(
            f"loss() of the learner ({_class(learner)}) gave {shown(figure)}: it is a number, infinite as long as the "
            "learner knows too little"
        ) from None


def describe(learner: object) -> str:
    """What ``learner`` is, for people: its own words, else the qualified name of its class."""
    if isinstance(learner, Describable):
        return learner.describe()
    return _class(learner)


def _class(learner: object) -> str:
    kind = type(learner)
    return kind.__qualname__ if kind.__module__ == "__main__" else f"{kind.__module__}.{kind.__qualname__}"


def ask(learner: Learner, n: int) -> list[Point]:
    """At most ``n`` points of a learner. Raises CallerError naming it where it gives more, or what are no points."""
    answer = learner.ask(n)
    points = _listed(learner, n, answer)
    if len(points) > n:
        or_more = "" if isinstance(answer, Sized) else " or more"
        wanted = count(n, "point")
        raise CallerError(f"the learner ({describe(learner)}) was asked for {wanted} and gave {len(points)}{or_more}")
    return points


def given(learner: Learner, n: int) -> list[Point]:
    """As :func:`ask`; if the learner gives more, more than ``n`` of them. Raises CallerError for what are no points."""
    return _listed(learner, n, learner.ask(n))


def _listed(learner: Learner, n: int, answer: Any) -> list[Point]:
    """What a learner gave, of what may be endless so much that it is seen to be too much."""
    if type(answer) is list:
        return answer[:]
    try:
        if isinstance(answer, (Mapping, str, bytes)):
            raise TypeError
        points = iter(answer)
    except TypeError:
        raise CallerError(
            f"the learner ({describe(learner)}) was asked for {count(n, 'point')} and gave {shown(answer)}: ask(n) "
            "returns points in a list, a single one too, and an empty list where it has none before it is told more"
        ) from None
    return list(points if isinstance(answer, Sized) else islice(points, n + 1))
