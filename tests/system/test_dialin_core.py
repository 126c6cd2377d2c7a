"""Workers from elsewhere dial in and leave, fall silent and come back; capacity follows, and so do their tasks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.dialled import Dialled
from helpers.places import StartDaemon, short_folder
from helpers.raw import RawPeer
from helpers.visits import Visits
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import messages as m
from taskmaster.bus.errors import TaskFailed, UnknownMaster
from taskmaster.drivers.dialin import find
from taskmaster.learners.client import Lab, Master

#: Silence after which a worker is given up.
LOST_AFTER = "3 s"


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with short_folder() as folder, Visits(folder) as visits:
        yield visits


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "retry": function("visit", workers=0),
        "hold": function("visit", workers=0, on_lost="hold"),
        "hasty": function("visit", workers=0, on_lost="fail", timeout="1 s"),
        "threads": {**function("meet", threads=4), "driver": "thread"},
    }
    del masters["threads"]["workers"]
    return start_shared_daemon(masters, heartbeat="300 ms", lost_after=LOST_AFTER, **tcp())


@pytest.fixture(autouse=True)
def address_of_visits(visits: Visits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that dial in have the environment of their host."""
    monkeypatch.setenv("VISITS", visits.env["VISITS"])


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def await_slots(master: Master, n: int) -> None:
    eventually(lambda: master.slots == n, f"{n} slots")


@pytest.mark.parametrize("when", ["as soon as it has begun", "later"])
def test_a_task_that_is_cancelled_elsewhere_is_broken_off(lab: Lab, daemon: Daemon, visits: Visits, when: str) -> None:
    retry = lab["retry"]
    with Dialled(daemon.address, "retry"), retry.open() as run:
        run.tasks.put("unwanted")
        visit = visits.next()
        if when == "later":  # its host has vouched for it by then
            eventually(lambda: retry.statistics().workers[0].age > 1.5, "a sign of life of its host's")
        assert run.cancel() == 1
        visit.await_end()
        run.tasks.put("wanted")
        visit = visits.next()
        assert visit.point == "wanted"
        visit.go()
        assert [result.outcome for result in run.results] == ["cancelled", "done"]


def test_capacity_follows_who_dials_in_and_leaves(lab: Lab, daemon: Daemon, visits: Visits) -> None:
    master = lab["retry"]
    before = eventually(lambda: (s := master.statistics()).state == "no workers" and s, "all workers to be gone")
    assert master.slots == 0
    with master.open() as run, Dialled(daemon.address, "retry", 2) as pair:
        run.tasks.put_many(["a", "b", "c"])
        first, second = visits.next(), visits.next()
        assert master.slots == 2
        with Dialled(daemon.address, "retry", 1) as another:
            third = visits.next()
            assert len({first.pid, second.pid, third.pid}) == 3
            assert master.slots == 3
            pair.signal(signal.SIGTERM)
            await_slots(master, 1)
            run.tasks.put("d")
            for visit in (first, second, third):
                visit.go()
            assert pair.wait() == 0, "it goes when its workers have finished what they had in hand"
            last = visits.next()
            assert last.pid == third.pid
            assert master.slots == 1
            last.go()
            assert sorted(result.output for result in run.results) == ["a", "b", "c", "d"]
            another.signal(signal.SIGINT)
            assert another.wait() == 0
    status = eventually(lambda: (s := master.statistics()).workers == () and s, "the last worker to be gone")
    assert status.lost == before.lost


def test_a_worker_that_leaves_is_no_capacity_even_while_it_finishes(lab: Lab, daemon: Daemon, visits: Visits) -> None:
    master = lab["retry"]
    with master.open() as run, Dialled(daemon.address, "retry") as host:
        run.tasks.put("long")
        visit = visits.next()
        host.signal(signal.SIGTERM)
        try:
            await_slots(master, 0)
            assert [worker.state for worker in master.statistics().workers] == ["leaving"]
        finally:
            visit.go()
            assert run.results.get(PATIENCE).output == "long"


