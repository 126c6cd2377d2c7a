"""Learners of other libraries, each against its library's own loop, and where the libraries leave something open."""

from __future__ import annotations

import math
import random
import sys
import warnings
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import adaptive
import cma
import nevergrad as ng
import numpy as np
import optuna
import pytest
from gest_api.vocs import VOCS
from helpers.generators import Forgetful, Herd, Stuck, Walker
from helpers.learner_kinds import LIBRARIES, OWN, ax
from helpers.learner_suite import evaluate, play

from taskmaster.bus.errors import CallerError, EvaluationError, TaskCancelled, TaskFailed
from taskmaster.bus.fields import Field
from taskmaster.learners.adapters.base import Optimizer
from taskmaster.learners.adapters.cma import CmaLearner
from taskmaster.learners.adapters.gest import GestLearner, LearnerGenerator, fields_of, vocs_of
from taskmaster.learners.adapters.nevergrad import NevergradLearner
from taskmaster.learners.adapters.optuna import OptunaLearner
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.evolution import Evolution
from taskmaster.learners.gp import GaussianProcess
from taskmaster.learners.loop import Loop
from taskmaster.learners.looping.several import run_all
from taskmaster.learners.points import Sobol
from taskmaster.learners.protocol import Learner
from taskmaster.learners.replay import replay
from taskmaster.learners.simulate import SimulatedMaster

X, Y = Field("x", min=-2, max=4), Field("y", min=0, max=1)
KERNEL = Field("kernel", kind="str", choices=("rbf", "poly"))
REFUSED = TaskFailed("no contact", "LabError", "Traceback …")


def bowl(point: dict[str, Any]) -> float:
    return float((point["x"] - 1) ** 2 + 3 * (point["y"] - 0.3) ** 2)


def drive(
    learner: Any, n: int, f: Callable[[Any], Any] = bowl, in_flight: int = 4, chance: random.Random | None = None
) -> list[Any]:
    """Answer ``n`` points, so many in flight, in the order of asking or by chance. Returns all that were asked."""
    waiting = list(learner.ask(in_flight))
    asked = list(waiting)
    for _ in range(n):
        point = waiting.pop(chance.randrange(len(waiting)) if chance else 0)
        learner.tell(point, f(point))
        new = learner.ask(in_flight - len(waiting))
        waiting += new
        asked += new
    return asked


# -- what is common ---------------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[..., Optimizer[Any]]] = {
    "ax": lambda parameters, **options: ax(parameters, "random_search", **options),
    "optuna": OptunaLearner,
    "nevergrad": lambda parameters, **options: NevergradLearner(parameters, "DE", **options),
    "cma": CmaLearner,
}


#: What is left of them takes a hundred points; Ax looks for the best in test_ax, with its model.
QUICK = [name for name in OPTIMIZERS if name != "ax"]


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("more", [False, True], ids=["minimise", "maximise"])
def test_they_find_the_best(name: str, more: bool) -> None:
    learner = OPTIMIZERS[name]([X, Y], seed=3, maximize=more)
    drive(learner, 150, lambda point: -bowl(point) if more else bowl(point))
    point, value = learner.best()
    assert abs(value) < 0.1
    assert abs(point["x"] - 1) < 0.4
    assert learner.npoints == 150


