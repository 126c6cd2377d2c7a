"""Tasks of heads in doubt: what a head finds out, and what one that was silent for a while had in hand."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.heart import Heart, spec
from helpers.losses import Disk, ahead, back
from helpers.tips import TIPS, Tip, heads, told

from taskmaster.bus import messages as m
from taskmaster.bus.fields import Field

# -- reconciliation ----------------------------------------------------------------------------------------------------


def doubt(heart: Heart) -> tuple[Any, Tip, m.Reconcile]:
    """A task in doubt, and the head, which is safe and is asked about it."""
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    tip.give_back(m.TaskError(0, "TimedOut", "no answer"), doubt=True)
    assert not tip.asked(), "not before it is safe"
    tip.obey()
    (question,) = tip.asked()
    assert (question.run, question.index, question.attempt) == (run.run, 0, 1)
    return run, tip, question


def test_a_head_that_knows_how_a_task_ended_says_so(disk: Disk) -> None:
    run, tip, question = doubt(disk.heart())
    tip.answer(question, "done", 3.5)
    assert run.book.states == ["done"]
    assert told(tip) == "work"


def test_a_task_that_has_not_begun_is_evaluated(disk: Disk) -> None:
    run, tip, question = doubt(disk.heart())
    tip.answer(question, "not_begun")
    assert run.book.states == ["open"]
    tip.obey()
    assert tip.assignments[0].indices == [0]


def test_what_a_head_cannot_tell_a_person_is_asked(disk: Disk) -> None:
    heart = disk.heart()
    run, tip, question = doubt(heart)
    tip.answer(question, "unknown")
    assert run.book.states == ["held"]
    assert heads(heart)["tip-1"].state == "parked"
    tip.obey()
    assert not tip.asked(), "it has said that it does not know"


def test_an_answer_to_an_older_question_is_not_taken(disk: Disk) -> None:
    run, tip, question = doubt(disk.heart())
    run.resolve(0, "retry")
    tip.obey()
    tip.give_back(doubt=True)
    tip.answer(question, "done", 3.5)
    assert run.book.states == ["held"]


def test_an_output_that_is_none_of_the_masters_is_not_taken(disk: Disk) -> None:
    heart = Heart(spec("stm", "hold", heads=TIPS, outputs=[Field("current", "float", max=1.0)]), journal=disk.journal)
    run, tip, question = doubt(heart)
    tip.answer(question, "done", {"current": 3.5})
    assert run.book.states == ["held"]


def test_a_late_word_of_doubt_changes_nothing(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    heart.tick(11.0)
    assert run.book.states == ["held"], "it was not heard of"
    tip.hello(tip.assignments[0].lease)
    tip.give_back(m.TaskError(0, "Stopped", "nothing was heard of the daemon"), doubt=True)
    assert run.book.states == ["held"]


# -- heads that were silent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others_wait", [True, False])
def test_a_head_that_was_silent_for_a_while_ends_its_task_and_goes_on(disk: Disk, *, others_wait: bool) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    heart.tick(11.0)
    assert run.book.states == ["held"], "the line to its machine was cut"
    tip.hello(tip.assignments[0].lease)
    tip.say(m.Ready())
    assert told(tip) == "park"
    if others_wait:
        run.put(8)
    tip.report(tip.assignments.pop())
    assert run.book.states[0] == "done"
    assert heads(heart)["tip-1"].doubts == ()
    assert told(tip) == "work"
    tip.obey()
    assert not tip.asked()
    assert [at.rows for at in tip.assignments] == ([[8]] if others_wait else [])


def test_a_head_that_was_silent_hears_first_of_all_what_is_not_its_own_any_more(disk: Disk) -> None:
    heart = disk.heart()
    run, tip = ahead(heart)
    leases = [at.lease for at in tip.assignments]
    heart.tick(11.0)
    assert run.book.states[:5] == ["done", *["held"] * 4]
    for index in (1, 2):
        run.resolve(index, "fail")
    for index in (3, 4):
        run.resolve(index, "retry")
    two = back(heart, "tip-2")
    assert [at.indices for at in two.assignments] == [[3], [4]], "each was begun before, perhaps"
    while two.assignments:
        two.report(two.assignments.pop(0))
    tip.heard.clear()
    tip.hello(*leases)
    words = [note for note in tip.heard if not isinstance(note, m.HeadOrder)]
    assert [type(note) for note in words] == [m.Welcome, m.Settled]
    assert set(words[1].leases) == set(leases), "others have done what it has in hand"


def test_of_tasks_that_were_granted_together_those_in_doubt_stay_the_silent_heads_own(disk: Disk) -> None:
    heart = disk.heart()
    run, tip = ahead(heart)
    heart.tick(11.0)
    run.resolve(3, "retry")
    two = back(heart, "tip-2")
    assert two.assignments[0].indices == [3]
    two.report(two.assignments.pop(0))
    begun, at_hand = tip.assignments
    tip.heard.clear()
    tip.hello(begun.lease, at_hand.lease)
    tip.say(m.Ready())
    words = [note for note in tip.heard if isinstance(note, (m.Revoke, m.Settled))]
    assert words == [m.Revoke(at_hand.lease, ((0, 1),))], "another head has done that one"
    tip.report(begun)
    tip.report(at_hand, 1)
    assert run.book.states[:5] == ["done"] * 5


def test_what_a_head_that_was_silent_had_not_begun_is_in_doubt_no_more(disk: Disk) -> None:
    heart = disk.heart()
    run, tip = ahead(heart)
    heart.tick(11.0)
    assert run.book.states[:5] == ["done", *["held"] * 4]
    tip.hello(*(at.lease for at in tip.assignments))
    tip.say(m.Ready())
    assert not [note for note in tip.heard if isinstance(note, m.Settled)], "it may still tell what became of them"
    tip.give_back(m.TaskError(0, "TimedOut", "no answer"), doubt=True)
    assert run.book.states[:5] == ["done", "held", "open", "held", "held"]
    tip.give_back()
    assert run.book.states[:5] == ["done", "held", "open", "open", "open"]
    assert heads(heart)["tip-1"].doubts == ((run.run, 1),)
    assert back(heart, "tip-2").assignments[0].indices == [2]


def test_nobody_else_has_a_head_whose_worker_may_be_driving_it_still(disk: Disk) -> None:
    heart = disk.heart(deadman=60.0)
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    tip.keep(1, b"day 1")
    heart.tick(11.0)  # the cable to its machine is cut, and it goes on for deadman
    assert (heads(heart)["tip-1"].state, "may be driving it still" in heads(heart)["tip-1"].reason) == ("away", True)
    other = Tip(heart, "tip-1")
    (refused,) = [note for note in other.heard if isinstance(note, m.Refused) and note.code != m.HELLO]
    assert "another is given it in 65 s" in refused.message
    heart.tick(64.0)
    other = Tip(heart, "tip-1")
    assert any(isinstance(note, m.Refused) for note in other.heard)
    heart.tick(2.0)
    assert back(heart, "tip-1").assignments[0].message.token == b"day 1"
    tip.hello(tip.assignments[0].lease)
    assert any(isinstance(note, m.Refused) for note in tip.heard), "now it is another's"


@pytest.mark.parametrize("how", ["returns", "is gone"])
def test_a_head_is_free_again_when_its_silent_worker_is_back_or_known_to_be_gone(disk: Disk, how: str) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    tip.keep(1, b"day 1")
    heart.tick(11.0)
    if how == "returns":
        tip.hello(tip.assignments[0].lease)
        tip.obey()
        tip.report(tip.assignments.pop())
        assert run.book.states == ["done"]
        return
    host = heart.stranger(b"host")
    host.say(m.WorkerLost(tip.token, "WorkerLost", "it was killed"))
    assert back(heart, "tip-1").assignments[0].message.token == b"day 1"


def test_after_a_restart_of_the_daemon_a_head_is_kept_for_who_was_in_a_task_of_it(disk: Disk) -> None:
    heart = disk.heart()
    heart.open("stm").put(7)
    tip = back(heart, "tip-1")
    disk.restart(heart)
    other = Tip(heart, "tip-1")
    assert any(isinstance(note, m.Refused) and "may be driving" in note.message for note in other.heard)
    tip.hello(tip.assignments[0].lease)
    tip.obey()
    assert heads(heart)["tip-1"].pid == tip.number


def test_a_stop_reaches_the_guardian_of_a_worker_that_is_silent(disk: Disk) -> None:
    heart = disk.heart()
    tip = back(heart, "tip-1")
    host = heart.stranger(b"host")
    host.say(m.Heartbeat((tip.token,)))
    heart.tick(11.0)
    host.heard.clear()
    heart.ask(m.Stop(1, "stm"), m.Done)
    assert [note for note in host.heard if isinstance(note, m.Guard)] == [m.Guard(tip.token, stop=True)]


def test_a_daemon_that_was_suspended_takes_nobody_for_lost(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    heart.tick(1.0)
    heart.tick(1000.0)
    assert run.book.states == ["open"]
    tip.report(tip.assignments.pop())
    assert run.book.states == ["done"]
