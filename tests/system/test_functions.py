"""What a function may do, and get, and return: what it does wrong costs its own task and nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon, short_folder
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import TaskFailed
from taskmaster.learners.client import Lab, Master
from taskmaster.learners.results import Result

X = {"x": {}}
Y = {"y": {"min": 0, "max": 100}}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, folder: Path) -> Daemon:
    env = {"MARKS": str(folder / "marks")}
    return start_shared_daemon(
        {
            "wild": function("behave"),
            "bounded": function("behave", parameters={"how": {"kind": "str"}}, outputs=Y),
            "picture": function("behave", outputs={"picture": {"shape": [2, 3]}, "count": {"kind": "int"}}),
            "keywords": function("hypotenuse", call="keywords", parameters={"a": {}, "b": {}}, outputs={"c": {}}),
            "batch": function("roots", batch=True, parameters=X, outputs={"root": {}}),
            "free_batch": function("lengths", batch=True),
            "threads": {**function("which_thread", threads=4), "driver": "thread"} | {},
            "recycled": function("pid", recycle_after=5),
            "prepared": function("marked", setup="evaluations:mark_setup", teardown="evaluations:mark_teardown", env=env),
        }
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def evaluate(master: Master, points: list[object]) -> list[Result]:
    """The results for ``points``, in their order."""
    with master.open() as run:
        run.tasks.put_many(points)
        return sorted(run.results, key=lambda result: result.index)