@pytest.mark.parametrize("name", QUICK)
def test_constraints_are_kept(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learner = OPTIMIZERS[name]([X, Y], seed=3, minimize="loss", constraints="heat <= 0.5")
    drive(learner, 150, lambda point: {"loss": bowl(point), "heat": point["x"]})
    point, loss = learner.best()
    assert point["x"] <= 0.5
    assert loss == pytest.approx(0.25, abs=0.1)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_loops_beside_each_other_do_not_take_each_others_dice(name: str) -> None:
    interval, goal = sys.getswitchinterval(), 60 if name in QUICK else 12
    filters = list(warnings.filters)
    parameters = {"x": (-5.0, 5.0), "y": (-5.0, 5.0)}
    masters = [SimulatedMaster(bowl, workers=4, parameters=parameters, seed=k) for k in range(4)]
    sys.setswitchinterval(1e-5)  # so that threads come in between wherever they can
    try:
        runs = run_all([Loop(master, OPTIMIZERS[name]([X, Y]), goal=goal) for master in masters])
    finally:
        sys.setswitchinterval(interval)
    assert [replay(OPTIMIZERS[name]([X, Y]), run).divergence for run in runs] == [None] * 4
    left = [entry for entry in warnings.filters if entry not in filters]
    assert not [entry for entry in left if entry[2] is UserWarning]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_choice_that_was_tried_is_not_evaluated_again(name: str) -> None:
    steps = Field("steps", kind="int", min=1, max=6)
    learner = OPTIMIZERS[name]([steps, KERNEL], seed=3)
    waiting, asked = learner.ask(3), []
    while waiting:
        point = waiting.pop()
        asked.append(tuple(point.values()))
        learner.tell(point, float(abs(point["steps"] - 3)))
        waiting += learner.ask(3 - len(waiting))
    assert len(set(asked)) == len(asked) > 6
    assert learner.done()
    assert learner.best()[0]["steps"] == 3


def test_noise_may_want_points_again() -> None:
    learner = OptunaLearner([KERNEL], "RandomSampler", seed=1, repeats=True)
    assert len(drive(learner, 20, lambda point: 1.0)) == 24
    assert [trial.state.name for trial in learner.study.trials].count("COMPLETE") == 20


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_whole_numbers_and_logarithms_stay_in_their_limits(name: str) -> None:
    rate, size = Field("rate", min=1e-5, max=1e-1), Field("size", kind="int", min=1, max=1000)
    learner = OPTIMIZERS[name]([rate, size], seed=1, log=["rate", "size"])
    points = drive(learner, 60, lambda point: abs(math.log10(point["rate"]) + 3) + abs(math.log10(point["size"]) - 1))
    assert all(1e-5 <= point["rate"] <= 1e-1 and type(point["size"]) is int for point in points)
    assert min(point["size"] for point in points) < 20
    assert min(point["rate"] for point in points) < 1e-3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_the_master_would_not_take_is_said_before_the_first_ask(name: str) -> None:
    with pytest.raises(CallerError, match=r"asks for 'x' of real numbers in \[-2, 4\].* takes a number in \[0, 1\]"):
        OPTIMIZERS[name]([X, Y]).bind([Field("x", min=0, max=1), Y])
    with pytest.raises(CallerError, match="leaves out 'kernel', which the Master needs"):
        OPTIMIZERS[name]([X, Y]).bind([X, Y, KERNEL])
    with pytest.raises(CallerError, match="must be a single number to be optimised, got 'good'"):
        OPTIMIZERS[name]([X, Y]).tell({"x": 0.0, "y": 0.0}, "good")
    with pytest.raises(CallerError, match=r"several outputs, 'a', 'b': say which with minimize=NAME, or maximize=NAME"):
        OPTIMIZERS[name]([X, Y]).tell({"x": 0.0, "y": 0.0}, {"a": 1.0, "b": 2.0})
    with pytest.raises(CallerError, match=r"was told of \{'x': 0.0\}, which is no point of x, y"):
        OPTIMIZERS[name]([X, Y]).tell({"x": 0.0}, 1.0)
    learner = OPTIMIZERS[name]([X, Y])
    drive(learner, 1)
    with pytest.raises(CallerError, match="can be seeded before the first ask only"):
        learner.seed(np.random.default_rng(1))


# -- Optuna -----------------------------------------------------------------------------------------------------------


def test_one_at_a_time_optuna_asks_what_it_asks_alone() -> None:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=5))
    uniform = optuna.distributions.FloatDistribution
    space: dict[str, optuna.distributions.BaseDistribution] = {"x": uniform(-2, 4), "y": uniform(0, 1)}
    alone = []
    for _ in range(40):
        trial = study.ask(space)
        alone.append(trial.params)
        study.tell(trial, bowl(trial.params))

    learner = OptunaLearner([X, Y], lambda seed: optuna.samplers.TPESampler(seed=5))
    assert drive(learner, 39, in_flight=1) == alone


