"""Setpoints over time: steps, ramps and cycles, at every moment and for whatever programme."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments.course import Change, Course, read_course, setpoint_fields

HOUR = 3600.0
DAY = 24 * HOUR

SETPOINTS = Schema([Field("temperature", min=5, max=45), Field("light", min=0, max=1500)], "growth", "setpoint")
PARAMETERS = Schema([Field("celsius"), Field("day", unit="h"), Field("days", unit="d")], "growth")
PROGRAMME: dict[str, Any] = {
    "duration": "days",
    "cycle": DAY,
    "update": 600.0,
    "steps": [
        {"at": 0.0, "temperature": "celsius", "light": 800, "ramp": HOUR},
        {"at": "day", "temperature": 15, "light": 0, "ramp": 2 * HOUR},
        {"at": 22 * HOUR, "temperature": 18},
    ],
}
X = {"celsius": 25.0, "day": 16.0, "days": 3.0}


def course(**changed: Any) -> Course:
    return read_course({**PROGRAMME, **changed}, SETPOINTS, PARAMETERS, X)


def test_a_day_and_the_next_one() -> None:
    growth = course()
    assert growth.duration == 3 * DAY

    def at(hour: float) -> tuple[float, float]:
        values = growth.values(hour * HOUR)
        return round(values["temperature"], 6), round(values["light"], 6)

    assert at(0) == (25, 800), "nothing is known of before: no ramp at the beginning"
    assert at(12) == at(16) == (25, 800), "a ramp begins where it was"
    assert at(17) == (20, 400), "half way"
    assert at(18) == (15, 0)
    assert at(23) == (18, 0), "what a step does not name stays"
    assert at(24) == (18, 0), "the next day's ramp begins at the last value"
    assert at(24.5) == (21.5, 400)
    assert at(25) == (25, 800)
    assert at(41) == at(17), "from then on every day is the same"


def test_when_something_happens() -> None:
    moments, now = [], 0.0
    while now < 1.2 * DAY:
        moments.append(now := course().next_change(now))
    ramps = [16 + i / 6 for i in range(13)]
    morning = [24 + i / 6 for i in range(7)]
    assert [moment / HOUR for moment in moments] == pytest.approx([*ramps, 22, *morning, 40])


def test_after_the_last_step_nothing_happens_unless_steps_repeat() -> None:
    growth = course(cycle=None)
    assert growth.next_change(23 * HOUR) == math.inf
    assert growth.values(100 * DAY) == {"temperature": 18.0, "light": 0.0}


def test_whole_numbers_stay_whole_and_text_is_set_at_once() -> None:
    fields = setpoint_fields(
        {"setpoints": {"fan": {"kind": "int"}, "gas": {"kind": "str", "choices": ["N2", "O2"]}, "on": {"kind": "bool"}}}
    )
    steps = [
        {"at": 0.0, "fan": 0, "gas": "N2", "on": False},
        {"at": 10.0, "fan": 3, "gas": "O2", "on": True, "ramp": 10.0},
    ]
    found = read_course({"duration": 30.0, "update": 1.0, "steps": steps}, Schema(fields, "m", "setpoint"), None, {})
    assert found.values(10.0) == {"fan": 0, "gas": "O2", "on": True}
    assert [found.values(float(t))["fan"] for t in range(10, 21)] == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("changed", "x", "message"),
    [
        ({}, {"celsius": 60.0}, r"setpoint 'temperature' must be a number in \[5, 45\], got 60"),
        ({}, {"day": 23.0}, "begin at 0 and follow each other, not at 0 µs, 23 h, 22 h"),
        ({}, {"day": 21.5}, "ramp of 'temperature' that begins at 21 h 30 min takes 2 h, and its next .* at 22 h"),
        ({"cycle": 20 * HOUR}, {}, "a step at 22 h is beyond the cycle of 20 h"),
        ({"steps": [{"at": 0.0, "light": 5}]}, {}, "the first step does not say what 'temperature' is"),
    ],
)
def test_what_is_no_programme(changed: dict[str, Any], x: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        read_course({**PROGRAMME, **changed}, SETPOINTS, PARAMETERS, {**X, **x})


# -- whatever the programme is -----------------------------------------------------------------------------------------


@st.composite
def courses(draw: st.DrawFn) -> Course:
    """Of one or two setpoints: changes in order, of which each ramp is over when the next one begins."""
    cycle = draw(st.one_of(st.none(), st.floats(1.0, 1e5)))
    end = cycle or 1e5
    changes = {}
    for name in draw(st.sampled_from([("a",), ("a", "b")])):
        moments = sorted(draw(st.sets(st.floats(0.01, 0.99), max_size=4)))
        at = [0.0, *(moment * end for moment in moments)]
        of_one = []
        for begin, after in pairwise([*at, end]):
            ramp = draw(st.one_of(st.just(0.0), st.floats(0.0, 1.0))) * (after - begin)
            of_one.append(Change(begin, ramp, draw(st.floats(-1e3, 1e3))))
        changes[name] = tuple(of_one)
    return Course(changes, duration=1e6, cycle=cycle, update=draw(st.floats(0.01, 1e5)))


@given(courses(), st.floats(0, 1e6))
def test_a_value_is_always_between_two_of_the_steps(course: Course, elapsed: float) -> None:
    for name, value in course.values(elapsed).items():
        wanted = [change.to for change in course.changes[name]]
        assert min(wanted) <= value <= max(wanted)


@given(courses(), st.floats(0, 1e6))
def test_time_goes_on_and_nothing_jumps_before_it_is_due(course: Course, elapsed: float) -> None:
    """What is told at one moment is off by no more than a ramp makes of one update until the next one is due."""
    due = course.next_change(elapsed)
    assert due > elapsed
    now, before = course.values(elapsed), course.values(min(due, 2e6) - 2e-6)
    for name, changes in course.changes.items():
        span = max(change.to for change in changes) - min(change.to for change in changes)
        ramps = [change.ramp for change in changes if change.ramp > 0]
        steepest = min(course.update / min(ramps), 1.0) if ramps else 0.0
        assert abs(before[name] - now[name]) <= span * steepest * 1.001 + 1e-3, name


@given(courses(), st.floats(0, 1e5), st.integers(1, 9))
def test_rounds_repeat(course: Course, elapsed: float, rounds: int) -> None:
    if course.cycle is not None:
        again = course.values(elapsed + (rounds + 1) * course.cycle)
        once = course.values(elapsed % course.cycle + course.cycle)
        shift = course.cycle * 1e-9 + 1e-6
        near = [course.values(max(elapsed % course.cycle + course.cycle + d, 0.0)) for d in (-shift, shift)]
        for name, value in again.items():
            low, high = sorted(values[name] for values in near)
            assert low - 1e-2 <= value <= high + 1e-2 or value == once[name]
