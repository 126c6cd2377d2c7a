"""Nevergrad (https://facebookresearch.github.io/nevergrad): any of its optimisers against a Master.

What is relied on of Nevergrad 1.0, and what is done about it here:

- An optimiser is asked for candidates and told of them in any order; those that work by generations gather by
  themselves what has come, from however many are in flight.
- Those that **cannot run in parallel** (recast from SciPy and others) get one point at a time.
- It has no failures. A candidate that **failed** is told as bad as the worst that is known; until one is known it
  waits; or, of optimisers that go on from each answer and cannot wait, it is told :data:`VERY_BAD`.
- ``num_workers`` and ``budget`` decide how much NGOpt and others explore. The first are as many as are wanted at once
  (the Loop's ``in_flight``); the budget is :data:`BUDGET` points unless said, and asking goes on beyond it where the
  optimiser can.
- Its randomness is the parametrization's, which gets the run's seed; what draws from NumPy's shared generator is lent
  one of the run's (:class:`.base.OwnDice`). Candidates have random names, and where it takes any of a set of these, the
  name decides: here they are numbered (:class:`_Numbers`).
- Several objectives are told as a vector, constraints as by how much they are exceeded.

Importing it takes one to two seconds.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.learners.adapters.aims import Aims, Names, Values
from taskmaster.learners.adapters.base import Optimizer, OwnDice, ignoring
from taskmaster.learners.adapters.space import Space
from taskmaster.learners.arguments import whole
from taskmaster.learners.axes import Axis, Levels, Parameters
from taskmaster.learners.protocol import Point

try:
    import nevergrad as ng
    from nevergrad.common import errors as ng_errors
    from nevergrad.optimization import metamodel
    from nevergrad.parametrization import core as ng_core
except ImportError as error:
    raise CallerError(lacking("Nevergrad's learners need", "nevergrad", "nevergrad", error)) from error

__all__ = ["BUDGET", "DEFAULT", "NevergradLearner", "optimizers"]

#: Nevergrad's choice by dimension, budget and parallelism.
DEFAULT = "NGOpt"

#: About its settings, which are the user's choice, and about infinite losses, which are its own (of several
#: objectives).
_WARNINGS = (ng_errors.InefficientSettingsWarning, ng_errors.BadLossWarning)

#: Points that an optimiser plans for where nobody says.
BUDGET = 1000

#: What is told of a first point that failed to what cannot wait for a better idea; Nevergrad takes 5e20 for infinite.
VERY_BAD = 1e12


class _Numbers:
    """Stands in for the module `uuid` where Nevergrad names candidates: they are called 1, 2, 3, …

    Within ``with numbers():``, and by that thread alone; to be entered by one learner at a time.
    """

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._thread = 0

    def uuid4(self) -> Any:
        """What has the name as ``hex``."""
        if threading.get_ident() != self._thread:
            return uuid.uuid4()
        return SimpleNamespace(hex=next(self._count))

    @contextmanager
    def __call__(self) -> Iterator[None]:
        former, ng_core.uuid = ng_core.uuid, self
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            ng_core.uuid = former


def _float(value: Any) -> float:
    return float(np.asarray(value).item())


# Nevergrad 1.0.12, its latest, makes a number of an array with one element by float(), which NumPy refuses since 2.4:
# NGOpt would raise TypeError after some dozens of points. It does so in one place; there float is this.
vars(metamodel)["float"] = _float


class NevergradLearner(Optimizer[Any]):
    """Asks an optimiser of Nevergrad.

    ``optimizer`` is a name in Nevergrad's registry, or one of its families made with options, as
    ``ng.families.DifferentialEvolution(popsize=50)``. ``minimize`` and ``maximize`` name outputs, ``constraints`` are
    like ``"temperature <= 80"``; ``log`` names parameters to be searched by their logarithm. ``budget`` is how many
    points to plan for, ``workers`` how many are evaluated at once, by default as many as are first asked for.

        NevergradLearner(master.parameters, "TwoPointsDE", minimize="loss", budget=500)

    Raises CallerError for parameters without limits, and an optimiser that Nevergrad does not have.
    """

    def __init__(
        self,
        parameters: Parameters,
        optimizer: Any = DEFAULT,
        *,
        minimize: Names = (),
        maximize: Names = (),
        constraints: str | Sequence[str] = (),
        log: Collection[str] = (),
        budget: int = BUDGET,
        workers: int | None = None,
        seed: int | None = None,
        repeats: bool = False,
    ) -> None:
        aims = Aims(minimize, maximize, constraints, who="NevergradLearner")
        super().__init__(Space(parameters, "NevergradLearner", log), aims, seed=seed, repeats=repeats)
        self._kind = _kind(optimizer)
        self._name = optimizer if isinstance(optimizer, str) else repr(optimizer)
        self._budget = whole(budget, "budget of NevergradLearner", 1, 2**31)
        self._workers = None if workers is None else whole(workers, "workers of NevergradLearner", 1, 2**31)
        self._optimizer: Any = None
        self._dice: OwnDice
        self._numbers: _Numbers
        #: the worst that is known of each objective and constraint, and failed candidates while nothing is
        self._worst: Values | None = None
        self._failed: list[Any] = []
        if self._kind.no_parallelization:
            self._most = 1

    @property
    def optimizer(self) -> Any:
        """Nevergrad's optimiser, to be read: ``recommend()``, ``pareto_front()``. Raises CallerError before the first
        ask."""
        if self._optimizer is None:
            raise CallerError("the optimiser is made at the first ask, with the run's seed")
        return self._optimizer

    # -- Nevergrad ----------------------------------------------------------------------------------------------------

    def _open(self, seed: int, n: int) -> None:
        self._dice, self._numbers = OwnDice(seed), _Numbers()
        workers = 1 if self._most == 1 else self._workers or n
        with self._alike(), ignoring(*_WARNINGS):
            searched = ng.p.Dict(
                **{axis.name: _parameter(axis, axis.name in self.space.log) for axis in self.space.axes}
            )
            searched.random_state = np.random.RandomState(seed)
            self._optimizer = self._kind(searched, budget=max(self._budget, workers), num_workers=workers)
            if len(self.aims.objectives) > 1:
                self._optimizer.num_objectives = len(self.aims.objectives)

    @contextmanager
    def _alike(self) -> Iterator[None]:
        """What is called within does the same in every process."""
        with self._dice(), self._numbers():
            yield

    def _suggest(self) -> tuple[Any, Point] | None:
        try:
            with self._alike(), ignoring(*_WARNINGS):
                candidate = self._optimizer.ask()
        except ng_errors.NevergradEarlyStopping:
            return None
        return candidate, self.space.point(candidate.value)

    def _answer(self, suggestion: Any, values: Values) -> None:
        worst = values if self._worst is None else _worse(values, self._worst)
        self._worst = worst
        self._tell_optimizer(suggestion, values)
        for candidate in self._failed:
            self._tell_optimizer(candidate, worst)
        self._failed.clear()

    def _give_up(self, suggestion: Any, cancelled: bool) -> None:
        if self._worst is not None:
            self._tell_optimizer(suggestion, self._worst)
        elif self._most == 1:
            losses = (VERY_BAD,) * len(self.aims.objectives)
            self._tell_optimizer(suggestion, Values(losses, losses, (0.0,) * len(self.aims.constraints)))
        else:
            self._failed.append(suggestion)

    def _learn(self, point: Point, values: Values) -> None:
        if self.space.place(point) is None:
            return  # outside of what is searched
        with self._alike():
            candidate = self._optimizer.parametrization.spawn_child(new_value=point)
        try:
            self._answer(candidate, values)
        except ng_errors.TellNotAskedNotSupportedError:
            return  # it learns from its own candidates alone

    def _tell_optimizer(self, candidate: Any, values: Values) -> None:
        loss = values.losses[0] if len(values.losses) == 1 else list(values.losses)
        exceeded = [max(0.0, excess) for excess in values.violations]
        with self._alike(), ignoring(*_WARNINGS):
            self._optimizer.tell(candidate, loss, exceeded if any(exceeded) else None)

    @property
    def _library(self) -> str:
        return f"Nevergrad's {self._name}"


def optimizers() -> list[str]:
    """The names of Nevergrad's optimisers, some hundreds."""
    return sorted(ng.optimizers.registry)


def _kind(optimizer: Any) -> Any:
    if not isinstance(optimizer, str):
        return optimizer
    if optimizer not in ng.optimizers.registry:
        hint = did_you_mean_or(optimizer, optimizers(), "in nevergrad.optimizers.registry there are")
        raise CallerError(f"Nevergrad has no optimiser {optimizer!r}{hint}")
    return ng.optimizers.registry[optimizer]


def _parameter(axis: Axis, log: bool) -> Any:
    if isinstance(axis, Levels):
        return ng.p.Choice(list(axis.values))
    if axis.low == axis.high:
        return ng.p.Constant(int(axis.low) if axis.whole else axis.low)
    scalar = ng.p.Log(lower=axis.low, upper=axis.high) if log else ng.p.Scalar(lower=axis.low, upper=axis.high)
    return scalar.set_integer_casting() if axis.whole else scalar


def _worse(one: Values, other: Values) -> Values:
    return Values(
        one.measured,
        tuple(map(max, one.losses, other.losses)),
        tuple(map(max, one.violations, other.violations)),
    )
