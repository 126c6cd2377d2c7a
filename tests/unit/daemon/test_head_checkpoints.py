"""Tasks of heads that go on when they were interrupted, and for how long they wait to."""

from __future__ import annotations

import pytest
from helpers.losses import Disk, back, lost
from helpers.tips import Tip, tips, told

from taskmaster.bus import messages as m


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
