"""SimulatedMaster: virtual time, what goes wrong in it, and the same history from the same seed, to the bit."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from datetime import datetime
from typing import Any

import adaptive
import pytest
from hypothesis import given, settings, strategies as st

from taskmaster.bus.errors import CallerError, Conflict, InvalidTask, TaskCancelled, TaskFailed
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.goals import seconds
from taskmaster.learners.inorder import InOrder
from taskmaster.learners.loop import Loop
from taskmaster.learners.points import Random, Sobol
from taskmaster.learners.results import Result
from taskmaster.learners.simulate import (
    Constant,
    Exponential,
    Failures,
    HalfNormal,
    OfPoint,
    Pareto,
    Recorded,
    SimulatedMaster,
    SimulatedRun,
)
from taskmaster.learners.simulate.latency import Latency
from taskmaster.learners.target import Target

LINE = {"x": (-1.0, 1.0)}
ROUGH = Failures(
    fail=0.1, lifetime=30.0, repair=Constant(20.0), lost=0.1, late=0.2, lateness=Exponential(6.0), notice=5.0
)


def bell(point: dict[str, float]) -> float:
    return math.exp(-20 * point["x"] ** 2)


def square(x: float) -> float:
    return x * x


def history(run: SimulatedRun) -> list[Any]:
    """All that a journal would hold."""
    return [
        (r.index, r.seq, r.outcome, r.worker, r.attempt, r.started.hex(), r.finished.hex(), r.input, str(r.error))
        for r in run.events
    ]


# -- the same again ---------------------------------------------------------------------------------------------------

LATENCIES: dict[str, Latency] = {
    "constant": Constant(3.0),
    "half-normal": HalfNormal(3.0, 1.0),
    "exponential": Exponential(3.0),
    "pareto": Pareto(1.0, 1.5),
    "of the point": OfPoint(lambda point: 2.0 + point["x"]),
    "recorded": Recorded([1.0, 2.0, 6.0]),
    "recorded, in order": Recorded([1.0, 2.0, 6.0], in_order=True),
}

LEARNERS: dict[str, Callable[[], Any]] = {
    "random": lambda: Random(LINE),
    "adaptive": lambda: AdaptiveLearner(adaptive.Learner1D(None, (-1, 1)), ["x"]),
    "in order": lambda: InOrder(AdaptiveLearner(adaptive.Learner1D(None, (-1, 1)), ["x"]), ahead=12),
}


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("learner", LEARNERS)
def test_the_same_seed_gives_the_same_history_to_the_bit(learner: str, latency: str) -> None:
    def run(seed: int) -> SimulatedRun:
        master = SimulatedMaster(bell, 5, LATENCIES[latency], ROUGH, seed, parameters=LINE)
        loop = Loop(master, LEARNERS[learner](), goal=80, retries=1, max_failures=None)
        loop.run()
        run = master.runs["run-1"]
        assert loop.told == 80
        return run

    one, other, another = run(1), run(1), run(2)
    assert history(one) == history(other)
    assert one.asks == other.asks
    assert history(one) != history(another)


def test_the_order_of_telling_follows_from_the_durations() -> None:
    """So an adaptive learner asks other points of a laboratory of other durations, but for one told in order."""

    def asked(learner: str, latency: Latency) -> list[float]:
        master = SimulatedMaster(bell, 4, latency, parameters=LINE)
        Loop(master, LEARNERS[learner](), goal=60, in_flight=12).run()
        return [result.input["x"] for result in sorted(master.runs["run-1"].events, key=lambda result: result.index)]

    assert asked("adaptive", HalfNormal(3.0)) != asked("adaptive", Exponential(3.0))
    assert asked("in order", HalfNormal(3.0)) == asked("in order", Exponential(3.0))


def test_what_goes_wrong_changes_no_duration_but_by_what_it_lets_happen() -> None:
    def durations(failures: Failures) -> list[float]:
        master = SimulatedMaster(square, 3, Exponential(3.0), failures, seed=4)
        run = master.open()
        run.tasks.put_many([1.0] * 50)
        return [r.finished - r.started for r in sorted(run.results, key=lambda r: r.index)]

    assert durations(Failures(fail=0.5)) == durations(Failures())


# -- virtual time -----------------------------------------------------------------------------------------------------


def test_workers_take_what_comes_first_and_time_jumps_from_end_to_end() -> None:
    master = SimulatedMaster(square, workers=2, latency=Recorded([3.0, 1.0, 1.0, 4.0], in_order=True))
    run = master.open()
    assert list(run.tasks.put_many([0.0, 1.0, 2.0, 3.0])) == [0, 1, 2, 3]
    assert master.clock() == 0
    seen = [(r.index, r.started, r.finished, r.worker, r.output) for r in run.results]
    assert seen == [
        (1, 0.0, 1.0, "worker-1", 1.0),
        (2, 1.0, 2.0, "worker-1", 4.0),
        (0, 0.0, 3.0, "worker-0", 0.0),
        (3, 2.0, 6.0, "worker-1", 9.0),
    ]
    assert run.clock() == 6.0
    assert master.statistics().idle == pytest.approx(1 - 9 / 12)


def test_a_faster_worker_takes_more() -> None:
    master = SimulatedMaster(square, workers=[1.0, 1.0, 4.0], latency=HalfNormal(1.0))
    run = master.open()
    run.tasks.put_many([1.0] * 600)
    workers = [result.worker for result in run.results]
    assert workers.count("worker-2") > 1.7 * (workers.count("worker-0") + workers.count("worker-1"))


@pytest.mark.parametrize(
    ("latency", "mean"),
    [
        (Constant(2.0), 2.0),
        (HalfNormal(2.0), 2.0),
        (HalfNormal(2.0, least=1.5), 2.0),
        (Exponential(2.0, least=1.0), 2.0),
        (Pareto(1.0, 5.0), 1.25),
        (Recorded([1.0, 4.0, 4.0]), 3.0),
    ],
    ids=repr,
)
def test_durations_have_the_mean_that_was_asked_for(latency: Latency, mean: float) -> None:
    master = SimulatedMaster(square, 1, latency)
    run = master.open()
    run.tasks.put_many([1.0] * 20_000)
    durations = [result.finished - result.started for result in run.results]
    assert statistics.fmean(durations) == pytest.approx(mean, rel=0.05)
    assert min(durations) >= getattr(latency, "least", 0.0) - 1e-9


def test_a_learners_thinking_passes_where_it_is_asked_for() -> None:
    def spans(thinking: bool | float) -> list[float]:
        master = SimulatedMaster(square, workers=1, latency=2.0, thinking=thinking)
        run = master.open()
        run.tasks.put(1.0)
        for k in range(4):
            run.results.get()
            run.tasks.put(float(k))
        return [b.started - a.finished for a, b in zip(run.events, [*run.events[1:], run.results.get()])]

    assert spans(False) == [0.0] * 4, "another point is there in no time"
    assert spans(0.5) == [0.5] * 4, "the only worker is idle while the learner thinks"
    assert all(0 < span < 1 for span in spans(True))


def test_results_that_come_while_the_learner_thinks_wait_for_it() -> None:
    master = SimulatedMaster(square, workers=4, latency=1.0, thinking=10.0)
    run = master.open()
    run.tasks.put_many([1.0] * 8)
    run.results.get()
    assert master.clock() == 11.0
    assert [run.results.get().finished for _ in range(7)] == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert master.clock() == 81.0


def test_time_outs_are_the_simulations() -> None:
    master = SimulatedMaster(square, workers=1, latency=100.0)
    run = master.open()
    with pytest.raises(TimeoutError, match="no result within 5 s"):
        run.results.get(5.0)
    run.tasks.put(2.0)
    with pytest.raises(TimeoutError):
        run.results.get(60.0)
    assert run.clock() == 65.0
    result = run.results.get(60.0)
    assert (result.started, run.clock(), list(result)) == (5.0, 105.0, [2.0, 4.0])
    with pytest.raises(CallerError, match="nothing is in flight, so no result would ever come"):
        run.results.get()


def test_goals_of_time_are_the_simulations() -> None:
    master = SimulatedMaster(bell, 8, Exponential(3600.0), parameters=LINE, began=datetime(2026, 1, 1))
    loop = Loop(master, Sobol(master.parameters), goal=seconds(1000 * 3600))
    loop.run()
    assert loop.elapsed == pytest.approx(1000 * 3600)
    assert loop.told == pytest.approx(8000, rel=0.05), "a thousand hours of eight heads"
    assert loop.statistics().rate == pytest.approx(8 / 3600, rel=0.5)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def outcomes(failures: Failures, n: int = 400, **settings: Any) -> tuple[list[Result], Any]:
    master = SimulatedMaster(square, 4, Exponential(4.0), failures, seed=3, **settings)
    run = master.open()
    run.tasks.put_many([1.0] * n)
    results = list(run.results)
    assert sorted(result.index for result in results) == list(range(n)), "each ends, and once"
    assert [result.seq for result in results] == list(range(n))
    return results, master.statistics()


def test_evaluations_fail_as_often_as_was_said() -> None:
    results, seen = outcomes(Failures(fail=0.25))
    assert seen.failed == pytest.approx(100, abs=30)
    assert seen.failed + seen.done == 400
    assert {result.error.kind for result in results if isinstance(result.error, TaskFailed)} == {"SimulatedFailure"}


def test_a_task_whose_worker_died_is_evaluated_again_by_another() -> None:
    results, seen = outcomes(Failures(lifetime=20.0, repair=Constant(50.0), notice=3.0), max_attempts=10)
    assert seen.deaths == seen.repeated > 30
    assert seen.failed == 0
    assert max(result.attempt for result in results) > 1
    assert seen.idle > 0.4, "the dead are away for longer than they live"


def test_after_so_many_attempts_it_has_failed() -> None:
    results, _ = outcomes(Failures(lifetime=8.0, repair=Constant(1.0), notice=1.0), max_attempts=2)
    failed = [result for result in results if result.outcome == "failed"]
    assert failed
    assert {result.attempt for result in failed} == {2}
    assert str(failed[0].error) == "WorkerLost: its worker was lost, or its answer, at each of 2 attempts"
    with pytest.raises(TaskFailed):
        _ = failed[0].output


def test_lost_answers_are_asked_for_again() -> None:
    _, seen = outcomes(Failures(lost=0.2, notice=2.0), max_attempts=20)
    assert seen.lost == seen.repeated > 50
    assert seen.done == 400


def test_late_answers_count_until_a_later_attempt_has_begun() -> None:
    in_time, seen = outcomes(Failures(late=0.2, lateness=Constant(2.0), notice=5.0))
    assert seen.late > 50
    assert (seen.repeated, seen.ignored) == (0, 0)
    assert {round(result.finished - result.started) > 1 for result in in_time} == {True, False}
    _, seen = outcomes(Failures(late=0.2, lateness=Constant(60.0), notice=5.0), max_attempts=20)
    assert seen.repeated == seen.late > 50
    assert seen.ignored > 40


def test_an_evaluation_that_raises_has_failed_with_its_traceback() -> None:
    def picky(x: float) -> float:
        if x > 1:
            raise ValueError(f"{x} is too large")
        return x

    run = SimulatedMaster(picky).open()
    run.tasks.put(2.0)
    error = run.results.get().error
    assert isinstance(error, TaskFailed)
    assert (error.kind, error.args[0]) == ("ValueError", "2.0 is too large")
    assert "in picky" in error.traceback


def test_what_was_cancelled_arrives_as_a_result_and_its_worker_goes_on() -> None:
    run = SimulatedMaster(square, workers=1, latency=1.0).open()
    run.tasks.put_many([1.0, 2.0, 3.0])
    run.results.get()
    assert run.cancel([1]) == 1
    assert run.cancel([0, 1]) == 0
    cancelled, done = run.results
    assert (cancelled.outcome, done.outcome, done.finished) == ("cancelled", "done", 3.0)
    assert isinstance(cancelled.error, TaskCancelled)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    n=st.integers(1, 40),
    workers=st.integers(1, 5),
    fail=st.floats(0, 0.5),
    lost=st.floats(0, 0.4),
    late=st.floats(0, 0.5),
    lifetime=st.sampled_from([2.0, 10.0, math.inf]),
    notice=st.sampled_from([0.0, 1.0, 20.0]),
    attempts=st.integers(1, 4),
)
def test_whatever_goes_wrong_each_task_ends_once(
    seed: int,
    n: int,
    workers: int,
    fail: float,
    lost: float,
    late: float,
    lifetime: float,
    notice: float,
    attempts: int,
) -> None:
    failures = Failures(fail, lifetime, Exponential(3.0), lost, late, Exponential(5.0), notice)
    master = SimulatedMaster(square, workers, Exponential(2.0), failures, seed, max_attempts=attempts)
    run = master.open()
    for k in range(n):
        run.tasks.put(float(k))
        if k % 3 == 2:
            run.results.get()
    for _ in run.results:
        pass
    assert sorted(result.index for result in run.events) == list(range(n))
    assert all(1 <= result.attempt <= attempts for result in run.events)
    times = [result.finished for result in run.events]
    assert times == sorted(times)
    assert run.open_tasks == 0


# -- a Master like others ---------------------------------------------------------------------------------------------


def test_it_takes_what_a_master_takes() -> None:
    master = SimulatedMaster(lambda point: {"y": point["x"], "z": 1}, parameters=LINE, outputs={"y": {}, "z": {}})
    assert isinstance(master, Target)
    run = master.open()
    with pytest.raises(InvalidTask, match=r"'simulated'.*'x'.*2"):
        run.tasks.put({"x": 2})
    with pytest.raises(InvalidTask, match="'w'"):
        run.tasks.put_many([{"x": 0.5}, {"w": 0.5}])
    assert run.next_index == 0, "all or none"
    run.tasks.put({"x": 1})
    result = run.results.get()
    assert (result.input, result.output) == ({"x": 1.0}, {"y": 1.0, "z": 1.0})
    with pytest.raises(InvalidTask, match="type"):
        SimulatedMaster(square).open().tasks.put(object())


def test_points_are_what_they_were_when_they_were_put() -> None:
    run = SimulatedMaster(lambda point: point["x"][0]).open()
    point = {"x": [1.0]}
    run.tasks.put(point)
    point["x"][0] = 2.0
    assert run.results.get().output == 1.0


def test_outputs_are_those_that_are_declared() -> None:
    run = SimulatedMaster(lambda x: {"y": x} if x else "none", outputs={"y": {"max": 5}}).open()
    run.tasks.put_many([2.0, 0.0, 7.0])
    done, text, large = run.results
    assert done.output == 2.0
    assert "'none'" in str(text.error)
    assert "InvalidOutput" in str(large.error)


def test_a_run_opened_again_goes_on_as_if_nothing_had_been() -> None:
    def power_cut(loop: Loop, result: Result) -> None:
        if loop.told == 10:
            raise KeyboardInterrupt

    disturbed, undisturbed = (SimulatedMaster(bell, latency=Exponential(3.0), parameters=LINE) for _ in range(2))
    first = Loop(disturbed, LEARNERS["adaptive"](), goal=40, name="night", in_flight=6, hook=power_cut)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = Loop(disturbed, LEARNERS["adaptive"](), goal=40, name="night")
    again.run()
    Loop(undisturbed, LEARNERS["adaptive"](), goal=40, name="night", in_flight=6).run()
    assert again.learner.data[:10] == first.learner.data  # type: ignore[attr-defined]
    assert history(disturbed.runs["night"]) == history(undisturbed.runs["night"])
    with pytest.raises(Conflict, match="seed"):
        disturbed.open("night", seed=1)


def test_runs_of_one_simulation_share_its_workers() -> None:
    master = SimulatedMaster(square, workers=1, latency=1.0)
    one, other = master.open("one"), master.open("other")
    assert one.seed != other.seed
    one.tasks.put(1.0)
    other.tasks.put(2.0)
    one.tasks.put(3.0)
    assert [result.finished for result in one.results] == [1.0, 3.0]
    assert other.results.get().finished == 2.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": 0}, "number of workers must be a whole number"),
        ({"workers": [1.0, 0.0]}, "speeds of workers must be numbers above 0"),
        ({"latency": -1.0}, "latency must be a number of seconds, 0 or more, not -1"),
        ({"failures": 1.5}, "fail of Failures is a probability, a number from 0 to 1, not 1.5"),
        ({"thinking": -1.0}, "thinking must be"),
        ({"f": 1}, "evaluates with a function, not with a int"),
        ({"latency": lambda x: "soon"}, "the latency of point 1.0 must be a number of seconds"),
    ],
)
def test_what_is_given_wrongly_is_said(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CallerError, match=message):
        SimulatedMaster(**{"f": square, **wrong}).open().tasks.put(1.0)
    for latency in (
        lambda: HalfNormal(1.0, 2.0),
        lambda: Pareto(1.0, 0.0),
        lambda: Recorded([]),
        lambda: Recorded([math.nan]),
        lambda: Failures(lost=0.6, late=0.6),
        lambda: Failures(lifetime=0.0),
        lambda: Failures(notice=math.inf),
    ):
        with pytest.raises(CallerError):
            latency()


@pytest.mark.parametrize("outputs", [(), {"loss": {}}])
def test_a_function_that_yields_is_taken_for_what_it_returns(outputs: Any) -> None:
    def train(point: Any) -> Any:
        yield {"epoch": 0}
        if point["x"] > 1:
            raise ArithmeticError("too large")
        return 2 * point["x"]

    run = SimulatedMaster(train, parameters={"x": (0, 9)}, outputs=outputs).open()
    run.tasks.put_many([{"x": 0.5}, {"x": 2.0}])
    done, failed = sorted(run.results, key=lambda result: result.index)
    assert failed.error is not None
    assert (done.output, failed.outcome, failed.error.args[0]) == (1.0, "failed", "too large")


@pytest.mark.parametrize("given", ["slow/a2", {"a": 1.0}, object(), [[1.0], [2.0, 3.0]]])
def test_what_are_no_durations_is_said_with_how_a_runs_are_had(given: Any) -> None:
    with pytest.raises(CallerError, match=r"not .*durations_of\(lab, run\).*durations_in\(\"run\.csv\"\)"):
        Recorded(given)