def test_a_study_brings_what_it_knows_and_what_is_to_be_tried_first() -> None:
    study = optuna.create_study(directions=["maximize"], sampler=optuna.samplers.TPESampler(seed=1))
    study.enqueue_trial({"x": 1.5, "y": 0.25})
    learner = OptunaLearner([X, Y], study=study, maximize="yield")
    assert learner.ask(1) == [{"x": 1.5, "y": 0.25}]
    learner.tell({"x": 1.5, "y": 0.25}, {"yield": 3.0, "log": "fine"})
    learner.tell({"x": 0.0, "y": 0.5}, {"yield": 4.0, "log": "nobody asked"})
    learner.tell({"x": 9.0, "y": 0.5}, {"yield": 5.0, "log": "outside"})
    assert study.best_value == 4.0
    assert learner.best() == ({"x": 9.0, "y": 0.5}, 5.0)

    with pytest.raises(CallerError, match="has been asked for a run before"):
        OptunaLearner([X, Y], study=study, maximize="yield")
    with pytest.raises(CallerError, match="goes by maximize, the learner by minimize"):
        OptunaLearner([X, Y], study=study)
    for given in ({"sampler": "RandomSampler"}, {"seed": 1}):
        with pytest.raises(CallerError, match="has a sampler of its own, so sampler and seed go there"):
            OptunaLearner([X, Y], study=optuna.create_study(direction="maximize"), maximize="yield", **given)


def test_several_objectives_failures_and_what_was_cancelled_reach_the_study() -> None:
    aims: dict[str, Any] = {"minimize": ["loss", "cost"], "maximize": "speed", "constraints": "heat <= 1"}
    learner = OptunaLearner([X, Y], "NSGAIISampler", seed=1, prunes=False, **aims)
    one, two, three, four = learner.ask(4)
    learner.tell(one, {"loss": 1.0, "cost": 2.0, "speed": 3.0, "heat": 1.5})
    learner.tell(two, {"loss": 1.0, "cost": math.inf, "speed": 3.0, "heat": 0.0})
    learner.fail(three, REFUSED)
    learner.fail(four, TaskCancelled("task 3 was cancelled"))
    trials = learner.study.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "FAIL", "FAIL"]
    assert trials[0].values == [1.0, 2.0, 3.0]
    assert trials[0].constraints == {"heat <= 1": 0.5}
    with pytest.raises(CallerError, match="none of the 2 told so far keeps the constraints"):
        learner.best()

    learner = OptunaLearner([X, Y], seed=1, prunes=True)
    (point,) = learner.ask(1)
    learner.fail(point, TaskCancelled("task 0 was cancelled"))
    assert learner.study.trials[0].state.name == "PRUNED"


# -- CMA-ES -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 2, 6, 9])
def test_whole_generations_whatever_the_order_of_results(in_flight: int) -> None:
    """Bitwise what pycma asks in a loop of its own, with fewer in flight than a generation, as many, and more."""
    given = {"bounds": [0.0, 1.0], "popsize": 6, "verbose": -9, "verb_log": 0, "signals_filename": "", "seed": math.nan}
    seed = int(np.random.default_rng(7).integers(1, 2**31 - 1))
    np.random.seed(seed)
    strategy, alone = cma.CMAEvolutionStrategy([0.5, 0.5], 0.3, given), []
    for _ in range(10):
        vectors = strategy.ask()
        points = [{"x": (1 - u) * -2 + u * 4, "y": v} for u, v in map(np.ndarray.tolist, vectors)]
        strategy.tell(vectors, [bowl(point) for point in points])
        alone += points

    learner = CmaLearner([X, Y], popsize=6, seed=7)
    asked = drive(learner, 59, in_flight=in_flight, chance=random.Random(1))
    assert sorted(map(str, asked[:60])) == sorted(map(str, alone))


def searched(workers: int, in_flight: int | None = None, **options: Any) -> tuple[set[Any], int]:
    """The first points of CMA-ES with so many workers, whose results come in another order than they were asked."""
    lab = SimulatedMaster(bowl, workers, latency=lambda point: 1 + abs(point["y"]), parameters=[X, Y])
    learner = CmaLearner([X, Y], **options)
    Loop(lab, learner, goal=48, in_flight=in_flight, seed=1).run()
    return {tuple(point.values()) for point, _ in learner.data}, learner.strategy.popsize


