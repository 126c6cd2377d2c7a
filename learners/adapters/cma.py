"""CMA-ES, by pycma (https://github.com/CMA-ES/pycma), against a Master.

N. Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv:1604.00772; constraints by an augmented Lagrangian, P.
Dufossé, N. Hansen, PPSN 2020.

It learns by whole generations: so many points are sampled, and when all have been evaluated they are told together, in
the order of sampling. So what it asks does not depend on the order in which results come; nor, with a given
``popsize``, on how many are in flight at a time. Towards the end of a generation slots run idle: by default it has as
many points as are wanted at first (the Loop's ``in_flight``), at least pycma's own number, 4 + 3 ln(parameters).

- A point that **failed** ranks behind all of its generation. One of which all have failed is sampled again.
- The search takes place in the unit cube: each parameter between its limits, or its logarithm. Whole numbers and
  choices are cut into equal shares of it, and keep at least enough spread to reach the next one. Choices without an
  order are better left to another optimiser.
- pycma draws from NumPy's shared generator; it is lent one of the run's (:class:`.base.OwnDice`).
- Where it has converged it stops; ``restarts`` has it begin anew so many times, elsewhere and with twice the points in
  a generation (A. Auger, N. Hansen, CEC 2005).
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.learners.adapters.aims import Aims, Names, Values
from taskmaster.learners.adapters.base import OPTIONS, Optimizer, OwnDice, ignoring
from taskmaster.learners.adapters.space import Space
from taskmaster.learners.arguments import whole
from taskmaster.learners.axes import Parameters
from taskmaster.learners.protocol import Point

try:
    import cma
except ImportError as error:
    raise CallerError(lacking("CMA-ES needs", "cma", "cma", error)) from error

__all__ = ["CmaLearner"]

#: Spread of the first generation, as a part of each parameter's range.
SIGMA = 0.3

#: Nothing printed, nothing written, no file read, and no seed set: those are pycma's habits as a program of its own.
_SILENT = {"verbose": -9, "verb_disp": 0, "verb_log": 0, "signals_filename": "", "seed": math.nan}

#: Warnings about what is so for a reason: without moarchiving constraints are handled as well, only not recorded for
#: plots; where points have failed, or lie in the same share of an axis, values are equal; and a generation that failed
#: whole is never told, so what pycma had put into it for its own use does not come back.
_HARMLESS = r"``import moarchiving`` failed|iqr\(f\)|orphanated injected solution"

#: Of the share that a whole number or a choice has of its axis, the least spread.
_LEAST_SPREAD = 0.3


@dataclass
class _Generation:
    """Points that are told together."""

    vectors: list[Any]
    #: of each: None while it has not ended, False if it failed
    ends: list[Values | bool | None] = field(init=False)
    open: int = field(init=False)

    def __post_init__(self) -> None:
        self.open = len(self.vectors)
        self.ends = [None] * self.open


#: One point of a generation.
_Member: TypeAlias = tuple[_Generation, int]


class CmaLearner(Optimizer[_Member]):
    """Asks a ``cma.CMAEvolutionStrategy``.

    ``minimize`` or ``maximize`` names the output where there are several, ``constraints`` are like
    ``"temperature <= 80"``; ``log`` names parameters to be searched by their logarithm. ``start`` is a point to begin
    at, by default the middle, and ``sigma`` the spread of the first generation as a part of each parameter's range.
    ``options`` are pycma's (``cma.CMAOptions()`` lists them): ``popsize=20``, ``CMA_diagonal=True``, ``tolfun=1e-6``.

        CmaLearner(master.parameters, maximize="accuracy", log=["rate"], restarts=3)

    Raises CallerError for fewer than two parameters, parameters without limits, several objectives, a start outside of
    the limits, and options that pycma does not take.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        minimize: Names = (),
        maximize: Names = (),
        constraints: str | Sequence[str] = (),
        log: Collection[str] = (),
        start: Point | None = None,
        sigma: float = SIGMA,
        restarts: int = 0,
        seed: int | None = None,
        repeats: bool = False,
        **options: Any,
    ) -> None:
        aims = Aims(minimize, maximize, constraints, who="CMA-ES")
        if len(aims.objectives) > 1:
            raise CallerError(
                f"CMA-ES optimises one output, not {aims.describe()}; take Optuna or Nevergrad for several"
            )
        super().__init__(Space(parameters, "CMA-ES", log), aims, seed=seed, repeats=repeats)
        if len(self.space.axes) < 2:
            raise CallerError("CMA-ES needs two parameters at least; for one take Optuna, or Nevergrad's OnePlusOne")
        if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 < sigma <= 1:
            raise CallerError(
                f"CMA-ES's sigma is a part of each parameter's range, above 0 and at most 1; got {sigma!r}"
            )
        _check_options(options)
        if options.get("popsize") is not None:
            whole(options["popsize"], "popsize of CMA-ES", 2, 1_000_000)
        self._options = options
        self._sigma = sigma
        self._restarts = whole(restarts, "restarts of CMA-ES", 0, 1_000_000)
        self._start = self._place(start)
        self._strategy: Any = None
        self._dice: OwnDice
        self._ready: deque[_Member] = deque()
        self._generation: _Generation | None = None
        self._try_options()

    def _try_options(self) -> None:
        """Raise CallerError where pycma does not take the options: before there is a run."""
        self._dice = OwnDice(1)
        try:
            with ignoring(UserWarning):
                self._begin_search(self._start, self._options.get("popsize") or 4)
                self._strategy.stop()
        except Exception as error:
            given = ", ".join(f"{key}={value!r}" for key, value in self._options.items())
            raise CallerError(f"CMA-ES cannot be made with {given or 'these parameters'}: {error}") from error
        self._strategy = None

    def _place(self, start: Point | None) -> list[float]:
        if start is None:
            return [0.5] * len(self.space.axes)
        self.space.key(start)
        unit = self.space.place(start)
        if unit is None:
            raise CallerError(f"CMA-ES cannot start at {start!r}: that is outside of the parameters' limits")
        return unit

    @property
    def strategy(self) -> Any:
        """The ``CMAEvolutionStrategy``, to be read: ``result``, ``sigma``. Raises CallerError before the first ask."""
        if self._strategy is None:
            raise CallerError("the strategy is made at the first ask, with the run's seed")
        return self._strategy

    # -- pycma --------------------------------------------------------------------------------------------------------

    def _open(self, seed: int, n: int) -> None:
        self._dice = OwnDice(seed)
        usual = 4 + int(3 * math.log(len(self.space.axes)))
        self._begin_search(self._start, int(self._options.get("popsize") or max(usual, n)))

    def _begin_search(self, start: Sequence[float], popsize: int) -> None:
        least = [_LEAST_SPREAD / size if math.isfinite(size) else 0.0 for size in self.space.sizes]
        given = {"bounds": [0.0, 1.0], **({"minstd": least} if any(least) else {}), **self._options, **_SILENT}
        with self._dice():
            self._strategy = cma.CMAEvolutionStrategy(list(start), self._sigma, {**given, "popsize": popsize})

    def _suggest(self) -> tuple[_Member, Point] | None:
        if not self._ready and not self._sample():
            return None
        generation, k = self._ready.popleft()
        return (generation, k), self.space.at(generation.vectors[k])

    def _sample(self) -> bool:
        """The next generation, unless one is still being evaluated or the search has ended."""
        if self._generation is not None:
            return False
        if self._strategy.stop():
            if self._restarts <= 0:
                return False
            self._restarts -= 1
            with self._dice():
                start = np.random.random(len(self.space.axes)).tolist()
            self._begin_search(start, 2 * int(self._strategy.popsize))
        with self._dice():
            self._generation = _Generation(self._strategy.ask())
        self._ready.extend((self._generation, k) for k in range(self._generation.open))
        return True

    def _answer(self, suggestion: _Member, values: Values) -> None:
        self._end_member(suggestion, values)

    def _give_up(self, suggestion: _Member, cancelled: bool) -> None:
        self._end_member(suggestion, False)

    def _end_member(self, member: _Member, end: Values | bool) -> None:
        generation, k = member
        generation.ends[k] = end
        generation.open -= 1
        if not generation.open:
            self._generation = None
            self._tell_strategy(generation)

    def _tell_strategy(self, generation: _Generation) -> None:
        known = [end for end in generation.ends if isinstance(end, Values)]
        if not known:
            return  # another one will be sampled of the same distribution
        losses = [values.losses[0] for values in known]
        violations = tuple(max(0.0, *excess) for excess in zip(*(values.violations for values in known)))
        worst = Values((), (_behind(min(losses), max(losses)),), violations)
        ends = [end if isinstance(end, Values) else worst for end in generation.ends]
        constraints = [list(values.violations) for values in ends] if self.aims.constraints else None
        with self._dice(), ignoring(UserWarning, message=_HARMLESS), _without_folder():
            self._strategy.tell(
                generation.vectors, [values.losses[0] for values in ends], constraints_values=constraints
            )

    @property
    def _library(self) -> str:
        return "CMA-ES"


def _behind(best: float, worst: float) -> float:
    """What ranks behind the worst of a generation.

    It lies as far behind that as the best lies before it: the search goes by ranks, but ends where it takes all of a
    generation for equal, which it is not where all but one have failed.
    """
    behind = worst + (worst - best or max(1.0, abs(worst)))
    return behind if math.isfinite(behind) else math.nextafter(worst, math.inf)


@contextlib.contextmanager
def _without_folder() -> Iterator[None]:
    """For constraints pycma makes a folder for a log that it does not keep, wherever the program happens to run."""
    folder = Path("outcmaes")
    was_there = folder.exists()
    yield
    if not was_there:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_options(options: Mapping[str, Any]) -> None:
    known = cma.CMAOptions.defaults()
    for key in options:
        if key in _SILENT:
            raise CallerError(
                f"CMA-ES's option {key!r} is not for learners: nothing is printed, and the run has the seed"
            )
        if key not in known:
            all_known = (*OPTIONS, "start", "sigma", "restarts", *known)
            raise CallerError(f"CMA-ES has no option {key!r}{did_you_mean_or(key, all_known, 'it takes')}")
