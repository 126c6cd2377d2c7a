"""What becomes of the tasks of a worker that is lost, and of what it says afterwards."""

from __future__ import annotations

import pytest
from helpers.heart import Assignment, Hand, Heart, spec
from simulation.ledger import Event
from simulation.mutations import mutated

from taskmaster.bus import messages as m
from taskmaster.bus.table import pack_values
from taskmaster.daemon.effects import AttemptsCharged, LeaseEnded, LeaseGranted
from taskmaster.daemon.leases import NOTHING, Started


def leased(heart: Heart, hand: Hand, tasks: int) -> tuple[Assignment, Assignment]:
    """Two leases of one worker: one of so many tasks, and a later one."""
    run = heart.open()
    run.put(0)
    hand.report(hand.assignments.pop(), seconds=1e-4)  # short ones are granted in chunks
    run.put(*range(1, 2 * tasks + 1))
    first, second = hand.assignments
    hand.assignments.clear()
    assert first.message.n == tasks
    return first, second


# ---------------------------------------------------------------------------------------------------------------------
# Who is charged


def test_only_what_had_begun_is_charged() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    first, _ = leased(heart, hand, 4)
    hand.report(first, 0, 1)  # task 1 is through; 2 was begun; 3 and 4 were not, nor those of the second lease
    out = hand.die(hand.begun(first, 2))
    assert [r for r in out.records if isinstance(r, AttemptsCharged)] == [AttemptsCharged(1, 2, 3, 1)]
    other = heart.hand()
    attempts = {}
    while other.assignments:
        at = other.assignments.pop(0)
        attempts.update(dict.fromkeys(at.indices, at.message.attempt))
        if at.message.attempt > 1:
            assert at.indices == [2]  # alone, so that it can take nobody with it
        other.report(at)
    assert attempts == {2: 2, **dict.fromkeys(range(3, 9), 1)}


def test_where_nobody_knows_all_of_it_is_charged() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    first, second = leased(heart, hand, 4)
    out = hand.die(None)
    charged = [i for r in out.records if isinstance(r, AttemptsCharged) for i in range(r.first, r.last)]
    assert charged == first.indices + second.indices


def test_who_had_begun_nothing_is_replaced_without_a_charge() -> None:
    heart = Heart(spec(on_lost="fail"))
    hand = heart.hand()
    run = heart.open()
    run.put(1)
    hand.die(NOTHING)
    other = heart.hand()
    assert other.assignments[0].message.attempt == 1
    other.report(other.assignments[0])
    assert run.kinds == [("done", 0)]


@pytest.mark.parametrize("max_attempts", [2, 3, 5, 20])
def test_one_row_that_kills_its_batch_is_found_soon_and_takes_no_other_with_it(max_attempts: int) -> None:
    rows, bad, left = 2000, 1234, max_attempts - 1
    heart = Heart(spec(max_attempts=max_attempts))
    hand, run = heart.hand(), heart.open()
    heart.ask(m.Pause(9, "svm"), m.Done)
    run.put(*range(rows))
    run.state.estimate.learn(rows, rows * 1e-6)
    heart.ask(m.Resume(9, "svm"), m.Done)
    leases = deaths = 0
    while hand.assignments:
        at = hand.assignments.pop(0)
        leases += 1
        if bad not in at.indices:
            hand.report(at, seconds=1e-6)
            continue
        assert at.message.attempt < max_attempts or at.indices == [bad]  # nobody's last attempt is shared with it
        charged = hand.die(hand.begun(at, at.message.n)).records
        assert len([r for r in charged if isinstance(r, AttemptsCharged)]) <= 1, "however many rows there were"
        deaths += 1
        hand = heart.hand()
    assert deaths == max_attempts
    assert leases < 40 + 2 * left * rows ** (1 / left)
    assert [event.index for event in run.book.events if event.kind == "failed"] == [bad]
    assert run.book.states.count("done") == rows - 1


