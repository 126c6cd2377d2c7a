"""Several learners that share one Master."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.inflight import InFlight
from taskmaster.learners.protocol import (
    Bindable,
    Endable,
    Failable,
    Learner,
    Lossy,
    Point,
    Seeded,
    ask,
    best_in_flight,
    describe,
    loss_of,
    require,
)
from taskmaster.learners.record import Record
from taskmaster.learners.wrapper import with_loss

__all__ = ["STRATEGIES", "Balancing"]

#: How the next learner to ask is chosen.
STRATEGIES = ("loss", "loss improvement", "npoints", "cycle")
#: By the losses of so many of its latest results it is judged how fast a learner improves.
_LATEST = 8


class _Child:
    """One of the learners, and how it stands."""

    def __init__(self, learner: Learner, fixed: Mapping[str, Any]) -> None:
        self.learner = learner
        self.fixed = dict(fixed)
        self.asked = 0
        self.in_flight = 0
        #: after its latest results, and before them
        self.losses: deque[float] = deque([math.inf], maxlen=_LATEST + 1)

    @property
    def is_done(self) -> bool:
        return isinstance(self.learner, Endable) and self.learner.done()

    @property
    def loss(self) -> float:
        """As it was after the last result; NaN counts as not known."""
        return math.inf if math.isnan(self.losses[-1]) else self.losses[-1]

    @property
    def improvement(self) -> float:
        """How much the loss has fallen for each of the latest results; infinite as long as nobody can tell."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return (finite[0] - finite[-1]) / (len(finite) - 1) if len(finite) > 1 else math.inf

    def note_loss(self) -> None:
        if isinstance(self.learner, Lossy):
            self.losses.append(loss_of(self.learner))


