"""Tasks in doubt: what is kept of them, what is told of them, and what a start makes of the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.heart import Conversation, Heart, spec
from hypothesis import given, strategies as st

from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Field
from taskmaster.bus.status import HeldTask
from taskmaster.bus.table import Table, pack_columns, pack_values
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.held import Doubt, Held
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import Runs


def lose(heart: Heart, run: Conversation, *values: Any, reason: str = "killed by SIGKILL") -> None:
    """Put these, and have each lose its worker. Nobody is left to evaluate."""
    for value in values:
        hand = heart.hand(heart.core.runs[run.run].master)
        message, table = run.submission([value])
        run.next_index += 1
        heart.say(message, table)
        hand.die(hand.begun(hand.assignments[0], 1), reason=reason)


def indices(answer: m.HeldList) -> list[tuple[int, int]]:
    return [(task.run, task.index) for task in answer.tasks]


# -- what is kept -----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(1, 8))))
def test_each_task_is_as_it_was_lost_last(steps: list[tuple[bool, int, int]]) -> None:
    held, model = Held(), dict[int, int]()
    for number, (adds, low, n) in enumerate(steps):
        if adds:
            held.add(Doubt(low, low + n, number, "w", 0.0, "lost"))
            model.update(dict.fromkeys(range(low, low + n), number))
        else:
            held.remove(low, low + n)
            model = {index: what for index, what in model.items() if not low <= index < low + n}
        assert [(index, doubt.attempt) for index, doubt in held.after(-1)] == sorted(model.items())
        assert [index for index, _ in held.after(low)] == sorted(index for index in model if index > low)
        assert len(held) == len(model)
        assert {index for index in range(30) if index in held} == set(model)
        assert [index for start, stop in held for index in range(start, stop)] == sorted(model)


# -- what is told -----------------------------------------------------------------------------------------------------


def test_a_list_says_what_is_known_of_each() -> None:
    heart = Heart(spec(on_lost="hold"), spec("other", on_lost="hold"))
    night, day = heart.open(name="night"), heart.open("other", name="day")
    heart.now = 2000.0
    lose(heart, night, 5.0, (1.0, 2j), reason="killed by SIGSEGV")
    lose(heart, day, {"n": 4, "tip": None})
    told = heart.held()
    workers = [task.worker for task in told.tasks]
    assert told.tasks == (
        HeldTask(night.run, "svm", "night", 0, 1, workers[0], 2000.0, "killed by SIGSEGV", 5.0),
        HeldTask(night.run, "svm", "night", 1, 1, workers[1], 2000.0, "killed by SIGSEGV", (1.0, 2j)),
        HeldTask(day.run, "other", "day", 0, 1, workers[2], 2000.0, "killed by SIGKILL", {"n": 4, "tip": None}),
    )
    assert not told.more
    assert all(worker.startswith("svm-") for worker in workers[:2])
    assert indices(heart.held(master="other")) == indices(heart.held(run=day.run)) == [(day.run, 0)]
    assert indices(heart.held(after=(night.run, 0))) == [(night.run, 1), (day.run, 0)]
    assert heart.held(master="svm", run=day.run).tasks == ()

    night.resolve(0, "fail")
    assert indices(heart.held(master="svm")) == [(night.run, 1)]
    night.resolve(1, "retry")
    hand = heart.hand()
    hand.die(hand.begun(hand.assignments[0], 1), reason="killed again")
    (again,) = heart.held(master="svm").tasks
    assert (again.index, again.attempt, again.reason) == (1, 2, "killed again")


def test_who_asks_for_a_run_or_master_that_there_is_not_is_told_so() -> None:
    heart = Heart(spec(on_lost="hold"))
    assert heart.ask(m.ListHeld(9, "sfm"), m.Refused).code == "unknown_master"
    assert heart.ask(m.ListHeld(9, run=7), m.Refused).code == "unknown_run"


def test_inputs_are_told_by_the_names_of_their_parameters() -> None:
    heart = Heart(spec(on_lost="hold", parameters=[Field("x"), Field("curve", shape=(-1,))]))
    run, hand = heart.open(), heart.hand()
    table = pack_columns({"x": [2.5], "curve": np.arange(3.0).reshape(1, 3)}, 1)
    heart.say(m.Submit(run.run, run.writer, 0, 1, table.layout), table)
    hand.die(hand.begun(hand.assignments[0], 1))
    (task,) = heart.held().tasks
    assert task.input["x"] == 2.5
    assert task.input["curve"].tolist() == [0, 1, 2]


def test_a_list_of_many_comes_in_parts() -> None:
    heart = Heart(spec(on_lost="hold"))
    runs = [heart.open(name=name) for name in "ab"]
    for run in runs:
        lose(heart, run, *([n, "x" * 4000] for n in range(40)))
    found: list[tuple[int, int]] = []
    parts, more = 0, True
    while more:
        answer = heart.held(after=found[-1] if found else (0, -1))
        assert len(codec.encode(answer)) < 80_000
        found += indices(answer)
        parts, more = parts + 1, answer.more
    assert parts > 3
    assert found == [(run.run, index) for run in runs for index in range(40)]


@pytest.mark.parametrize(
    "table", [pack_values(["x" * 1_000_000]), Table(pack_values(["x"]).layout, 1, [b"\0\0\0\0\2\0\0\0", b"\xc1\xc1"])]
)
def test_an_input_that_is_too_large_or_cannot_be_read_is_left_out_and_hides_no_other(table: Table) -> None:
    runs, run, out = Runs({}), Run(1, "svm", "a", 7, 0.0), Effects()
    runs.add(run)
    for each in (pack_values([None]), table, pack_values([3.0])):
        index = run.next_index
        run.append(m.Submit(1, 1, index, 1, each.layout), each, "ada", out)
        run.queued.remove(index, index + 1)
        run.hold(index, index + 1, "killed by SIGKILL", "svm-1", 1, out)
    tasks, more = runs.held(None, None, (0, -1), 1_000)
    assert not more
    told = codec.daemon_decoder().decode(codec.encode(m.HeldList(9, tasks)))
    assert isinstance(told, m.HeldList)
    assert [(task.input, task.input_omitted) for task in told.tasks] == [(None, False), (None, True), (3.0, False)]


# -- what has to be done with them ------------------------------------------------------------------------------------


def test_a_run_with_tasks_in_doubt_is_not_deleted_and_says_what_to_do() -> None:
    heart = Heart(spec(on_lost="hold"))
    run = heart.open()

    def refusal() -> str:
        return heart.ask(m.Delete(9, run.run), m.Refused).message

    lose(heart, run, 1.0)
    assert refusal() == (
        "run 'a' has 1 task without an outcome; 1 is in doubt (0): resolve it first: "
        "taskmaster resolve 1 0 done|retry|fail"
    )
    lose(heart, run, *range(6))
    run.put(8.0, 9.0)
    assert refusal() == (
        "run 'a' has 9 tasks without an outcome; 7 are in doubt (0, 1, 2, 3, 4, …): cancel the others, and resolve "
        "those first: taskmaster resolve 1 0 done|retry|fail"
    )
    for index in range(7):
        run.resolve(index, "fail")
    assert refusal() == "run 'a' has 2 tasks without an outcome; cancel them first"
    run.cancel((7, 8))
    assert refusal() == "run 'a' has 1 task without an outcome; cancel it first"


@pytest.mark.parametrize("resolved", [False, True])
def test_a_start_knows_what_was_known(tmp_path: Path, resolved: bool) -> None:
    journal = Journal(tmp_path, "crash")
    journal.begin_epoch(0.0)
    heart = Heart(spec(on_lost="hold"), journal=journal)
    run = heart.open(name="night")
    lose(heart, run, 1.0, 2.0, 3.0, reason='killed "by" SIGKILL; out of memory?')
    if resolved:  # one is over, one is in doubt for the second time
        run.resolve(0, "fail")
        run.resolve(1, "retry")
        hand = heart.hand()
        hand.die(hand.begun(hand.assignments[0], 1), reason="killed again")
    before = heart.held()
    assert [(task.index, task.attempt) for task in before.tasks] == (
        [(1, 2), (2, 1)] if resolved else [(0, 1), (1, 1), (2, 1)]
    )
    heart.now += 1000
    heart.restart({})
    assert heart.held() == before
    assert isinstance(run.resolve(2, "done", 1, pack_values([0.5])), m.Done)
    assert heart.held().tasks == before.tasks[:-1]
    journal.close()


def test_what_a_restart_has_left_in_doubt_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "crash")
    journal.begin_epoch(0.0)
    heart = Heart(spec(on_lost="hold"), journal=journal)
    run, hand = heart.open(), heart.hand()
    run.put(1.0)
    heart.now += 10
    heart.restart({})
    (task,) = heart.held().tasks
    assert (task.reason, task.since, task.worker) == ("the daemon was restarted", heart.now, f"svm-{hand.number}")
    journal.close()