def test_leases_before_the_latest_have_been_through() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    at, _ = leased(heart, hand, 4)
    lease = hand.known.leases[at.lease]
    number = at.lease[1]
    assert Started((1, number + 1)).of(lease) == 4
    assert Started((1, number), {at.lease: 2}).of(lease) == 2
    assert Started((1, number), {at.lease: 9}).of(lease) == 4
    assert Started((1, number - 1)).of(lease) == 0
    assert NOTHING.of(lease) == 0


# ---------------------------------------------------------------------------------------------------------------------
# What `on_lost` says


def test_a_repeatable_task_is_given_up_after_its_last_attempt() -> None:
    heart = Heart(spec(max_attempts=3))
    run = heart.open()
    run.put(1)
    for attempt in (1, 2, 3):
        hand = heart.hand()
        (at,) = hand.assignments
        assert at.message.attempt == attempt
        out = hand.die(hand.begun(at, 1), "TaskTimeout", "no outcome after 5 s")
    (event,) = run.book.events
    assert event == Event("failed", 0, None, "TaskTimeout", f"svm-{hand.number}", 3)
    (publication,) = out.publications
    (error,) = publication.head.errors
    assert error.message == "no outcome after 5 s (attempt 3 of 3)"
    assert heart.statistics().failed == 1
    assert heart.statistics().lost == 3


def test_where_only_one_attempt_is_allowed_the_text_counts_none() -> None:
    heart = Heart(spec(max_attempts=1))
    run, hand = heart.open(), heart.hand()
    run.put(1)
    out = hand.die(hand.begun(hand.assignments[0], 1))
    assert out.publications[0].head.errors[0].message == "killed by SIGKILL"
    assert run.kinds == [("failed", 0)]


def test_on_lost_fail_ends_what_had_begun() -> None:
    heart = Heart(spec(on_lost="fail", max_attempts=3))
    run, hand = heart.open(), heart.hand()
    run.put(1)
    hand.die(hand.begun(hand.assignments[0], 1))
    assert [(e.kind, e.attempt) for e in run.book.events] == [("failed", 1)]


def test_on_lost_hold_leaves_what_had_begun_in_doubt() -> None:
    heart = Heart(spec(on_lost="hold"))
    run, hand = heart.open(), heart.hand()
    run.put(1, 2)
    hand.die(hand.begun(hand.assignments[0], 1))
    other = heart.hand()
    other.report(other.assignments.pop())
    assert run.kinds == [("held", 0), ("done", 1)]
    assert not other.assignments
    assert heart.statistics().held == 1
    assert run.cancel((0, 2)) == 0
    assert run.kinds[2:] == []


def test_a_stop_of_the_daemon_blames_no_repeatable_task() -> None:
    for on_lost, kinds in (("retry", []), ("hold", [("held", 0)])):
        heart = Heart(spec(on_lost=on_lost))
        run, hand = heart.open(), heart.hand()
        run.put(1)
        with heart.turn() as out:
            heart.core.draining = True
            heart.core.workforce.stopped(hand.token, hand.begun(hand.assignments[0], 1), out)
        assert run.kinds == kinds
        assert run.state.attempt(0) == (1 if on_lost == "retry" else 2)


# ---------------------------------------------------------------------------------------------------------------------
# In doubt, and resolved


def held() -> tuple[Heart, Hand]:
    """An instrument's task in doubt (task 0 of run 1), and another worker that is idle."""
    heart = Heart(spec(on_lost="hold"))
    run, hand = heart.open(), heart.hand()
    run.put(5)
    hand.die(hand.begun(hand.assignments[0], 1))
    return heart, heart.hand()


def test_a_held_task_may_be_evaluated_again() -> None:
    heart, hand = held()
    run = heart.open()
    assert isinstance(run.resolve(0, "retry"), m.Done)
    (at,) = hand.assignments
    assert at.message.attempt == 2
    hand.report(at)
    assert run.kinds == [("held", 0), ("released", 0), ("done", 0)]
    assert run.book.events[-1].attempt == 2


