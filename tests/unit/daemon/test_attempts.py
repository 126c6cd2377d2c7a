"""Intervals and the counts kept in them say what a set and a dict of single tasks say."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, strategies as st

from taskmaster.bus.intervals import IntervalSet
from taskmaster.daemon.attempts import Attempts

#: (low, length) in so small a room that they overlap, touch and leave gaps
spans = st.tuples(st.integers(0, 60), st.integers(0, 9))
many = st.lists(spans, max_size=20)


def intervals(spans: Iterable[tuple[int, int]]) -> IntervalSet:
    return IntervalSet((low, low + n) for low, n in spans)


@given(many, many, spans)
def test_what_sets_of_intervals_have_in_common(
    one: list[tuple[int, int]], two: list[tuple[int, int]], span: tuple[int, int]
) -> None:
    first, second, (low, n) = intervals(one), intervals(two), span
    members, others = set(first.indices()), set(second.indices())
    common = first.common(second)
    assert [index for low, high in common for index in range(low, high)] == sorted(members & others)
    assert common == second.common(first)
    assert first.intersects(low, low + n) == bool(members & set(range(low, low + n)))
    reach = first.reach(low)
    assert (reach is None) == (not members or max(members) < low)
    assert reach is None or (reach in list(first) and low < reach[1] and not members & set(range(low, reach[0])))
    first.remove_all(second)
    assert set(first.indices()) == members - others
    assert len(first) == len(members - others)
    assert first == IntervalSet(first)  # adjacent ones are joined, none is empty


@given(st.lists(st.tuples(st.sampled_from(("set", "forget")), spans, st.integers(1, 3)), max_size=20), spans)
def test_counts_by_interval_are_those_of_each_task(
    steps: list[tuple[str, tuple[int, int], int]], span: tuple[int, int]
) -> None:
    attempts, single = Attempts(), dict[int, int]()
    for step, (low, n), count in steps:
        tasks = range(low, low + n)
        if step == "set":
            attempts.set(low, low + n, count)
            single.update(dict.fromkeys(tasks, count))
        else:
            attempts.forget(low, low + n)
            single = {index: used for index, used in single.items() if index not in tasks}
        assert dict(attempts.items()) == single
        assert bool(attempts) == bool(single)
    low, high = span[0], sum(span)
    pieces = attempts.pieces(low, high)
    assert [index for first, end, _ in pieces for index in range(first, end)] == list(range(low, high))
    assert all(
        attempts[index] == single.get(index, 0) == count for first, end, count in pieces for index in range(first, end)
    )
    end, count = attempts.alike(low, high)
    assert high == low or (low < end <= high and {single.get(index, 0) for index in range(low, end)} == {count})
    assert end == high or single.get(end, 0) != count
