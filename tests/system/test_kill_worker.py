"""Workers are killed, crash, hang and run out of memory: their tasks are tried again, failed or held, and no others."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator

import pytest
from helpers.daemon import Daemon, function
from helpers.load import Load, master
from helpers.places import StartDaemon, short_folder
from helpers.visits import Visits
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import messages as m
from taskmaster.bus.errors import TaskFailed
from taskmaster.bus.status import RunInfo
from taskmaster.learners.client import Lab, Master, Run
from taskmaster.learners.results import Result


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with short_folder() as folder, Visits(folder) as visits:
        yield visits


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, visits: Visits) -> Daemon:
    return start_shared_daemon(
        {
            "retry": function("visit", env=visits.env, max_attempts=3),
            "fail": function("visit", env=visits.env, on_lost="fail"),
            "hold": function("visit", env=visits.env, on_lost="hold"),
            "impatient": function("visit", env=visits.env, timeout="0.5 s", max_attempts=2),
            "chunks": function("visit_if_asked", env=visits.env),
            "hasty": function("visit_if_asked", env=visits.env, timeout="0.5 s"),
            "small": function("allocate", memory_limit="300 MB"),
        }
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def _lost(master: Master) -> int:
    return master.statistics().lost


def _failure(result: Result) -> TaskFailed:
    assert result.outcome == "failed"
    assert isinstance(result.error, TaskFailed)
    return result.error


# -- what becomes of the task -----------------------------------------------------------------------------------------


def test_a_task_whose_worker_is_killed_is_tried_again_by_another(lab: Lab, visits: Visits) -> None:
    lost = _lost(lab["retry"])
    with lab["retry"].open() as run:
        run.tasks.put("fragile")
        first = visits.next()
        first.kill_worker()
        second = visits.next()
        assert second.pid != first.pid
        assert second.point == "fragile"
        second.go()
        result = run.results.get(PATIENCE)
    assert (result.output, result.attempt) == ("fragile", 2)
    assert _lost(lab["retry"]) == lost + 1


def test_a_task_that_ends_its_worker_each_time_fails_in_the_end_and_takes_no_other_with_it(
    lab: Lab, visits: Visits
) -> None:
    with lab["retry"].open() as run:
        run.tasks.put_many(["poison", "sound"])
        for end in ("segfault", "exit"):
            visit = visits.next()
            assert visit.point == "poison", "what lost a worker is tried before what has not been tried"
            visit.say(end)
        visits.next().kill_worker()
        visits.next().go()
        poisoned, sound = run.results.get(PATIENCE), run.results.get(PATIENCE)
    error = _failure(poisoned)
    assert (poisoned.attempt, error.kind) == (3, "WorkerLost")
    assert "was killed by SIGKILL; out of memory? (attempt 3 of 3)" in str(error)
    assert (sound.output, sound.attempt) == ("sound", 1)


@pytest.mark.parametrize(("end", "words"), [("segfault", "was killed by SIGSEGV"), ("exit", "ended with status 7")])
def test_on_lost_fail_fails_it_at_once_and_says_how_its_worker_ended(
    lab: Lab, visits: Visits, end: str, words: str
) -> None:
    with lab["fail"].open() as run:
        run.tasks.put("fragile")
        visits.next().say(end)
        result = run.results.get(PATIENCE)
        assert (_failure(result).kind, result.attempt) == ("WorkerLost", 1)
        assert words in str(result.error)
        run.tasks.put("next")
        visits.next().go()
        assert run.results.get(PATIENCE).output == "next"


def _info(lab: Lab, run: Run) -> RunInfo:
    return next(info for info in lab.runs(run.master.name) if info.name == run.name)


def test_on_lost_hold_keeps_it_in_doubt_until_somebody_says_what_became_of_it(lab: Lab, visits: Visits) -> None:
    with lab["hold"].open() as run:
        run.tasks.put("delicate")
        visits.next().kill_worker()
        eventually(lambda: _info(lab, run).held == 1, "the task to be held")
        run.tasks.put("next")
        visits.next().go()
        assert run.results.get(PATIENCE).output == "next", "others go on"
        assert run.open_tasks == 1
        assert visits.none_waits(), "nothing of it runs again by itself"
        lab.ask(m.Resolve(0, _info(lab, run).run, 0, "retry"))
        visits.next().go()
        result = run.results.get(PATIENCE)
    assert (result.output, result.attempt) == ("delicate", 2)


def test_a_held_task_can_be_declared_failed(lab: Lab, visits: Visits) -> None:
    with lab["hold"].open() as run:
        run.tasks.put("delicate")
        visits.next().kill_worker()
        eventually(lambda: _info(lab, run).held == 1, "the task to be held")
        lab.ask(m.Resolve(0, _info(lab, run).run, 0, "fail", reason="the tip is broken"))
        assert "the tip is broken" in str(_failure(run.results.get(PATIENCE)))


# -- what becomes of the others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "end"), [("chunks", "exit"), ("hasty", "hang")])
def test_tasks_of_its_chunk_that_had_not_started_have_used_up_no_attempt(
    lab: Lab, visits: Visits, name: str, end: str
) -> None:
    with lab[name].open() as run:
        run.tasks.put_many([{"visit": False}] * 2000)  # so that the daemon learns how short they are
        assert len(list(run.results)) == 2000
        run.tasks.put_many([{"visit": k == 20} for k in range(400)])
        visit = visits.next()
        eventually(lambda: lab[name].statistics().leased > 30, "a chunk that reaches beyond the task")
        visit.say(end)
        visits.next().go()
        results = {result.index - 2000: result for result in run.results}
    assert len(results) == 400
    assert results[20].attempt == 2
    assert {results[k].attempt for k in range(21, 400)} == {1}


def test_cancelling_breaks_off_what_is_being_evaluated_and_nothing_else(lab: Lab, visits: Visits) -> None:
    with lab["chunks"].open() as run:
        run.tasks.put_many([{"visit": False}] * 2000)
        assert len(list(run.results)) == 2000
        run.tasks.put_many([{"visit": k == 20} for k in range(60)])
        visit = visits.next()
        assert run.cancel([2020, 2050]) == 2
        visit.await_end()
        results = {result.index - 2000: result for result in run.results}
    assert [k for k, result in results.items() if result.outcome == "cancelled"] == [20, 50]
    assert {result.attempt for result in results.values() if result.outcome == "done"} == {1}
    assert len(results) == 60


def test_what_may_have_acted_is_not_cancelled(lab: Lab, visits: Visits) -> None:
    with lab["hold"].open() as run:
        run.tasks.put_many(["begun", "waiting"])
        visit = visits.next()
        assert run.cancel() == 1
        visit.go()
        assert {result.index: result.outcome for result in run.results} == {0: "done", 1: "cancelled"}


def test_a_worker_that_dies_with_nothing_in_hand_is_replaced(lab: Lab, daemon: Daemon, visits: Visits) -> None:
    master = lab["retry"]
    (worker,) = eventually(lambda: [w for w in master.statistics().workers if w.state == "idle"], "an idle worker")
    os.kill(worker.pid, signal.SIGKILL)
    with master.open() as run:
        run.tasks.put("next")
        visit = visits.next()
        assert visit.pid != worker.pid
        visit.go()
        assert run.results.get(PATIENCE).attempt == 1


def _pids_of_busy(master: Master) -> set[int]:
    return {worker.pid for worker in master.statistics().workers if worker.state == "busy"}


def test_nothing_is_lost_when_workers_are_killed_under_load(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"square": master(function="evaluations:square_or_raise_slowly", restarts=1000)})
    chance = random.Random(5)
    killed: set[int] = set()
    with daemon.connect() as lab:
        load = Load(lab["square"].open("load"), seed=5).start()
        for _ in range(12):
            load.await_results(chance.randint(1, 800))
            busy = eventually(lambda: _pids_of_busy(lab["square"]) - killed, "a busy worker")
            killed.add(victim := chance.choice(sorted(busy)))
            os.kill(victim, signal.SIGKILL)
        load.await_results(100)
        load.finish()
        load.check(lab, daemon.state)
        assert _lost(lab["square"]) > 0
        assert max(result.attempt for result in load.results) > 1


# -- time and memory --------------------------------------------------------------------------------------------------


def test_an_evaluation_that_hangs_past_its_timeout_is_ended_and_tried_again(lab: Lab, visits: Visits) -> None:
    with lab["impatient"].open() as run:
        run.tasks.put("slow")
        visits.next().say("hang")
        second = visits.next()
        second.go()
        result = run.results.get(PATIENCE)
    assert (result.output, result.attempt) == ("slow", 2)


def test_an_evaluation_that_always_hangs_fails_by_its_timeout(lab: Lab, visits: Visits) -> None:
    with lab["impatient"].open() as run:
        run.tasks.put_many(["stuck", "next"])
        visits.next().say("hang")
        visits.next().say("hang")
        visits.next().go()
        stuck, following = run.results.get(PATIENCE), run.results.get(PATIENCE)
    error = _failure(stuck)
    assert (error.kind, stuck.attempt) == ("TaskTimeout", 2)
    assert "no outcome after 0.5 s" in str(error)
    assert (following.output, following.attempt) == ("next", 1)


def test_a_worker_that_stands_still_in_foreign_code_is_ended_too(lab: Lab, visits: Visits) -> None:
    """SIGSTOP, as a stand-in for a library that holds the interpreter and hears no signal."""
    with lab["impatient"].open() as run:
        run.tasks.put("still")
        visit = visits.next()
        os.kill(visit.pid, signal.SIGSTOP)
        visit.await_end()
        visits.next().go()
        assert run.results.get(PATIENCE).attempt == 2


def test_many_short_evaluations_in_a_row_are_no_timeout(lab: Lab, visits: Visits) -> None:
    with lab["impatient"].open() as run:
        run.tasks.put_many(list(range(20)))
        for _ in range(20):
            visit = visits.next()
            visit.last(0.05)
            visit.go()
        assert [result.attempt for result in run.results] == [1] * 20


def test_an_evaluation_that_wants_more_memory_than_allowed_fails_and_its_worker_lives(lab: Lab) -> None:
    with lab["small"].open() as run:
        run.tasks.put_many([1000, 1])
        greedy, modest = run.results.get(PATIENCE), run.results.get(PATIENCE)
    assert _failure(greedy).kind == "MemoryError"
    assert modest.output == 1 << 20
    assert modest.worker == greedy.worker
    assert _lost(lab["small"]) == 0
