"""Functions that yield, in worker processes and threads: progress, output, breaking off, and pruning by that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.daemon import EVALUATIONS, Daemon, function
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adapters.optuna import OptunaLearner
from taskmaster.learners.adapters.pruning import Pruning
from taskmaster.learners.client import Lab

MASTERS = ("process", "thread", "keywords")
KEYWORDS: dict[str, Any] = {
    "parameters": {"epochs": {"kind": "int"}, "seconds": {}, "file": {"kind": "str"}},
    "call": "keywords",
}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    own = {"function": "evaluations:train", "path": [str(EVALUATIONS)]}
    masters = {
        "process": function("train"),
        "thread": {**own, "driver": "thread", "threads": 2},
        "keywords": function("train_by_name", **KEYWORDS),
        "stall": function("stall"),
        "once": function("train", on_lost="hold"),
    }
    return start_shared_daemon(masters, grace="0 s")


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def point(epochs: int = 0, seconds: float = 0.02, file: Path | str = "") -> dict[str, Any]:
    return {"epochs": epochs, "seconds": seconds, "file": str(file)}


@pytest.mark.parametrize("name", MASTERS)
def test_what_it_yields_is_progress_and_what_it_returns_the_output(lab: Lab, name: str) -> None:
    with lab[name].open() as run:
        run.tasks.put_many([point(3, 0.15), point(2, 0.15)])
        outputs = {result.index: result.output["loss"] for result in run.results}
        assert outputs == {0: 0.125, 1: 0.25}
        for index, epochs in ((0, 3), (1, 2)):
            series = run.progress(index)
            assert series.values["epoch"].tolist() == list(range(epochs))
            assert series.values["loss"].tolist() == [0.5 ** (k + 1) for k in range(epochs)]
            assert (series.time[1:] - series.time[:-1]).min() > 0.1


@pytest.mark.parametrize("name", MASTERS)
def test_a_cancelled_one_is_closed_and_its_worker_goes_on(lab: Lab, name: str, tmp_path: Path) -> None:
    with lab[name].open() as run:
        run.tasks.put(point(1))
        pid = run.results.get(PATIENCE).output["pid"]
        index = run.tasks.put(point(0, 0.02, tmp_path / "end"))
        next(told for told in run.follow_progress() if told.index == index)
        assert run.cancel([index]) == 1
        assert run.results.get(PATIENCE).outcome == "cancelled"
        eventually((tmp_path / "end").exists, "it is closed")
        run.tasks.put(point(1))
        assert run.results.get(PATIENCE).output["pid"] == pid, "nobody was killed"
    assert (tmp_path / "end").read_text() == "broken off"


def test_one_that_does_not_come_to_its_next_step_is_killed(lab: Lab) -> None:
    with lab["stall"].open() as run:
        index = run.tasks.put(None)
        next(told for told in run.follow_progress() if told.index == index)
        run.cancel([index])
        assert run.results.get(PATIENCE).outcome == "cancelled"
        eventually(lambda: lab["stall"].statistics().lost == 1, "its worker is killed")


def test_what_may_have_acted_is_not_broken_off(lab: Lab) -> None:
    with lab["once"].open() as run:
        index = run.tasks.put(point(4, 0.1))
        next(told for told in run.follow_progress() if told.index == index)
        assert run.cancel([index]) == 0
        assert run.results.get(PATIENCE).output["loss"] == 0.5**4


def train(point: dict[str, float]) -> Any:
    """The nearer to 0.5, the faster it learns; what comes to nothing takes long."""
    loss, off = 1.0, abs(point["rate"] - 0.5)
    for epoch in range(100 if off > 0.2 else 8):
        time.sleep(0.03)
        loss *= 0.6 + off
        yield {"epoch": epoch, "loss": loss}
    return loss


def test_pruning_by_a_functions_progress_and_the_run_replays() -> None:
    def learner(master: Any) -> OptunaLearner:
        return OptunaLearner(master.parameters, "TPESampler", n_startup_trials=4, minimize="loss", prunes=True)

    def pruned(learner: OptunaLearner) -> int:
        return len(learner.study.get_trials(states=[optuna.trial.TrialState.PRUNED]))

    with WorkMaster(train, workers=2, parameters={"rate": (0, 1)}, outputs={"loss": {}}) as master:
        run = master.open("training", seed=3)
        first = learner(run.master)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=0)
        with Pruning(run, pruner, value="loss", step="epoch") as pruning:
            loop = Loop(run, first, goal=10, in_flight=2, hook=pruning)
            loop.run().close()
        assert pruning.pruned == loop.failed == pruned(first) > 0
        assert master.statistics().lost == 0, "each was broken off between two steps"
        again = learner(run.master)
        Loop(run.master, again, goal=10, in_flight=2, name="training").run()
        assert [trial.params for trial in again.study.trials] == [trial.params for trial in first.study.trials]
