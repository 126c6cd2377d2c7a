"""Cancelled tasks: those that wait, those that are with a worker, and those that must not be cancelled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from helpers.heart import Assignment, Conversation, Hand, Heart, spec
from hypothesis import given, strategies as st

from taskmaster.bus import messages as m
from taskmaster.bus.cut import cut_outcome
from taskmaster.bus.table import pack_values


def chunk(heart: Heart, *, local: bool = True) -> tuple[Conversation, Hand, Assignment]:
    """A worker with a lease of tasks 1 to 4; 5 and 6 in another, 7 and 8 wait."""
    run, hand = heart.open(), heart.hand(local=local)
    run.put(0)
    hand.report(hand.assignments.pop(), seconds=0.0001)
    run.put(*range(1, 9))
    first = hand.assignments[0]
    assert first.indices == [1, 2, 3, 4]
    return run, hand, first


def test_tasks_that_wait_are_cancelled_at_once() -> None:
    heart = Heart(spec())
    run = heart.open()
    run.put(*range(10))
    assert run.cancel((2, 4), (7, 20)) == 5
    assert run.kinds == [("cancelled", index) for index in (2, 3, 7, 8, 9)]
    assert run.cancel((2, 4)) == 0
    assert run.cancel() == 5
    assert heart.statistics().cancelled == 10
    assert heart.statistics().queued_bytes == 0
    heart.hand()
    assert not heart.core.busy


def test_of_those_that_are_queued_none_is_with_a_worker() -> None:
    run, hand, first = chunk(Heart(spec()))
    assert run.cancel((2, 8), queued=True) == 1
    assert run.kinds[1:] == [("cancelled", 7)]
    assert run.cancel(queued=True) == 1
    assert run.cancel(queued=True) == 0
    hand.report(first, seconds=0.0001)
    assert [kind for kind, _ in run.kinds].count("done") == 1 + 4, "they end as if nothing had been"


def test_to_cancel_nothing_is_no_event() -> None:
    heart = Heart(spec())
    run = heart.open()
    run.put(0, 1, 2)
    assert run.cancel((1, 1)) == 0
    assert run.kinds == []
    assert run.cancel() == 3


def test_to_cancel_scattered_tasks_costs_what_they_are_not_what_is_queued() -> None:
    def seconds(n: int) -> float:
        heart = Heart(spec())
        run = heart.open()
        values = np.arange(float(n))
        for part in np.split(values, 100):
            run.put(*part)
        began = time.process_time()
        with heart.turn() as out:
            assert heart.core.masters["svm"].on_cancel(run.state, [(i, i + 1) for i in range(0, n, 2)], out) == n // 2
            spent = time.process_time() - began
        assert run.kinds == [("cancelled", i) for i in range(0, n, 2)]
        assert len(run.state.open) == n // 2
        return spent

    few, many = (min(seconds(n) for _ in range(3)) for n in (2000, 16_000))
    assert many < 32 * few, "eight times the tasks, sixty-four times the time if it were quadratic"


def test_inputs_go_with_the_last_task_of_their_block() -> None:
    heart = Heart(spec())
    run = heart.open()
    for _ in range(3):
        message, table = run.submission(list(range(40_000)))  # too large to be joined
        heart.say(message, table)
        run.next_index += 40_000
    run.cancel((0, 10), (20, 40_001), (80_000, 120_000))
    assert [block.first for block in run.state.blocks] == [0, 40_000]
    run.cancel((10, 20))
    assert [block.first for block in run.state.blocks] == [40_000]
    assert run.state.input_bytes == sum(block.table.nbytes for block in run.state.blocks)


def test_an_interval_must_be_one() -> None:
    heart = Heart(spec())
    run = heart.open()
    run.put(0)
    refused = heart.ask(m.Cancel(2, run.run, ((1, 0),)), m.Refused)
    assert "1…0 is not an interval" in refused.message
    assert run.kinds == []


def test_tasks_with_a_worker_are_called_back_and_what_it_says_of_them_is_cut() -> None:
    heart = Heart(spec())
    run, hand, lease = chunk(heart)
    out = heart.say(m.Cancel(2, run.run, ((2, 4),)))
    assert out.interrupts == [m.Interrupt(hand.token, lease.lease, 1, 3)]
    assert m.Revoke(lease.lease, ((1, 3),)) in hand.heard
    hand.report(lease, errors=[3])  # it evaluated them all the same
    assert run.kinds == [("done", 0), ("cancelled", 2), ("cancelled", 3), ("done", 1), ("failed", 4)]
    assert [event.output for event in run.book.events] == [1.0, None, None, 3.0, None]
    statistics = heart.statistics()
    assert (statistics.done, statistics.failed, statistics.cancelled) == (2, 1, 2)
    assert lease.lease not in hand.known.leases


def test_who_evaluates_many_tasks_together_is_not_killed_for_one_that_is_cancelled() -> None:
    heart = Heart(spec())
    run, hand, lease = chunk(heart)
    hand.known.batch = 1024
    out = heart.say(m.Cancel(2, run.run, ((2, 4),)))
    assert out.interrupts == []
    assert m.Revoke(lease.lease, ((1, 3),)) in hand.heard


def test_a_cancelled_lease_gives_the_slot_back_when_its_worker_says_so() -> None:
    heart = Heart(spec())
    run, hand, lease = chunk(heart)
    run.cancel()
    run.put(9)
    assert lease.lease in hand.known.leases
    while len(hand.assignments) > 1:
        at = hand.assignments.pop(0)
        hand.report(at, at.message.n, at.message.n)
    assert hand.assignments[0].indices == [9]
    assert list(hand.known.leases) == [hand.assignments[0].lease]


def test_of_an_instrument_only_what_waits_is_cancelled() -> None:
    heart = Heart(spec(on_lost="hold"))
    run, hand = heart.open(), heart.hand()
    run.put(0, 1)
    assert run.cancel() == 1
    assert run.kinds == [("cancelled", 1)]
    hand.report(hand.assignments.pop())
    assert run.kinds[1:] == [("done", 0)]


def test_the_host_of_a_worker_elsewhere_is_told_as_soon_as_it_is_known() -> None:
    heart = Heart(spec())
    run, hand, lease = chunk(heart, local=False)
    run.cancel((1, 2))
    host = heart.stranger(b"host")
    interrupt = m.Interrupt(hand.token, lease.lease, 0, 1)
    host.say(m.Heartbeat((hand.token,)))
    assert host.heard == [interrupt]
    host.say(m.Heartbeat((hand.token,)))
    assert host.heard == [interrupt]
    run.cancel((2, 3))
    assert host.heard == [interrupt, m.Interrupt(hand.token, lease.lease, 1, 2)]


def test_who_is_killed_for_a_cancelled_task_charges_nobody() -> None:
    heart = Heart(spec())
    run, hand, lease = chunk(heart)
    run.cancel((1, 2))
    hand.die(hand.begun(lease, 1), "TaskCancelled")
    assert not run.state.attempts
    assert len(run.state.queued) == 7


@given(st.data())
def test_a_cut_outcome_says_of_each_task_what_the_whole_said(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    wrong = data.draw(st.sets(st.integers(0, n - 1)))
    low = data.draw(st.integers(0, n - 1))
    high = data.draw(st.integers(low + 1, n))
    right = [p for p in range(n) if p not in wrong]
    table = pack_values([float(p) for p in right]) if right else None
    times = np.arange(n, dtype="<f8").tobytes()
    errors = tuple(m.TaskError(p, "ValueError", f"task {p}", "where") for p in sorted(wrong))
    cut, some_times, some_errors = cut_outcome(table, times, errors, low, high)
    said: dict[int, Any] = {error.position + low: error.message for error in some_errors}
    outputs = iter(cut.rows() if cut is not None else ())
    said.update({p: next(outputs) for p in range(low, high) if p not in said})
    assert next(outputs, None) is None
    assert said == {p: f"task {p}" if p in wrong else float(p) for p in range(low, high)}
    assert some_times is not None
    assert np.frombuffer(some_times).tolist() == list(range(low, high))
    assert all(error.traceback == "where" for error in some_errors)
