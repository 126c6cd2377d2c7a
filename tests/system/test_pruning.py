"""Pruning: what a head tells of its progress has hopeless tasks cancelled, and the run replays all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from helpers.circle import Circle
from helpers.daemon import EVALUATIONS, Daemon
from helpers.places import StartDaemon, short_folder, starter
from helpers.probes import await_states

from taskmaster.learners import Loop, Result, SimulatedMaster
from taskmaster.learners.adapters.optuna import OptunaLearner
from taskmaster.learners.adapters.pruning import Pruning
from taskmaster.learners.client import Lab
from taskmaster.learners.points import Sequence
from taskmaster.learners.series import ProgressPoint

OVENS = {
    "driver": "instrument",
    "class": "baking:Oven",
    "path": [str(EVALUATIONS)],
    "heads": [{"name": "oven-1"}, {"name": "oven-2"}],
    "parameters": {"temperature": {"min": 100, "max": 300}},
    "outputs": {"loss": {}},
}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    other = {**OVENS, "heads": [{"name": "oven-3"}, {"name": "oven-4"}]}
    masters = {"ovens": {**OVENS, "on_lost": "retry"}, "held": {**other, "on_lost": "hold"}}
    return start_shared_daemon(masters, grace="0 s")


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        await_states(lab, *["ready"] * 4)
        yield lab


def learner(lab: Lab) -> OptunaLearner:
    return OptunaLearner(lab["ovens"].parameters, "TPESampler", n_startup_trials=4, minimize="loss", prunes=True)


def pruned(learner: OptunaLearner) -> int:
    return len(learner.study.get_trials(states=[optuna.trial.TrialState.PRUNED]))


def test_hopeless_tasks_are_cancelled_and_the_run_replays(lab: Lab) -> None:
    baker, pruner = learner(lab), optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=0)
    run = lab["ovens"].open("cakes", seed=3)
    with Pruning(run, pruner, value="loss", step="minute") as pruning:
        loop = Loop(run, baker, goal=10, in_flight=2, hook=pruning)
        loop.run().close()

    assert pruning.pruned > 0
    assert loop.told == 10
    assert pruning.pruned == loop.failed == pruned(baker)
    assert abs(baker.best()[0]["temperature"] - 180) < 30

    again = learner(lab)
    Loop(lab["ovens"], again, goal=10, in_flight=2, name="cakes").run()
    assert [trial.params for trial in again.study.trials] == [trial.params for trial in baker.study.trials]
    assert pruned(again) == pruned(baker)


def test_tasks_are_compared_at_steps_that_were_not_told_of_each() -> None:
    """What heads tell is thinned out, and not to the same steps of each task."""
    run: Any = SimulatedMaster(float, workers=1).open()
    pruning = Pruning(run, optuna.pruners.MedianPruner(n_startup_trials=2), value="loss", step="minute")

    def told(index: int, minute: int, loss: float) -> bool:
        return pruning.is_hopeless(ProgressPoint(index, 1, 0.0, {"minute": minute, "loss": loss}))

    def hook(loop: Loop, result: Result) -> None:
        assert not any(told(result.index, minute, 3.0 - 0.1 * minute) for minute in (0, 4 + result.index, 9))
        pruning(loop, result)

    Loop(run, Sequence([1.0, 2.0]), hook=hook).run()
    assert not told(2, 2, 2.79)
    assert told(2, 6, 2.41), "between the others' fourth, or fifth, and their ninth minute"


def test_what_may_not_be_broken_off_goes_on(lab: Lab) -> None:
    run = lab["held"].open("cakes", seed=3)
    with Pruning(run, optuna.pruners.ThresholdPruner(upper=0.0), value="loss") as pruning:
        loop = Loop(run, learner(lab), goal=3, in_flight=2, hook=pruning)
        loop.run().close()
    assert (loop.told, loop.failed, pruning.pruned) == (3, 0, 0)


def test_a_pruner_that_raises_says_so_where_the_block_ends(lab: Lab) -> None:
    class Broken(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            raise ZeroDivisionError("of the pruner")

    run = lab["ovens"].open("broken", seed=3)
    with (
        pytest.raises(ZeroDivisionError, match="of the pruner"),
        Pruning(run, Broken(), value="loss") as pruning,
    ):
        Loop(run, learner(lab), goal=2, in_flight=2, hook=pruning).run().close()


def test_who_comes_with_a_key_prunes_with_it() -> None:
    with short_folder() as folder, starter(folder) as start:
        circle = Circle(folder, start, {"ovens": {**OVENS, "on_lost": "retry"}}, grace="0 s")
        circle.admit("anna", "learner")
        with circle.connect("anna") as lab:
            await_states(lab, *["ready"] * 2)
            run = lab["ovens"].open("cakes", seed=3)
            with Pruning(run, optuna.pruners.ThresholdPruner(upper=0.0), value="loss") as pruning:
                loop = Loop(run, learner(lab), goal=lambda loop: loop.failed >= 2, in_flight=2, hook=pruning)
                loop.run()
            assert loop.failed >= 2
            assert pruning.pruned > 0, "of the last it may not have heard any more"
            run.cancel()
