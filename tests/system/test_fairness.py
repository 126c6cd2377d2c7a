"""Who is served next: runs share a Master by the time they take, a higher priority goes first, the paused wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon, short_folder
from helpers.visits import Visits
from helpers.waiting import PATIENCE

from taskmaster.learners.client import Lab, Master, Run

#: So long that the Master grants one task at a time, to whoever's turn it is then.
SECONDS = 0.04


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with short_folder() as folder, Visits(folder) as visits:
        yield visits


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, visits: Visits) -> Daemon:
    parameters: dict[str, Any] = {"seconds": {}}
    return start_shared_daemon(
        {"visit": function("visit", env=visits.env), "wait": function("wait", parameters=parameters)}
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def put(run: Run, *points: str) -> None:
    run.tasks.put_many(points)
    run.flush()


def evaluate(visits: Visits, n: int) -> list[str]:
    """Let the next ``n`` evaluations be made; returns of which points, in order."""
    seen = []
    for _ in range(n):
        visit = visits.next()
        visit.last(SECONDS)
        visit.go()
        seen.append(visit.point)
    return seen


@pytest.fixture
def master(lab: Lab) -> Master:
    """A Master that is paused, so that what is put first has no head start."""
    lab["visit"].pause()
    return lab["visit"]


def test_a_small_run_does_not_wait_for_a_large_one(master: Master, visits: Visits) -> None:
    with master.open() as large, master.open() as small:
        put(large, *(["large"] * 1000))
        put(small, "small")
        master.resume()
        assert "small" in evaluate(visits, 2)
        under_way = visits.next()
        large.cancel()
        under_way.await_end()


def test_runs_take_turns(master: Master, visits: Visits) -> None:
    with master.open() as a, master.open() as b, master.open() as c:
        for run, name in ((a, "a"), (b, "b"), (c, "c")):
            put(run, *([name] * 4))
        master.resume()
        order = evaluate(visits, 12)
        assert sorted(order[:3]) == ["a", "b", "c"]
        assert all(set(order[:8]) >= {name} for name in "abc"), f"nobody waits until others have finished: {order}"


def test_the_highest_priority_goes_first_and_may_be_changed_meanwhile(master: Master, visits: Visits) -> None:
    with master.open(priority=-1) as idle, master.open() as normal, master.open(priority=5) as urgent:
        for run, name in ((idle, "idle"), (normal, "normal"), (urgent, "urgent")):
            put(run, *([name] * 3))
        master.resume()
        assert evaluate(visits, 2) == ["urgent"] * 2
        under_way = visits.next()
        idle.prioritise(9)
        under_way.last(SECONDS)
        under_way.go()
        assert under_way.point == "urgent"
        assert evaluate(visits, 6) == ["idle"] * 3 + ["normal"] * 3


def test_a_paused_run_waits_and_others_go_on(master: Master, visits: Visits) -> None:
    with master.open() as paused, master.open() as other:
        put(paused, "paused", "paused")
        paused.pause()
        put(other, "other", "other")
        master.resume()
        assert evaluate(visits, 2) == ["other", "other"]
        assert [other.results.get(PATIENCE).output for _ in range(2)] == ["other", "other"]
        assert visits.none_waits()
        paused.resume()
        assert evaluate(visits, 2) == ["paused", "paused"]


def test_a_pause_outlives_the_daemon(master: Master, daemon: Daemon, visits: Visits) -> None:
    with master.open() as run:
        put(run, "later")
        daemon.restart()
        assert master.statistics().state == "paused"
        master.resume()
        assert evaluate(visits, 1) == ["later"]


def test_what_is_shared_is_time_not_tasks(lab: Lab) -> None:
    master = lab["wait"]
    master.pause()
    with master.open() as slow, master.open() as fast:
        slow.tasks.put_many([{"seconds": 3 * SECONDS}] * 12)
        fast.tasks.put_many([{"seconds": SECONDS}] * 36)
        for run in (slow, fast):
            run.flush()
        master.resume()
        ends = sorted(
            (result.finished, name) for run, name in ((slow, "slow"), (fast, "fast")) for result in run.results
        )
        order = [name for _, name in ends][:24]
        assert 0.15 < order.count("slow") / len(order) < 0.4, f"a quarter of the tasks take half of the time: {order}"
