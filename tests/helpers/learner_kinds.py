"""Every learner that there is, fresh, for the tests that hold for all of them: our own, and those of libraries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import adaptive
import numpy as np
import scipy.spatial
from gest_api.vocs import VOCS
from libensemble.gen_classes import UniformSample

from helpers.generators import Forgetful, Herd, Walker
from helpers.learner_suite import MIXED
from taskmaster.bus.fields import Field
from taskmaster.learners.adapters.cma import CmaLearner
from taskmaster.learners.adapters.gest import GestLearner, vocs_of
from taskmaster.learners.adapters.nevergrad import NevergradLearner
from taskmaster.learners.adapters.optuna import OptunaLearner
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.balancing import Balancing
from taskmaster.learners.evolution import Evolution
from taskmaster.learners.gp import GaussianProcess
from taskmaster.learners.guards import Dedup, Pending
from taskmaster.learners.inorder import InOrder
from taskmaster.learners.movecost import MoveCost
from taskmaster.learners.points import Grid, Halton, LatinHypercube, Random, Sequence, Sobol
from taskmaster.learners.record import Record
from taskmaster.learners.transforms import DataSaver, Filter, Linear, Transform
from taskmaster.learners.travel import Travel

__all__ = ["LIBRARIES", "MODELS", "OWN", "ax"]

# -- our own, and adaptive's of coordinates ---------------------------------------------------------------------------

SQUARE = [(-1, 1), (-2, 3)]
TRIANGLE = scipy.spatial.ConvexHull([(0.0, 0.0), (1.0, 0.0), (0.3, 1.0)])
NAMES = ["a", "b"]

TRAVEL = Travel({"voltage": 0.5}, {"kernel": 3.0})


def halves() -> Balancing:
    """Two learners, one for each value of a parameter."""
    rest = [field for field in MIXED if field.name != "shuffle"]
    return Balancing([Random(rest), Sobol(rest)], "cycle", [{"shuffle": False}, {"shuffle": True}])


#: Every learner, fresh, also for tests that ask for far more than a schedule does.
OWN: dict[str, Callable[[], Record]] = {
    "sequence": lambda: Sequence(iter(range(10))),
    "rows": lambda: Sequence(np.arange(12.0).reshape(6, 2), names=NAMES),
    "grid": lambda: Grid(MIXED, n=3),
    "random": lambda: Random(MIXED),
    "sobol": lambda: Sobol(MIXED, n=70),
    "halton": lambda: Halton(MIXED, seed=3),
    "latin": lambda: LatinHypercube(MIXED, n=20),
    "gp": lambda: GaussianProcess(MIXED, output="scalar", initial=3, n=12),
    "gp-ucb": lambda: GaussianProcess(
        MIXED,
        output="scalar",
        maximize=True,
        acquisition="ucb",
        kernel="rbf",
        pending="believer",
        initial=3,
        n=12,
        travel=TRAVEL,
    ),
    "evolution": lambda: Evolution(MIXED, output="scalar"),
    "balancing": halves,
    "dedup": lambda: Dedup(Random(MIXED)),
    "pending": lambda: Pending(Random(MIXED), 0.01, MIXED),
    "movecost": lambda: MoveCost(Sobol(MIXED), TRAVEL, ahead=4),
    "transform": lambda: Transform(Evolution(MIXED), {"voltage": Linear(1e3)}, output="scalar", negate=True),
    "datasaver": lambda: DataSaver(Evolution(MIXED), "scalar"),
    "in-order": lambda: InOrder(Evolution(MIXED, output="scalar"), 4),
    "filter": lambda: Filter(Evolution(MIXED, output="scalar"), lambda point: point["voltage"] > 0),
    "adaptive-1d": lambda: AdaptiveLearner(adaptive.Learner1D(None, (-1, 1)), None, "scalar", retries=99),
    "adaptive-1d-vector": lambda: AdaptiveLearner(adaptive.Learner1D(None, (0, 1)), ["a"], "vector", retries=99),
    "adaptive-2d": lambda: AdaptiveLearner(adaptive.Learner2D(None, SQUARE), NAMES, "scalar", retries=99),
    "adaptive-2d-bare": lambda: AdaptiveLearner(adaptive.Learner2D(None, SQUARE), output="vector", retries=99),
    "adaptive-2d-as-nd": lambda: AdaptiveLearner(adaptive.LearnerND(None, SQUARE), NAMES, "vector", retries=99),
    "adaptive-3d": lambda: AdaptiveLearner(adaptive.LearnerND(None, [(0, 1)] * 3), None, "scalar", retries=99),
    "adaptive-hull": lambda: AdaptiveLearner(adaptive.LearnerND(None, TRIANGLE), NAMES, "scalar", retries=99),
}

# -- of libraries -----------------------------------------------------------------------------------------------------

PLANE = (Field("a", min=-1, max=1), Field("b", min=0.01, max=3))
LEVELS = (Field("steps", kind="int", min=1, max=5), Field("kernel", kind="str", choices=("rbf", "poly", "linear")))
ITEMS = [{"a": 0.5, "b": "x"}, {"a": 0.25, "b": "y"}, {"a": 0.5, "b": "x"}]


def vocs(plane: tuple[Field, ...] = PLANE) -> VOCS:
    return vocs_of(plane, minimize="scalar", observables=["cost"])


def balanced(strategy: str, cdims: object = None, names: list[str] | None = None) -> AdaptiveLearner:
    children = [adaptive.Learner1D(None, (-1, 1 + k)) for k in range(3)]
    return AdaptiveLearner(adaptive.BalancingLearner(children, strategy=strategy, cdims=cdims), names, "scalar")


def balanced_saved() -> AdaptiveLearner:
    children = [adaptive.DataSaver(adaptive.Learner1D(None, (-1, 1 + k)), itemgetter("scalar")) for k in range(3)]
    return AdaptiveLearner(adaptive.BalancingLearner(children, strategy="loss"))


def saved() -> AdaptiveLearner:
    learner = adaptive.DataSaver(adaptive.Learner2D(None, [(-1, 1), (0, 2)]), arg_picker=itemgetter("scalar"))
    return AdaptiveLearner(learner, ["a", "b"], retries=99)


OPTUNA: dict[str, Callable[[], Record]] = {
    "tpe": lambda: OptunaLearner(MIXED, minimize="scalar"),
    "tpe-aims": lambda: OptunaLearner(
        PLANE, multivariate=True, minimize="scalar", maximize="cost", constraints="scalar <= 0.5", log="b"
    ),
    "random": lambda: OptunaLearner(MIXED, "RandomSampler", maximize="scalar", repeats=True),
    "nsga2": lambda: OptunaLearner(MIXED, "NSGAIISampler", minimize=["scalar", "cost"], population_size=4),
    "cmaes": lambda: OptunaLearner(PLANE, "CmaEsSampler", minimize="scalar", prunes=True),
    "qmc": lambda: OptunaLearner(PLANE, "QMCSampler", minimize="scalar"),
    "grid": lambda: OptunaLearner(LEVELS, "GridSampler", minimize="scalar"),
    "brute": lambda: OptunaLearner(LEVELS, "BruteForceSampler", minimize="scalar"),
}
NEVERGRAD: dict[str, Callable[[], Record]] = {
    name: partial(NevergradLearner, MIXED, name, minimize="scalar")
    for name in ("NGOpt", "DE", "PSO", "CMA", "OnePlusOne", "ScrHammersleySearch")
} | {
    "several": lambda: NevergradLearner(
        PLANE, "TwoPointsDE", minimize="scalar", maximize="cost", constraints="scalar <= 0.5", log="b"
    ),
    "sequential": lambda: NevergradLearner(PLANE, "NelderMead", minimize="scalar"),
}


def ax(*arguments: Any, **options: Any) -> Any:
    """A learner of Ax, which takes seconds to be imported: not before somebody wants one."""
    from taskmaster.learners.adapters.ax import AxLearner

    return AxLearner(*arguments, **options)


OTHERS: dict[str, Callable[[], Record]] = {
    "ax": lambda: ax(MIXED, "random_search", minimize="scalar"),
    "cma": lambda: CmaLearner(PLANE, minimize="scalar", log="b"),
    "cma-mixed": lambda: CmaLearner(MIXED, maximize="scalar", constraints="cost <= 2", popsize=5, restarts=1),
    "gest": lambda: GestLearner(vocs(), lambda vocs, seed: UniformSample(vocs, random_seed=seed)),
    "gest-ids": lambda: GestLearner(vocs(MIXED), Walker, failed_as_nan=True),
    "gest-generations": lambda: GestLearner(vocs(), Herd, generations=True),
    "gest-forgetful": lambda: GestLearner(vocs(), Forgetful, failed_as_nan=True),
    "average": lambda: AdaptiveLearner(adaptive.AverageLearner(None, atol=0.1), output="scalar"),
    "average-1d": lambda: AdaptiveLearner(adaptive.AverageLearner1D(None, (-1, 1), min_samples=3), output="scalar"),
    "average-noise": lambda: AdaptiveLearner(
        adaptive.AverageLearner1D(None, (-1, 1), min_samples=3), ["a"], output="scalar"
    ),
    "integrator": lambda: AdaptiveLearner(
        adaptive.IntegratorLearner(None, (-1, 1), tol=1e-8), ["a"], "scalar", retries=999
    ),
    "items": lambda: AdaptiveLearner(adaptive.SequenceLearner(None, ITEMS)),
    "rows": lambda: AdaptiveLearner(adaptive.SequenceLearner(None, np.arange(12.0).reshape(6, 2)), ["a", "b"]),
    "balanced": lambda: balanced("loss_improvements"),
    "balanced-loss": lambda: balanced("loss", names=["which", "x"]),
    "balanced-npoints": lambda: balanced("npoints", cdims=[{"phase": p} for p in "abc"], names=["phase", "x"]),
    "balanced-cycle": lambda: balanced("cycle", cdims=(["p", "q"], [(1, 2), (1, 3), (2, 3)]), names=["p", "q", "x"]),
    "balanced-saved": balanced_saved,
    "saved": saved,
}
LIBRARIES: dict[str, Callable[[], Record]] = (
    {f"optuna-{name}": make for name, make in OPTUNA.items()}
    | {f"nevergrad-{name}": make for name, make in NEVERGRAD.items()}
    | OTHERS
)

#: Those that fit a model by PyTorch after a few points, which takes them up to a second for each that they ask then.
MODELS: dict[str, Callable[[], Record]] = {
    "ax-fast": lambda: ax(PLANE, maximize="scalar", initialization_budget=5),
    "ax-aims": lambda: ax(
        PLANE, minimize="scalar", maximize="cost", constraints="scalar <= 0.5", log="b", initialization_budget=6
    ),
    "optuna-gp": lambda: OptunaLearner(
        [*PLANE, LEVELS[0]], "GPSampler", minimize="scalar", constraints="cost <= 2", log="b", n_startup_trials=5
    ),
}
