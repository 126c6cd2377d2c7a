"""Slew-limited setting: no step too long, and the end to the digit."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, strategies as st

from taskmaster.drivers.instruments.ramps import steps

values = st.floats(-100, 100)
limits = st.floats(0.5, 500)


def test_the_way_up_and_down() -> None:
    assert list(steps({"v": 0.0}, {"v": 1.0}, {"v": 0.25})) == [{"v": 0.25}, {"v": 0.5}, {"v": 0.75}, {"v": 1.0}]
    assert list(steps({"v": 0.3}, {"v": 0.0}, {"v": 0.1}))[-1] == {"v": 0.0}
    assert len(list(steps({"v": 0.3}, {"v": 0.0}, {"v": 0.1}))) == 3, "rounding makes no step of its own"
    assert list(steps({"v": 2.0}, {"v": 2.0}, {"v": 0.1})) == [{"v": 2.0}], "it is set, if only to be sure"


def test_two_arrive_together_by_the_slower() -> None:
    assert list(steps({"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 3.0}, {"x": 1.0, "y": 1.0})) == [
        {"x": 1 / 3, "y": 1.0},
        {"x": 2 / 3, "y": 2.0},
        {"x": 1.0, "y": 3.0},
    ]


@given(values, values, limits)
def test_no_step_is_too_long(start: float, end: float, step: float) -> None:
    way = [start, *(at["v"] for at in steps({"v": start}, {"v": end}, {"v": step}))]
    assert way[-1] == end
    assert max(abs(b - a) for a, b in pairwise(way)) <= step * (1 + 1e-6)
