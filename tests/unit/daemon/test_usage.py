"""How busy a head is said to be: over the last hour, and whatever the clock does."""

from __future__ import annotations

import pytest

from taskmaster.daemon.usage import Usage

NOON = 1.7e9


def test_tasks_that_ended_and_the_one_under_way_count_against_the_time_with_a_worker() -> None:
    usage = Usage()
    assert usage.share(NOON) == 0
    usage.attach(NOON)
    usage.done(10.0, NOON + 20)
    assert usage.share(NOON + 100) == pytest.approx(0.1)
    assert usage.share(NOON + 100, since=NOON + 50) == pytest.approx(0.6)
    usage.detach(NOON + 100)
    assert usage.attended(NOON + 500) == pytest.approx(100)
    assert usage.share(NOON + 500) == pytest.approx(0.1), "without a worker it could not have worked"


def test_what_was_more_than_an_hour_ago_does_not_count() -> None:
    usage = Usage()
    usage.attach(NOON)
    usage.done(1800.0, NOON + 1800)
    assert usage.share(NOON + 1800) == 1
    assert usage.share(NOON + 7200) == 0
    usage.done(7200.0, NOON + 9000)
    assert usage.share(NOON + 9000) == 1, "a task that took longer than what is looked back on"
    assert usage.share(NOON + 9000 + 1800) == pytest.approx(0.5, abs=0.02)


def test_a_task_of_weeks_is_all_that_a_head_did() -> None:
    usage = Usage()
    usage.attach(NOON)
    assert usage.share(NOON + 14 * 86400, since=NOON) == 1


@pytest.mark.parametrize("jump", [-3e7, 3e7])
def test_a_clock_that_was_set_spoils_nothing_for_longer_than_an_hour(jump: float) -> None:
    usage = Usage()
    usage.attach(NOON)
    usage.done(60.0, NOON + 60)
    later = NOON + jump
    assert 0 <= usage.share(later) <= 1
    usage.done(600.0, later + 600)
    assert usage.share(later + 4000) < 0.2
    usage.attended(later)
    assert usage.attended(later + 10) >= 0
