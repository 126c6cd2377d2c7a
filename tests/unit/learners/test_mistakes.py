"""What is given wrongly to learners, loops, simulations and replays is named where it was given, with its remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

import adaptive
import cma
import nevergrad as ng
import optuna
import pytest
from gest_api.vocs import VOCS
from helpers.generators import Walker

from taskmaster import learners
from taskmaster.bus.errors import CallerError
from taskmaster.learners import (
    Balancing,
    DataSaver,
    Dedup,
    Evolution,
    Filter,
    GaussianProcess,
    LivePlot,
    Log,
    Loop,
    OptunaLearner,
    SimulatedMaster,
    Sobol,
    Transform,
)
from taskmaster.learners.executor import MasterExecutor
from taskmaster.learners.mappers import GuidedMapper
from taskmaster.learners.mapping import MasterMap
from taskmaster.learners.own import own_factory
from taskmaster.learners.parting import part
from taskmaster.learners.replay import HistoryMaster, replay
from taskmaster.learners.simulate import Constant, Failures, study

SQUARE: Mapping[str, Any] = {"x": (0.0, 1.0), "y": (0.0, 1.0)}


def _f(point: Any) -> float:
    return float(point["x"])


def _lab(**settings: Any) -> SimulatedMaster:
    return SimulatedMaster(_f, parameters=SQUARE, **settings)


def _number(point: Any) -> float:
    assert isinstance(point["n"], int)
    assert isinstance(point["on"], bool)
    return float(point["n"])


def _sobol(parameters: Any, outputs: Any) -> Sobol:
    return Sobol(parameters)


def _study(learners: Any = None, **settings: Any) -> object:
    given: Any = {"goal": None, "evaluations": 3, "seeds": 1, **settings}
    return study({"sobol": _sobol} if learners is None else learners, _f, SQUARE, **given)


MISTAKES: Mapping[str, tuple[Callable[[Any], object], Any, str]] = {
    "run by name": (
        lambda run: replay(Sobol(SQUARE), run),
        "hill/last night",
        r"of a run, not of 'hill/last night': it is lab\['hill'\]\.watch\('last night'\), of lab = connect\(\)",
    ),
    "run by half a name": (
        lambda run: replay(Sobol(SQUARE), run),
        "night",
        r"not of 'night': it is lab\['MASTER'\]\.watch\('night'\)",
    ),
    "no run": (lambda run: replay(Sobol(SQUARE), run), 3, r"not of 3: give lab\['MASTER'\]\.watch\(NAME\)"),
    "a simulated Master": (
        lambda run: replay(Sobol(SQUARE), run),
        _lab(),
        r"not of <SimulatedMaster .*: give one of this Master's, master\.watch\(NAME\)",
    ),
    "a loop": (
        lambda run: replay(Sobol(SQUARE), run),
        Loop(_lab(), Sobol(SQUARE), goal=1),
        r"not of <Loop .*: give the Loop's run, loop\.run_",
    ),
    "history of a name": (HistoryMaster, "a", "not of 'a'"),
    "part from a name": (lambda other: part(_lab().open(), other), "b", r"not of 'b'.*watch\('b'\)"),
    "replay to a class": (lambda kind: replay(kind, _lab().open()), Sobol, "not a class: make one of Sobol"),
    "replay to nothing": (lambda none: replay(none, _lab().open()), None, "None is no learner: it has no ask"),
    "goal that is true": (lambda goal: Loop(_lab(), Sobol(SQUARE), goal=goal), True, "a goal is a number.*not True"),
    "parameters of a text": (GaussianProcess, "x", r"the parameters of GaussianProcess .* not 'x'"),
    "parameters of names": (Evolution, ["x"], r"of Evolution are .*\{name: \(min, max\)\}; not \['x'\]"),
    "parameters of a number": (Sobol, 3, "the parameters of Sobol .* not 3"),
    "travel": (
        lambda travel: GaussianProcess(SQUARE, travel=travel),
        {"x": 1},
        r"travel of GaussianProcess is a Travel, .* got \{'x': 1\}",
    ),
    "resolution": (lambda steps: Dedup(Sobol(SQUARE), steps), [1], r"the resolution of Dedup .* \{\"x\": 0\.5\}; got"),
    "step": (lambda step: Dedup(Sobol(SQUARE), {"x": step}), "a", "resolution of parameter 'x' must be .*, got 'a'"),
    "filter": (lambda keep: Filter(Sobol(SQUARE), keep), None, "Filter keeps the points that a function .* got None"),
    "pick": (lambda pick: DataSaver(Sobol(SQUARE), pick), 3, "DataSaver picks an output by its name.* got 3"),
    "forms": (lambda forms: Transform(Sobol(SQUARE), forms), [Log()], "Transform takes forms of parameters by name"),
    "function": (lambda f: Transform(Sobol(SQUARE), function=f), "sum", "is called with the output; got 'sum'"),
    "balanced": (lambda one: Balancing([one]), 3, "3 is no learner: it has no ask"),
    "fixed": (lambda fixed: Balancing([Sobol(SQUARE)], "cycle", fixed), [4], r"is a dict for each learner.* got \[4\]"),
    "plot": (LivePlot, 3, r"into a file, LivePlot\('plot.png'\), not into 3"),
    "executor": (MasterExecutor, _lab(), r"a MasterExecutor is over a Master of a daemon, not over <Sim.* for a Loop"),
    "mapper": (GuidedMapper, _lab(), "GuidedMapper is over a Master of a daemon, not over <SimulatedMaster"),
    "map": (MasterMap, "x", r"a MasterMap is over a Master of a daemon, not over 'x': take lab\['NAME'\]"),
    "thinking": (lambda given: _lab(thinking=given), "yes", "thinking must be True, False or a number .* not 'yes'"),
    "failures": (lambda given: _lab(failures=given), "a", r"are the probability .*Failures\(fail=….* not 'a'"),
    "share": (lambda share: Failures(lost=share), "half", "lost of Failures is a probability, .* not 'half'"),
    "lifetime": (lambda given: Failures(lifetime=given), "1 h", "lifetime of Failures must be .* not '1 h'"),
    "repair": (lambda given: Failures(repair=given), "slow", "repair of Failures must be a number .* not 'slow'"),
    "workers in words": (lambda given: _lab(workers=given), "8", "the number of workers must be .* not '8'"),
    "speeds": (lambda given: _lab(workers=given), ["a"], r"the speeds of workers must be .* not \['a'\]"),
    "learners in a list": (_study, [Sobol], r"compares learners by their names: .* got \[<class"),
    "no learners": (_study, {}, r"compares learners by their names: give one at least"),
    "a learner that is made": (
        _study,
        {"a": Sobol(SQUARE)},
        "learner 'a' of a study is made by a function.* got <Sob",
    ),
    "a class of a learner": (_study, {"a": Sobol}, "by a function.*; Sobol takes 'seed', not outputs, as its second"),
    "a class of one argument": (_study, {"a": Evolution}, "is not called so: too many positional arguments"),
    "no workers": (lambda given: _study(workers=given), [], r"workers of a study: give one at least, not \[\]"),
    "half a worker": (lambda given: _study(workers=given), (1, 2.5), "workers must be a whole number .* not 2.5"),
    "workers of nothing": (lambda given: _study(workers=given), None, "workers: expected several, .* not None"),
    "no seeds": (lambda given: _study(seeds=given), 0, "seeds must be a whole number from 1 .* not 0"),
    "empty seeds": (lambda given: _study(seeds=given), [], r"seeds of a study: give one at least, not \[\]"),
    "study's goal": (lambda goal: _study(goal=goal), "x", r"goal of a study is an output to reach, .* not 'x'"),
    "goal of NaN": (lambda goal: _study(goal=goal), math.nan, "goal of a study is an output to reach, .* not nan"),
    "in flight": (lambda given: _study(in_flight=given), "2", "in_flight for each worker must be .* not '2'"),
    "on trial": (lambda given: _study(on_trial=given), 1, "on_trial is called with each Trial; got 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_remedy(name: str) -> None:
    call, given, said = MISTAKES[name]
    with pytest.raises(CallerError, match=said):
        call(given)


FOREIGN: Mapping[str, tuple[Callable[[], object], str]] = {
    "adaptive": (lambda: adaptive.Learner1D(None, (0, 1)), r"AdaptiveLearner\(learner\)"),
    "several of adaptive's": (
        lambda: adaptive.BalancingLearner([adaptive.Learner1D(None, (0, 1))]),
        r"AdaptiveLearner\(learner\)",
    ),
    "a study": (optuna.create_study, r"OptunaLearner\(master\.parameters, study=study\)"),
    "a sampler": (optuna.samplers.RandomSampler, r"OptunaLearner\(master\.parameters, sampler\)"),
    "cma": (lambda: cma.CMAEvolutionStrategy([0.5, 0.5], 0.3, {"verbose": -9}), r"CmaLearner\(master\.parameters\)"),
    "nevergrad": (lambda: ng.optimizers.OnePlusOne(parametrization=2, budget=9), "NevergradLearner"),
    "a generator": (
        lambda: Walker(VOCS(variables={"x": [0, 1]}, objectives={"loss": "MINIMIZE"})),
        r"GestLearner\(vocs, generator\)",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("parameters", [SQUARE, {}])
def test_what_a_library_asks_by_itself_is_no_learner_and_said_how_it_becomes_one(
    name: str, parameters: Mapping[str, Any]
) -> None:
    """Some of them have an ask and a tell: a Master that takes any point would be given what these return as one."""
    make, adapter = FOREIGN[name]
    with pytest.raises(CallerError, match=f"it is a learner here as {adapter}.*, of taskmaster.learners"):
        Loop(SimulatedMaster(_f, parameters=parameters), cast("Any", make()), goal=4)


def test_parameters_of_learners_are_declared_as_those_of_masters_are() -> None:
    declared: Mapping[str, Any] = {"n": {"kind": "int", "min": 1, "max": 9}, "x": (0, 1), "on": {"kind": "bool"}}
    master = SimulatedMaster(_number, parameters=declared)
    for kind in (Evolution, Sobol, OptunaLearner):
        loop = Loop(master, kind(declared), goal=20)
        loop.run()
        assert loop.told == 20
    with pytest.raises(CallerError, match="'n' cannot be declared by 'low'"):
        Sobol({"n": {"low": 1}})


@pytest.mark.parametrize(
    ("name", "value", "call"),
    [
        ("done", False, "done()"),
        ("loss", 0.3, "loss()"),
        ("loss", None, "loss()"),
        ("seed", 3, "seed(rng)"),
        ("fail", "never", "fail(point, error)"),
        ("describe", "mine", "describe()"),
        ("bind", (), "bind(parameters, outputs)"),
    ],
)
def test_an_attribute_in_the_place_of_a_capability_is_found_before_there_is_a_run(
    name: str, value: Any, call: str
) -> None:
    class Mine:
        def ask(self, n: int) -> list[Any]:
            return [{"x": 0.5, "y": 0.5}] * n

        def tell(self, point: Any, output: Any) -> None: ...

    learner = Mine()
    setattr(learner, name, value)
    lab = _lab()
    makers: list[Callable[[], object]] = [
        lambda: Loop(lab, learner, goal=3),
        lambda: replay(learner, _lab().open()),
        lambda: Dedup(learner),
        lambda: Balancing([learner], "cycle"),
    ]
    for make in makers:
        with pytest.raises(CallerError) as raised:
            make()
        said = f"Mine) has an attribute {name!r}, {value!r}: what has that name is called, as {call}; make it a method"
        assert said in str(raised.value)
    assert not lab.runs


def test_a_learner_of_ones_own_by_name_is_looked_at_too(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfway_there.py").write_text(
        "class Mine:\n    done = False\n    def ask(self, n): return []\n    def tell(self, point, output): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CallerError, match=r"halfway_there\.Mine\) has an attribute 'done', False"):
        own_factory("halfway_there:Mine")((), (), None, {})


def test_what_may_be_given_in_short_is_taken() -> None:
    found = study({"sobol": _sobol}, _f, SQUARE, evaluations=3, seeds=[4], workers=2)
    assert [(trial.workers, trial.seed) for trial in found.trials] == [(2, 4)]
    seconds: Any = 30
    assert isinstance(Failures(repair=seconds).repair, Constant)
    lab = _lab()
    Loop(lab, Sobol(SQUARE), goal=3, name="a", seed=1).run()
    history: Any = HistoryMaster(lab.open("a"))
    assert replay(Sobol(SQUARE), history), "a HistoryMaster has the recording, too"


#: What can be made wrongly, by where it is.
MADE = {
    "taskmaster.learners": """
        AdaptiveLearner AxLearner Balancing CmaLearner DataSaver Dedup Evolution Filter GaussianProcess GestLearner Grid
        Halton InOrder LatinHypercube LearnerGenerator Linear LivePlot Loop MoveCost NevergradLearner OptunaLearner
        Pending Random Sequence SimulatedMaster Sobol Transform Travel WorkMaster loss npoints seconds until
        """,
    "taskmaster.learners.simulate": "Constant Exponential Failures HalfNormal Pareto Recorded study",
    "taskmaster.learners.executor": "MasterExecutor",
    "taskmaster.learners.joblib_backend": "TaskMasterBackend",
    "taskmaster.learners.mappers": "ParallelMapper",
    "taskmaster.learners.mapping": "MasterMap",
    "taskmaster.learners.wrapper": "Wrapper",
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in MADE.items() for name in names.split()]
)
def test_what_can_be_made_wrongly_says_what_it_raises(module: str, name: str) -> None:
    made = getattr(import_module(module), name)
    assert "Raises " in (made.__doc__ or "")


@pytest.mark.parametrize("name", learners._LEARNERS)
def test_no_learner_is_forgotten_there(name: str) -> None:
    without = {"Human", "Log", "Pruning"}  # these take anything
    assert name in MADE["taskmaster.learners"].split() or name in without
