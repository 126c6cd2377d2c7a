"""Clients and learners: connect to a daemon, drive a Master with a Loop, or embed one with WorkMaster.

All learners can be imported from here, too: ``from taskmaster.learners import GaussianProcess, OptunaLearner``. They
are looked for when they are named, and their libraries are not needed before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskmaster.bus.errors import (
    DaemonUnreachable,
    Fenced,
    Full,
    InvalidTask,
    RunClosed,
    TaskCancelled,
    TaskFailed,
    TaskMasterError,
    UnknownMaster,
    UnknownRun,
)
from taskmaster.learners.client import Lab, Master, Run, connect
from taskmaster.learners.goals import loss, npoints, seconds, until
from taskmaster.learners.loop import LearnerStuck, Loop, TooManyFailures
from taskmaster.learners.looping.hooks import Hooks
from taskmaster.learners.looping.live import LivePlot
from taskmaster.learners.looping.progress import Progress
from taskmaster.learners.looping.routes import Routes
from taskmaster.learners.looping.several import run_all
from taskmaster.learners.results import Result
from taskmaster.learners.simulate.master import SimulatedMaster
from taskmaster.learners.workmaster import WorkMaster

if TYPE_CHECKING:
    from taskmaster.learners.adapters.ax import AxLearner as AxLearner
    from taskmaster.learners.adapters.cma import CmaLearner as CmaLearner
    from taskmaster.learners.adapters.gest import GestLearner as GestLearner, LearnerGenerator as LearnerGenerator
    from taskmaster.learners.adapters.nevergrad import NevergradLearner as NevergradLearner
    from taskmaster.learners.adapters.optuna import OptunaLearner as OptunaLearner
    from taskmaster.learners.adapters.pruning import Pruning as Pruning
    from taskmaster.learners.adaptive import AdaptiveLearner as AdaptiveLearner
    from taskmaster.learners.balancing import Balancing as Balancing
    from taskmaster.learners.evolution import Evolution as Evolution
    from taskmaster.learners.gp import GaussianProcess as GaussianProcess
    from taskmaster.learners.guards import Dedup as Dedup, Pending as Pending
    from taskmaster.learners.human import Human as Human
    from taskmaster.learners.inorder import InOrder as InOrder
    from taskmaster.learners.movecost import MoveCost as MoveCost
    from taskmaster.learners.points import (
        Grid as Grid,
        Halton as Halton,
        LatinHypercube as LatinHypercube,
        Random as Random,
        Sequence as Sequence,
        Sobol as Sobol,
    )
    from taskmaster.learners.transforms import (
        DataSaver as DataSaver,
        Filter as Filter,
        Linear as Linear,
        Log as Log,
        Transform as Transform,
    )
    from taskmaster.learners.travel import Travel as Travel

__all__ = [
    "DaemonUnreachable",
    "Fenced",
    "Full",
    "Hooks",
    "InvalidTask",
    "Lab",
    "LearnerStuck",
    "LivePlot",
    "Loop",
    "Master",
    "Progress",
    "Result",
    "Routes",
    "Run",
    "RunClosed",
    "SimulatedMaster",
    "TaskCancelled",
    "TaskFailed",
    "TaskMasterError",
    "TooManyFailures",
    "UnknownMaster",
    "UnknownRun",
    "WorkMaster",
    "connect",
    "loss",
    "npoints",
    "run_all",
    "seconds",
    "until",
]

#: Where the learners are. None of them is in ``__all__``: ``import *`` would need every library.
_LEARNERS = {
    "AxLearner": "adapters.ax",
    "CmaLearner": "adapters.cma",
    "GestLearner": "adapters.gest",
    "LearnerGenerator": "adapters.gest",
    "NevergradLearner": "adapters.nevergrad",
    "OptunaLearner": "adapters.optuna",
    "Pruning": "adapters.pruning",
    "AdaptiveLearner": "adaptive",
    "Balancing": "balancing",
    "Evolution": "evolution",
    "GaussianProcess": "gp",
    "Dedup": "guards",
    "Pending": "guards",
    "Human": "human",
    "InOrder": "inorder",
    "MoveCost": "movecost",
    "Grid": "points",
    "Halton": "points",
    "LatinHypercube": "points",
    "Random": "points",
    "Sequence": "points",
    "Sobol": "points",
    "DataSaver": "transforms",
    "Filter": "transforms",
    "Linear": "transforms",
    "Log": "transforms",
    "Transform": "transforms",
    "Travel": "travel",
}


def __getattr__(name: str) -> Any:
    if name not in _LEARNERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_LEARNERS[name]}"), name)
    return found