class Balancing(Record):
    """Asks several ``learners`` in turn, those first that promise to gain most.

    ``strategy`` says whose turn it is:

    - ``loss``: of who has the largest loss, shared between its points in flight;
    - ``loss improvement``: of whose loss has fallen most for each of its latest results;
    - ``npoints``: of who has asked for the fewest points;
    - ``cycle``: of one after the other.

    Equals come in their order. ``fixed`` are values of parameters for each learner, which are added to its points and
    taken out again: a learner for each temperature, say. The others that a Master has are the learners' own.

        Balancing([AdaptiveLearner(adaptive.Learner1D(None, (0, 1)), ["x"]) for _ in range(3)],
                  fixed=[{"T": 4}, {"T": 77}, {"T": 300}])

    A result that none has asked for is told to all whose fixed values it has. It has a loss, the largest of its
    learners', where all of these have one.

    Raises CallerError for no learners, one of them twice, a strategy that there is not or that needs a loss, and
    ``fixed`` that is not a dict for each.
    """

    def __new__(cls, learners: Sequence[object] = (), *args: Any, **kwargs: Any) -> Balancing:
        """One with a loss, where all the learners have one."""
        several = isinstance(learners, Sequence) and len(learners) > 0
        has_loss = several and all(isinstance(learner, Lossy) for learner in learners)
        return super().__new__(with_loss(cls) if has_loss else cls)

    def __init__(
        self,
        learners: Sequence[Learner],
        strategy: str = "loss improvement",
        fixed: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(learners, Sequence) or not learners:
            raise CallerError(f"Balancing needs a list of learners, at least one; got {learners!r}")
        for k, learner in enumerate(learners):
            require(learner)
            if any(learner is other for other in learners[:k]):
                raise CallerError(f"Balancing got the same learner twice, {describe(learner)}: make one for each place")
        if fixed is not None and not (isinstance(fixed, Sequence) and all(isinstance(own, Mapping) for own in fixed)):
            raise CallerError(
                f'fixed of Balancing is a dict for each learner, like [{{"T": 4}}, {{"T": 77}}]; got {fixed!r}'
            )
        if fixed is not None and len(fixed) != len(learners):
            raise CallerError(f"Balancing got {len(learners)} learners, and fixed values for {len(fixed)}")
        if strategy not in STRATEGIES:
            raise CallerError(f"Balancing has no strategy {strategy!r}{did_you_mean_or(strategy, STRATEGIES)}")
        without = [describe(learner) for learner in learners if not isinstance(learner, Lossy)]
        if without and strategy.startswith("loss"):
            raise CallerError(f"strategy {strategy!r} needs learners with a loss(), which {without[0]} has not")
        self.strategy = strategy
        self._children = [_Child(learner, own) for learner, own in zip(learners, fixed or [{}] * len(learners))]
        self._turn = 0
        #: who asked for a point, and what it is to them
        self._in_flight: InFlight[tuple[_Child, Point]] = InFlight()

    @property
    def learners(self) -> list[Learner]:
        """In the order in which they were given."""
        return [child.learner for child in self._children]

    # -- the protocol -------------------------------------------------------------------------------------------------

    def best_in_flight(self, slots: int) -> int:
        """As many as those want who want most."""
        return max(best_in_flight(learner, slots) for learner in self.learners)

    def ask(self, n: int) -> list[Point]:
        """At most ``n`` points, chosen one by one."""
        points: list[Point] = []
        while len(points) < n:
            point = self._next()
            if point is None:
                break
            points += point
        return points

    def tell(self, point: Point, output: Any) -> None:
        """Tell who asked for it."""

        def tell(child: _Child, own: Point) -> None:
            child.learner.tell(own, output)
            child.note_loss()

        self._end(point, tell)
        super().tell(point, output)

    def fail(self, point: Point, error: BaseException) -> None:
        """Tell who asked for it, if they want to know."""

        def fail(child: _Child, own: Point) -> None:
            if isinstance(child.learner, Failable):
                child.learner.fail(own, error)

        self._end(point, fail)
        super().fail(point, error)

    def done(self) -> bool:
        """Whether all learners are."""
        return all(child.is_done for child in self._children)

    def _loss(self) -> float:
        return max(loss_of(child.learner) for child in self._children if isinstance(child.learner, Lossy))

    def seed(self, rng: np.random.Generator) -> None:
        """Give each learner randomness of its own."""
        for child, own in zip(self._children, rng.spawn(len(self._children)), strict=True):
            if isinstance(child.learner, Seeded):
                child.learner.seed(own)

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Let the learners know the Master, each without what is fixed for it. Raises CallerError."""
        names = [field.name for field in parameters]
        for child in self._children:
            for name in child.fixed:
                if names and name not in names:
                    raise CallerError(f"the Master has no parameter {name!r}{did_you_mean_or(name, names)}")
            if isinstance(child.learner, Bindable):
                child.learner.bind([field for field in parameters if field.name not in child.fixed], outputs)

    def describe(self) -> str:
        """What it is, in a few words."""
        return (
            f"Balancing of {len(self._children)} learners by {self.strategy}: {describe(self._children[0].learner)}, …"
        )

    # -- whose turn it is ---------------------------------------------------------------------------------------------

    def _next(self) -> list[Point] | None:
        """A point of the first learner in order that has one; None if none has."""
        for child in self._in_order():
            if child.is_done:
                continue
            for own in ask(child.learner, 1):
                point = {**own, **child.fixed} if child.fixed else own
                child.asked += 1
                child.in_flight += 1
                self._turn = self._children.index(child) + 1
                self._in_flight.add(point, (child, own))
                return [point]
        return None

    def _in_order(self) -> list[_Child]:
        if self.strategy == "cycle":
            turn = self._turn % len(self._children)
            return self._children[turn:] + self._children[:turn]
        return sorted(self._children, key=self._rank)

    def _rank(self, child: _Child) -> tuple[float, ...]:
        if self.strategy == "loss":
            return -child.loss / (1 + child.in_flight), child.asked
        if self.strategy == "loss improvement":
            return -child.improvement, child.asked
        return (child.asked,)

    def _end(self, point: Point, pass_on: Callable[[_Child, Point], None]) -> None:
        """Pass on how ``point`` has ended to who asked for it; what nobody has, to all whose it could be."""
        asked = self._in_flight.find(point)
        if asked is None:
            for child in self._children:
                if _has(point, child.fixed):
                    pass_on(child, _without(point, child.fixed))
            return
        child, own = asked.what
        pass_on(child, own)
        self._in_flight.end(asked)
        child.in_flight -= 1


def _has(point: Point, fixed: Mapping[str, Any]) -> bool:
    return not fixed or (isinstance(point, Mapping) and all(point.get(name) == fixed[name] for name in fixed))


def _without(point: Point, fixed: Mapping[str, Any]) -> Point:
    return {name: value for name, value in point.items() if name not in fixed} if fixed else point