def test_with_its_generation_given_cma_asks_the_same_points_with_any_number_of_workers() -> None:
    one, eight = searched(1, popsize=8), searched(8, popsize=8)
    assert one == eight == searched(8, 3, popsize=8)
    assert len(one[0]) == 48


def test_by_default_a_generation_of_cma_is_what_the_loop_keeps_in_flight() -> None:
    (one, least), (eight, size) = searched(1, 2), searched(8, 16)
    assert (least, size) == (4 + int(3 * math.log(2)), 16)
    assert one != eight
    assert searched(8, 2) == (one, least), "it is not the workers that matter"


def test_a_generation_that_failed_in_part_is_ranked_and_one_that_failed_whole_is_sampled_again() -> None:
    learner = CmaLearner([X, Y], popsize=5, seed=7)
    for point in learner.ask(9):
        learner.fail(point, REFUSED)
    assert learner.strategy.countiter == 0
    for k, point in enumerate(learner.ask(9)):
        if k < 3:
            learner.fail(point, REFUSED)
        else:
            learner.tell(point, bowl(point))
    assert learner.strategy.countiter == 1
    assert learner.nfailed == 8


@pytest.mark.parametrize("output", [3.0, 0.0, -1e300, 1.7e308])
def test_a_generation_of_which_one_came_back_is_not_taken_for_flat(output: float) -> None:
    """pycma ends its search where all of a generation is equal, as on a plain; where nearly all fails it is none."""
    learner = CmaLearner([X, Y], popsize=6, seed=7)
    for _ in range(5):
        points = learner.ask(9)
        assert len(points) == 6
        learner.tell(points[0], output)
        for point in points[1:]:
            learner.fail(point, REFUSED)
    assert not learner.done()


def test_whichever_generations_fail_whole_it_goes_on_without_a_word() -> None:
    """pycma puts points of its own into the next generation, and would warn that some never come back."""
    learner = CmaLearner([X, Y], popsize=5, seed=1, constraints="log <= 2", minimize="loss")
    for works in (False, False, True, False, True, True, True):
        for point in learner.ask(5):
            if works:
                learner.tell(point, {"loss": bowl(point), "log": point["x"]})
            else:
                learner.fail(point, REFUSED)
    assert learner.npoints == 20


def test_where_it_has_converged_it_begins_anew_as_often_as_it_may() -> None:
    learner = CmaLearner([X, Y], popsize=5, seed=7, restarts=1, maxiter=3)
    while points := learner.ask(5):
        for point in points:
            learner.tell(point, bowl(point))
    assert learner.done()
    assert learner.npoints == 5 * 3 + 10 * 3
    with pytest.raises(CallerError, match=r"cannot start at .*outside of the parameters' limits"):
        CmaLearner([X, Y], start={"x": 9.0, "y": 0.0})
    assert CmaLearner([X, Y], start={"x": 4.0, "y": 0.0}, sigma=1e-6).ask(1)[0]["x"] == pytest.approx(4.0, abs=1e-3)


# -- Nevergrad --------------------------------------------------------------------------------------------------------


def test_one_at_a_time_nevergrad_asks_what_it_asks_alone() -> None:
    seed = int(np.random.default_rng(7).integers(1, 2**31 - 1))
    space = ng.p.Dict(x=ng.p.Scalar(lower=-2, upper=4), y=ng.p.Scalar(lower=0, upper=1))
    space.random_state = np.random.RandomState(seed)
    optimizer, alone = ng.optimizers.registry["TwoPointsDE"](space, budget=1000, num_workers=1), []
    for _ in range(60):
        candidate = optimizer.ask()
        alone.append({"x": candidate.value["x"], "y": candidate.value["y"]})
        optimizer.tell(candidate, bowl(candidate.value))
    assert drive(NevergradLearner([X, Y], "TwoPointsDE", seed=7), 59, in_flight=1) == alone


