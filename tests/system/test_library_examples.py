"""The examples with libraries run as they stand; and what they do is gone on with where it was left."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adaptive
import pytest
from gest_api.generator import Generator
from helpers.documents import ROOT
from helpers.generators import Herd
from libensemble.gen_classes import UniformSample

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adapters.cma import CmaLearner
from taskmaster.learners.adapters.gest import GestLearner, vocs_of
from taskmaster.learners.adapters.nevergrad import NevergradLearner
from taskmaster.learners.adapters.optuna import OptunaLearner
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.client import Master
from taskmaster.learners.protocol import Learner

EXAMPLES = ROOT / "examples" / "libraries"
PRINTED = {
    "with_adaptive": r"30 points, (1[5-9]|2\d) of them at the step, loss 0\.\d+",
    "with_optuna": r"Pd at 0\.\d+: loss 0\.\d+ after \d+ trials",
    "with_pruning": r"rate 0\.[456]\d: loss 0\.0\d after \d+ trials, \d+ of them pruned",
    "with_cma": r"x = 1\.00, y = 1\.00 after \d+ generations",
    "with_nevergrad": r"12 teeth at speed 0\.4",
    "with_gest": r"50 points, the least output is 0\.0\d+",
    "with_libensemble": r"\d+ points told, the least loss is 0\.\d+",
    "with_ax": r"x = 1\.\d, y = 0\.\d after 12 points",
}


def test_there_is_an_example_of_each_library() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == PRINTED.keys()


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.fullmatch(PRINTED[name], ran.stdout.strip()), ran.stdout


def slope(point: dict[str, Any]) -> float:
    if point["y"] > 0.9:
        raise ValueError("too steep")
    return float(point["x"] + point["y"])


def uniform(vocs: Any, seed: int) -> Generator:
    return UniformSample(vocs, random_seed=seed)


def ax(parameters: Any) -> Learner:
    from taskmaster.learners.adapters.ax import AxLearner  # which takes seconds

    return AxLearner(parameters, initialization_budget=36)


LEARNERS: dict[str, Callable[[Master], Learner]] = {
    "adaptive": lambda master: AdaptiveLearner(adaptive.LearnerND(None, [(0, 5), (0, 0.8)])),
    "optuna": lambda master: OptunaLearner(master.parameters),
    "ax": lambda master: ax(master.parameters),
    "cma": lambda master: CmaLearner(master.parameters),
    "nevergrad": lambda master: NevergradLearner(master.parameters, "DE"),
    "gest": lambda master: GestLearner(vocs_of(master.parameters, minimize="z"), uniform),
    "gest-generations": lambda master: GestLearner(vocs_of(master.parameters, minimize="z"), Herd, generations=True),
}


@pytest.fixture(scope="module")
def master() -> Any:
    with WorkMaster(slope, workers=2, parameters={"x": (0, 5), "y": (0, 1)}) as master:
        yield master.master


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_is_gone_on_with_by_another_learner_of_the_kind(
    name: str, master: Master, caplog: pytest.LogCaptureFixture
) -> None:
    """In the order in which two workers happened to be ready, with failures: it asks the same, and goes on."""
    first = Loop(master, LEARNERS[name](master), goal=25, name=name, seed=5)
    first.run().detach()
    with caplog.at_level(logging.WARNING):
        again = Loop(master, LEARNERS[name](master), goal=40, name=name)
        again.run().close()
    assert caplog.messages == [], "it would say that another point was asked than is recorded"
    assert again.told == 40
    assert again.learner.data[:25] == first.learner.data  # type: ignore[attr-defined] # they all have a record