def test_a_worker_that_is_killed_elsewhere_is_reported_by_its_host_and_replaced(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    with lab["retry"].open() as run, Dialled(daemon.address, "retry"):
        run.tasks.put("fragile")
        visits.next().kill_worker()
        visits.next().go()
        result = run.results.get(PATIENCE)
        assert (result.output, result.attempt) == ("fragile", 2)


def test_a_worker_elsewhere_is_ended_past_the_time_out_of_its_master_and_not_while_it_waits(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    with lab["hasty"].open() as run, Dialled(daemon.address, "hasty"):
        run.tasks.put("in time")
        first = visits.next()
        first.go()
        assert run.results.get(PATIENCE).output == "in time"
        run.tasks.put("hangs")
        second = visits.next()
        assert second.pid == first.pid
        second.say("hang")
        with pytest.raises(TaskFailed, match=rf"no outcome after 1 s, worker process {second.pid} was killed \(on "):
            _ = run.results.get(PATIENCE).output
        run.tasks.put("replaced")
        third = visits.next()
        assert third.pid not in (first.pid, second.pid)
        third.go()
        assert run.results.get(PATIENCE).output == "replaced"


def test_an_idle_worker_of_a_daemon_that_was_killed_comes_back_to_the_next(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    with Dialled(daemon.address, "retry", 2):
        await_slots(lab["retry"], 2)
        daemon.restart()
        await_slots(lab["retry"], 2)
        with lab["retry"].open() as run:
            run.tasks.put("after")
            visits.next().go()
            assert run.results.get(PATIENCE).output == "after"


def test_what_a_worker_elsewhere_is_evaluating_when_the_daemon_is_killed_is_not_evaluated_twice(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    with lab["hold"].open() as run, Dialled(daemon.address, "hold"):
        run.tasks.put_many(["long", "next"])
        visit = visits.next()
        daemon.restart()
        visit.go()
        assert (result := run.results.get(PATIENCE)).output == "long"
        assert result.attempt == 1
        following = visits.next()
        assert following.point == "next", "the long one was evaluated once"
        following.go()
        assert run.results.get(PATIENCE).output == "next"


def test_what_ends_while_there_is_no_daemon_is_told_to_the_next(lab: Lab, daemon: Daemon, visits: Visits) -> None:
    with lab["hold"].open() as run, Dialled(daemon.address, "hold"):
        run.tasks.put("long")
        visit = visits.next()
        daemon.kill()
        visit.go()
        daemon.start()
        result = run.results.get(PATIENCE)
        assert (result.output, result.attempt) == ("long", 1)


def test_silent_workers_are_lost_and_what_they_say_when_they_are_back_counts_if_nobody_else_has(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    with (
        lab["retry"].open() as retried,
        lab["hold"].open() as held,
        Dialled(daemon.address, "retry") as first,
        Dialled(daemon.address, "hold") as second,
    ):
        retried.tasks.put("tried again")
        held.tasks.put("in doubt")
        frozen = {visit.point: visit for visit in (visits.next(), visits.next())}
        pids = [first.process.pid, second.process.pid, *(visit.pid for visit in frozen.values())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        eventually(lambda: lab["retry"].statistics().lost, "the silence to be noticed")
        eventually(lambda: lab["hold"].statistics().held, "the silence to be noticed here too")
        with Dialled(daemon.address, "retry"):
            again = visits.next()
            assert again.point == "tried again"
            again.go()
            result = retried.results.get(PATIENCE)
            assert (result.output, result.attempt) == ("tried again", 2)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            for visit in frozen.values():
                visit.go()
            late = held.results.get(PATIENCE)
            assert (late.output, late.attempt) == ("in doubt", 1)
            assert lab["hold"].statistics().held == 0
            retried.tasks.put("another")
            visits.next().go()
            assert [result.output for result in retried.results] == ["another"], "the late one was not wanted any more"


def test_a_host_that_is_killed_takes_its_workers_with_it(lab: Lab, daemon: Daemon, visits: Visits) -> None:
    with lab["retry"].open() as run, Dialled(daemon.address, "retry") as host:
        run.tasks.put("orphan")
        visit = visits.next()
        host.signal(signal.SIGKILL)
        visit.await_end()
        with Dialled(daemon.address, "retry"):
            visits.next().go()
            assert run.results.get(PATIENCE).output == "orphan"


def test_threads_of_one_worker_are_as_many_slots(lab: Lab, daemon: Daemon) -> None:
    await_slots(lab["threads"], 4)
    with Dialled(daemon.address, "threads"):
        await_slots(lab["threads"], 8)
    eventually(lambda: lab["threads"].slots == 4, "the others to be given up")


def test_whoever_asks_for_a_master_that_is_not_there_is_told_what_there_is(daemon: Daemon) -> None:
    with pytest.raises(UnknownMaster, match=r"no Master 'rety'.*'retry'"):
        find(daemon.address, "rety")
    with RawPeer(find(daemon.address, "retry").address) as worker:
        refused = worker.ask(m.WorkerHello(m.PROTOCOL_VERSION, "rety", "token"), m.Refused)
    assert refused.code == "unknown_master"
    assert "'retry'" in refused.message
