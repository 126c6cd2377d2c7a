"""What there is at a Master there is at a simulated one, and means the same in virtual time."""

from __future__ import annotations

import inspect
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers.learner_suite import MIXED, evaluate

from taskmaster.bus.errors import CallerError, Conflict, InvalidTask, TaskFailed, UnknownRun
from taskmaster.learners.client import Master
from taskmaster.learners.evolution import Evolution
from taskmaster.learners.loop import Loop
from taskmaster.learners.replay import replay
from taskmaster.learners.run import Results, Run, Tasks
from taskmaster.learners.simulate import Constant, Exponential, SimulatedMaster, SimulatedRun
from taskmaster.learners.simulate.absent import ABSENT
from taskmaster.learners.simulate.run import SimulatedResults, SimulatedTasks

# -- the same names and arguments -------------------------------------------------------------------------------------

PAIRS = [(Master, SimulatedMaster), (Run, SimulatedRun), (Tasks, SimulatedTasks), (Results, SimulatedResults)]
#: Arguments that are others, and why.
OTHER_ARGUMENTS: dict[tuple[type, str], str] = {}


def public(kind: type) -> set[str]:
    """What it has: what its classes define, and what its objects are given when they are made."""
    made = [inspect.getsource(vars(one)["__init__"]) for one in kind.__mro__[:-1] if "__init__" in vars(one)]
    given = re.findall(r"^ +self\.([a-z]\w*)(?:: [^=]+)? = ", "\n".join(made), re.MULTILINE)
    return {name for name in (*filter(partial(hasattr, kind), dir(kind)), *given) if not name.startswith("_")}


