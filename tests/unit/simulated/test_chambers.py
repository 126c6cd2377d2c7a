"""Simulated growth chambers: climates that follow their set-points, plants that follow the climate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taskmaster.drivers.simulated.chambers import Chamber, ChamberOptions, make_chambers
from taskmaster.drivers.simulated.clock import Clock
from taskmaster.drivers.simulated.growth import Climate, Plant
from taskmaster.drivers.simulated.relaxation import Relaxation

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
STANDARD = Climate(temperature=25.0, humidity=74.75, light=500.0, co2=420.0)


def chamber(**options: float) -> Chamber:
    [chamber] = make_chambers(ChamberOptions(count=1, **{"noise": 0.0, "variation": 0.0, **options}), Clock(0))  # type: ignore[arg-type]
    return chamber


def read(chamber: Chamber, query: str) -> float:
    answer = chamber.execute(query.encode())
    assert isinstance(answer, bytes)
    return float(answer)


def state(chamber: Chamber) -> bytes:
    answer = chamber.execute(b"STAT?")
    assert isinstance(answer, bytes)
    return answer


def test_the_climate_nears_its_set_points_exponentially() -> None:
    it = chamber()
    it.execute(b"TEMP:SP 31;HUM:SP 85;CO2:SP 930;RUN")
    it.clock.advance(10 * MINUTE)
    e = 2.718281828
    assert read(it, "TEMP?") == pytest.approx(31 - 10 / e, abs=0.01)
    assert read(it, "HUM?") == pytest.approx(85 - 40 / e**2, abs=0.01)
    assert read(it, "CO2?") == pytest.approx(930 - 500 / e**2.5, abs=0.1)
    it.clock.advance(5 * HOUR)
    assert [read(it, "TEMP?"), read(it, "HUM?"), read(it, "CO2?")] == [31.0, 85.0, 930.0]


def test_lamps_light_at_once_and_heat_a_little() -> None:
    it = chamber()
    it.execute(b"TEMP:SP 25;LIGHT:SP 1000")
    assert read(it, "LIGHT?") == 0, "on standby there is no light"
    it.execute(b"RUN")
    assert read(it, "LIGHT?") == 1000
    it.clock.advance(2 * HOUR)
    assert read(it, "TEMP?") == pytest.approx(26.5, abs=0.01)


def test_an_open_door_lets_the_room_in() -> None:
    it = chamber()
    it.execute(b"TEMP:SP 35;RUN")
    it.clock.advance(3 * HOUR)
    it.execute(b"DOOR:OPEN")
    it.clock.advance(10 * MINUTE)
    assert read(it, "TEMP?") == pytest.approx(21, abs=0.2)
    it.execute(b"DOOR:CLOSE")
    it.clock.advance(2 * HOUR)
    assert read(it, "TEMP?") == pytest.approx(35, abs=0.01)


def test_a_stuck_heater_trips_the_limiter_until_it_is_reset() -> None:
    it = chamber()
    it.execute(b"TEMP:SP 30;TEMP:LIM 40;LIGHT:SP 300;RUN")
    it.clock.advance(2 * HOUR)
    it.overheat(it.clock.now(), hot=True)
    it.clock.advance(HOUR)
    assert state(it) == b"TRIPPED"
    assert read(it, "ALAR?") == 1
    assert read(it, "LIGHT?") == 0, "everything is cut off"
    it.execute(b"RUN")
    assert it.execute(b"SYST:ERR?") == b'-221,"Settings conflict"'

    it.execute(b"ALAR:RES")
    it.clock.advance(HOUR)
    assert state(it) == b"TRIPPED", "the heater still sticks"
    it.overheat(it.clock.now(), hot=False)
    it.execute(b"ALAR:RES")
    it.clock.advance(3 * HOUR)
    assert state(it) == b"RUNNING"
    assert read(it, "TEMP?") == pytest.approx(30.45, abs=0.01)


def test_when_the_limiter_trips_does_not_depend_on_who_looks() -> None:
    seen, unseen = chamber(), chamber()
    for it in (seen, unseen):
        it.execute(b"TEMP:SP 25;LIGHT:SP 500;RUN")
        it.overheat(0.0, hot=True)
    for _ in range(30):
        seen.clock.advance(MINUTE)
        read(seen, "TEMP?")
    unseen.clock.advance(30 * MINUTE)
    assert unseen.truth(unseen.clock.now()) == pytest.approx(seen.truth(seen.clock.now()), rel=1e-9)
    assert 21 < read(seen, "TEMP?") < 45, "tripped and cooling"


def test_power_comes_back_to_standby_and_the_plant_is_still_there() -> None:
    it = chamber()
    it.execute(b"TEMP:SP 25;LIGHT:SP 500;TEMP:LIM 33;RUN")
    it.clock.advance(10 * DAY)
    mass, temperature = read(it, "PLAN:MASS?"), read(it, "TEMP?")
    it.power_cycle()
    assert state(it) == b"STANDBY"
    assert [read(it, "TEMP:SP?"), read(it, "LIGHT:SP?"), read(it, "TEMP:LIM?")] == [22, 0, 45]
    assert [read(it, "PLAN:MASS?"), read(it, "TEMP?")] == [mass, temperature]


def test_a_seedling_is_sown_by_an_open_door() -> None:
    it = chamber()
    it.execute(b"TEMP:SP 25;LIGHT:SP 500;RUN")
    it.clock.advance(5 * DAY)
    grown = read(it, "PLAN:MASS?")
    it.execute(b"PLAN:SOW")
    assert read(it, "PLAN:MASS?") == grown > 0.1
    it.execute(b"DOOR:OPEN;PLAN:SOW;DOOR:CLOSE")
    assert read(it, "PLAN:MASS?") == 0.05


# -- growth -----------------------------------------------------------------------------------------------------------


def test_in_the_standard_climate_it_grows_at_the_standard_rate() -> None:
    assert Plant().growth_rate(STANDARD) * DAY == pytest.approx(0.4, rel=1e-3)


@pytest.mark.parametrize(
    "worse",
    [
        {"temperature": 15.0},
        {"temperature": 35.0},
        {"temperature": 41.0},
        {"light": 100.0},
        {"light": 0.0},
        {"co2": 300.0},
        {"humidity": 30.0},
    ],
)
def test_every_condition_counts(worse: dict[str, float]) -> None:
    assert Plant().growth_rate(replace(STANDARD, **worse)) < 0.95 * Plant().growth_rate(STANDARD)


def test_growth_is_logistic_and_exact_in_a_constant_climate() -> None:
    plant = Plant()
    whole = plant.grow(0.05, STANDARD, 30 * DAY)
    in_parts = 0.05
    for _ in range(300):
        in_parts = plant.grow(in_parts, STANDARD, DAY / 10)
    assert whole == pytest.approx(in_parts, rel=1e-9)
    assert 0.9 * plant.largest < plant.grow(0.05, STANDARD, 365 * DAY) < plant.largest
    dark = Climate(25.0, 74.75, 0.0, 420.0)
    assert plant.grow(1.0, dark, DAY) == pytest.approx(2.718281828**-0.015), "respiration"


def fortnight(it: Chamber, *, looked_at: bool) -> float:
    it.execute(b"TEMP:SP 24;HUM:SP 70;RUN")
    for _ in range(14):
        for light, hours in ((450, 16), (0, 8)):
            it.execute(b"LIGHT:SP %d" % light)
            for _ in range(hours * 7):
                it.clock.advance(HOUR / 7)
                if looked_at:
                    read(it, "PLAN:MASS?")
                    read(it, "TEMP?")
    return it.truth(it.clock.now())["biomass"]


def test_two_weeks_of_days_and_nights_grow_a_plant_whoever_looks() -> None:
    grown = fortnight(chamber(), looked_at=False)
    assert 0.5 < grown < 5
    assert fortnight(chamber(), looked_at=True) == grown
    assert fortnight(chamber(variation=0.1), looked_at=False) != grown


def test_relaxation_tells_when_it_will_rise_through_a_value() -> None:
    air = Relaxation(20.0, 40.0, 100.0, now=5.0)
    moment = air.reaches(30.0)
    assert air.at(moment) == pytest.approx(30.0)
    assert air.reaches(15.0) == 5.0
    assert air.reaches(40.0) == float("inf")
    air.aim(10.0, moment, tau=0.0)
    assert air.at(moment) == 10.0
