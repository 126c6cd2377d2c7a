"""Tasks of heads: where they are evaluated, what goes on when interrupted, what a head finds out about doubts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.heart import Heart, spec
from helpers.tips import TIPS, Tip, heads, tips, told

from taskmaster.bus import messages as m
from taskmaster.bus.fields import Field
from taskmaster.daemon.journal import Journal


class Disk:
    """A journal, and the daemons that take up where it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.journal = self._open()

    def _open(self) -> Journal:
        journal = Journal(self._folder, "crash")
        journal.begin_epoch(0.0)
        return journal

    def heart(self, **options: Any) -> Heart:
        return Heart(spec("stm", "hold", heads=TIPS, options=options), journal=self.journal)

    def restart(self, heart: Heart) -> None:
        self.journal.close(in_order=False)
        self.journal = heart.journal = self._open()
        heart.restart({})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.journal.close()


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


def lost(tip: Tip, *, begun: bool = True, since: float = 0.0) -> None:
    """Its guardian says that its worker has died, in its task."""
    at = tip.assignments.pop(0)
    tip.say(m.WorkerLost(tip.token, "WorkerLost", "it died", True, at.lease, ((at.lease, int(begun)),), None, since))


def back(heart: Heart, head: str) -> Tip:
    """Another worker for a head, at work."""
    tip = Tip(heart, head)
    tip.obey()
    return tip


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


def ahead(heart: Heart) -> tuple[Any, Tip]:
    """A head at quick tasks, which has been given some together, and some ahead of time."""
    run = heart.open("stm")
    run.put(*range(10))
    tip = back(heart, "tip-1")
    assert [at.indices for at in tip.assignments] == [[0]], "nobody knows yet how long they take"
    tip.report(tip.assignments.pop(), seconds=0.005)
    assert [at.indices for at in tip.assignments] == [[1, 2], [3, 4]]
    return run, tip


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


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_an_interrupted_task_goes_on_at_its_head_from_its_last_checkpoint(disk: Disk) -> None:
    heart = disk.heart()
    one, two = tips(heart)
    run = heart.open("stm")
    run.put(7)
    tip, other = (one, two) if one.assignments else (two, one)
    tip.keep(1, b"day 1")
    tip.keep(2, b"day 2")
    tip.keep(1, b"day 1", 5.0)  # said again, late
    lost(tip)
    assert run.book.states == ["open"]
    assert not other.assignments, "the plant stands in the other chamber"
    again = back(heart, tip.head)
    (at,) = again.assignments
    assert (at.message.token, at.message.attempt, at.rows) == (b"day 2", 1, [7])
    again.keep(1, b"day 3")
    again.give_back(m.TaskError(0, "TimedOut", "no answer"), doubt=True)
    again.obey()
    assert again.assignments[0].message.token == b"day 3"
    again.report(again.assignments.pop())
    assert run.book.states == ["done"]
    assert not run.state.checkpoints
    assert list(disk.journal.query("SELECT * FROM checkpoints")) == []


def test_one_that_was_given_back_unbegun_goes_on_from_the_same_checkpoint(disk: Disk) -> None:
    heart = disk.heart()
    heart.open("stm").put(7)
    tip = back(heart, "tip-1")
    tip.keep(1, b"day 1")
    lost(tip)
    again = back(heart, "tip-1")
    lost(again, begun=False)
    assert back(heart, "tip-1").assignments[0].message.token == b"day 1"


def test_it_goes_on_after_a_restart_of_the_daemon(disk: Disk) -> None:
    heart = disk.heart()
    heart.open("stm").put(7)
    tip = back(heart, "tip-1")
    tip.keep(1, b"day 1")
    lost(tip)
    disk.restart(heart)
    assert not back(heart, "tip-2").assignments
    assert back(heart, "tip-1").assignments[0].message.token == b"day 1"


def test_a_checkpoint_that_only_the_guardian_knows_of_counts(disk: Disk) -> None:
    heart = disk.heart()
    heart.open("stm").put(7)
    tip = back(heart, "tip-1")
    at = tip.assignments[0]
    kept = m.Checkpoint(at.lease, 4, heart.now, b"day 4")
    tip.say(m.WorkerLost(tip.token, "WorkerLost", "died", True, at.lease, ((at.lease, 1),), kept, heart.now))
    assert back(heart, "tip-1").assignments[0].message.token == b"day 4"


@pytest.mark.parametrize(
    ("policy", "state"), [("resume", "open"), ("restart", "open"), ("fail", "failed"), ("ask", "held")]
)
def test_after_a_long_interruption_the_policy_speaks(disk: Disk, policy: str, state: str) -> None:
    heart = disk.heart(resume_within=100.0, resume_policy=policy)
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    tip.keep(1, b"day 1")
    lost(tip)
    heart.tick(99.0)
    assert run.book.states == ["open"]
    heart.tick(2.0)
    assert run.book.states == [state]
    again = Tip(heart, "tip-1")
    again.obey()
    if policy == "ask":
        assert told(again) == "park"
        run.resolve(0, "resume")
        again.obey()
    if policy == "fail":
        assert not again.assignments
    else:
        (at,) = again.assignments
        expected = (None, 2) if policy == "restart" else (b"day 1", 2 if policy == "ask" else 1)
        assert (at.message.token, at.message.attempt) == expected


def test_how_long_it_was_interrupted_is_counted_from_when_its_worker_was_last_alive(disk: Disk) -> None:
    heart = disk.heart(resume_within=100.0)
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    tip.keep(1, b"day 1")
    lost(tip, since=heart.now - 90.0)
    heart.tick(9.0)
    assert run.book.states == ["open"]
    heart.tick(2.0)
    assert run.book.states == ["held"]


@pytest.mark.parametrize("dies", [True, False])
def test_an_interruption_lasts_until_the_task_really_goes_on(disk: Disk, *, dies: bool) -> None:
    heart = disk.heart(resume_within=100.0)
    run = heart.open("stm")
    run.put(7)
    tip = back(heart, "tip-1")
    tip.keep(1, b"day 1")
    lost(tip)
    again = back(heart, "tip-1")
    heart.tick(1.0)
    assert again.assignments[0].message.token == b"day 1"
    if dies:
        lost(again, begun=False)
    else:
        again.say(m.HeadReport("faulty", "", "no route to host", again.order.number))
        again.give_back()
    for _ in range(20):
        assert run.book.states == ["open"]
        heart.tick(5.0)
        if not dies:
            again.say(m.Heartbeat())
    assert run.book.states == ["held"]


def test_after_a_power_cut_it_is_counted_from_the_last_checkpoint(disk: Disk) -> None:
    heart = disk.heart(resume_within=100.0)
    run = heart.open("stm")
    run.put(7)
    back(heart, "tip-1").keep(1, b"day 1")
    heart.now += 95.0
    disk.restart(heart)
    heart.tick(11.0)  # longer than a worker may be silent
    assert heart.core.masters["stm"].workers == {}
    heart.tick(1.0)
    assert run.book.states == ["held"], "106 seconds of which nothing is known"


def test_without_a_checkpoint_it_cannot_be_resumed(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(7)
    lost(back(heart, "tip-1"))
    assert "has left no checkpoint" in run.resolve(0, "resume").message
    assert run.book.states == ["held"]


def test_an_interrupted_task_can_be_cancelled(disk: Disk) -> None:
    heart = disk.heart()
    run = heart.open("stm")
    run.put(7, 8)
    tip = back(heart, "tip-1")
    tip.keep(1, b"day 1")
    lost(tip)
    assert run.cancel((0, 1)) == 1
    assert back(heart, "tip-1").assignments[0].indices == [1]


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
