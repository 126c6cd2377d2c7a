"""Our own learners against a real Master: workers answer in any order, and a run is gone on with as it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon

from taskmaster.learners import Loop
from taskmaster.learners.balancing import Balancing
from taskmaster.learners.client import Lab, Master
from taskmaster.learners.evolution import Evolution
from taskmaster.learners.gp import GaussianProcess
from taskmaster.learners.guards import Dedup
from taskmaster.learners.movecost import MoveCost
from taskmaster.learners.points import Random, Sobol
from taskmaster.learners.transforms import Linear, Transform
from taskmaster.learners.travel import Travel

PLANE: dict[str, Any] = {"parameters": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}, "outputs": {"z": {}}}


def halves(master: Master) -> Balancing:
    rest = [field for field in master.parameters if field.name != "y"]
    return Balancing([Random(rest), GaussianProcess(rest)], "cycle", [{"y": 0.25}, {"y": 0.75}])


LEARNERS: dict[str, Callable[[Master], Any]] = {
    "gp": lambda master: GaussianProcess(master.parameters, maximize=True, travel=Travel({"x": 0.5})),
    "evolution": lambda master: Evolution(master.parameters),
    "balancing": halves,
    "wrapped": lambda master: MoveCost(
        Dedup(Transform(Sobol({"x": (1.0, 4.0), "y": (0.0, 1.0)}), {"x": Linear(3.0, 1.0)}, output="z", negate=True)),
        Travel({"x": 1.0}),
    ),
}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"plane": function("plane", workers=2, **PLANE)})


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_that_is_gone_on_with_asks_what_is_recorded(
    lab: Lab, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    master, title = lab["plane"], f"{name} {time.monotonic()}"
    first, second = LEARNERS[name](master), LEARNERS[name](master)
    Loop(master, first, goal=20, name=title).run().detach()

    with caplog.at_level(logging.WARNING):
        resumed = Loop(master, second, goal=32, name=title)
        resumed.run().close()

    assert [record.message for record in caplog.records if "it is told all recorded" in record.message] == []
    assert second.data[: len(first.data)] == first.data
    assert resumed.told == second.npoints == 32


def test_it_climbs_to_the_corner(lab: Lab) -> None:
    learner = GaussianProcess(lab["plane"].parameters, maximize=True)
    Loop(lab["plane"], learner, goal=25, seed=1).run().close()
    assert learner.best()[1] > 1.99
