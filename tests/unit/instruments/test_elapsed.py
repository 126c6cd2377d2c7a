"""Elapsed time over restarts: clocks that are set wrong, machines that start anew, machines that sleep."""

from __future__ import annotations

import pytest

from taskmaster.bus.errors import InvalidTask
from taskmaster.drivers.instruments.elapsed import SYSTEM, Clocks, Kept, Stopwatch

DAY = 86400.0


class Machine:
    """One whose clocks somebody sets."""

    def __init__(self) -> None:
        self.started = 1
        self.up = 100.0
        self.wall = 1_700_000_000.0
        self.clocks = Clocks(lambda: self.up, lambda: self.wall, lambda: self.started)

    def wait(self, seconds: float) -> None:
        self.up += seconds
        self.wall += seconds

    def restart(self, *, off: float = 0.0) -> None:
        self.started += 1
        self.wall += off
        self.up = 0.0

    def resumed(self, token: bytes, **how: bool) -> float:
        return Stopwatch.resumed(Kept.read(token), clocks=self.clocks, **how).elapsed


@pytest.fixture
def machine() -> Machine:
    return Machine()


def after_a_week(machine: Machine) -> bytes:
    stopwatch = Stopwatch(0.0, clocks=machine.clocks)
    machine.wait(7 * DAY)
    return stopwatch.keep()


@pytest.mark.parametrize("set_by", [0.0, 400 * DAY, -400 * DAY])
def test_a_clock_that_is_set_changes_nothing(machine: Machine, set_by: float) -> None:
    stopwatch = Stopwatch(0.0, clocks=machine.clocks)
    machine.wait(DAY)
    machine.wall += set_by
    assert stopwatch.elapsed == DAY
    token = stopwatch.keep()
    machine.wall -= 2 * set_by
    machine.wait(600)
    assert machine.resumed(token) == DAY + 600
    assert machine.resumed(token, counts=False) == DAY


@pytest.mark.parametrize(
    ("off", "elapsed"),
    [
        (0.0, 7 * DAY + 60),
        (3600.0, 7 * DAY + 3600 + 60),
        (-3600.0, 7 * DAY + 60),  # the clock was set back: at least since the start it has been interrupted
    ],
)
def test_after_another_start_of_the_machine_the_wall_clock_counts_and_never_backwards(
    machine: Machine, off: float, elapsed: float
) -> None:
    token = after_a_week(machine)
    machine.restart(off=off)
    machine.wait(60)
    assert machine.resumed(token) == elapsed
    assert machine.resumed(token, counts=False) == 7 * DAY


def test_a_machine_that_cannot_be_told_from_another_start_goes_by_the_wall_clock(machine: Machine) -> None:
    machine.started = 0
    token = after_a_week(machine)
    machine.wait(60)
    assert machine.resumed(token) == 7 * DAY + 60
    machine.wall -= 2 * DAY
    assert machine.resumed(token) == 7 * DAY


def test_speed_is_that_of_interruptions_too(machine: Machine) -> None:
    stopwatch = Stopwatch(0.0, 1000.0, machine.clocks)
    machine.wait(5)
    assert stopwatch.elapsed == 5000
    assert stopwatch.until(6000) == 1.0
    token = stopwatch.keep()
    machine.wait(2)
    assert Stopwatch.resumed(Kept.read(token), 1000.0, clocks=machine.clocks).elapsed == 7000


def test_this_machine(machine: Machine) -> None:
    stopwatch = Stopwatch()
    first = stopwatch.elapsed
    token = stopwatch.keep()
    assert 0 <= first <= stopwatch.elapsed < 10
    assert first <= Stopwatch.resumed(Kept.read(token)).elapsed < 10
    assert SYSTEM.start() == SYSTEM.start()


@pytest.mark.parametrize("token", [b"", b"4", b"\x84", b"\xc1"])
def test_what_is_no_checkpoint_of_a_programme(token: bytes) -> None:
    with pytest.raises(InvalidTask, match="is no checkpoint of a programme"):
        Kept.read(token)
