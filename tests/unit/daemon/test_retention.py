"""Which closed runs go."""

from __future__ import annotations

from msgspec.structs import replace

from taskmaster.daemon.retention import ClosedRun, Retention, due

DAY = 86400.0
NOW = 1000 * DAY


def run(number: int, days_ago: float) -> ClosedRun:
    return ClosedRun(number, "svm", f"run {number}", NOW - days_ago * DAY, 10, 11)


RUNS = [run(1, 400), run(2, 200), run(3, 100), run(4, 10)]
SIZES = {1: 100, 2: 200, 3: 300, 4: 400}


def going(rules: Retention, used: int = 0) -> list[int]:
    return [run.run for run in due(RUNS, rules, used, NOW, SIZES.__getitem__)]


def test_without_a_rule_all_are_kept() -> None:
    assert not Retention()
    assert going(Retention()) == []


def test_those_that_are_old_go() -> None:
    assert going(Retention(closed=180 * DAY)) == [1, 2]
    assert going(Retention(closed=0.0)) == [1, 2, 3, 4]
    assert going(Retention(closed=5000 * DAY)) == []


def test_those_that_ended_first_go_until_there_is_room() -> None:
    assert going(Retention(size=1000), used=1000) == []
    assert going(Retention(size=1000), used=1001) == [1]
    assert going(Retention(size=1000), used=1250) == [1, 2]
    assert going(Retention(size=0), used=100_000) == [1, 2, 3, 4]


def test_both_rules_together() -> None:
    assert going(Retention(closed=300 * DAY, size=1000), used=1200) == [1, 2]
    assert going(Retention(closed=300 * DAY, size=1000), used=1100) == [1], "what goes for its age makes room, too"


def test_a_run_of_the_future_is_not_old() -> None:
    """The clock was wrong then, or is now."""
    assert list(due([run(9, -3000)], Retention(closed=1.0), 0, NOW, SIZES.__getitem__)) == []


def test_the_legs_of_a_run_over_several_masters_go_together() -> None:
    legs = [replace(run(number, 20), whole="probe and chamber") for number in (5, 6)]
    assert [run.run for run in due(legs, Retention(size=1000), 1001, NOW, lambda number: 100)] == [5, 6]
    assert list(due(legs, Retention(size=1000), 1000, NOW, lambda number: 100)) == []
