"""Tasks that a busy worker has not begun are taken back for one that has nothing to do."""

from __future__ import annotations

from typing import Any

from helpers.heart import Assignment, Hand, Heart, spec

from taskmaster.bus import messages as m
from taskmaster.daemon.stealing import LOOK_SECONDS


def unequal(heart: Heart) -> tuple[Hand, Assignment, Hand]:
    """A slow worker, its first lease of tasks 1 to 8, of half a millisecond as far as is known; and an idle one."""
    run, slow = heart.open(), heart.hand()
    run.put(0)
    slow.report(slow.assignments.pop(), seconds=0.0005)
    run.put(*range(1, 17))
    lease = slow.assignments[0]
    assert lease.indices == list(range(1, 9))
    fast = heart.hand()
    finish(fast)
    return slow, lease, fast


def finish(hand: Hand) -> None:
    while hand.assignments:
        hand.report(hand.assignments.pop(0))


def revoked(hand: Hand) -> list[Any]:
    return [note for note in hand.heard if isinstance(note, m.Revoke)]


def test_an_idle_worker_gets_what_a_busy_one_has_not_begun() -> None:
    heart = Heart(spec())
    slow, lease, fast = unequal(heart)
    heart.wait(0.05)  # it stands in its first task
    assert revoked(slow)[-1] == m.Revoke(lease.lease, ((1, 8),))
    assert {at.message.attempt for at in fast.assignments} == {1}  # to be taken back is no fault
    finish(fast)
    run = heart.open()
    assert list(run.state.open) == [(1, 2)]
    slow.report(lease, 0, 1, final=False)
    for at in slow.assignments:
        slow.report(at, at.message.n, at.message.n)
    assert sorted(index for _, index in run.kinds) == list(range(17))
    assert not heart.core.busy


def test_what_it_had_begun_all_the_same_counts_once() -> None:
    heart = Heart(spec())
    slow, _, fast = unequal(heart)
    heart.wait(0.05)
    finish(slow)  # the word to skip them came too late
    finish(fast)
    run = heart.open()
    assert sorted(run.kinds) == [("done", index) for index in range(17)]
    assert not heart.core.busy


def test_of_a_worker_that_moves_on_the_later_half_is_taken() -> None:
    heart = Heart(spec())
    run, slow = heart.open(), heart.hand()
    run.put(0)
    slow.report(slow.assignments.pop(), seconds=0.001)
    run.put(*range(1, 17))
    lease, ahead = slow.assignments
    finish(heart.hand())
    assert revoked(slow)[0] == m.Revoke(lease.lease, ((4, 8),))
    assert ahead.message.n == 4


def test_the_loop_is_asked_to_look_again_while_somebody_is_idle() -> None:
    heart = Heart(spec())
    run, slow = heart.open(), heart.hand()
    run.put(0)
    slow.report(slow.assignments.pop(), seconds=0.0001)
    heart.ask(m.Pause(9, "svm"), m.Done)
    run.put(1, 2, 3, 4)
    heart.ask(m.Resume(9, "svm"), m.Done)
    fast = heart.hand()
    while fast.assignments:
        fast.report(fast.assignments.pop(0), seconds=0.0001)
    assert heart.core.look_again == heart.now + LOOK_SECONDS
    assert not revoked(slow)  # a tenth of a millisecond is worth no message


def test_nothing_is_taken_from_an_instrument_nor_of_a_paused_run() -> None:
    heart = Heart(spec(on_lost="hold"))
    run, slow = heart.open(), heart.hand()
    run.put(1)
    fast = heart.hand()
    heart.wait(5)
    assert not revoked(slow)
    assert not fast.assignments

    heart = Heart(spec())
    slow, _, fast = unequal(heart)
    heart.say(m.Pause(9, "svm", 1))
    slow.heard.clear()
    heart.wait(0.05)
    assert not revoked(slow)


def test_a_single_task_stays_where_it_was_begun() -> None:
    heart = Heart(spec())
    run, slow = heart.open(), heart.hand()
    run.put(1)
    fast = heart.hand()
    heart.wait(5)
    assert not revoked(slow)
    assert not fast.assignments


def test_what_a_stolen_from_worker_loses_later_is_only_what_it_kept() -> None:
    heart = Heart(spec())
    slow, lease, _ = unequal(heart)
    heart.wait(0.05)
    slow.die(slow.begun(lease, 8))
    assert dict(heart.open().state.attempts.items()) == {1: 1}