def test_what_was_made_to_ask_one_by_one_has_one_point_in_flight() -> None:
    learner = NevergradLearner([X, Y], "NelderMead", seed=7)
    (first,) = learner.ask(4)
    assert learner.ask(4) == []
    assert not learner.done()
    learner.fail(first, REFUSED)  # it must be told something, before anything is known
    assert len(learner.ask(4)) == 1


def test_failures_wait_until_it_is_known_what_is_bad() -> None:
    learner = NevergradLearner([X, Y], "DE", seed=7)
    one, two, three = learner.ask(3)
    learner.fail(one, REFUSED)
    assert learner.optimizer.num_tell == 0
    learner.tell(two, 5.0)
    assert learner.optimizer.num_tell == 2
    learner.fail(three, REFUSED)
    assert learner.optimizer.num_tell == 3
    assert learner.optimizer.current_bests["minimum"].mean == 5.0


# -- gest-api ---------------------------------------------------------------------------------------------------------

VARIABLES = {"x": [-2.0, 4.0], "y": [0.0, 1.0]}


def test_a_generator_gets_back_its_numbers_and_its_constants() -> None:
    vocs = VOCS(variables=VARIABLES, objectives={"loss": "MINIMIZE"}, constants={"gain": 3}, observables={"trace"})
    learner = GestLearner(vocs, Walker)
    learner.bind([X, Y], [Field("loss"), Field("trace")])
    first, second = learner.ask(2)
    assert first.keys() == {"x", "y"}
    learner.tell(second, {"loss": np.float64(2.0), "trace": 7, "more": 1})
    learner.fail(first, REFUSED)
    learner.tell({"x": 0.0, "y": 0.0}, {"loss": 1.0, "trace": 8})
    told = learner.generator.ingested
    assert told[0] == {**second, "gain": 3, "_id": 101, "loss": 2.0, "trace": 7}
    assert told[1:] == [{"x": 0.0, "y": 0.0, "gain": 3, "loss": 1.0, "trace": 8}]
    learner.finalize()
    assert learner.generator.finalized

    learner = GestLearner(vocs, Walker)
    learner.bind([X, Y, Field("gain")], [Field("loss"), Field("trace")])
    assert learner.ask(1)[0]["gain"] == 3, "the Master has a parameter for it"
    with pytest.raises(CallerError, match="no output 'trace', which the generator is to be told"):
        GestLearner(vocs, Walker).bind([X, Y], [Field("loss"), Field("heat")])


def test_a_herd_is_told_when_all_of_it_has_come_back() -> None:
    learner = GestLearner(vocs_of([X, Y], minimize="loss"), Herd, generations=True, failed_as_nan=True)
    points = learner.ask(9)
    assert len(points) == Herd.size
    for point in points[:3:-1]:
        learner.tell(point, {"loss": bowl(point)})
    learner.fail(points[0], REFUSED)
    assert learner.ask(9) == learner.generator.ingested == []
    for point in points[3:0:-1]:
        learner.tell(point, {"loss": bowl(point)})
    assert [{name: told[name] for name in ("x", "y")} for told in learner.generator.ingested] == points
    assert math.isnan(learner.generator.ingested[0]["loss"])
    assert len(learner.ask(9)) == Herd.size


def test_a_generator_is_new_for_each_run() -> None:
    vocs = vocs_of([X, Y], minimize="loss")
    used = Walker(vocs)
    GestLearner(vocs, used).ask(1)
    with pytest.raises(CallerError, match=r"generator Walker has been asked for a run before.* make it anew"):
        GestLearner(vocs, used)
    with pytest.raises(CallerError, match="or what makes one of VOCS and a seed; got 3"):
        GestLearner(vocs, 3)
    with pytest.raises(CallerError, match="made 3, which is no generator"):
        GestLearner(vocs, lambda vocs, seed: 3).ask(1)


def test_a_generator_that_forgets_what_is_in_flight_has_nothing_evaluated_twice() -> None:
    learner = GestLearner(vocs_of([X, Y], minimize="loss"), Forgetful)
    (point,) = learner.ask(4)
    assert learner.ask(4) == []
    learner.tell(point, 1.0)
    assert len(learner.generator.ingested) > 4, "it is told of every one that it suggested"
    (another,) = learner.ask(4)
    assert another != point


