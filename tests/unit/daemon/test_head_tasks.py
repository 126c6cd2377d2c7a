"""Which tasks a head is given, and when: where they ask to be, a few together, some ahead of time."""

from __future__ import annotations

import pytest
from helpers.heart import Heart, spec
from helpers.losses import Disk, ahead, back, lost
from helpers.tips import TIPS, Tip, heads

from taskmaster.bus import messages as m

# -- where -------------------------------------------------------------------------------------------------------------


def test_tasks_are_evaluated_where_they_ask_to_be_and_keep_nobody_else_waiting(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    for value in range(3):
        run.put(value, where=m.Where(head="tip-1"))
    run.put(3, where=m.Where(capability="cold"))
    run.put(4, 5)
    _, two = Tip(heart, "tip-1"), Tip(heart, "tip-2")
    two.obey()
    seen = []
    while two.assignments:
        seen += two.assignments[0].rows
        two.report(two.assignments.pop(0))
    assert seen == [3, 4, 5], "what waits for the other head waits for that"


def test_the_first_that_fits_is_next_also_after_a_restart(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(0, 1, where=m.Where(head="tip-2"))
    run.put(2, 3, where=m.Where(head="tip-1"))
    disk.restart(heart)
    one = back(heart, "tip-1")
    assert one.assignments[0].indices == [2]
    two = back(heart, "tip-2")
    assert two.assignments[0].indices == [0]
    two.report(two.assignments.pop())
    assert two.assignments[0].indices == [1]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (m.Where(head="tip-3"), "has no head 'tip-3'; did you mean"),
        (m.Where(capability="colt"), "no head of Master 'stm' has the capability 'colt'; did you mean 'cold'"),
        (m.Where("tip-1", "cold"), "head 'tip-1' of Master 'stm' lacks the capability 'cold'"),
    ],
)
def test_a_task_that_no_head_could_evaluate_is_refused(disk: Disk, where: m.Where, words: str) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    message, table = run.submission([1.0])
    message.where = where
    (reply,) = heart.say(message, table).replies
    assert words in reply.message.message  # type: ignore[union-attr]
    assert run.state.next_index == 0


def test_a_master_without_heads_has_no_where() -> None:
    heart = Heart(spec("svm"))
    run = heart.open("svm")
    message, table = run.submission([1.0])
    message.where = m.Where(head="tip-1")
    (reply,) = heart.say(message, table).replies
    assert "has no heads that a task could ask for" in reply.message.message  # type: ignore[union-attr]


# -- ahead of time -----------------------------------------------------------------------------------------------------


def test_of_quick_tasks_that_were_granted_together_those_are_in_doubt_that_had_begun(disk: Disk) -> None:
    run, tip = ahead(disk.heart())
    lost(tip)
    assert run.book.states == ["done", "held", *["open"] * 8]
    run.resolve(1, "fail")
    again = back(run.heart, "tip-1")
    assert [(at.indices, at.message.attempt) for at in again.assignments] == [([2, 3], 1), ([4, 5], 1)]
    again.report(again.assignments[0], 0, 1, seconds=0.005)
    again.give_back(m.TaskError(0, "TimedOut", "no answer"), doubt=True, position=1)
    assert run.book.states == ["done", "failed", "done", "held", *["open"] * 6]
    assert heads(run.heart)["tip-1"].tasks == 2


def test_of_quick_tasks_that_were_granted_together_the_rest_is_given_back(disk: Disk) -> None:
    run, tip = ahead(disk.heart())
    tip.report(tip.assignments[0], 0, 1, seconds=0.005)
    tip.give_back(position=1)
    assert run.book.states == ["done", "done", *["open"] * 8]
    assert [at.indices for at in tip.assignments] == [[3, 4], [2]]


def test_what_was_not_reported_of_tasks_that_were_granted_together_is_in_doubt_after_a_power_cut(disk: Disk) -> None:
    heart = disk.heart()
    run, tip = ahead(heart)
    tip.report(tip.assignments[0], 0, 1, seconds=0.005)
    disk.restart(heart)
    heart.tick(100.0)
    assert run.book.states == ["done", "done", "held", "held", "held", *["open"] * 5]


def test_a_checkpoint_is_one_of_a_task_not_of_all_that_were_granted_with_it(disk: Disk) -> None:
    run, tip = ahead(disk.heart())
    tip.keep(1, b"half way", position=1)
    at = tip.assignments.pop(0)
    tip.say(m.WorkerLost(tip.token, "WorkerLost", "it died", True, at.lease, ((at.lease, 2),)))
    assert run.book.states == ["done", "held", *["open"] * 8]
    run.resolve(1, "fail")
    again = back(run.heart, "tip-1")
    assert [(at.indices, at.message.token) for at in again.assignments[:1]] == [([2], b"half way")]


