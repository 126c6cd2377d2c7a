"""How close to the minimum 100 evaluations come, when several workers answer out of order.

Time is virtual: an evaluation takes a half-normal time, drawn from the seed and the same for all contestants, and a
learner is asked for one point whenever a worker becomes free. A problem's table holds the median regret (the best value
found less the minimum) over the seeds of each contestant; what counts is on how many problems ours is no worse.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Bench
from benchmarks.contest import Row, at_least, at_most, single
from taskmaster.learners.gp import GaussianProcess
from taskmaster.learners.points import Random

__all__ = ["PROBLEMS", "RIVALS", "Problem", "ask_time", "regret", "regret_of"]

EVALUATIONS = 100
SEEDS = 20
WORKERS = (4, 8)


class Contestant(Protocol):
    """What all of them are driven by: one point at a time."""

    def ask(self) -> Any:
        """Its next point, in whatever form."""

    def x(self, asked: Any) -> NDArray[np.float64]:
        """The coordinates, ``(d,)``, of what it asked."""

    def tell(self, asked: Any, value: float) -> None:
        """What was found there."""


@dataclass(frozen=True)
class Problem:
    """A function to make small, of ``d`` numbers within ``bounds``, and its least value."""

    bounds: tuple[tuple[float, float], ...]
    evaluate: Callable[[NDArray[np.float64]], float]
    minimum: float


def branin(seed: int) -> Problem:
    """L. C. W. Dixon, G. P. Szegő (1978); three minima."""

    def evaluate(x: NDArray[np.float64]) -> float:
        a, b = x.tolist()
        valley = b - 5.1 * a * a / (4 * math.pi**2) + 5 * a / math.pi - 6
        return float(valley * valley) + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10

    return Problem(((-5.0, 10.0), (0.0, 15.0)), evaluate, 0.39788735772973816)


_HARTMANN_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(seed: int) -> Problem:
    """J. K. Hartman (1973); six minima in six dimensions."""

    def evaluate(x: NDArray[np.float64]) -> float:
        distances = (_HARTMANN_A * (x - _HARTMANN_P) ** 2).sum(axis=1)
        return -float(np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-distances))

    return Problem(((0.0, 1.0),) * 6, evaluate, -3.322368011415515)


def ackley5(seed: int) -> Problem:
    """D. H. Ackley (1987); a narrow funnel in a plain full of dents. Its minimum is moved off the middle."""
    centre = np.random.default_rng(seed).uniform(-16.0, 16.0, 5)

    def evaluate(x: NDArray[np.float64]) -> float:
        z = x - centre
        funnel = -20 * math.exp(-0.2 * math.sqrt(float(np.mean(z * z))))
        return funnel - math.exp(float(np.mean(np.cos(2 * math.pi * z)))) + 20 + math.e

    return Problem(((-32.768, 32.768),) * 5, evaluate, 0.0)


def levy8(seed: int) -> Problem:
    """A. V. Levy, A. Montalvo (1985); a bowl with waves in eight dimensions."""

    def evaluate(x: NDArray[np.float64]) -> float:
        w = 1 + (x - 1) / 4
        inner = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)
        last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
        return float(math.sin(math.pi * w[0]) ** 2 + inner.sum() + last)

    return Problem(((-10.0, 10.0),) * 8, evaluate, 0.0)


def bbob(function: int) -> Callable[[int], Problem]:
    """Of the COCO suite in five dimensions, another instance for each seed: N. Hansen et al., arXiv:1603.08785."""

    def make(seed: int) -> Problem:
        import cocoex

        suite = cocoex.Suite("bbob", "", f"dimensions:5 function_indices:{function} instance_indices:1-15")
        problem = suite[seed % len(suite)]

        def evaluate(x: NDArray[np.float64], kept: Any = suite) -> float:
            return float(problem(x))  # its suite has to live as long as it does

        return Problem(((-5.0, 5.0),) * 5, evaluate, _least(problem))

    return make


def _least(problem: Any) -> float:
    """Its minimum, of which the suite makes a secret: it writes where that is into a file of the working folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        problem._best_parameter("print")
        best = Path("._bbob_problem_best_parameter.txt").read_text(encoding="utf-8")
    return float(problem([float(number) for number in best.split()]))