@pytest.mark.parametrize("x", [7.0, -2.1, math.nan, math.inf])
def test_a_generator_that_suggests_what_is_outside_is_not_told_of_the_edge(x: float) -> None:
    learner = GestLearner(vocs_of([X, Y], minimize="loss"), lambda vocs, seed: Stuck(vocs, [{"x": x, "y": 0.0}]))
    with pytest.raises(CallerError, match=r"generator Stuck suggested \{'x': .*'x' is from -2 to 4, not"):
        learner.ask(1)


def test_what_a_generator_has_rounded_is_within_the_limits() -> None:
    learner = GestLearner(
        vocs_of([X, Y], minimize="loss"), lambda vocs, seed: Stuck(vocs, [{"x": 4.0 + 1e-15, "y": -1e-17}])
    )
    assert learner.ask(1) == [{"x": 4.0, "y": 0.0}]


def test_a_generator_that_gives_one_dict_again_and_again_is_told_of_each() -> None:
    vocs = vocs_of([X, Y], minimize="loss")
    generator = Stuck(vocs, [{"x": 0.0, "y": 0.0}] * 3)
    learner = GestLearner(vocs, generator, generations=True, repeats=True)
    points = learner.ask(9)
    assert len(points) == 3
    for point in points:
        learner.tell(point, 1.0)
    assert len(generator.ingested) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda more: GaussianProcess([X, Y], maximize=more),
        lambda more: Evolution([X, Y], output="yield", maximize=more),
        lambda more: OptunaLearner([X, Y], maximize="yield") if more else OptunaLearner([X, Y], minimize="yield"),
    ],
)
def test_a_learner_that_is_after_the_other_end_is_no_generator_of_these_vocs(make: Callable[[bool], Learner]) -> None:
    for wanted, aim in ((True, "MAXIMIZE"), (False, "MINIMIZE")):
        vocs = VOCS(variables=VARIABLES, objectives={"yield": aim})
        LearnerGenerator(vocs, make(wanted))
        said = rf"the VOCS {aim.lower()[:-3]}ise 'yield', and the learner \(.*\) (min|max)imises it: make it with"
        with pytest.raises(CallerError, match=said):
            LearnerGenerator(vocs, make(not wanted))


def test_our_learners_are_generators() -> None:
    vocs = VOCS(
        variables={"x": [-2.0, 4.0], "kernel": {"rbf", "poly"}}, objectives={"loss": "MINIMIZE"}, constants={"gain": 3}
    )
    fields = fields_of(vocs)
    assert fields == (Field("x", min=-2, max=4), Field("kernel", kind="str", choices=("poly", "rbf")))
    generator = LearnerGenerator(vocs, Sobol(fields, n=8), seed=1)
    points = generator.suggest(3)
    assert [point["_id"] for point in points] == [0, 1, 2]
    assert points[0]["gain"] == 3
    generator.ingest([{**points[2], "loss": 2.0}, {"x": 1.0, "kernel": "rbf", "loss": 1.0}])
    generator.ingest([{**points[0], "loss": math.nan}])
    assert isinstance(generator.learner, Sobol)
    assert [loss for _, loss in generator.learner.data] == [2.0, 1.0]
    assert generator.learner.nfailed == 1
    with pytest.raises(ValueError, match="no point with _id 2 is pending"):
        generator.ingest([{**points[2], "loss": 2.0}])
    assert len(generator.suggest()) == 1
    with pytest.raises(ValueError, match=r"Sobol of 8 points over x, kernel has 4 points where 9 are wanted"):
        generator.suggest(9)
    assert len(generator.suggest(4)) == 4, "what it had given is not lost"
    with pytest.raises(ValueError, match="which no learner can choose"):
        LearnerGenerator(VOCS(variables={"x": "CONTEXTUAL"}, objectives={"loss": "MINIMIZE"}), Sobol([X]))