def arguments(function: Any) -> list[tuple[str, Any, Any]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(("real", "simulated"), PAIRS)
def test_it_has_what_the_real_one_has(real: type, simulated: type) -> None:
    absent = ABSENT.get(real.__name__, {})
    assert public(real) - public(simulated) == set(absent), "what is missing is in the table, and nothing else"
    for name in public(real) & public(simulated):
        theirs, ours = getattr(real, name, None), getattr(simulated, name, None)
        assert callable(theirs) == callable(ours), name
        if inspect.isfunction(theirs) and (real, name) not in OTHER_ARGUMENTS:
            assert arguments(ours) == arguments(theirs), name


def test_what_it_has_not_it_says_with_what_there_is_instead() -> None:
    lab = SimulatedMaster(square)
    things: dict[str, Any] = {"Master": lab, "Run": lab.run, "Results": lab.results}
    assert things.keys() == ABSENT.keys()
    for kind, thing in things.items():
        for name, why in ABSENT[kind].items():
            assert not hasattr(thing, name)
            with pytest.raises(AttributeError) as raised:
                getattr(thing, name)
            assert str(raised.value) == f"{type(thing).__name__!r} object has no attribute {name!r}: {why}"


# -- what it means ----------------------------------------------------------------------------------------------------


def square(x: float) -> float:
    if x == 13:
        raise ValueError("not thirteen")
    return x * x


def test_map_has_the_outputs_in_the_order_of_the_points() -> None:
    lab = SimulatedMaster(square, workers=3, latency=Exponential(2.0), seed=5)
    assert lab.map(range(10)) == [x * x for x in range(10)]
    assert lab.clock() > 0
    assert lab.map([]) == []


def test_map_raises_what_failed_and_cancels_the_rest() -> None:
    lab = SimulatedMaster(square, workers=1)
    with pytest.raises(TaskFailed, match="not thirteen"):
        lab.map([1, 13, 2, 3])
    assert (lab.statistics().done, lab.statistics().failed, lab.statistics().cancelled) == (1, 1, 2)


def test_results_come_as_they_do_and_nobody_waits_for_those_that_are_left() -> None:
    lab = SimulatedMaster(square, workers=2, latency=lambda x: 10.0 - x)
    results = lab.imap_unordered([1.0, 5.0, 6.0])
    assert next(results).input == 5.0
    results.close()  # type: ignore[attr-defined]
    assert lab.statistics().cancelled == 2


def test_a_masters_own_channels_are_those_of_one_run() -> None:
    lab = SimulatedMaster(square)
    lab.tasks.put(3.0)
    assert lab.results.get().output == 9.0
    assert lab.run is lab.run


def test_while_it_is_paused_nothing_begins_and_what_has_begun_ends() -> None:
    lab = SimulatedMaster(square, workers=2, latency=Constant(1.0))
    run = lab.open()
    run.tasks.put_many([1.0, 2.0, 3.0])
    lab.pause()
    assert [run.results.get().output, run.results.get().output] == [1.0, 4.0]
    with pytest.raises(CallerError, match=r"its Master is paused, so no result would ever come; resume\(\) that"):
        run.results.get()
    with pytest.raises(TimeoutError):
        run.results.get(timeout=5.0)
    lab.resume()
    result = run.results.get()
    assert (result.output, result.started, result.finished) == (9.0, 6.0, 7.0)


def test_a_run_that_is_paused_lets_others_pass() -> None:
    lab = SimulatedMaster(square, workers=1, latency=Constant(1.0))
    first, second = lab.open("first"), lab.open("second")
    first.tasks.put_many([1.0, 2.0])
    second.tasks.put(5.0)
    first.pause()
    assert (second.results.get().finished, len(first.events)) == (2.0, 1)
    first.results.get()
    with pytest.raises(CallerError, match="it is paused"):
        first.results.get()
    first.resume()
    assert first.results.get().finished == 3.0


def test_the_run_of_the_highest_priority_goes_first() -> None:
    lab = SimulatedMaster(square, workers=1, latency=Constant(1.0))
    runs = {name: lab.open(name, priority=priority) for name, priority in (("a", 0), ("b", 1), ("c", 1), ("d", -1))}
    for run in runs.values():
        run.tasks.put_many([1.0, 2.0])
    runs["a"].prioritise(-2)
    for run in runs.values():
        for _ in run.results:
            pass
    ends = {name: [result.finished for result in run.events] for name, run in runs.items()}
    assert ends == {"a": [1.0, 8.0], "b": [2.0, 4.0], "c": [3.0, 5.0], "d": [6.0, 7.0]}, "equals share"
    with pytest.raises(CallerError, match="a priority"):
        runs["a"].prioritise(2**31)


def test_workers_come_at_once_and_go_when_they_have_ended_what_they_are_at() -> None:
    lab = SimulatedMaster(square, workers=2, latency=Constant(1.0))
    run = lab.open()
    run.tasks.put_many([float(k) for k in range(8)])
    lab.set_workers(4)
    assert lab.slots == 4
    for _ in range(4):
        assert run.results.get().finished == 1.0
    lab.set_workers(1)  # four more have begun
    assert [run.results.get().finished for _ in range(4)] == [2.0] * 4
    run.tasks.put_many([1.0, 2.0])
    assert [run.results.get().finished for _ in range(2)] == [3.0, 4.0]
    lab.set_workers(0)
    run.tasks.put(1.0)
    with pytest.raises(CallerError, match=r"there are no workers, .*; set_workers\(\)"):
        run.results.get()
    lab.set_workers(3)
    assert run.results.get().worker in {"worker-0", "worker-1", "worker-2", "worker-3"}
    # Seconds of workers: 4 at work up to 1 and up to 2, then 1 up to 4, none, and 3 up to 5, of which one was at work.
    assert lab.statistics().idle == pytest.approx(1 - 11 / 13)


def test_what_of_a_run_waits_for_a_worker_is_cancelled_and_the_rest_goes_on() -> None:
    run = SimulatedMaster(square, workers=1).open()
    run.tasks.put_many([1.0, 2.0, 3.0])
    assert run.cancel(queued=True) == 2
    assert [result.outcome for result in run.results] == ["cancelled", "cancelled", "done"]


def test_columns_are_put_as_they_are_at_a_master() -> None:
    lab = SimulatedMaster(lambda point: point["a"] + point["b"], parameters={"a": (0, 9), "b": (0, 9)})
    run = lab.open()
    assert run.tasks.put_many({"a": [1.0, 2.0], "b": np.array([3.0, 4.0])}) == range(2)
    assert run.tasks.put_nowait({"a": 1.0, "b": 1.0}) == 2
    assert [result.output for result in run.results] == [4.0, 6.0, 2.0]
    with pytest.raises(InvalidTask, match="the columns differ in length"):
        run.tasks.put_many({"a": [1.0], "b": [1.0, 2.0]})


def test_a_run_is_watched_by_its_name_from_its_first_result_or_from_now_on() -> None:
    lab = SimulatedMaster(square)
    run = lab.open("night")
    run.tasks.put(2.0)
    run.results.get()
    run.close()
    assert [result.output for result in lab.watch("night").results.follow()] == [4.0]
    late = lab.watch("night", since="now")
    assert (late.results.get_nowait(), late.open_tasks) == (None, 0)
    with pytest.raises(UnknownRun, match="no run 'nigth'; did you mean 'night'"):
        lab.watch("nigth")
    with pytest.raises(CallerError, match="since must be"):
        lab.open("night", since="yesterday")


# -- forks ------------------------------------------------------------------------------------------------------------


def told(run: SimulatedRun) -> list[Any]:
    return [(r.index, r.outcome, r.started.hex(), r.finished.hex(), r.worker, str(r.input)) for r in run.events]


def walked(goal: int = 40) -> SimulatedRun:
    lab = SimulatedMaster(evaluate, workers=3, latency=Exponential(1.0), seed=4, parameters=MIXED)
    Loop(lab, Evolution(MIXED, output="scalar"), goal=goal, in_flight=5, name="night").run()
    return lab.open("night")


def forked(run: SimulatedRun, name: str, at: int | None = None) -> SimulatedRun:
    return run.master.watch(run.fork(name, at).name)


def test_a_fork_has_the_beginning_and_nothing_is_evaluated_again() -> None:
    run = walked()
    evaluated = run.master.statistics().done
    fork = forked(run, "morning", at=20)
    assert told(fork)[:20] == told(run)[:20]
    assert run.master.statistics().done - evaluated == len(fork.events), "what was done counts in both"
    assert (fork.seed, fork.metadata["forked_from"], fork.metadata["forked_at"]) == (run.seed, "simulated/night", "20")
    put_by_then = [ask.offset for ask in run.asks if ask.after >= 20]
    assert fork.next_index == (put_by_then[0] if put_by_then else run.next_index) < run.next_index
    outcome = replay(Evolution(MIXED, output="scalar"), fork.history())
    assert outcome.divergence is None


def test_a_loop_goes_on_from_a_fork() -> None:
    run = walked()
    fork = forked(run, "morning", at=20)
    loop = Loop(run.master, Evolution(MIXED, output="scalar"), goal=60, in_flight=5, name="morning")
    loop.run()
    assert told(fork)[:20] == told(run)[:20]
    assert len(fork.events) >= 60


def test_what_was_open_is_evaluated_for_the_fork_too() -> None:
    lab = SimulatedMaster(square, workers=2, latency=Constant(1.0))
    run = lab.open("a")
    run.tasks.put_many([1.0, 2.0, 3.0])
    run.results.get()
    fork = run.master.open(run.fork("b", at=1).name)
    assert [result.output for result in fork.results] == [1.0, 4.0, 9.0]
    assert sum(1 for _ in run.results) == 2
    assert [result.finished for result in fork.events] == [1.0, 2.0, 3.0]


def test_a_fork_that_cannot_be_is_said() -> None:
    run = walked(10)
    with pytest.raises(Conflict, match="a run 'night' already"):
        run.fork("night")
    with pytest.raises(CallerError, match="has 10 events, it cannot be forked at 10000"):
        run.fork("other", at=10_000)
    fork = forked(run, "all")
    assert told(fork) == told(run)
    begun = forked(run, "begun", at=0)
    assert (begun.next_index, len(begun.events)) == (5, 5), (
        "what was put before anything was told, with what became of it"
    )