def test_tasks_that_ask_for_other_heads_or_have_been_begun_are_not_granted_together(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(0, 1)
    run.put(2, where=m.Where(head="tip-2"))
    run.put(3, 4, 5, 6, 7, 8)
    tip = back(heart, "tip-1")
    tip.report(tip.assignments.pop(), seconds=0.001)
    assert [at.indices for at in tip.assignments] == [[1], [3, 4, 5, 6]]


def test_slow_tasks_wait_for_whoever_is_free_first(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(*range(10))
    tip = back(heart, "tip-1")
    tip.report(tip.assignments.pop(), seconds=1.0)
    assert [at.indices for at in tip.assignments] == [[1]]


@pytest.mark.parametrize("of_all", [True, False])
def test_nothing_that_was_given_ahead_of_time_begins_after_a_pause(disk: Disk, of_all: bool) -> None:
    heart = disk.heart()
    run, tip = ahead(heart)
    tip.heard.clear()
    heart.ask(m.Pause(1, "stm", None if of_all else run.run), m.Done)
    revoked = [note for note in tip.heard if isinstance(note, m.Revoke)]
    assert [note.lease for note in revoked] == [at.lease for at in tip.assignments]
    tip.say(m.Outcome(tip.assignments.pop(1).lease, 0, 0, final=True))
    tip.report(tip.assignments[0], 0, 1, seconds=0.005, final=False)
    tip.give_back(position=1)
    assert not tip.assignments
    heart.ask(m.Resume(2, "stm", None if of_all else run.run), m.Done)
    assert tip.assignments[0].indices == [2, 3]


# -- who is late -------------------------------------------------------------------------------------------------------


def test_the_next_task_is_granted_shortly_before_the_one_in_hand_should_end(disk: Disk) -> None:
    heart = disk.heart()
    heart.open("stm").put(*range(10))
    tip = back(heart, "tip-1")
    tip.report(tip.assignments.pop(), seconds=1.0)
    assert [at.indices for at in tip.assignments] == [[1]]
    heart.wait(0.97)
    assert [at.indices for at in tip.assignments] == [[1]], "whoever is free first has the next"
    heart.wait(0.02)
    assert [at.indices for at in tip.assignments] == [[1], [2]]


def test_each_task_is_granted_as_shortly_before_it_is_needed_as_the_first(disk: Disk) -> None:
    heart = disk.heart()
    heart.open("stm").put(*range(100))
    tip = back(heart, "tip-1")
    tip.report(tip.assignments.pop(0), seconds=1.0)
    for _ in range(60):
        heart.wait(0.97)
        assert len(tip.assignments) == 1
        heart.wait(0.02)
        assert len(tip.assignments) == 2
        heart.wait(0.01)
        tip.report(tip.assignments.pop(0), seconds=1.0)


def test_behind_a_task_of_which_nobody_knows_how_long_it_takes_nothing_is_granted(disk: Disk) -> None:
    heart = disk.heart()
    quick = heart.open("stm")
    quick.put(*range(3))
    tip = back(heart, "tip-1")
    tip.report(tip.assignments.pop(0), seconds=0.05)
    weeks = heart.open("stm", "weeks", priority=1)
    weeks.put(0)
    tip.report(tip.assignments.pop(0), seconds=0.05)
    assert [at.message.run for at in tip.assignments] == [weeks.run]
    heart.wait(100.0)
    assert len(tip.assignments) == 1
    heart.ask(m.Cancel(9, quick.run, ((0, 3),)), m.Done)
    assert quick.book.states == ["done", "done", "cancelled"]


def test_what_was_granted_ahead_is_had_back_from_a_late_head_though_nobody_else_is_free(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(*range(3))
    tip = back(heart, "tip-1")
    tip.report(tip.assignments.pop(0), seconds=1.0)
    heart.wait(0.99)
    first, second = tip.assignments
    tip.heard.clear()
    heart.wait(1.5)
    assert [note.lease for note in tip.heard if isinstance(note, m.Revoke)] == [second.lease]
    tip.say(m.Outcome(second.lease, 0, 0, final=True))
    heart.wait(1.0)
    assert tip.assignments == [first, second], "and nothing is granted in its place, until the head is heard of"
    heart.ask(m.Cancel(9, run.run, ((0, 3),)), m.Done)
    assert run.book.states == ["done", "open", "cancelled"]


def test_what_waits_behind_a_task_that_takes_longer_than_expected_is_for_whoever_is_free(disk: Disk) -> None:
    heart = disk.heart()
    run, tip = ahead(heart)
    heart.ask(m.Cancel(9, run.run, ((5, 10),)), m.Done)
    two = back(heart, "tip-2")
    assert not two.assignments
    tip.heard.clear()
    heart.wait(0.02)
    assert not [note for note in tip.heard if isinstance(note, m.Revoke)], "it may be on its way"
    heart.wait(0.1)
    revoked = [note.lease for note in tip.heard if isinstance(note, m.Revoke)]
    first, second = tip.assignments
    assert revoked == [first.lease, second.lease]
    heart.wait(0.1)
    assert len([note for note in tip.heard if isinstance(note, m.Revoke)]) == 2, "it is asked once"
    tip.say(m.Outcome(first.lease, 1, 0, final=False))
    assert [at.indices for at in two.assignments] == [[2]]
    tip.say(m.Outcome(second.lease, 0, 0, final=True))
    assert [index for at in two.assignments for index in at.indices][:2] == [2, 3]
    two.report(two.assignments.pop(0), seconds=0.005)
    tip.say(m.Outcome(first.lease, 1, 0, final=False))
    lost(tip)
    assert run.book.states[:5] == ["done", "held", "done", "open", "open"], "only the one that it was in is in doubt"


# -- cancelled ---------------------------------------------------------------------------------------------------------


def test_a_task_that_is_cancelled_is_broken_off_by_its_worker_which_is_no_failure_of_the_head() -> None:
    heart = Heart(spec("stm", "retry", heads=TIPS[:1], quarantine_after=2))
    run = heart.open("stm")
    tip = Tip(heart, "tip-1")
    tip.obey()
    for index in range(3):
        run.put(index)
        run.cancel()
        assert m.Interrupt(tip.token, tip.assignments[0].lease, 0, 1) in tip.heard
        tip.give_back(m.TaskError(0, "TaskCancelled", "it was cancelled"), doubt=True)
        assert heads(heart)["tip-1"].state == "ready"
    assert run.kinds == [("cancelled", 0), ("cancelled", 1), ("cancelled", 2)]