def test_our_learner_drives_their_generator_that_asks_our_learner() -> None:
    vocs = vocs_of([X, Y], minimize="loss")
    there_and_back = GestLearner(vocs, lambda vocs, seed: LearnerGenerator(vocs, Sobol([X, Y], seed=4)))
    assert drive(there_and_back, 20) == drive(Sobol([X, Y], seed=4), 20)


# -- adaptive ---------------------------------------------------------------------------------------------------------


def test_samples_at_one_place_have_seeds_of_their_own() -> None:
    learner = AdaptiveLearner(adaptive.AverageLearner1D(None, (-1, 1), min_samples=5), names=["seed", "x"])
    noise = random.Random(1)
    asked = drive(learner, 200, lambda point: point["x"] ** 2 + noise.gauss(0, 0.1), in_flight=8)
    pairs = [(point["seed"], point["x"]) for point in asked]
    assert len(set(pairs)) == len(pairs), "none is thrown away as known"
    assert learner.npoints == learner.learner.nsamples == 200


def test_a_parameter_that_does_not_take_every_seed_or_number_is_refused_before_the_first_ask() -> None:
    average = AdaptiveLearner(adaptive.AverageLearner(None, atol=0.1))
    average.bind([Field("x", min=0)])
    average.bind([Field("x", kind="int", min=0, max=1000)])
    with pytest.raises(CallerError, match=r"AverageLearner gives whole numbers from 0 on.* takes a number in \[0, 1\]"):
        average.bind([Field("x", min=0, max=1)])
    children = [adaptive.Learner1D(None, (0, 1)) for _ in range(3)]
    both = AdaptiveLearner(adaptive.BalancingLearner(children))
    both.bind([Field("which", min=0, max=2), X])
    with pytest.raises(CallerError, match=r"gives whole numbers from 0 to 2, but parameter 'which' takes .*\[0, 1\]"):
        both.bind([Field("which", min=0, max=1), X])


def test_an_integral_is_what_adaptives_own_runner_finds_and_needs_all_its_points() -> None:
    alone = adaptive.IntegratorLearner(lambda x: math.exp(3 * x), (0, 1), tol=1e-10)
    adaptive.runner.simple(alone, goal=lambda learner: learner.done())
    learner = AdaptiveLearner(adaptive.IntegratorLearner(None, (0, 1), tol=1e-10), names=["x"])
    while not learner.done():
        for point in learner.ask(1):
            learner.tell(point, math.exp(3 * point["x"]))
    assert learner.learner.igral == pytest.approx(alone.igral, rel=1e-12)

    learner = AdaptiveLearner(adaptive.IntegratorLearner(None, (0, 1), tol=1e-10), names=["x"], retries=1)
    point, *_ = learner.ask(4)
    learner.fail(point, REFUSED)
    assert learner.ask(1) == [point]
    with pytest.raises(EvaluationError, match=r"cannot learn without the points it asks for, and .* failed 2 times"):
        learner.fail(point, REFUSED)


def test_a_sequence_ends_when_each_of_its_items_has_ended() -> None:
    learner = AdaptiveLearner(adaptive.SequenceLearner(None, [(0, "a"), (1, "b"), (0, "a")]), names=["n", "kind"])
    points = learner.ask(5)
    assert points == [{"n": 0, "kind": "a"}, {"n": 1, "kind": "b"}, {"n": 0, "kind": "a"}]
    learner.tell(points[2], "any output")
    learner.fail(points[1], REFUSED)
    assert not learner.done()
    learner.tell(points[0], {"whatever": 1})
    assert learner.done()
    assert learner.learner.data == {0: "any output", 2: {"whatever": 1}}


def test_several_learners_are_told_apart_by_their_constants() -> None:
    children = [adaptive.Learner1D(None, (0, 1)) for _ in range(2)]
    balancing = adaptive.BalancingLearner(children, cdims=[{"phase": "a"}, {"phase": "b"}], strategy="npoints")
    learner = AdaptiveLearner(balancing)
    learner.bind([Field("x"), Field("phase", kind="str", choices=("a", "b"))])
    for point in learner.ask(6):
        learner.tell(point, point["x"] if point["phase"] == "a" else -1.0)
    assert children[0].data == {0.0: 0.0, 1.0: 1.0, 0.5: 0.5}
    assert list(children[1].data.values()) == [-1.0] * 3
    with pytest.raises(CallerError, match="the Master has no parameter 'phase', which tells the learners"):
        AdaptiveLearner(balancing).bind([Field("x"), Field("which")])


