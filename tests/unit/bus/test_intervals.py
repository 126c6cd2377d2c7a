"""Intervals of indices behave as the set of those indices does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taskmaster.bus.intervals import IntervalSet

bounds = st.integers(0, 40)


def members(intervals: list[tuple[int, int]]) -> set[int]:
    return {index for low, high in intervals for index in range(low, high)}


class Intervals(RuleBasedStateMachine):
    """The same is done to both, and the same is asked of both."""

    def __init__(self) -> None:
        super().__init__()
        self.intervals = IntervalSet()
        self.model: set[int] = set()

    @rule(low=bounds, high=bounds)
    def add(self, low: int, high: int) -> None:
        self.intervals.add(low, high)
        self.model |= set(range(low, high))

    @rule(size=st.integers(1, 3))
    def add_behind_the_end(self, size: int) -> None:
        end = self.intervals.end
        self.intervals.add(end, end + size)
        self.model |= set(range(end, end + size))

    @rule(low=bounds, high=bounds)
    def remove(self, low: int, high: int) -> None:
        gone = self.model & set(range(low, high))
        assert self.intervals.remove(low, high) == len(gone)
        self.model -= gone

    @precondition(lambda self: self.model)
    @rule(n=st.integers(1, 20))
    def pop_first(self, n: int) -> None:
        low, high = self.intervals.pop_first(n)
        assert low == min(self.model)
        assert 1 <= high - low <= n
        assert high - low == n or high not in self.model
        assert set(range(low, high)) <= self.model
        self.model -= set(range(low, high))

    @precondition(lambda self: not self.model)
    @rule()
    def ask_for_the_first_of_none(self) -> None:
        with pytest.raises(IndexError):
            self.intervals.pop_first(1)
        for name in ("first", "last"):
            with pytest.raises(IndexError):
                getattr(self.intervals, name)

    @rule(low=bounds, high=bounds)
    def look_between(self, low: int, high: int) -> None:
        here = set(range(low, high))
        within, gaps = self.intervals.within(low, high), self.intervals.gaps(low, high)
        assert members(within) == self.model & here
        assert members(gaps) == here - self.model
        assert sorted([*within, *gaps]) == sorted([*within, *gaps], key=lambda interval: interval[1])
        assert all(start < stop for start, stop in (*within, *gaps))
        assert self.intervals.covers(low, high) == (here <= self.model)

    @rule(low=bounds)
    def go_on_with_a_copy(self, low: int) -> None:
        before, self.intervals = self.intervals, self.intervals.copy()
        before.add(low, low + 5)  # which the copy does not notice

    @invariant()
    def they_agree(self) -> None:
        pairs = list(self.intervals)
        assert members(pairs) == self.model
        assert list(self.intervals.indices()) == sorted(self.model)
        assert (len(self.intervals), bool(self.intervals)) == (len(self.model), bool(self.model))
        assert self.intervals.end == max(self.model, default=-1) + 1
        assert all(index in self.intervals for index in self.model)
        assert not any(index in self.intervals for index in set(range(-1, 61)) - self.model)

    @invariant()
    def there_are_no_more_pieces_than_it_takes(self) -> None:
        pairs = list(self.intervals)
        assert all(low < high for low, high in pairs)
        assert all(high < low for (_, high), (low, _) in pairwise(pairs)), "neighbours are one"
        assert self.intervals.pieces == len(pairs)
        assert not pairs or (self.intervals.first, self.intervals.last) == (pairs[0], pairs[-1])
        assert IntervalSet(reversed(pairs)) == self.intervals
        assert self.intervals != pairs
        assert repr(self.intervals) == f"IntervalSet({pairs})"


TestIntervals = Intervals.TestCase


def test_a_million_million_tasks_are_one_piece() -> None:
    intervals = IntervalSet([(0, 10**12)])
    assert intervals.remove(5, 10) == 5
    assert (intervals.pieces, len(intervals)) == (2, 10**12 - 5)
