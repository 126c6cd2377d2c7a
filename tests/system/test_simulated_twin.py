"""One story at a Master of a daemon and at a simulated one: what a program sees of both is the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.waiting import PATIENCE

from taskmaster.bus.errors import CallerError, Conflict, Fenced, InvalidTask, RunClosed, TaskFailed, UnknownRun
from taskmaster.learners import Loop, SimulatedMaster, WorkMaster
from taskmaster.learners.points import Random
from taskmaster.learners.replay import replay

LINE = {"x": (-9.0, 99.0)}


def root(point: dict[str, float]) -> float:
    if point["x"] < 0:
        raise ValueError(f"{point['x']} has no root")
    return float(point["x"] ** 0.5)


@pytest.fixture(scope="module", params=["a daemon's", "simulated"])
def master(request: pytest.FixtureRequest) -> Iterator[Any]:
    """With one worker, so that what ends first is the same at both."""
    if request.param == "simulated":
        yield SimulatedMaster(root, workers=1, parameters=LINE)
    else:
        with WorkMaster(root, workers=1, parameters=LINE) as made:
            made.wait_for_slots(PATIENCE)
            yield made.master


def outcomes(run: Any) -> list[tuple[int, str]]:
    return [(result.index, result.outcome) for result in run.results]


def test_points_are_mapped_in_whichever_form_they_come(master: Any) -> None:
    assert master.map([{"x": 4}, {"x": 9.0}]) == [2.0, 3.0]
    assert master.map(np.array([[4.0], [9.0]])) == master.map({"x": [4.0, 9.0]}) == master.map(np.array([4.0, 9.0]))
    assert master.map([]) == []
    for wrong in ([{"x": 100}], [{"y": 1}], {"y": [1.0]}, np.ones((2, 3))):
        with pytest.raises(InvalidTask):
            master.map(wrong)
    with pytest.raises(TaskFailed, match=r"ValueError: -1\.0 has no root"):
        master.map([{"x": 1}, {"x": -1}, {"x": 2}])
    assert {result.output for result in master.imap_unordered([{"x": 1}, {"x": 4}])} == {1.0, 2.0}


def test_a_paused_run_waits_is_cancelled_and_goes_on(master: Any) -> None:
    for switch in (run := master.open(), master):
        switch.pause()
        first = run.next_index
        assert run.tasks.put_many([{"x": k} for k in range(4)]) == range(first, first + 4)
        with pytest.raises(TimeoutError, match=r"no result within 0.1 s"):
            run.results.get(timeout=0.1)
        assert run.cancel([first + 1, first + 1, first + 2, 99], queued=True) == 2
        assert run.cancel([]) == run.cancel([first + 1]) == 0
        with pytest.raises(CallerError, match=r"the index of a task must be a whole number from 0 to .*, not -1"):
            run.cancel([-1])
        switch.resume()
        assert sorted(outcomes(run)) == [
            (first, "done"), (first + 1, "cancelled"), (first + 2, "cancelled"), (first + 3, "done"),
        ]  # fmt: skip
    run.close()


def test_the_highest_priority_goes_first_and_equals_take_turns(master: Any) -> None:
    runs = {name: master.open(f"{name} of several", priority=priority) for name, priority in (("a", 0), ("b", 5))}
    master.pause()
    for run in runs.values():
        run.tasks.put_many([{"x": 1}] * 3)
        run.flush()
    runs["a"].prioritise(7)
    master.resume()
    ends = {name: [result.finished for result in run.results] for name, run in runs.items()}
    assert max(ends["a"]) <= min(ends["b"])
    for run in runs.values():
        run.close()


def test_who_reads_leaves_it_to_who_writes_and_the_newest_writes(master: Any) -> None:
    former = master.open("shared", seed=3, metadata={"why": "to see"})
    former.tasks.put_many([{"x": 1}, {"x": -1}])
    assert former.results.get(PATIENCE).seq == 0
    reader = master.watch("shared")
    assert outcomes(reader) == [(0, "done"), (1, "failed")]
    assert (former.told, reader.told, reader.open_tasks) == (0, 1, 0)
    for put in (reader.tasks.put, reader.tasks.put_nowait):
        with pytest.raises(RunClosed, match=r"was opened for reading; open\(\) it to put tasks"):
            put({"x": 1})
    latter = master.open("shared", since="now")
    assert (latter.seed, latter.metadata, latter.next_index, latter.open_tasks) == (3, {"why": "to see"}, 2, 0)
    with pytest.raises(Fenced, match="opened again by another writer"):
        former.introduce({})
    latter.introduce({"learner": "the second"})
    assert [(one.first, one.metadata) for one in latter.writers()] == [(0, {}), (2, {"learner": "the second"})]
    latter.tasks.put({"x": 4})
    assert latter.results.get(PATIENCE).output == 2.0
    latter.close()
    with pytest.raises(RunClosed, match="closed here; open it by name to go on"):
        latter.tasks.put({"x": 1})
    with pytest.raises(RunClosed, match="closed here"):
        latter.results.get(PATIENCE)
    assert len([1 for _ in reader.results.follow()]) == 1
    with pytest.raises(RunClosed, match="is closed, and all its results were taken"):
        reader.results.get(PATIENCE)
    reader.detach()
    with pytest.raises(UnknownRun):
        master.watch("nobody's")
    with pytest.raises(Conflict):
        master.open("shared", seed=4)


def test_a_fork_begins_with_the_same_and_goes_on_the_same(master: Any) -> None:
    loop = Loop(master, Random(LINE), goal=12, in_flight=3, seed=5, name="night", max_failures=None)
    run = loop.run()
    made = run.fork("morning", at=7)
    assert run.fork("morning", at=7).run == made.run
    assert (made.name, made.seed, made.priority, made.closed) == ("morning", 5, 0, False)
    assert {key: made.metadata[key] for key in ("forked_from", "forked_at")} == {
        "forked_from": f"{master.name}/night",
        "forked_at": "7",
    }
    assert (made.tasks, made.events) == (10, 10), "the tenth was put when the seventh result had been told"
    with pytest.raises(Conflict, match="has a run 'night' already; choose another name"):
        run.fork("night")
    with pytest.raises(CallerError, match="it cannot be forked at 1000"):
        run.fork("noon", at=1000)
    told = [(result.index, result.outcome, result.input) for result in master.watch("night").results]
    assert [(result.index, result.outcome, result.input) for result in master.watch("morning").results] == told[:10]
    assert replay(Random(LINE), master.watch("morning")).divergence is None
    again = Loop(master, Random(LINE), goal=12, in_flight=3, name="morning", max_failures=None)
    forked = again.run()
    assert again.divergence is None
    points = [(result.index, result.outcome, result.input) for result in forked.history().results()]
    assert points == [(result.index, result.outcome, result.input) for result in run.history().results()][: len(points)]
    assert [(one.first, one.forked) for one in forked.writers()] == [(0, True), (10, False)]
