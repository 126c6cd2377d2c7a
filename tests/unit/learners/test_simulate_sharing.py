"""Runs of a simulation that several have open, that share its workers, and that are forked: as those of a daemon."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from taskmaster.bus.errors import CallerError, Fenced, RunClosed, TaskCancelled
from taskmaster.learners.loop import Loop
from taskmaster.learners.points import Random, Sobol
from taskmaster.learners.replay import replay
from taskmaster.learners.simulate import Constant, Exponential, Failures, SimulatedMaster

LINE = {"x": (0.0, 1.0)}


def same(x: float) -> float:
    if x < 0:
        raise ValueError("below nothing")
    return x


# -- who has a run open -----------------------------------------------------------------------------------------------


def test_whoever_watches_changes_nothing_for_who_writes_or_watches_too() -> None:
    lab = SimulatedMaster(same, workers=1)
    run = lab.open("night")
    run.tasks.put_many([1.0, 2.0, 3.0])
    assert run.results.get().output == 1.0
    one, other, late = lab.watch("night"), lab.watch("night"), lab.watch("night", since="now")
    assert [result.output for result in one.results] == [1.0, 2.0, 3.0]
    assert (run.told, other.told, late.told) == (0, -1, 0)
    assert [other.results.get().output for _ in range(2)] == [1.0, 2.0]
    assert [result.output for result in late.results] == [2.0, 3.0]
    assert [result.output for result in run.results] == [2.0, 3.0]
    for put in (one.tasks.put, one.tasks.put_nowait):
        with pytest.raises(RunClosed, match=r"opened for reading; open\(\) it"):
            put(1.0)
    one.close()
    assert not run.is_closed, "it was only read there"


def test_a_follower_goes_on_until_the_run_is_closed() -> None:
    lab = SimulatedMaster(same, workers=1)
    run = lab.open("night")
    run.tasks.put_many([1.0, 2.0])
    reader = lab.watch("night")
    following = reader.results.follow()
    assert [next(following).output for _ in range(2)] == [1.0, 2.0]
    run.tasks.put(3.0)
    assert next(following).output == 3.0
    with pytest.raises(CallerError, match=r"nothing is in flight, .*; put a task, or close\(\) the run"):
        next(following)
    run.tasks.put(4.0)
    run.close()
    again = lab.watch("night")
    assert [result.output for result in again.results.follow()] == [1.0, 2.0, 3.0, 4.0]
    assert again.is_closed, "it is closed still"
    with pytest.raises(RunClosed, match="is closed, and all its results were taken"):
        again.results.get()


def test_who_opens_a_run_fences_who_had_it_and_what_was_closed_says_so() -> None:
    lab = SimulatedMaster(same, workers=1)
    former = lab.open("night")
    former.tasks.put_many([1.0, 2.0])
    assert former.results.get().output == 1.0
    latter = lab.open("night", since="now")
    for wrong in (lambda: former.tasks.put(3.0), former.results.get, lambda: former.introduce({})):
        with pytest.raises(Fenced, match="run 'night' of the simulation was opened again by another writer"):
            wrong()
    latter.introduce({"learner": "me"})
    assert [(one.writer, one.first, one.metadata) for one in latter.writers()] == [
        (1, 0, {}),
        (2, 2, {"learner": "me"}),
    ]
    assert latter.results.get().output == 2.0
    former.close()
    latter.tasks.put(3.0)
    latter.close()
    latter.close()
    for wrong in (lambda: latter.tasks.put(4.0), latter.results.get):
        with pytest.raises(RunClosed, match="closed here; open it by name to go on"):
            wrong()


def test_a_run_that_another_learner_goes_on_with_says_of_which_it_was(caplog: pytest.LogCaptureFixture) -> None:
    lab = SimulatedMaster(lambda point: point["x"], 2, parameters=LINE)
    Loop(lab, Sobol(lab.parameters), goal=4, name="night").run()
    Loop(lab, Random(lab.parameters), goal=6, name="night").run()
    Loop(lab, Sobol(lab.parameters), goal=8, name="night").run()
    assert "of Sobol(), from task 4 on of Random()" in caplog.messages[-1]


def test_a_name_that_is_taken_is_given_to_nobody_else() -> None:
    lab = SimulatedMaster(same)
    mine = lab.open("run-2")
    mine.tasks.put(3.0)
    assert lab.map([1.0, 2.0]) == [1.0, 2.0]
    assert (lab.open().name, lab.open("").name) == ("run-4", "run-5")
    assert mine.results.get().output == 3.0


# -- while the learner thinks -----------------------------------------------------------------------------------------


def test_what_ends_while_the_learner_thinks_is_not_cancelled() -> None:
    lab = SimulatedMaster(same, workers=1, latency=1.0, thinking=1.5)
    run = lab.open()
    run.tasks.put_many([1.0, 2.0, 3.0, 4.0])
    run.results.get()  # and now it is 2.5
    assert run.cancel([1, 2, 2, 3, 99]) == 2
    assert [result.outcome for result in run.events] == ["done", "done", "cancelled", "cancelled"]
    with pytest.raises(CallerError, match=r"the index of a task .* from 0 to .*, not -1"):
        run.cancel([-1])


@pytest.mark.parametrize("switch", ["pause", "prioritise"])
def test_a_switch_holds_from_when_it_is_thrown(switch: str) -> None:
    lab = SimulatedMaster(same, workers=1, latency=1.0, thinking=1.5)
    one, other = lab.open("one"), lab.open("other", priority=1)
    one.tasks.put(1.0)
    other.tasks.put_many([1.0, 2.0, 3.0])
    one.results.get()  # and now it is 2.5: the second of the other has begun
    if switch == "pause":
        other.pause()
    else:
        one.prioritise(2)
    one.tasks.put(2.0)
    assert [other.results.get().started, one.results.get().started] == [1.0, 3.0]
    assert [result.started for result in other.events] == [1.0, 2.0]


def test_map_has_no_learner_that_thinks() -> None:
    lab = SimulatedMaster(same, workers=2, latency=1.0, thinking=10.0)
    assert lab.map([1.0, 2.0, 3.0, 4.0]) == [1.0, 2.0, 3.0, 4.0]
    assert lab.clock() == 2.0


def test_a_fork_is_made_when_it_is_asked_for() -> None:
    lab = SimulatedMaster(same, workers=1, latency=1.0, thinking=2.5)
    run = lab.open()
    run.tasks.put_many([1.0, 2.0, 3.0, 4.0])
    run.results.get()  # and now it is 3.5
    made = run.fork("other")
    assert (made.events, made.metadata["forked_at"], len(run.events)) == (3, "3", 3)


def test_statistics_are_of_one_moment() -> None:
    lab = SimulatedMaster(same, workers=1, latency=1.0, thinking=2.5)
    run = lab.open()
    run.tasks.put_many([1.0, 2.0, 3.0, 4.0])
    run.results.get()
    seen = lab.statistics()
    assert (seen.elapsed, seen.done, seen.events) == (3.5, 3, 3)


# -- who is next ------------------------------------------------------------------------------------------------------


def test_runs_of_one_priority_share_by_how_long_their_evaluations_take() -> None:
    lab = SimulatedMaster(same, workers=1, latency=lambda x: x)
    long, short = lab.open("long"), lab.open("short")
    long.tasks.put_many([4.0] * 10)
    short.tasks.put_many([1.0] * 40)
    for _ in range(5):
        long.results.get()
    assert 15 <= len(short.events) <= 20, "nobody waits until the other has finished"
    late = lab.open("late")
    late.tasks.put_many([1.0] * 40)
    began = lab.clock()
    assert late.results.get().started - began <= 5.0, "it does not starve"
    while lab.clock() < began + 12.0:
        late.results.get()
    assert len(late.events) <= 6, "nor does it catch up on time in which it was not there"


def test_priorities_cost_nothing_for_each_task_that_waits() -> None:
    def seconds(n: int) -> float:
        lab = SimulatedMaster(same, workers=8)
        run = lab.open(priority=1)
        lab.open().pause()
        began = time.process_time()
        run.tasks.put_many([1.0] * n)
        assert sum(1 for _ in run.results) == n
        return time.process_time() - began

    least = min(seconds(1000) for _ in range(3))
    assert min(seconds(16_000) for _ in range(2)) < 16 * 6 * least


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_a_run_that_is_paused_while_a_task_waits_for_a_retry(late: float) -> None:
    failures = Failures(lost=1.0 - late, late=late, lateness=Constant(30.0), notice=1.0)
    lab = SimulatedMaster(same, workers=1, latency=1.0, failures=failures, max_attempts=2)
    run, other = lab.open("run"), lab.open("other")
    run.tasks.put(1.0)
    other.tasks.put(2.0)
    with pytest.raises(TimeoutError):
        run.results.get(1.5)
    run.pause()
    if late:  # the first answer comes while the task waits: nothing is evaluated again
        assert (run.results.get().finished, run.events[0].attempt, run.journal.unended) == (31.0, 1, {})
    else:
        with pytest.raises(CallerError, match="it is paused, so no result would ever come"):
            run.results.get()
        assert [result.attempt for result in other.results] == [2], "its own was tried again meanwhile"
        resumed = lab.clock()
        run.resume()
        result = run.results.get()
        assert (result.attempt, result.started, result.outcome) == (2, resumed, "failed")


# -- workers that go --------------------------------------------------------------------------------------------------


def test_idle_workers_go_before_busy_ones() -> None:
    lab = SimulatedMaster(same, workers=2, latency=lambda x: x)
    run = lab.open()
    run.tasks.put_many([1.0, 5.0])
    run.results.get()
    lab.set_workers(1)
    run.tasks.put(2.0)
    assert [(result.worker, result.started) for result in run.results] == [("worker-1", 0.0), ("worker-1", 5.0)]
    assert lab.statistics().idle == pytest.approx(1 - 8 / 8)


def test_those_that_are_to_go_may_die_first_and_are_not_repaired_for_nothing() -> None:
    failures = Failures(lifetime=3.0, repair=Constant(7.0), notice=1.0)
    for seed in range(20):
        lab = SimulatedMaster(same, 6, Constant(2.0), failures, seed, max_attempts=100)
        run = lab.open()
        run.tasks.put_many([float(k) for k in range(60)])
        rng = np.random.default_rng(seed)
        there, at = [(0.0, 6)], 0.0
        for count in [2, 5, 0, 1, 8, 3]:
            at += float(rng.uniform(0.5, 9.0))
            run.advance(at)
            lab.set_workers(count)
            there.append((at, count))
            assert lab.slots == count
        assert sorted(result.index for result in run.results) == list(range(60))
        seen = lab.statistics()
        assert 0 <= seen.idle <= 1
        ends = [*(time for time, _ in there[1:]), seen.elapsed]
        ordered = math.fsum(count * (end - begin) for (begin, count), end in zip(there, ends))
        offered = lab.workers.offered_seconds
        assert ordered - 1e-9 <= offered <= ordered + 2.0 * 14, "who goes is there for a task longer at most"
        later = [result for result in run.events if result.started > at + 2.0]
        assert max((spanning(result.started, run.events) for result in later), default=0) <= 3


def spanning(moment: float, events: Any) -> int:
    return sum(result.started <= moment < result.finished for result in events)


# -- forks ------------------------------------------------------------------------------------------------------------


def ended(run: Any) -> list[Any]:
    return [
        (r.index, r.seq, r.outcome, r.attempt, r.worker, r.started.hex(), r.finished.hex(), r.input, str(r.error))
        for r in run.events
    ]


def test_a_fork_keeps_how_tasks_failed_were_cancelled_and_tried_again() -> None:
    failures = Failures(fail=0.1, lost=0.3, notice=1.0)
    lab = SimulatedMaster(same, 3, Exponential(2.0), failures, seed=1, max_attempts=4)
    run = lab.open("a", priority=3, seed=8)
    run.tasks.put_many([float(k) for k in range(-3, 30)])
    for _ in range(12):
        run.results.get()
    run.cancel([30, 31])
    for _ in range(2):
        run.results.get()
    made = run.fork("b")
    fork = lab.watch("b")
    assert ended(fork) == ended(run)
    assert {"done", "failed", "cancelled"} == {result.outcome for result in fork.events}
    assert max(result.attempt for result in fork.events) > 1
    assert (made.seed, made.priority, made.tasks, made.closed) == (8, 3, 33, False)
    assert (made.done + made.failed + made.cancelled, made.events) == (14, 14)
    cancelled = next(result for result in fork.events if result.outcome == "cancelled")
    with pytest.raises(TaskCancelled):
        _ = cancelled.output
    before = ended(run)
    assert len([1 for _ in fork.results]) == 33, "what is open is evaluated"
    assert all(result.attempt <= 4 for result in fork.events)
    assert ended(run)[:14] == before


def test_a_fork_asked_for_again_is_the_same_and_one_of_a_closed_run_is_closed() -> None:
    lab = SimulatedMaster(same, workers=1)
    run = lab.open("a")
    run.tasks.put_many([1.0, 2.0])
    run.results.get()
    open_still = run.fork("open", at=1)
    assert run.fork("open", at=1) == open_still
    for _ in run.results:
        pass
    run.close()
    closed = run.fork("closed")
    assert (open_still.closed, closed.closed, closed.run) == (False, True, 3)
    assert [result.output for result in lab.watch("closed").results.follow()] == [1.0, 2.0]
    with lab.open("closed", since="now") as fork:
        assert [(one.writer, one.forked) for one in fork.writers()] == [(1, True), (2, False)]
        fork.tasks.put(3.0)
        assert fork.results.get().output == 3.0
    assert len(run.events) == 2


def test_events_that_a_record_gives_no_reason_for_are_in_the_fork_all_the_same() -> None:
    """Somebody notes asks by hand, and says of the first that it came after an event that was not there yet."""
    run = SimulatedMaster(same, workers=1).open("a")
    run.tasks.new_ask(after=5, asked=1)
    run.tasks.put_many([1.0, 2.0])
    run.results.get()
    assert (run.fork("b", at=1).events, run.fork("c", at=1).tasks) == (1, 1)


@pytest.mark.parametrize("at", [0, 1, 7, 20, 33, None])
def test_a_fork_replays_and_goes_on_the_same_each_time(at: int | None) -> None:
    def forked() -> tuple[Any, Any]:
        failures = Failures(fail=0.2, lifetime=20.0, lost=0.1, late=0.1)
        lab = SimulatedMaster(lambda point: point["x"], 4, Exponential(2.0), failures, seed=3, parameters=LINE)
        run = Loop(lab, Random(LINE), goal=30, retries=1, max_failures=None, name="night").run()
        run.fork("morning", at)
        assert replay(Random(LINE), lab.watch("morning")).divergence is None
        loop = Loop(lab, Random(LINE), goal=50, retries=1, max_failures=None, name="morning")
        loop.run()
        assert loop.divergence is None
        assert replay(Random(LINE), lab.watch("morning")).divergence is None
        return ended(lab.watch("morning")), ended(run)

    assert forked() == forked()
    morning, night = forked()
    assert morning[: 33 if at is None else at] == night[:33][: None if at is None else at]