#: By their names; each is made for a seed.
PROBLEMS: Mapping[str, Callable[[int], Problem]] = {
    "Branin": branin,
    "Hartmann6": hartmann6,
    "Ackley-5": ackley5,
    "Levy-8": levy8,
    "bbob f6 attractive sector": bbob(6),
    "bbob f8 Rosenbrock": bbob(8),
    "bbob f10 ellipsoid": bbob(10),
    "bbob f15 Rastrigin": bbob(15),
    "bbob f21 Gallagher": bbob(21),
}


class Ours:
    """Our own, with what it does by itself."""

    def __init__(self, problem: Problem, seed: int) -> None:
        bounds = {f"x{k}": limits for k, limits in enumerate(problem.bounds)}
        self._learner = GaussianProcess(bounds, seed=seed)

    def ask(self) -> Any:
        """A point of ours."""
        (point,) = self._learner.ask(1)
        return point

    def tell(self, asked: Any, value: float) -> None:
        """As a Loop would."""
        self._learner.tell(asked, value)

    def x(self, asked: Any) -> NDArray[np.float64]:
        """The values of the point."""
        return np.array(list(asked.values()))


class Optuna:
    """A sampler of Optuna, with what it does by itself: both take running trials into account."""

    def __init__(self, sampler: str, problem: Problem, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))
        floats = optuna.distributions.FloatDistribution
        self._space = {f"x{k}": floats(low, high) for k, (low, high) in enumerate(problem.bounds)}

    def ask(self) -> Any:
        """A trial."""
        return self._study.ask(self._space)

    def tell(self, asked: Any, value: float) -> None:
        """As its own loop would."""
        self._study.tell(asked, value)

    def x(self, asked: Any) -> NDArray[np.float64]:
        """The parameters of the trial."""
        return np.array([asked.params[name] for name in self._space])


#: By their names in the table, with the package that each cannot do without.
RIVALS: Mapping[str, tuple[str, Callable[[Problem, int], Contestant]]] = {
    "Optuna TPE": ("optuna", partial(Optuna, "TPESampler")),
    "Optuna GP": ("torch", partial(Optuna, "GPSampler")),
}


def regret_of(contestant: Contestant, problem: Problem, seed: int, workers: int, evaluations: int) -> float:
    """The best value found in so many evaluations, less the minimum."""
    durations = np.abs(np.random.default_rng([seed, workers]).standard_normal(evaluations)).tolist()
    running: list[tuple[float, int, Any]] = []
    now, best, started = 0.0, math.inf, 0
    while started < evaluations or running:
        while started < evaluations and len(running) < workers:
            heapq.heappush(running, (now + durations[started], started, contestant.ask()))
            started += 1
        now, _, asked = heapq.heappop(running)
        value = problem.evaluate(contestant.x(asked))
        best = min(best, value)
        contestant.tell(asked, value)
    return best - problem.minimum


def regret(bench: Bench) -> list[Row]:
    """On how many problems ours has no larger median regret than each rival; the medians are printed, a line each.

    Takes hours where Optuna's own Gaussian process takes part: some twenty seconds a run, and there are 360.
    """
    seeds, evaluations = (1, 15) if bench.quick else (SEEDS, EVALUATIONS)
    rows: list[Row] = []
    rivals = {name: make for name, (package, make) in RIVALS.items() if _is_installed("optuna", package)}
    for workers in WORKERS[:1] if bench.quick else WORKERS:
        medians = {
            name: _medians(rivals | {"ours": Ours}, make, workers, seeds, evaluations)
            for name, make in _problems(bench.quick).items()
        }
        print(_table(medians, workers, seeds))
        for rival in RIVALS:
            wins = [median["ours"] <= median[rival] for median in medians.values() if rival in median]
            figure = f"problems where our regret is no larger, {workers} workers, beside {rival}"
            rows += [_row(figure, wins, len(medians), rival)]
    return rows