def test_a_held_task_may_be_declared_failed() -> None:
    heart, hand = held()
    run = heart.open()
    assert isinstance(run.resolve(0, "fail"), m.Done)
    assert run.book.events[-1] == Event("failed", 0, None, "Resolved", "ada", 1)
    assert not hand.assignments


def test_a_held_task_may_be_given_its_output_by_hand() -> None:
    heart, hand = held()
    run = heart.open()
    assert isinstance(run.resolve(0, "done"), m.Refused)  # which output?
    assert isinstance(run.resolve(0, "done", table=pack_values([1, 2])), m.Refused)
    assert isinstance(run.resolve(0, "done", table=pack_values([11.5])), m.Done)
    assert run.book.events[-1] == Event("done", 0, 11.5, "", "ada", 1)
    assert not hand.assignments


def test_a_word_on_a_task_that_is_not_held_is_refused() -> None:
    heart, _ = held()
    run = heart.open()
    assert run.resolve(1, "retry").code == "unknown_task"
    assert run.resolve(0, "repeat").code == "unknown_task"
    assert run.kinds == [("held", 0)]
    run.resolve(0, "fail")
    assert run.resolve(0, "retry").code == "unknown_task"
    assert not run.state.open


def test_a_late_outcome_resolves_a_held_task() -> None:
    heart = Heart(spec(on_lost="hold"))
    run, hand = heart.open(), heart.hand(local=False)
    run.put(5)
    heart.tick(11)
    assert run.kinds == [("held", 0)]
    at = hand.assignments.pop()
    hand.hello(at.lease)
    hand.report(at)
    assert run.kinds == [("held", 0), ("done", 0)]
    assert isinstance(run.resolve(0, "retry"), m.Refused)


def third_evaluation_on_one_word() -> bool:
    """A word on a held task comes a second time, after the task was evaluated again and is in doubt once more."""
    heart, hand = held()
    run = heart.open()
    assert isinstance(run.resolve(0, "retry", attempt=1), m.Done)
    hand.die(hand.begun(hand.assignments.pop(), 1))
    assert run.kinds == [("held", 0), ("released", 0), ("held", 0)]
    answer = run.resolve(0, "retry", attempt=1)
    return isinstance(answer, m.Done) and bool(heart.hand().assignments)


def test_a_repeated_word_on_a_held_task_is_no_second_one() -> None:
    assert not third_evaluation_on_one_word()
    with mutated("takes-a-repeated-word-on-a-held-task-for-another"):
        assert third_evaluation_on_one_word()


# ---------------------------------------------------------------------------------------------------------------------
# Late words


def silent(heart: Heart) -> tuple[Hand, Assignment]:
    """A worker from elsewhere that has task 0 in hand, and was given up because it was not heard of."""
    run, hand = heart.open(), heart.hand(local=False)
    run.put(5)
    at = hand.assignments.pop()
    heart.tick(9)
    assert hand.token in heart.core.masters["svm"].workers
    heart.tick(2)
    assert hand.token not in heart.core.masters["svm"].workers
    return hand, at


def test_a_late_outcome_is_taken_while_the_task_waits() -> None:
    heart = Heart(spec())
    hand, at = silent(heart)
    hand.hello()  # without the lease: it says so in another way
    hand.report(at)
    run = heart.open()
    assert [(e.kind, e.attempt, e.output) for e in run.book.events] == [("done", 1, 11.0)]
    assert heart.statistics().queued == 0
    heart.hand()
    assert run.kinds == [("done", 0)]


def test_a_worker_that_comes_back_has_its_lease_again() -> None:
    heart = Heart(spec())
    hand, at = silent(heart)
    hand.hello(at.lease)
    assert heart.statistics().leased == 1
    other = heart.hand()
    assert not other.assignments
    hand.report(at)
    assert heart.open().kinds == [("done", 0)]


