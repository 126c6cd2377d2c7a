"""Which task goes to which worker, and how many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from helpers.heart import Conversation, Hand, Heart, spec
from hypothesis import given, strategies as st

from taskmaster.bus import messages as m
from taskmaster.daemon.scheduling import (
    CHUNK_BYTES,
    GROWTH,
    LONGEST_CHUNK_SECONDS,
    Estimate,
    chunk_seconds,
    chunk_size,
)


def known(seconds: float, largest: int) -> Estimate:
    estimate = Estimate()
    estimate.seconds, estimate.largest = seconds, largest
    return estimate


def work(heart: Heart, hands: Sequence[Hand], seconds: dict[int, float], until: float) -> dict[int, float]:
    """Have every hand evaluate what it gets until the clock says ``until``; seconds of evaluation by run."""
    spent: defaultdict[int, float] = defaultdict(float)
    while heart.now < until and any(hand.assignments for hand in hands):
        for hand in hands:
            if hand.assignments:
                at = hand.assignments.pop(0)
                each = seconds[at.message.run]
                heart.now += each * at.message.n / len(hands)
                spent[at.message.run] += each * at.message.n
                hand.report(at, seconds=each)
    return spent


# ---------------------------------------------------------------------------------------------------------------------
# How many


@given(
    st.floats(1e-7, 100),
    st.integers(1, 10**6),
    st.integers(1, 10**7),
    st.integers(0, 500),
    st.sampled_from((0.0, 8.0, 1e6, 1e9)),
)
def test_a_chunk_keeps_within_each_of_its_bounds(
    seconds: float, largest: int, queued: int, slots: int, row_bytes: float
) -> None:
    size = chunk_size(known(seconds, largest), queued, slots, row_bytes)
    assert 1 <= size <= queued
    if size > 1:
        assert size <= -(-queued // (2 * max(1, slots)))  # guided: half of what is left, shared among the slots
        assert size * seconds <= LONGEST_CHUNK_SECONDS * 1.5  # rounded
        assert size <= GROWTH * largest
        assert size * row_bytes <= CHUNK_BYTES


def test_chunks_shrink_to_one_task_at_the_end() -> None:
    estimate, queued, sizes = known(1e-5, 10**6), 3000, []
    while queued:
        sizes.append(chunk_size(estimate, queued, 4, 8))
        queued -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 375
    assert sizes[-7:] == [1] * 7
    assert len(sizes) < 60


def test_more_work_waiting_makes_longer_chunks_within_limits() -> None:
    lengths = [chunk_seconds(known(0.001, 1), queued, 2) for queued in (1, 100, 3200, 10**6)]
    assert lengths == pytest.approx([0.01, 0.01, 0.05, 0.1])


def test_one_odd_task_among_thousands_hardly_moves_the_estimate() -> None:
    estimate = Estimate()
    for _ in range(5):
        estimate.learn(1000, 0.010)
    estimate.learn(1, 1.0)
    assert estimate.seconds < 0.005
    for _ in range(30):  # but what lasts is learnt
        estimate.learn(1, 1.0)
    assert estimate.seconds > 0.5


def test_of_a_new_run_each_slot_gets_one_task() -> None:
    heart = Heart(spec())
    hands = [heart.hand(), heart.hand(slots=2)]
    heart.open().put(*range(100))
    assert sorted(at.indices for hand in hands for at in hand.assignments) == [[0], [1], [2]]


def test_chunks_grow_by_what_the_run_has_proven() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    heart.open().put(*range(10_000))
    sizes = []
    for _ in range(6):
        at = hand.assignments.pop(0)
        sizes.append(at.message.n)
        hand.report(at, seconds=2e-6)
    assert sizes == [1, 8, 8, 64, 64, 512]


def test_a_short_task_is_granted_ahead_of_time_and_a_long_one_is_not() -> None:
    for seconds, ahead in ((0.001, 2), (0.5, 1)):
        heart = Heart(spec())
        hand = heart.hand()
        heart.open().put(*range(100))
        hand.report(hand.assignments.pop(), seconds=seconds)
        assert len(hand.assignments) == ahead


def test_an_instrument_gets_one_task_at_a_time() -> None:
    heart = Heart(spec(on_lost="hold"))
    hand = heart.hand()
    heart.open().put(*range(100))
    for index in range(20):
        at = hand.assignments.pop(0)
        assert at.indices == [index]
        hand.report(at, seconds=0.5)


def test_a_master_may_limit_the_tasks_of_a_lease() -> None:
    heart = Heart(spec(largest_chunk=3))
    hand = heart.hand()
    heart.open().put(*range(1000))
    for expected in (1, 3, 3, 3):
        at = hand.assignments.pop(0)
        assert at.message.n == expected
        hand.report(at, seconds=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Of which run


def two_runs(heart: Heart) -> tuple[Conversation, Conversation]:
    first, second = heart.open(name="a"), heart.open(name="b")
    first.put(*range(20_000))
    second.put(*range(20_000))
    return first, second


@pytest.mark.parametrize("costs", [(0.001, 0.001), (0.001, 0.008)])
def test_runs_share_the_time_not_the_tasks(costs: tuple[float, float]) -> None:
    heart = Heart(spec())
    hands = [heart.hand(), heart.hand()]
    first, second = two_runs(heart)
    spent = work(heart, hands, dict(zip((first.run, second.run), costs)), heart.now + 4)
    assert abs(spent[first.run] - spent[second.run]) < 8 * LONGEST_CHUNK_SECONDS


def test_an_outcome_that_is_said_again_costs_nothing_more() -> None:
    heart = Heart(spec())
    run = heart.open()
    hand = heart.hand()
    run.put(1)
    hand.report(hand.assignments.pop())
    run.put(*range(20))
    at = next(at for at in hand.assignments if at.message.n > 1)
    hand.report(at, 0, 1, seconds=3.0)
    before = run.state.virtual_time, run.state.estimate.seconds
    hand.report(at, 0, 1, seconds=3.0)
    assert (run.state.virtual_time, run.state.estimate.seconds) == before


def test_who_was_idle_has_saved_up_nothing_and_does_not_starve() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    early, late = heart.open(name="early"), heart.open(name="late")
    costs = {early.run: 0.001, late.run: 0.001}
    early.put(*range(20_000))
    work(heart, [hand], costs, heart.now + 4)
    late.put(*range(20_000))
    spent = work(heart, [hand], costs, heart.now + 4)
    assert abs(spent[early.run] - spent[late.run]) < 8 * LONGEST_CHUNK_SECONDS


def test_a_higher_priority_goes_first() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    low, high = heart.open(name="low"), heart.open(name="high", priority=1)
    low.put(*range(500))
    high.put(*range(500))
    hand.report(hand.assignments.pop(0))  # the one task of `low` that was there first
    order = []
    while hand.assignments:
        at = hand.assignments.pop(0)
        order.append(at.message.run)
        hand.report(at)
    assert order[0] == high.run
    assert order == sorted(order, key=[high.run, low.run].index)
    assert low.book.open_tasks == high.book.open_tasks == 0


def test_a_priority_may_change_on_the_way() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    first, second = two_runs(heart)
    heart.ask(m.Prioritise(9, second.run, 5), m.Done)
    for _ in range(3):  # what was granted before stays granted
        hand.report(hand.assignments.pop(0))
    assert {at.message.run for at in hand.assignments} == {second.run}
    assert second.book.priority == 5
    assert first.state.queued


def test_a_paused_run_waits_and_the_others_go_on() -> None:
    heart = Heart(spec())
    first, second = two_runs(heart)
    heart.ask(m.Pause(9, "svm", first.run), m.Done)
    hand = heart.hand()
    for _ in range(5):
        at = hand.assignments.pop(0)
        assert at.message.run == second.run
        hand.report(at)
    heart.ask(m.Pause(9, "svm"), m.Done)
    while hand.assignments:
        hand.report(hand.assignments.pop(0))
    assert heart.statistics().state == "paused"
    heart.ask(m.Resume(9, "svm", first.run), m.Done)
    assert not hand.assignments
    heart.ask(m.Resume(9, "svm"), m.Done)
    assert hand.assignments


# ---------------------------------------------------------------------------------------------------------------------
# To which worker


def test_the_worker_that_was_busy_last_is_served_first() -> None:
    heart = Heart(spec())
    cold, warm = heart.hand(), heart.hand()
    run = heart.open()
    run.put(1)
    first, second = (warm, cold) if warm.assignments else (cold, warm)
    first.report(first.assignments.pop())
    for value in (2, 3):
        run.put(value)
        assert (len(first.assignments), len(second.assignments)) == (1, 0)
        first.report(first.assignments.pop())


def test_a_free_slot_comes_before_a_second_lease() -> None:
    heart = Heart(spec())
    hands = [heart.hand() for _ in range(4)]
    run = heart.open()
    run.put(0)
    busy = next(hand for hand in hands if hand.assignments)
    busy.report(busy.assignments.pop())  # now its tasks are known to be short
    run.put(*range(4))
    assert [len(hand.assignments) for hand in hands] == [1, 1, 1, 1]


def test_a_worker_that_is_not_ready_gets_nothing() -> None:
    heart = Heart(spec())
    heart.open().put(1)
    hand = Hand(heart, "svm")
    hand.hello()
    heart.wait(1)
    assert not hand.assignments
    hand.say(m.Ready())
    assert hand.assignments


def test_tasks_of_a_lease_have_one_layout() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand()
    run.put(0)
    hand.report(hand.assignments.pop(), seconds=1e-5)
    heart.ask(m.Pause(9, "svm"), m.Done)
    for values in ([1.0, 2.0, 3.0], [(1.0, 2.0)], [4, 5]):
        message, table = run.submission(values)
        heart.say(message, table)
        run.next_index += len(values)
    heart.ask(m.Resume(9, "svm"), m.Done)
    leases = []
    while hand.assignments:
        at = hand.assignments.pop(0)
        leases.append(at.indices)
        hand.report(at, seconds=1e-5, errors=range(at.message.n))
    assert leases == [[1, 2, 3], [4], [5], [6]]  # by twos, it would have been [4, 5]
