"""A set of intervals is a set of integers, whatever is done to it in whatever order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskmaster.bus.intervals import IntervalSet

SPAN = 12
bounds = st.integers(0, SPAN)


class SetOfIntegers(RuleBasedStateMachine):
    """The same is done to an IntervalSet and to a plain set; every question gets the same answer of both."""

    def __init__(self) -> None:
        super().__init__()
        self.intervals = IntervalSet()
        self.model: set[int] = set()

    @initialize(given=st.lists(st.tuples(bounds, bounds), max_size=4))
    def start(self, given: list[tuple[int, int]]) -> None:
        self.intervals = IntervalSet(given)
        self.model = {i for low, high in given for i in range(low, high)}

    @rule(low=bounds, high=bounds)
    def add(self, low: int, high: int) -> None:
        self.intervals.add(low, high)
        self.model |= set(range(low, high))

    @rule(low=bounds, high=bounds)
    def remove(self, low: int, high: int) -> None:
        gone = self.model & set(range(low, high))
        assert self.intervals.remove(low, high) == len(gone)
        self.model -= gone

    @precondition(lambda self: self.model)
    @rule(n=st.integers(1, SPAN))
    def pop_first(self, n: int) -> None:
        low, high = self.intervals.pop_first(n)
        popped = set(range(low, high))
        assert low == min(self.model)
        assert popped <= self.model
        assert len(popped) == n or high not in self.model, "as many as asked for, or all that hang together"
        assert 0 < len(popped) <= n
        self.model -= popped

    @rule()
    def go_on_with_a_copy(self) -> None:
        before, self.intervals = self.intervals, self.intervals.copy()
        assert before == self.intervals
        before.add(SPAN, SPAN + 1)
        before.remove(0, SPAN)
        assert before != self.intervals

    @rule(low=bounds, high=bounds)
    def look_between(self, low: int, high: int) -> None:
        inside = self.model & set(range(low, high))
        within, gaps = self.intervals.within(low, high), self.intervals.gaps(low, high)
        assert members(within) == sorted(inside)
        assert members(gaps) == sorted(set(range(low, high)) - inside)
        for found in (within, gaps):
            assert all(start < stop for start, stop in found)
        assert self.intervals.covers(low, high) == (inside == set(range(low, high)))

    @invariant()
    def it_is_the_same_set(self) -> None:
        assert len(self.intervals) == len(self.model)
        assert bool(self.intervals) == bool(self.model)
        assert list(self.intervals.indices()) == sorted(self.model)
        assert self.intervals.end == max(self.model, default=-1) + 1
        assert [i for i in range(SPAN + 2) if i in self.intervals] == sorted(self.model)

    @invariant()
    def in_as_few_pieces_as_can_be(self) -> None:
        pieces = list(self.intervals)
        assert self.intervals.pieces == len(pieces)
        assert all(low < high for low, high in pieces)
        assert all(before[1] < after[0] for before, after in pairwise(pieces)), "neighbours are joined"
        if pieces:
            assert (self.intervals.first, self.intervals.last) == (pieces[0], pieces[-1])
        assert IntervalSet(reversed(pieces)) == self.intervals, "however it came to be"


def members(intervals: list[tuple[int, int]]) -> list[int]:
    return [i for low, high in intervals for i in range(low, high)]


TestSetOfIntegers = SetOfIntegers.TestCase
TestSetOfIntegers.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("ask", [lambda s: s.first, lambda s: s.last, lambda s: s.pop_first(1)])
def test_the_empty_set_has_no_first_and_no_last(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(IndexError):
        ask(IntervalSet([(3, 3)]))


def test_a_million_tasks_are_one_interval() -> None:
    queued = IntervalSet([(0, 10**12)])
    leased = IntervalSet()
    for _ in range(1000):
        leased.add(*queued.pop_first(1000))
    assert (queued.pieces, leased.pieces) == (1, 1)
    assert leased == IntervalSet([(0, 10**6)])
    assert len(queued) + len(leased) == 10**12
    assert repr(leased) == "IntervalSet([(0, 1000000)])"