def test_several_learners_may_each_keep_whole_outputs_and_learn_a_part() -> None:
    children = [adaptive.DataSaver(adaptive.Learner1D(None, (0, 1)), arg_picker=itemgetter("y")) for _ in range(2)]
    learner = AdaptiveLearner(adaptive.BalancingLearner(children, cdims=[{"T": 4.0}, {"T": 77.0}]))
    learner.bind([Field("x"), Field("T")], [Field("y"), Field("trace", shape=(-1,))])
    for point in learner.ask(6):
        learner.tell(point, {"y": point["x"] * point["T"], "trace": [point["T"]]})
    assert children[0].data == {0.0: 0.0, 1.0: 4.0, 0.5: 2.0}
    assert children[1].extra_data[1.0] == {"y": 77.0, "trace": [77.0]}
    assert learner.npoints == 6


def test_all_of_an_output_is_saved_and_a_part_is_learnt(tmp_path: Path) -> None:
    def make() -> AdaptiveLearner:
        within = adaptive.Learner1D(None, (0, 1))
        return AdaptiveLearner(adaptive.DataSaver(within, arg_picker=lambda output: output["y"]), names=["x"])

    learner = make()
    learner.bind([Field("x", min=0, max=1)], [Field("y"), Field("trace", shape=(-1,))])
    drive(learner, 10, lambda point: {"y": math.tanh(9 * point["x"] - 4), "trace": [point["x"]]})
    assert learner.learner.extra_data[0.0] == {"y": math.tanh(-4), "trace": [0.0]}
    assert learner.npoints == 10

    learner.save(tmp_path / "data.pickle")
    another = make()
    another.load(tmp_path / "data.pickle")
    assert another.npoints == 10
    assert another.ask(1)[0]["x"] not in learner.learner.data
    with pytest.raises(CallerError, match="can be loaded before the first ask only"):
        another.load(tmp_path / "data.pickle")


KINDS = (
    "adaptive-1d", "adaptive-2d", "adaptive-3d", "average", "average-1d", "average-noise", "integrator", "items",
    "balanced", "balanced-saved", "saved",
)  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_learner_of_adaptive_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    def make() -> AdaptiveLearner:
        made = (OWN | LIBRARIES)[name]()
        assert isinstance(made, AdaptiveLearner)
        return made

    learner, another = make(), make()
    play(learner, [("ask", 6), *[("tell", 0)] * 6, ("ask", 3), ("tell", 0)])
    several = isinstance(learner.learner, adaptive.BalancingLearner)
    for file in (
        [tmp_path / f"{k}.pickle" for k in range(3)] if several else tmp_path / "data.pickle",
        lambda of: tmp_path / f"of {getattr(of, 'bounds', '')}.pickle",
    ):
        learner.save(file)
        another = make()
        another.load(file)
        assert another.npoints == learner.npoints > 0
        assert another.loss() == learner.loss()
    for point in another.ask(2):
        another.tell(point, evaluate(point))
    assert len(list(tmp_path.iterdir())) == (6 if several else 2)

    with pytest.raises(FileNotFoundError):
        make().load([tmp_path / "none"] * 3 if several else tmp_path / "none")
    with pytest.raises(CallerError, match="is kept in 3 files, one for each" if several else "is kept in 1 file"):
        learner.save(tmp_path / "data.pickle" if several else [tmp_path / "a", tmp_path / "b"])


def test_plots_are_left_to_adaptive() -> None:
    class Plotted(adaptive.Learner1D):  # type: ignore[misc] # adaptive has no types
        def plot(self, *, scatter_or_line: str = "scatter") -> str:
            return f"a {scatter_or_line} of {len(self.data)} points"

    learner = AdaptiveLearner(Plotted(None, (0, 1)))
    assert isinstance(learner, Learner)
    drive(learner, 3, float)
    assert learner.plot(scatter_or_line="line") == "a line of 3 points"