def test_a_lease_that_never_arrived_is_granted_again_without_a_charge() -> None:
    heart = Heart(spec(on_lost="hold"))
    run, hand = heart.open(), heart.hand(local=False)
    run.put(5)
    hand.hello()  # the connection broke, and the dispatch was lost with it
    hand.say(m.Ready())
    assert [at.message.attempt for at in hand.assignments] == [1, 1]
    hand.report(hand.assignments[1])
    assert run.kinds == [("done", 0)]


def late_word() -> list[tuple[str, int]]:
    """A worker thought lost speaks up after its task was leased again; then the one that has it now."""
    heart = Heart(spec())
    hand, at = silent(heart)
    other = heart.hand()
    (again,) = other.assignments
    hand.hello(at.lease)
    hand.report(at)
    other.report(again)
    return [(event.kind, event.attempt) for event in heart.open().book.events]


def test_a_late_outcome_of_a_task_that_is_leased_again_is_ignored() -> None:
    assert late_word() == [("done", 2)]
    with mutated("takes-the-late-outcome-of-a-task-that-is-leased-again"):
        assert late_word() == [("done", 1)]


def test_an_outcome_counts_once_however_often_it_comes() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand()
    run.put(1)
    (at,) = hand.assignments
    hand.heard.clear()
    for _ in range(3):
        hand.report(at)
    assert run.kinds == [("done", 0)]
    heart.tick()
    (settled,) = hand.heard
    assert settled == m.Settled((at.lease,) * 3, 1)


def test_an_outcome_of_another_s_lease_is_ignored() -> None:
    heart = Heart(spec(), spec("other"))
    run, hand, stranger = heart.open(), heart.hand(), heart.hand()
    elsewhere = heart.hand("other")
    run.put(1)
    owner, other = (hand, stranger) if hand.assignments else (stranger, hand)
    (at,) = owner.assignments
    other.report(at)
    elsewhere.report(at)
    assert run.kinds == []
    assert heart.core.masters["svm"].ignored == 1
    owner.report(at)
    assert run.kinds == [("done", 0)]


def test_a_partial_outcome_keeps_the_lease_and_the_last_ends_it() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    first, _ = leased(heart, hand, 4)
    hand.report(first, 0, 2)
    assert len(hand.known.leases[first.lease].remaining) == 2
    hand.report(first, 3, 4, final=True)  # the one before was lost on the way; its worker sends it again
    assert first.lease in hand.known.leases
    hand.report(first, 2, 3, final=False)
    assert first.lease not in hand.known.leases


# ---------------------------------------------------------------------------------------------------------------------
# What is written down of leases


def test_a_lease_of_an_instrument_is_recorded_with_its_grant() -> None:
    heart = Heart(spec(on_lost="hold"))
    run, hand = heart.open(), heart.hand()
    out = run.put(1)
    assert [type(record) for record in out.records if isinstance(record, (LeaseGranted, LeaseEnded))] == [LeaseGranted]
    assert not out.early
    out = hand.report(hand.assignments[0])
    assert [record.lease for record in out.records if isinstance(record, LeaseEnded)] == [hand.assignments[0].lease]
    assert heart.ledger.leases == {}


def test_a_short_lease_of_a_repeatable_task_is_never_recorded_a_long_one_is() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand()
    run.put(1)
    heart.tick(0.4)
    assert heart.ledger.leases == {}
    heart.tick(0.2)
    assert list(heart.ledger.leases) == [hand.assignments[0].lease]
    hand.report(hand.assignments.pop())
    assert heart.ledger.leases == {}


@pytest.mark.parametrize("known", [True, False])
def test_a_host_says_what_it_knows_of_its_lost_worker(known: bool) -> None:
    heart = Heart(spec())
    hand = heart.hand(local=False)
    first, second = leased(heart, hand, 4)
    heart.hands.clear()
    out = hand.say(m.WorkerLost(hand.token, "WorkerLost", "gone", known, first.lease, ((first.lease, 1),)))
    charged = [i for r in out.records if isinstance(r, AttemptsCharged) for i in range(r.first, r.last)]
    assert charged == (first.indices[:1] if known else first.indices + second.indices)
