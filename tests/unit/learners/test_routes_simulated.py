"""One learner on several simulated Masters: they share one virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from taskmaster.bus.errors import CallerError
from taskmaster.learners import Loop, Routes, SimulatedMaster, run_all
from taskmaster.learners.goals import seconds
from taskmaster.learners.points import Random
from taskmaster.learners.results import Result
from taskmaster.learners.simulate import Exponential, Failures

LINE = {"x": (0.0, 1.0)}


def master(name: str, workers: int, latency: Any, **settings: Any) -> SimulatedMaster:
    return SimulatedMaster(lambda point: point["x"], workers, latency, parameters=LINE, name=name, **settings)


def routed(goal: Any, *masters: SimulatedMaster, **settings: Any) -> tuple[Loop, list[Result]]:
    seen: list[Result] = []
    learner = Random(masters[0].parameters, seed=1)
    loop = Loop(Routes(masters), learner, goal=goal, hook=lambda loop, result: seen.append(result), **settings)
    loop.run().close()
    return loop, seen


def test_each_does_its_share_of_the_work_in_the_time_that_passes_for_all() -> None:
    quick, slow = master("quick", 2, 10.0), master("slow", 4, 60.0)
    loop, seen = routed(seconds(6000), quick, slow)
    done = {one.name: one.statistics().done for one in (quick, slow)}
    assert done == {"quick": pytest.approx(2 * 600, abs=8), "slow": pytest.approx(4 * 100, abs=8)}
    assert loop.elapsed == quick.clock() == slow.clock() >= 6000
    assert [result.finished for result in seen] == sorted(result.finished for result in seen)
    assert min(quick.statistics().idle, slow.statistics().idle) >= 0
    assert max(quick.statistics().idle, slow.statistics().idle) < 0.01


def test_the_same_seeds_have_the_same_history() -> None:
    def history() -> list[tuple[Any, str, float]]:
        rough = Failures(fail=0.1, lifetime=500.0)
        masters = [master(name, 3, Exponential(10.0), failures=rough, seed=k) for k, name in enumerate("abc")]
        return [(result.input, result.outcome, result.finished) for result in routed(300, *masters)[1]]

    once = history()
    assert once == history()
    assert {outcome for _, outcome, _ in once} == {"done", "failed"}


def test_a_learners_thinking_takes_time_at_all_of_them() -> None:
    one, other = master("one", 1, 1.0, thinking=5.0), master("other", 1, 1000.0)
    routed(20, one, other, in_flight=2)
    assert one.clock() == other.clock() >= 19 * 5


def test_what_would_never_come_is_said() -> None:
    run = Routes([master("one", 1, 1.0), master("other", 1, 1.0)]).open()
    with pytest.raises(CallerError, match="nothing is in flight, so no result would ever come"):
        run.get()
    with pytest.raises(TimeoutError, match="no result within 3 s"):
        run.get(3.0)
    assert run.clock() == 3.0
    run.put({"x": 0.5})
    assert run.get(3.0).output == 0.5


def test_loops_over_simulations_are_as_quick_together_as_alone() -> None:
    """However long their tasks take: a loop that looked up five times a second of theirs would be at it for hours."""
    masters = [master(name, 2, 1e6) for name in "ab"]
    run_all([Loop(one, Random(one.parameters), goal=100) for one in masters])
    assert [one.statistics().done for one in masters] == [100, 100]
