"""When a worker that has died is replaced, and when one gives up."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from taskmaster.daemon.restarts import RestartPolicy


def test_a_worker_that_was_at_work_is_replaced_at_once_however_often() -> None:
    policy = RestartPolicy(limit=2)
    assert [policy.after_death(t, worked=True, ended=t) for t in range(50)] == [0.0] * 50


def test_deaths_at_work_in_a_row_make_the_next_wait_until_a_task_ends_in_between() -> None:
    policy = RestartPolicy(limit=5, window=60)
    pauses = [policy.after_death(t, worked=True, ended=7) for t in range(12)]
    assert pauses == [0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]
    assert policy.after_death(20, worked=True, ended=8) == 0
    assert policy.barren == 1


def test_one_that_cannot_start_is_tried_again_after_a_growing_pause_and_given_up() -> None:
    policy = RestartPolicy(limit=5, window=60)
    assert [policy.after_death(t, worked=False) for t in range(6)] == [0.1, 0.2, 0.4, 0.8, None, None]


def test_a_pause_does_not_grow_beyond_measure() -> None:
    policy = RestartPolicy(limit=100, window=1e9)
    pauses = [policy.after_death(t, worked=False) for t in range(50)]
    assert pauses[-1] == pytest.approx(10.0)


def test_deaths_that_lie_back_longer_than_the_window_are_forgotten() -> None:
    policy = RestartPolicy(limit=3, window=60)
    assert policy.after_death(0, worked=False) == 0.1
    assert policy.after_death(30, worked=False) == 0.2
    assert policy.after_death(61, worked=False) == 0.2  # only the one at 30 counts still
    assert policy.after_death(200, worked=False) == 0.1


def test_who_has_looked_at_it_has_forgiven() -> None:
    policy = RestartPolicy(limit=2)
    policy.after_death(0, worked=False)
    assert policy.after_death(1, worked=False) is None
    policy.forgive()
    assert policy.after_death(2, worked=False) == 0.1


def test_a_worker_that_was_at_work_does_not_count_against_the_others() -> None:
    policy = RestartPolicy(limit=2)
    policy.after_death(0, worked=False)
    policy.after_death(1, worked=True)
    assert policy.after_death(100, worked=False) == 0.1


@given(st.integers(1, 8), st.floats(1, 100), st.lists(st.floats(0, 50), max_size=30))
def test_within_a_window_there_are_never_more_starts_than_the_limit(
    limit: int, window: float, gaps: list[float]
) -> None:
    policy, now, starts = RestartPolicy(limit, window), 0.0, []
    for gap in gaps:
        pause = policy.after_death(now, worked=False)
        if pause is None:
            break
        now += pause
        starts.append(now)
        now += gap
    for first in starts:
        assert sum(first <= start <= first + window for start in starts) <= limit
