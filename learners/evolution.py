"""Asynchronous differential evolution: a population that is renewed one member at a time, as results come.

There are no generations to wait for: each result is compared at once with the member that its point was to improve on,
and takes its place if it is no worse (E. Zhabitskaya, M. Zhabitsky, LNCS 7125 (2012) 328, after R. Storn, K. Price,
J. Global Optim. 11 (1997) 341). Each member has a mutation factor and a crossover rate of its own, which its successor
inherits if it succeeds with them (J. Brest et al., IEEE Trans. Evol. Comput. 10 (2006) 646). Mutants move from the
member towards one of the best (current-to-pbest/1: J. Zhang, A. C. Sanderson, IEEE Trans. Evol. Comput. 13 (2009) 945).

It takes hundreds to thousands of points where a Gaussian process takes dozens, and next to no time for each.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners.arguments import whole
from taskmaster.learners.axes import Parameters, axes_of, distinct, require_taken
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import Record, chosen_output, real

__all__ = ["Evolution"]

#: As many members for each parameter, within limits.
_MEMBERS_EACH = 5
_MEMBERS = (10, 100)
#: The share of the members that mutants move towards, at least two.
_BEST_SHARE = 0.15
#: Mutation factors are drawn from here, and how often a member's own are drawn anew.
_FACTORS = (0.4, 0.9)
_RENEWED = 0.1
#: Tries to find a point that was not asked before; the second half of them anywhere.
_PATIENCE = 100
#: What a new member begins with.
_FACTOR, _CROSSOVER = 0.5, 0.9


@dataclass
class _Member:
    """A point of the unit cube, what was found there, and what led there."""

    at: NDArray[np.float64]
    factor: float
    crossover: float
    #: infinite where it failed, or until it is told
    value: float = math.inf


@dataclass(frozen=True)
class _Trial:
    """A member that may take the place of another."""

    member: _Member
    place: int


class Evolution(Record):
    """Looks for the least value of an output, or the largest if ``maximize``, by differential evolution.

    ``parameters`` is a Master's ``parameters``, or a mapping from names to ``(min, max)`` or to lists of values.
    ``output`` names the output where there are several. ``members`` is the size of the population, by default five for
    each parameter. ``seed`` fixes the randomness; without, it follows the run's seed. ``n`` ends it after so many
    points. A point that failed, or whose output is not finite, is as bad as can be. No point is asked twice; where all
    have been it is done.

    Raises CallerError for parameters without limits, and fewer than four members.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        output: str | None = None,
        maximize: bool = False,
        members: int | None = None,
        seed: int | None = None,
        n: int | None = None,
    ) -> None:
        super().__init__()
        self._axes = distinct(axes_of(parameters, type(self).__name__))
        self._names = tuple(axis.name for axis in self._axes)
        self._output = output
        self._sign = -1.0 if maximize else 1.0
        least, most = _MEMBERS
        self._size = (
            min(max(_MEMBERS_EACH * len(self._axes), least), most)
            if members is None
            else whole(members, "members of Evolution", 4, 1_000_000)
        )
        #: points that there are, and that may be asked for
        self._there_are = math.prod(axis.size for axis in self._axes)
        self._n = math.inf if n is None else whole(n, "n of Evolution", 1, 2**53)
        self._own_seed = seed
        self._rng: np.random.Generator | None = None
        self._members: list[_Member] = []
        #: in flight, by their points' values; equal points in the order of asking
        self._trials: dict[tuple[Any, ...], deque[_Trial]] = {}
        #: the values of all points so far: nothing is asked twice as long as there is anything else
        self._seen: set[tuple[Any, ...]] = set()
        self._asked = 0
        self._open = 0

    # -- the protocol -------------------------------------------------------------------------------------------------

    def seed(self, rng: np.random.Generator) -> None:
        """Take ``rng`` as the source of randomness, unless a seed of its own was given. Before the first ask.

        Raises CallerError after the first ask.
        """
        if self._asked:
            raise CallerError("Evolution has been asked already: it can be seeded before the first ask only")
        if self._own_seed is None:
            self._rng = rng

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """See whether the Master takes the points, and has the output. Raises CallerError naming what does not fit."""
        chosen_output(outputs, self._output)
        require_taken(self._axes, parameters, "Evolution")

    def ask(self, n: int) -> list[Point]:
        """The next ``n`` points: the first population at random, then mutants of it as it is; none that it has seen.

        Fewer where there are no more, or ``n`` of the learner is reached.
        """
        if self._rng is None:
            self._rng = np.random.default_rng(self._own_seed)
        points: list[Point] = []
        while len(points) < n and not self._is_exhausted:
            points.append(self._next(self._rng))
        return points

    def tell(self, point: Point, output: Any) -> None:
        """Have ``point`` take the place that it was for, if it is no worse than what is there.

        One that was not asked for is kept, and changes nothing. Raises CallerError if the output is no real number.
        """
        value = real(output, self._output, "Evolution")
        trial = self._trial(point)
        self._seen.add(self._key(point))
        super().tell(point, output)
        if not math.isfinite(value):
            self.nfailed += 1
        elif trial is not None:
            self._compete(trial, self._sign * value)

    def fail(self, point: Point, error: BaseException) -> None:
        """``point`` has no output; the member that it was to improve on stays."""
        self._trial(point)
        super().fail(point, error)

    def done(self) -> bool:
        """Whether there is nothing left to ask, and all that was asked has ended."""
        return self._is_exhausted and not self._open

    def best(self, *, minimize: bool | None = None, output: str | None = None) -> tuple[Point, float]:
        """As in Record; by default the least output, or the largest if it maximizes, of the one that is learnt."""
        least = self._sign > 0 if minimize is None else minimize
        return super().best(minimize=least, output=self._output if output is None else output)

    @property
    def objectives(self) -> tuple[tuple[str | None, bool], ...]:
        """The output that it learns, None for the only one there is, and whether its largest value is wanted."""
        return ((self._output, self._sign < 0),)

    def incumbent(self) -> tuple[Point, float]:
        """The best point so far, and its output."""
        return self.best()

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"Evolution of {self._size} members over {', '.join(self._names)}"

    # -- the population -----------------------------------------------------------------------------------------------

    @property
    def _is_exhausted(self) -> bool:
        return self._asked >= self._n or len(self._seen) >= self._there_are

    def _next(self, rng: np.random.Generator) -> Point:
        place = self._asked % self._size
        is_first = len(self._members) < self._size
        for member in self._candidates(place, is_first, rng):
            point = {axis.name: axis.at(u) for axis, u in zip(self._axes, member.at.tolist(), strict=True)}
            key = self._key(point)
            if key not in self._seen:
                break
        if is_first:
            self._members.append(member)
        self._asked += 1
        self._open += 1
        self._seen.add(key)
        self._trials.setdefault(key, deque()).append(_Trial(member, place))
        return point

    def _candidates(self, place: int, is_first: bool, rng: np.random.Generator) -> Iterator[_Member]:
        """What may be asked next: mutants, points anywhere, and where there are only so many all of these."""
        for attempt in range(_PATIENCE):
            yield self._random(rng) if is_first or attempt >= _PATIENCE // 2 else self._mutant(place, rng)
        if math.isfinite(self._there_are):
            for row in itertools.product(*(range(int(axis.size)) for axis in self._axes)):
                at = np.array([(k + 0.5) / axis.size for k, axis in zip(row, self._axes, strict=True)])
                yield _Member(at, _FACTOR, _CROSSOVER)

    def _random(self, rng: np.random.Generator) -> _Member:
        return _Member(rng.random(len(self._axes)), _FACTOR, _CROSSOVER)

    def _mutant(self, place: int, rng: np.random.Generator) -> _Member:
        own = self._members[place]
        low, high = _FACTORS
        factor = low + (high - low) * rng.random() if rng.random() < _RENEWED else own.factor
        crossover = rng.random() if rng.random() < _RENEWED else own.crossover
        order = sorted(range(self._size), key=lambda i: self._members[i].value)
        best = order[int(rng.integers(max(2, round(_BEST_SHARE * self._size))))]
        others = [i for i in range(self._size) if i != place]
        one, other = (self._members[others[i]] for i in rng.choice(len(others), 2, replace=False).tolist())
        mutant = own.at + factor * (self._members[best].at - own.at) + factor * (one.at - other.at)
        # What lies outside comes to lie halfway between the member and the edge, so that edges do not fill up.
        mutant = np.where(mutant < 0.0, own.at / 2, np.where(mutant >= 1.0, (own.at + 1.0) / 2, mutant))
        crossed = rng.random(len(self._axes)) < crossover
        crossed[int(rng.integers(len(self._axes)))] = True
        return _Member(np.where(crossed, mutant, own.at), factor, crossover)

    def _compete(self, trial: _Trial, value: float) -> None:
        trial.member.value = value
        if value <= self._members[trial.place].value:
            self._members[trial.place] = trial.member

    def _trial(self, point: Point) -> _Trial | None:
        """What ``point`` was asked for, which it is no more; None if it was not asked for."""
        waiting = self._trials.get(self._key(point))
        if waiting is None:
            return None
        trial = waiting.popleft()
        if not waiting:
            del self._trials[self._key(point)]
        self._open -= 1
        return trial

    def _key(self, point: Point) -> tuple[Any, ...]:
        if not isinstance(point, Mapping) or point.keys() != set(self._names):
            raise CallerError(f"Evolution was told of {point!r}, which is no point of {', '.join(self._names)}")
        return tuple(point[name] for name in self._names)
