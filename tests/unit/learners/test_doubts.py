"""Tasks in doubt as a client hears of them, and what it says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.shore import Shore, done
from msgspec.structs import replace

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, InvalidOutput, UnknownMaster, UnknownTask
from taskmaster.bus.fields import Field
from taskmaster.bus.status import HeldTask
from taskmaster.bus.table import Table, pack_values
from taskmaster.learners.core import ClientCore
from taskmaster.learners.resolving import Resolution, held_message


def about(seq: int, kind: str, first: int, n: int = 1) -> tuple[m.EventHead, list[Any]]:
    """An event about open tasks, whose inputs come along."""
    inputs = pack_values([float(first + k) for k in range(n)])
    errors = tuple(m.TaskError(k, "in doubt", "killed") for k in range(n)) if kind == "held" else ()
    return m.EventHead(seq, n, kind, first, len(inputs.frames), errors=errors, inputs=inputs.layout), [*inputs.frames]


# -- the news ---------------------------------------------------------------------------------------------------------


def test_who_follows_a_run_is_told_of_tasks_in_doubt_as_they_come(caplog: pytest.LogCaptureFixture) -> None:
    shore = Shore()
    run = shore.open()
    run.put_many([0.0, 1.0, 2.0, 3.0], 100.0)
    for seq, (first, n) in ((0, (1, 1)), (1, (2, 2))):
        head, frames = about(seq, "held", first, n)
        shore.publish(head, frames=frames, next_index=4)
    assert caplog.messages == [
        "task 1 of run 'run' is in doubt (killed): taskmaster resolve 1 1 done|retry|fail",
        (
            "tasks 2 to 3 of run 'run' are in doubt (killed): 'taskmaster held m' lists them, "
            "taskmaster resolve 1 2 done|retry|fail"
        ),
    ]
    assert run.take() is None, "it is no result"
    head, frames = about(3, "released", 1)
    shore.publish(head, frames=frames)
    assert len(caplog.messages) == 2, "each is said once"


@pytest.mark.parametrize(("pages", "known"), [(1, 5), (2, 5), (2, 3)])
def test_of_what_is_on_record_only_what_is_still_in_doubt_is_said(
    pages: int, known: int, caplog: pytest.LogCaptureFixture
) -> None:
    shore = Shore()
    shore.open(write=False, next_index=4, next_seq=known)
    head, frames = done(4, 5.0, own=False)
    record = [about(0, "held", 0, 3), about(3, "released", 0), (replace(head, first=2), frames)]
    for part in [record] if pages == 1 else [record[:1], record[1:]]:
        (asked,) = shore.said(m.Replay)
        flat = [frame for _, own in part for frame in own]
        shore.say(m.Page(asked.id, 1, 5, tuple(head for head, _ in part), 1), flat)
    assert caplog.messages == ["task 1 of run 'run' is in doubt (killed): taskmaster resolve 1 1 done|retry|fail"]


# -- an operator's word -----------------------------------------------------------------------------------------------


def daemon(*outputs: Field) -> ClientCore:
    core = ClientCore("tcp://nowhere")
    core.described = m.Described(1, 1, "d", 1, "", "", (m.MasterInfo("svm", "process", (), outputs),))
    return core


FOUND = m.HeldList(1, (HeldTask(7, "svm", "night", 3, 2, "svm-1", 0.0, "killed", 1.0),))
Y, Z = Field("y", min=0, max=10), Field("z", shape=(2,))


def said(*outputs: Field, output: Any = None) -> Any:
    """What the daemon is told of the output of a task that is resolved as done."""
    resolution = Resolution(7, 3, "done", output, "", 0)
    assert resolution.question == m.ListHeld(0, None, 7, (7, 2))
    message, frames = resolution.request(FOUND, daemon(*outputs))
    assert (message.run, message.index, message.action, message.attempt) == (7, 3, "done", 2)
    assert message.layout is not None
    (row,) = Table.checked(message.layout, 1, frames).rows()
    return row


def test_an_output_is_packed_as_its_master_declares_it() -> None:
    assert said(output=None) is None
    assert said(output=[1, "a"]) == [1, "a"]
    assert said(Y, output=4) == {"y": 4.0}
    assert said(Y, output={"y": 4}) == {"y": 4.0}
    assert said(Field("v", kind="any"), output=["a"]) == {"v": ["a"]}
    both = said(Y, Z, output={"z": [1, 2], "y": 4})
    assert (both["y"], np.asarray(both["z"]).tolist()) == (4.0, [1, 2])


@pytest.mark.parametrize(
    ("outputs", "output", "words"),
    [
        ((Y,), 11, r"Master 'svm': output 'y' must be a number in \[0, 10\], got 11"),
        ((Y,), None, "output 'y' must be a number"),
        ((Y,), {"x": 1}, "output 'x' is unknown; there are 'y'"),
        ((Y, Z), 1.0, "Master 'svm': an output must be a dict of y, z, not 1.0"),
        ((Y, Z), {"y": 1.0}, "output 'z' is missing"),
        ((), object(), "Master 'svm': an output cannot travel: .*object"),
        ((), {1: {2: {(3,): 4}}}, "cannot travel"),
    ],
)
def test_an_output_that_is_none_of_its_master_is_refused_here(
    outputs: tuple[Field, ...], output: Any, words: str
) -> None:
    with pytest.raises(InvalidOutput, match=words):
        said(*outputs, output=output)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((7, 3, "retri", None, "", 0), "not resolved by 'retri'; did you mean 'retry'"),
        ((7, 3, 5, None, "", 0), "not resolved by 5; there are 'done', 'retry', 'resume', 'fail'"),
        ((7, 3, "fail", 1.0, "", 0), "resolved by 'fail' has no output"),
        ((7, 3, "retry", None, "because", 0), "'retry' takes none"),
        ((7, -1, "retry", None, "", 0), "the index of a task must be a whole number"),
        (("night", 3, "retry", None, "", 0), "the number of a run must be a whole number"),
        ((7, 3, "fail", None, 5, 0), "a reason must be a string"),
        ((7, 3, "fail", None, "", -1), "the number of an attempt must be"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused_before_anything_is_asked(arguments: Any, words: str) -> None:
    with pytest.raises(CallerError, match=words):
        Resolution(*arguments)


def test_a_word_is_about_the_attempt_that_is_in_doubt_or_the_one_that_is_named() -> None:
    for named, told in ((0, 2), (1, 1)):
        message, frames = Resolution(7, 3, "fail", None, "broken", named).request(FOUND, daemon())
        assert (message.attempt, message.reason, message.layout, frames) == (told, "broken", None, ())


def test_a_task_that_is_not_in_doubt_is_said() -> None:
    for found in (FOUND, m.HeldList(1)):
        with pytest.raises(UnknownTask, match="run 7: task 4 is not in doubt; 'taskmaster held' lists those that are"):
            Resolution(7, 4, "retry", None, "", 0).request(found, daemon())


def test_what_a_master_that_is_gone_gives_nobody_can_check() -> None:
    empty = ClientCore("tcp://nowhere")
    with pytest.raises(UnknownMaster):
        Resolution(7, 3, "done", 1.0, "", 0).request(FOUND, empty)


def test_pages_follow_each_other() -> None:
    assert held_message("svm", None, ()) == m.ListHeld(0, "svm")
    assert held_message(None, 7, FOUND.tasks) == m.ListHeld(0, None, 7, (7, 3))
    with pytest.raises(CallerError, match="the number of a run must be a whole number"):
        held_message(None, "night", ())