def _problems(quick: bool) -> dict[str, Callable[[int], Problem]]:
    """Those that can be had here; of each kind one if it shall be quick."""
    there = {name: make for name, make in PROBLEMS.items() if "bbob" not in name or _is_installed("cocoex")}
    return {name: make for name, make in there.items() if not quick or name in _QUICK}


_QUICK = ("Branin", "bbob f8 Rosenbrock")


def _is_installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in packages)


def _medians(
    contestants: Mapping[str, Callable[[Problem, int], Contestant]],
    make: Callable[[int], Problem],
    workers: int,
    seeds: int,
    evaluations: int,
) -> dict[str, float]:
    """The median regret of each contestant over the seeds, on problems that are made anew for each."""
    return {
        name: statistics.median(
            regret_of(contestant(problem, seed), problem, seed, workers, evaluations)
            for seed in range(seeds)
            for problem in [make(seed)]
        )
        for name, contestant in contestants.items()
    }


def _table(medians: Mapping[str, Mapping[str, float]], workers: int, seeds: int) -> str:
    """For people: a line for each problem, with the least regret marked; wins and ties count within a tenth."""
    names = list(next(iter(medians.values())))
    lines = [f"median regret over {seeds} seeds, {workers} workers", "", f"| problem | {' | '.join(names)} |"]
    lines.append(f"|---|{'---|' * len(names)}")
    for problem, median in medians.items():
        least = min(median.values())
        cells = [f"**{median[name]:.3g}**" if median[name] <= 1.1 * least else f"{median[name]:.3g}" for name in names]
        lines.append(f"| {problem} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _row(figure: str, wins: Sequence[bool], problems: int, rival: str) -> Row:
    """Most problems must be won. Without the rival there is nothing to count."""
    if not wins:
        return Row(figure, "problems", [0.0], rival)
    return single(figure, f"of {problems}", [float(sum(wins))], must=at_least(math.floor(problems / 2) + 1))


#: Parameters of which a Gaussian process is asked: six real numbers, and the same with two choices besides.
_REALS: Mapping[str, Any] = {f"x{k}": (0.0, 1.0) for k in range(6)}
_MIXED: Mapping[str, Any] = {**_REALS, "few": [*"abcd"], "many": [f"kind {k}" for k in range(20)]}


def ask_time(bench: Bench) -> list[Row]:
    """Milliseconds that an ask takes where 500 points in 6 dimensions are known: the median, and the longest.

    Over real numbers, and with two choices, of 4 and of 20 values, besides.
    """
    plain, mixed = _ask_times(bench, _REALS), _ask_times(bench, _MIXED)
    return [
        single("ask of the Gaussian process, 500 points in 6 dimensions", "ms", plain, must=at_most(100.0)),
        single("the longest of these, with a fit of hyperparameters", "ms", [max(plain)]),
        single("the same with a choice of 4 and one of 20 besides", "ms", mixed, must=at_most(100.0)),
    ]


def _ask_times(bench: Bench, parameters: Mapping[str, Any]) -> list[float]:
    learner = GaussianProcess(parameters, seed=1)
    for point in Random(parameters, seed=1, n=bench.size(500)).ask(bench.size(500)):
        learner.tell(point, _hill(point))
    in_flight = learner.ask(4 + bench.size(20))  # what it begins with, and these are in flight as well
    for point in in_flight[4:]:
        learner.tell(point, _hill(point))
    in_flight, times = in_flight[:4], []
    for _ in range(bench.size(40)):
        point = in_flight.pop(0)
        learner.tell(point, _hill(point))
        began = time.perf_counter()
        in_flight += learner.ask(1)
        times.append(1e3 * (time.perf_counter() - began))
    return times


def _hill(point: Mapping[str, Any]) -> float:
    values = np.array([value for value in point.values() if isinstance(value, float)])
    kinds = [value for value in point.values() if isinstance(value, str)]
    return float(np.sin(9 * values[0]) + values @ values) + 0.1 * sum(map(len, kinds))
