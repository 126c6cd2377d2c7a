"""Minimises or maximises with few points, by a Gaussian process that knows of points in flight.

What is relied on, and where it comes from:

- The first points are of a Sobol sequence. After them each point is the one that promises most, by the logarithm of
  the expected improvement or by a confidence bound (:mod:`~taskmaster.learners.gp.acquisition`), given a regression on
  what was told so far (:mod:`~taskmaster.learners.gp.model`).
- Points in flight are not forgotten meanwhile: the promise is averaged over what they may turn out to be
  (``fantasy``: J. Snoek, H. Larochelle, R. P. Adams, NIPS 2012), or they are taken to be what is expected
  (``believer``) or the best known (``liar``: both D. Ginsbourger, R. Le Riche, L. Carraro, 2010). Points asked for at
  once are chosen one after the other, each as if the ones before were in flight.
- Points that failed teach where points fail: the promise is weighted by the probability of an output there.
- Everything is decided by the order of calls: fits happen at certain numbers of points, candidates come from the run's
  seed, and BLAS has one thread meanwhile. The last bits still depend on the processor's kind, as with all of numpy.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.arguments import whole
from taskmaster.learners.axes import Parameters
from taskmaster.learners.gp.kernels import KERNELS
from taskmaster.learners.gp.model import Posterior
from taskmaster.learners.gp.promise import Promise
from taskmaster.learners.gp.search import propose
from taskmaster.learners.gp.surrogate import Surrogate
from taskmaster.learners.gp.threads import one_thread
from taskmaster.learners.points import sobol_rows
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import Record, chosen_output, real
from taskmaster.learners.space import Floats, Key, Space
from taskmaster.learners.travel import Travel

__all__ = ["ACQUISITIONS", "PENDING", "GaussianProcess"]

ACQUISITIONS = ("logei", "ucb")
PENDING = ("fantasy", "believer", "liar", "ignore")

#: Alternatives of what points in flight may turn out to be.
_FANTASIES = 8
#: The fewest results that a regression begins with.
_LEAST = 2
#: How many candidates are looked at: as many as keep the time of an ask about the same.
_CANDIDATES = (150, 1000)
_CANDIDATES_BY_POINTS = 100_000
#: So many of the best points are looked around.
_AROUND = 5
#: Noise of the labels that tell failed points from others.
_LABEL_NOISE = 0.25
#: Tries to find a point that was not asked before, where all that are promising were.
_PATIENCE = 1000


class GaussianProcess(Record):
    """Looks for the least value of an output, or the largest if ``maximize``.

    ``parameters`` is a Master's ``parameters``, or a mapping from names to ``(min, max)`` or to lists of values; those
    in ``log`` vary by orders of magnitude. ``output`` names the output to learn where there are several.

    - ``kernel``: ``matern`` (ν = 5/2) for most, ``rbf`` where the function is very smooth.
    - ``acquisition``: ``logei``, the logarithm of the expected improvement, or ``ucb``, a confidence bound at ``kappa``
      standard deviations.
    - ``pending``: what becomes of points in flight: ``fantasy``, ``believer``, ``liar`` or ``ignore``.
    - ``noise``: the standard deviation of the output's noise, 0 for none; learnt where it is not given.
    - ``initial``: how many points are asked for, and half of them have to end, before a model chooses; by default twice
      the parameters, at least 5.
    - ``travel``: what it takes to get to a point from the last that was asked, or from the nearest of the last
      ``heads``. The improvement is what is expected *a second*, where an evaluation takes ``dwell`` seconds besides.
      With ``price`` instead, each second lowers the score by so much.
    - ``seed`` fixes the randomness; without, it follows the run's seed. ``n`` ends it after so many points.

    Points are never asked twice, also not where they failed; outputs that are not finite count as failures.

        GaussianProcess({"log_C": (-2, 4), "log_gamma": (-6, 0)}, maximize=True)

    Raises CallerError naming the setting for what cannot be: parameters without limits, ``log`` of what is not above 0,
    a kernel that there is not, ``travel`` of other parameters.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        output: str | None = None,
        maximize: bool = False,
        log: str | Collection[str] = (),
        kernel: str = "matern",
        acquisition: str = "logei",
        kappa: float = 2.0,
        pending: str = "fantasy",
        noise: float | None = None,
        initial: int | None = None,
        travel: Travel | None = None,
        heads: int = 1,
        dwell: float = 1.0,
        price: float | None = None,
        seed: int | None = None,
        n: int | None = None,
    ) -> None:
        super().__init__()
        self._space = Space(parameters, type(self).__name__, log)
        self._output = output
        self._sign = -1.0 if maximize else 1.0
        self._kappa = (
            None if _one_of("acquisition", acquisition, ACQUISITIONS) == "logei" else _above(0, kappa, "kappa")
        )
        self._pending_as = _one_of("pending", pending, PENDING)
        if noise is not None and not (isinstance(noise, (int, float)) and 0 <= noise < math.inf):
            raise CallerError(f"noise is a standard deviation, 0 or more, or None to be learnt; got {noise!r}")
        self._initial = max(5, 2 * self._space.varied) if initial is None else _count(initial, "initial")
        self._travel = travel
        if travel is not None and not isinstance(travel, Travel):
            raise CallerError(f"travel of GaussianProcess is a Travel, which says what ways take; got {travel!r}")
        if travel is not None:
            travel.require(self._space.numbers)
        self._heads = _count(heads, "heads")
        self._dwell = _above(0, dwell, "dwell")
        self._price = None if price is None else _above(0, price, "price")
        self._own_seed = seed
        self._rng: np.random.Generator | None = None
        #: points there are to be asked for
        self._size = self._space.size if n is None else min(self._space.size, _count(n, "n"))
        self._known = Surrogate(self._space.groups, _one_of("kernel", kernel, tuple(KERNELS)), noise)
        self._working = Surrogate(self._space.groups, kernel, _LABEL_NOISE, labels=True)
        #: rows of a design to begin with: no generator, so that it can be copied
        self._design: Iterator[Sequence[float]] = iter(())
        #: in flight, in the order of asking
        self._in_flight: dict[Key, Floats] = {}
        #: all that were asked for or told of
        self._seen: set[Key] = set()
        #: asked for; what the points so far may number
        self._asked = 0
        #: where the heads go
        self._ways: deque[Point] = deque(maxlen=self._heads)

    # -- the protocol -------------------------------------------------------------------------------------------------

    def seed(self, rng: np.random.Generator) -> None:
        """Take ``rng`` as the source of randomness, unless a seed of its own was given. Before the first ask.

        Raises CallerError after the first ask.
        """
        if self._asked:
            raise CallerError(
                f"{type(self).__name__} has been asked already: it can be seeded before the first ask only"
            )
        if self._own_seed is None:
            self._rng = rng

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """See whether the Master takes the points, and has the output. Raises CallerError naming what does not fit."""
        learnt = chosen_output(outputs, self._output)
        if learnt is not None and (
            learnt.kind not in ("float", "int", "bool", "any") or learnt.shape or learnt.choices
        ):
            raise CallerError(
                f"{type(self).__name__} learns a real number, but output {learnt.name!r} is {learnt.describe()}; "
                "choose another with output=NAME"
            )
        self._space.require_within(parameters)

    def best_in_flight(self, slots: int) -> int:
        """One for each slot: what is chosen earlier is chosen from older knowledge: dearer than idle slots."""
        return slots

    def ask(self, n: int) -> list[Point]:
        """The ``n`` next points; fewer where the space has no more, or ``n`` of the learner is reached."""
        points: list[Point] = []
        with one_thread():
            while len(points) < n and not self._is_exhausted:
                points.append(self._next())
        return points

    def tell(self, point: Point, output: Any) -> None:
        """Learn the output of ``point``, asked for or not. One that is not finite counts as a failure of the point.

        Raises CallerError if ``output`` is no real number, or ``point`` has other parameters.
        """
        value = real(output, self._output, type(self).__name__)
        code = self._ended(point)
        super().tell(point, output)
        if math.isfinite(value):
            self._known.add(code, self._sign * value)
            self._working.add(code, 1.0)
        else:
            self.nfailed += 1
            self._working.add(code, -1.0)

    def fail(self, point: Point, error: BaseException) -> None:
        """``point`` has no output: points like it become less likely to be asked."""
        code = self._ended(point)
        super().fail(point, error)
        self._working.add(code, -1.0)

    def done(self) -> bool:
        """Whether there is nothing left to ask, and all that was asked has ended."""
        return self._is_exhausted and not self._in_flight

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
        return f"{type(self).__name__} over {', '.join(self._space.names)}"

    # -- choosing -----------------------------------------------------------------------------------------------------

    @property
    def _is_exhausted(self) -> bool:
        return self._asked >= self._size or len(self._seen) >= self._space.size

    @property
    def _is_beginning(self) -> bool:
        """Whether too little is known for a model: the fewer have ended, the more of its choices are guesses."""
        ended = len(self._working)
        return self._asked < self._initial or 2 * ended < self._initial or len(self._known) < _LEAST

    def _ended(self, point: Point) -> Floats:
        key, code = self._space.key(point), self._space.encode(point)
        self._in_flight.pop(key, None)
        self._seen.add(key)
        return code

    def _next(self) -> Point:
        if self._rng is None:
            self._rng = np.random.default_rng(self._own_seed)
        if self._asked == 0:
            self._design = sobol_rows(self._space.varied, self._rng) if self._space.varied else iter([()])
        if self._is_beginning or not self._space.varied:
            codes = (self._space.spread(np.array([row]))[0] for row in self._design)
            point = self._fresh(codes, self._rng)
        else:
            point = self._fresh(self._promising(self._rng), self._rng)
        key = self._space.key(point)
        self._seen.add(key)
        self._in_flight[key] = self._space.encode(point)
        self._ways.append(point)
        self._asked += 1
        return point

    def _fresh(self, codes: Iterable[Floats], rng: np.random.Generator) -> Point:
        """The first of these points that was not asked yet; any that was not, where there is none."""
        for code in self._endlessly(codes, rng):
            point = self._space.decode(code)
            if self._space.key(point) not in self._seen:
                return point
        raise CallerError(f"{self.describe()} has no point left that it has not asked")

    def _endlessly(self, codes: Iterable[Floats], rng: np.random.Generator) -> Iterator[Floats]:
        yield from (code for _, code in zip(range(_PATIENCE), codes, strict=False))
        yield from self._space.spread(rng.random((_PATIENCE, self._space.varied)))
        yield from self._space.all()

    def _promising(self, rng: np.random.Generator) -> Floats:
        posterior = self._with_pending(self._known.posterior(), rng)
        success = self._working.posterior() if self.nfailed else None
        toll = None if self._travel is None else partial(self._toll, self._travel)
        promise = Promise(posterior, self._kappa, success, toll)
        few, most = _CANDIDATES
        many = min(max(_CANDIDATES_BY_POINTS // len(self._known), few), most)
        return propose(self._space, promise, self._known.best(_AROUND), rng, many)

    def _with_pending(self, told: Posterior, rng: np.random.Generator) -> Posterior:
        """What is to be expected once the points in flight are told, in some alternatives."""
        if not self._in_flight or self._pending_as == "ignore":
            return told
        waiting = np.array(list(self._in_flight.values()))
        if self._pending_as == "liar":
            outcomes = np.full((1, len(waiting)), told.fitted.min())
        elif self._pending_as == "believer":
            outcomes = told.predict(waiting)[0]
        else:
            means, lower = told.joint(waiting)
            outcomes = means + rng.standard_normal((_FANTASIES, len(waiting))) @ lower.T
        return told.extended(waiting, outcomes)

    def _toll(self, travel: Travel, codes: Floats) -> Floats:
        """What the way to each of ``codes`` takes from its score."""
        if not self._ways:
            return np.zeros(len(codes))
        columns = self._space.table(codes)
        seconds: Floats = np.min([travel.times(way, columns) for way in self._ways], axis=0)
        toll: Floats = np.log1p(seconds / self._dwell) if self._price is None else self._price * seconds
        return toll


def _one_of(what: str, given: str, names: Sequence[str]) -> str:
    if given not in names:
        raise CallerError(f"GaussianProcess has no {what} {given!r}{did_you_mean_or(given, names)}")
    return given


def _count(number: int, what: str) -> int:
    return whole(number, f"{what} of GaussianProcess", 1, 2**53)


def _above(least: float, number: float, what: str) -> float:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not least < number < math.inf:
        raise CallerError(f"{what} of GaussianProcess must be a number above {least:g}, got {number!r}")
    return number
