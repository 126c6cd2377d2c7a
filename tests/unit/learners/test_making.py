"""How a learner was made, in words: what differs from the defaults and from the Master, and what nobody knows."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import adaptive
import pytest

from taskmaster.bus.fields import Field
from taskmaster.learners import AdaptiveLearner, Evolution, GaussianProcess
from taskmaster.learners.balancing import Balancing
from taskmaster.learners.guards import Dedup
from taskmaster.learners.making import is_known, made_of
from taskmaster.learners.points import Random, Sequence, Sobol
from taskmaster.learners.registry import create
from taskmaster.learners.transforms import Filter

PARAMETERS = (Field("x", min=0, max=1), Field("y", min=0, max=1))
OUTPUTS = (Field("z"),)
LOSS = "adaptive.learner.learner1D.default_loss"


class Walk:
    """One of somebody's own."""

    def __init__(self, step: float = 0.1, *, start: Any = None, **more: Any) -> None:
        self.step, self._start = step, start

    def ask(self, n: int) -> list[Any]:
        return []

    def tell(self, point: Any, output: Any) -> None:
        pass


class Plain(Walk):
    def __init__(self, step: float = 0.1) -> None:
        super().__init__(step)


class Forgetful(Walk):
    def __init__(self, pace: float) -> None:
        super().__init__(2 * pace)


class Telling(Forgetful):
    def made_with(self) -> Mapping[str, Any]:
        return {"pace": self.step / 2}


@dataclass
class Written(Plain):
    width: int = 3
    table: Any = None


def made(learner: object) -> str:
    return made_of(learner, PARAMETERS, OUTPUTS).replace(f"{__name__}.", "own.")


@pytest.mark.parametrize(
    ("learner", "text"),
    [
        (GaussianProcess(PARAMETERS), "GaussianProcess()"),
        (
            GaussianProcess(PARAMETERS, maximize=True, kernel="matern", noise=0.5),
            "GaussianProcess(maximize=True, noise=0.5)",
        ),
        (GaussianProcess({"x": (0, 1), "y": ["a", "b"]}), "GaussianProcess(parameters={'x': (0, 1), 'y': ['a', 'b']})"),
        (GaussianProcess({"x": (0, 1), "y": (0, 1)}), "GaussianProcess()"),
        (Evolution(PARAMETERS, output="z", members=8), "Evolution(members=8)"),
        (Dedup(Random(PARAMETERS, seed=3, n=9)), "Dedup(Random(seed=3, n=9))"),
        (
            Balancing([Sobol(PARAMETERS), Random(PARAMETERS)], "cycle", fixed=[{"T": 4}, {"T": 77}]),
            "Balancing([Sobol(), Random()], strategy='cycle', fixed=[{'T': 4}, {'T': 77}])",
        ),
        (Filter(Sobol(PARAMETERS), callable), "Filter(Sobol(), keep=callable)"),
        (
            AdaptiveLearner(adaptive.Learner1D(None, (0, 2)), output="z"),
            f"AdaptiveLearner(adaptive.Learner1D(function=None, bounds=(0.0, 2.0), loss_per_interval={LOSS}))",
        ),
        (Plain(), "own.Plain()"),
        (Plain(0.5), "own.Plain(step=0.5)"),
        (Written(table=[1, {"a": True}]), "own.Written(table=[1, {'a': True}])"),
        (Telling(0.25), "own.Telling(pace=0.25)"),
    ],
)
def test_a_learner_is_written_as_the_call_that_made_it(learner: object, text: str) -> None:
    assert made(learner) == text
    assert is_known(text)
    assert made(copy.deepcopy(learner)) == text


@pytest.mark.parametrize(
    ("learner", "text"),
    [
        (Walk(0.5, start=[1]), "own.Walk(step=0.5, start=[1], more=…)"),
        (Forgetful(1.0), "own.Forgetful(pace=…)"),
        (Filter(Sobol(PARAMETERS), lambda point: True), "Filter(Sobol(), keep=…)"),
        (Sequence(range(100)), "Sequence(…)"),
        (Sequence([k / 2 for k in range(20)]), f"Sequence([{', '.join(str(k / 2) for k in range(12))}, … 20 in all])"),
        (pickle.loads(pickle.dumps(GaussianProcess(PARAMETERS, kernel="rbf"))), "GaussianProcess(…)"),
    ],
)
def test_what_nobody_knows_is_not_made_up(learner: object, text: str) -> None:
    assert made(learner) == text
    assert not is_known(text)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("gp", {"maximize": "z", "kappa": "3"}, {"maximize": "yes", "kappa": "3.0", "kernel": "matern"}),
        ("gp", {}, {"minimize": "z", "wrap.dedup": "no"}),
        ("optuna", {"maximize": "yes"}, {"maximize": "z"}),
        ("optuna", {"minimize": "z"}, {}),
        ("cma", {"popsize": "8"}, {"popsize": "8", "minimize": "z"}),
    ],
)
def test_options_that_mean_the_same_are_the_same(name: str, one: dict[str, str], other: dict[str, str]) -> None:
    first, second = (made(create(name, PARAMETERS, OUTPUTS, None, options)) for options in (one, other))
    assert first == second
    assert is_known(first)


def test_the_arguments_of_a_class_can_still_be_looked_up() -> None:
    assert list(inspect.signature(GaussianProcess).parameters)[:3] == ["parameters", "output", "maximize"]
    assert list(inspect.signature(Random).parameters) == ["parameters", "seed", "n"]
