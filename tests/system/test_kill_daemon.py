"""The daemon is killed with SIGKILL at any instant, and started again: nothing is lost, repeated or reordered."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults.campaign import kill_at_random
from helpers.daemon import Daemon
from helpers.load import Load, master
from helpers.mortal_daemon import POINTS
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE

MORTAL = ("-m", "helpers.mortal_daemon")


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_or_repeated_when_it_is_killed_at_random(place: Path, seed: int) -> None:
    """Twenty kills each: at work, on its way down, on its way up. (`python -m tests.faults --kills 2000` does more.)"""
    assert kill_at_random(place, kills=20, seed=seed) > 500


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_or_repeated_when_it_dies(start_daemon: StartDaemon, point: str) -> None:
    """At each step of a turn, the first time and a later one: before and after it is on disk, and after it is told."""
    daemon = start_daemon({"square": master()}, durability="power")
    with daemon.connect() as lab, ThreadPoolExecutor(1) as pool:
        load = Load(lab["square"].open("load"), seed=3, large="payload" in point).start()
        load.await_results(50)
        daemon.kill()
        looking = pool.submit(_look_again_and_again, daemon, 4)
        for times in (1, 3 if point != "while it restores" else 1):
            daemon.launch(program=MORTAL, MORTAL=f"{point}:{times}")
            assert daemon.wait() == -signal.SIGKILL, f"it never came to {point}"
        daemon.start()
        load.await_results(1)
        looking.result(PATIENCE)
        load.finish()
        load.check(lab, daemon.state)


def _look_again_and_again(daemon: Daemon, times: int) -> None:
    """Read the first results of the run, each time as somebody who has just come."""
    for _ in range(times):
        with daemon.connect() as lab, lab["square"].watch("load") as run:
            assert [run.results.get(PATIENCE).seq for _ in range(40)] == list(range(40))
