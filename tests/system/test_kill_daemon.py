"""The daemon is killed with SIGKILL at any instant, and started again: nothing is lost, repeated or reordered."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.campaign import kill_at_random
from helpers.daemon import Daemon, function
from helpers.load import Load, master
from helpers.mortal_daemon import POINTS
from helpers.places import StartDaemon
from helpers.visits import Visits
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import TaskFailed

MORTAL = ("-m", "helpers.mortal_daemon")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_or_repeated_when_it_is_killed_at_random(place: Path, seed: int) -> None:
    """Twenty kills: at work, on its way down, on its way up. (`python -m tests.faults` does more.)"""
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


def test_what_was_being_evaluated_when_it_was_killed_ends_as_on_lost_says(
    start_daemon: StartDaemon, visits: Visits
) -> None:
    """Its workers die with it, and their notes of how far they had come say what may have acted."""
    ways = ("retry", "fail", "hold")
    daemon = start_daemon({way: function("visit", env=visits.env, on_lost=way, max_attempts=2) for way in ways})
    with daemon.connect() as lab:
        runs = {way: lab[way].open() for way in ways}
        for way, run in runs.items():
            run.tasks.put(way)
        began = [visits.next() for _ in ways]
        daemon.kill()
        for visit in began:
            visit.await_end()
        daemon.start()
        again = visits.next()
        assert again.point == "retry"
        daemon.restart()
        again.await_end()
        for way, attempts in (("fail", 1), ("retry", 2)):
            failed = runs[way].results.get(PATIENCE)
            assert isinstance(failed.error, TaskFailed)
            assert (failed.error.kind, failed.attempt) == ("WorkerLost", attempts)
        eventually(lambda: lab["hold"].statistics().held == 1, "the task in doubt")
        eventually(lambda: all(lab[way].slots for way in ways), "new workers")
        for way, run in runs.items():
            run.tasks.put(f"next {way}")
            visits.next().go()
            assert run.results.get(PATIENCE).output == f"next {way}", "it serves them as before"


@pytest.mark.parametrize("left", ["zeros", "nothing", "another machine's", "no file"])
def test_after_a_power_cut_whatever_may_have_acted_is_held(
    start_daemon: StartDaemon, visits: Visits, left: str
) -> None:
    """The notes of how far a worker had come are not synced: what a power cut leaves of them proves nothing."""
    daemon = start_daemon({"hold": function("visit", env=visits.env, on_lost="hold")})
    with daemon.connect() as lab, lab["hold"].open() as run:
        run.tasks.put("acts once")
        visit = visits.next()
        daemon.kill()
        visit.await_end()
        (note,) = (daemon.state / "progress").iterdir()
        size = note.stat().st_size
        if left == "no file":
            note.unlink()
        else:
            note.write_bytes({"zeros": bytes(size), "nothing": b""}.get(left, bytes(range(size % 256)).ljust(size)))
        daemon.start()
        eventually(lambda: lab["hold"].statistics().held == 1, "the task in doubt")
        eventually(lambda: lab["hold"].slots, "a new worker")
        assert visits.none_waits()
        run.cancel()


def _look_again_and_again(daemon: Daemon, times: int) -> None:
    """Read the first results of the run, each time as somebody who has just come."""
    for _ in range(times):
        with daemon.connect() as lab, lab["square"].watch("load") as run:
            assert [run.results.get(PATIENCE).seq for _ in range(40)] == list(range(40))
