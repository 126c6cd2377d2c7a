"""How much is taken and evaluated at a time: workers come and go while tasks run, and who puts too much has to wait."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.daemon import Daemon, function
from helpers.load import Load, master as load_master
from helpers.places import StartDaemon, short_folder
from helpers.visits import Visits
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, Full
from taskmaster.learners.client import Lab, Master, Run

LIMIT = 10


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with short_folder() as folder, Visits(folder) as visits:
        yield visits


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, visits: Visits) -> Daemon:
    return start_shared_daemon(
        {
            "visit": function("visit", env=visits.env, workers=0),
            "square": load_master(workers=1, max_attempts=1),
            "small": function("visit", env=visits.env, max_queued_tasks=LIMIT),
            "thin": function("visit", env=visits.env, max_queued_bytes="10 kB"),
        }
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def await_slots(master: Master, n: int) -> None:
    eventually(lambda: master.slots == n, f"{n} slots")


# -- workers ----------------------------------------------------------------------------------------------------------


def test_workers_are_captured_and_released_while_tasks_run(lab: Lab, daemon: Daemon, visits: Visits) -> None:
    master = lab["visit"]
    others = len(daemon.workers())
    with master.open() as run:
        run.tasks.put_many(["a", "b", "c"])
        assert master.statistics().state == "no workers"
        master.set_workers(2)
        first, second = visits.next(), visits.next()
        master.set_workers(3)
        third = visits.next()
        assert len({first.pid, second.pid, third.pid}) == 3
        assert master.slots == 3

        first.go()
        assert run.results.get(PATIENCE).output == first.point
        master.set_workers(2)
        await_slots(master, 2)
        eventually(lambda: first.pid not in daemon.workers(), "the idle one to go")
        assert {second.pid, third.pid} <= daemon.workers()

        master.set_workers(0)
        await_slots(master, 0)
        run.tasks.put("d")
        for visit in (second, third):
            visit.go()  # what was begun may be finished
        assert {run.results.get(PATIENCE).output for _ in range(2)} == {second.point, third.point}
        eventually(lambda: len(daemon.workers()) == others, "all of them to go")
        assert visits.none_waits()
        master.set_workers(1)
        visits.next().go()
        assert (result := run.results.get(PATIENCE)).output == "d"
        assert result.attempt == 1
    assert master.statistics().lost == 0
    master.set_workers(0)


def test_capacity_that_changes_all_the_time_costs_no_task_an_attempt(lab: Lab, daemon: Daemon) -> None:
    load = Load(lab["square"].open("load"), seed=6, window=2000).start()
    for count in (3, 1, 4, 0, 2, 0, 1):
        lab["square"].set_workers(count)
        if count:
            load.await_results(200)
    load.finish()
    load.check(lab, daemon.state)
    assert {result.attempt for result in load.results} == {1}
    status = lab["square"].statistics()
    assert (status.lost, status.state) == (0, "ready")


@pytest.mark.parametrize("count", [-1, 5000])
def test_absurd_numbers_of_workers_are_refused(lab: Lab, count: int) -> None:
    with pytest.raises(CallerError, match=f"^the number of worker processes .* from 0 to 4096, not {count}$"):
        lab["visit"].set_workers(count)


# -- tasks ------------------------------------------------------------------------------------------------------------


def put_until_full(run: Run) -> int:
    """Put one after the other until the daemon is full; returns how many were put, the last of which are waiting."""
    core = run._core
    for n in range(10 * LIMIT):
        try:
            run.tasks.put_nowait(f"task {n} {'x' * 1000}")
        except Full:
            return n
        eventually(lambda: core.is_settled or core.is_turned_away, "an answer")
    raise AssertionError("it takes everything")


@pytest.mark.parametrize("name", ["small", "thin"])
def test_a_full_daemon_has_put_wait_and_put_nowait_raise_and_takes_more_when_tasks_have_ended(
    lab: Lab, visits: Visits, name: str
) -> None:
    master = lab[name]
    with ThreadPoolExecutor(1) as pool, master.open() as run, master.open() as other:
        taken = put_until_full(run)
        assert taken >= LIMIT - 1
        waiting = pool.submit(run.tasks.put, "patient")
        with pytest.raises(Full, match=f"run '{run.name}' of Master .* tasks wait to be acknowledged; put again later"):
            run.tasks.put_nowait("impatient")
        assert put_until_full(other) == 1, "the limit is the Master's: another run does not get around it"
        assert not waiting.done()
        for _ in range(taken + 2):
            visits.next().go()
        assert waiting.result(PATIENCE) == taken
        assert sorted(result.index for result in run.results) == list(range(taken + 1))
        assert [result.index for result in other.results] == [0]


def test_cancelling_makes_room_also_for_those_who_wait_with_what_is_to_be_cancelled(lab: Lab, visits: Visits) -> None:
    with lab["small"].open() as run:
        put = put_until_full(run)
        assert lab["square"].map([{"x": 3.0}]) == [9.0], "other Masters are not concerned"
        under_way = visits.next()
        assert run.cancel() == put
        under_way.await_end()
        assert [result.outcome for result in run.results] == ["cancelled"] * put
