"""A head of programmes at a simulated chamber, driven by hand: what it tells, sends again, and makes of its clock."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from helpers.daemon import EVALUATIONS

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.fields import Field
from taskmaster.config.shipped import example
from taskmaster.drivers.generators import drive
from taskmaster.drivers.instruments.elapsed import Kept
from taskmaster.drivers.instruments.making import HeadMaker
from taskmaster.drivers.instruments.sharing import Controller
from taskmaster.drivers.simulated import HeadAddress, Laboratory
from taskmaster.drivers.testing import CHECKS, Bench

HOUR = 3600.0
DAY = 24 * HOUR
#: A day in half a second.
SPEED = 2 * DAY

OUTPUTS = (Field("mass", unit="g"), Field("air", unit="°C"))
PROGRAMME: dict[str, Any] = {
    "duration": 2 * DAY,
    "cycle": DAY,
    "update": HOUR,
    "sample": HOUR,
    "speed": SPEED,
    "steps": [
        {"at": 0.0, "temperature": "celsius", "light": 500, "ramp": 2 * HOUR},
        {"at": 12 * HOUR, "light": 0},
    ],
}


@pytest.fixture(scope="module")
def chambers() -> Iterator[Laboratory]:
    with Laboratory("chambers", count=6, factor=SPEED, variation=0) as chambers:
        yield chambers


@pytest.fixture(scope="module")
def vacancies(chambers: Laboratory) -> Iterator[HeadAddress]:
    return iter(chambers.heads)


@pytest.fixture
def chamber(vacancies: Iterator[HeadAddress]) -> HeadAddress:
    """One that nothing has been done with."""
    return next(vacancies)


def growth(chamber: HeadAddress, **changed: Any) -> HeadMaker:
    """Makes the head of a chamber."""
    options = {
        "resource": chamber.resource,
        "setpoints": {"temperature": {"min": 5, "max": 45}, "light": {"min": 0, "max": 1500}},
        "programme": {**PROGRAMME, **changed},
        "commands": {
            "open": ["*CLS"],
            "set": ["TEMP:SP {temperature:.2f}", "LIGHT:SP {light:.0f}", "RUN"],
            "read": {"mass": "PLANT:MASS?", "air": "TEMP?"},
            "safe": ["STANDBY"],
            "errors": {"query": "SYST:ERR?"},
        },
    }
    return HeadMaker("growth", "visa", options, (Field("celsius"),), OUTPUTS)


class Tried:
    """A head and what it has said."""

    def __init__(self, chamber: HeadAddress, **changed: Any) -> None:
        maker = growth(chamber, **changed)
        self.tokens: list[bytes] = []
        self.context = maker.context("", on_checkpoint=self.tokens.append)
        self.head = maker.make(self.context)
        self.told: list[dict[str, Any]] = []
        self.head.open()

    def run(self, celsius: float = 25.0, token: bytes | None = None) -> dict[str, Any]:
        self.head.begin_task()
        x = {"celsius": celsius}
        evaluation = self.head.evaluate(x) if token is None else self.head.resume(x, token)
        output: dict[str, Any] = drive(evaluation, self.told.append, self.context.stopping)
        return output


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_is_a_head_as_any_other(check: Callable[[Bench], None], chambers: Laboratory) -> None:
    chamber = chambers.heads[-1]
    maker = growth(chamber, speed=4 * SPEED)
    context = maker.context("")
    bench = Bench(
        maker.make,
        [{"celsius": 25.0}],
        options=context.options,
        outputs=context.outputs,
        parameters=context.parameters,
        actions=lambda: chambers.control.actions(chamber.name).counts.get("RUN", 0),
        unplug=lambda: chambers.control.unplug(chamber.name),
        replug=lambda: chambers.control.replug(chamber.name),
    )
    check(bench)


def test_two_days_of_progress(chambers: Laboratory, chamber: HeadAddress) -> None:
    tried = Tried(chamber)
    output = tried.run()
    assert output.keys() == {"mass", "air"}
    assert list(tried.told[0]) == ["elapsed", "set.temperature", "set.light", "mass", "air"]
    assert {told["set.light"] for told in tried.told} >= {0.0, 500.0}
    elapsed = [told["elapsed"] for told in tried.told]
    assert elapsed == sorted(elapsed)
    assert 0 <= elapsed[0] < 6 * HOUR
    assert 1.5 * DAY < elapsed[-1] < 2 * DAY
    assert Kept.read(tried.tokens[0]).elapsed < 6 * HOUR, "kept as soon as it has begun"
    assert len(tried.tokens) <= 2, "one a second of ours, at most"
    counts = chambers.control.actions(chamber.name).counts
    # day and night each, and the second dawn: within its ramp an update an hour
    assert 4 <= counts["TEMP:SP"] <= 6
    tried.head.safe()
    tried.head.close()


def test_enough_is_enough(chamber: HeadAddress) -> None:
    tried = Tried(chamber, stop_when=[{"output": "mass", "below": 0.0}, {"output": "air", "above": 22.0}])
    output = tried.run(30.0)
    assert output["air"] > 22
    assert tried.told[-1]["air"] == output["air"]
    assert tried.told[-1]["elapsed"] < DAY
    tried.head.close()


def test_over_a_new_connection_everything_is_sent_again(chambers: Laboratory, chamber: HeadAddress) -> None:
    """An instrument that was off has forgotten its setpoints, and a connection that was remade tells of no more."""
    tried = Tried(chamber, duration=4 * DAY, steps=[{"at": 0.0, "temperature": "celsius", "light": 500}], sample=DAY)
    evaluation = tried.head.evaluate({"celsius": 25.0})
    next(evaluation)
    chambers.control.power_cycle(chamber.name)
    while not chambers.control.truth(chamber.name)["running"]:
        next(evaluation)
    counts = chambers.control.actions(chamber.name).counts
    assert (counts["*CLS"], counts["TEMP:SP"], counts["RUN"]) == (2, 2, 2)
    evaluation.close()
    tried.head.close()


def test_an_error_at_a_sample_is_told_and_nothing_more(chamber: HeadAddress) -> None:
    tried = Tried(chamber, steps=[{"at": 0.0, "temperature": "celsius", "light": 500}])
    evaluation = tried.head.evaluate({"celsius": 25.0})
    assert "trouble" not in next(evaluation)
    host, port = chamber.address.split(":")
    with socket.create_connection((host, int(port))) as somebody_else:
        somebody_else.sendall(b"NONSENSE\n")
        while "trouble" not in (told := next(evaluation)):
            assert told["mass"] > 0
    assert "Undefined header" in told["trouble"]
    assert "mass" not in told
    assert next(evaluation)["mass"] > 0
    evaluation.close()
    tried.head.close()


@pytest.mark.parametrize("controller", [None, Controller()], ids=["alone", "shared"])
def test_it_takes_a_head_that_can_set_without_reading(controller: Controller | None) -> None:
    options: dict[str, Any] = {"shared": controller is not None}
    options |= {"class": "growing:Chamber", "path": [str(EVALUATIONS)], "kwargs": {"folder": "/"}}
    options |= {"programme": PROGRAMME, "setpoints": {"temperature": {}, "light": {}}}
    maker = HeadMaker("growth", "instrument", options, (Field("celsius"),), OUTPUTS, controller)
    with pytest.raises(ConfigError, match=r"growth: its class has no apply\(self, x\), which a programme needs"):
        maker.make(maker.context(""))


@pytest.mark.parametrize("controller", [None, Controller()], ids=["alone", "shared"])
def test_a_lamp_of_a_class_is_dimmed_by_the_hour(controller: Controller | None) -> None:
    options = {
        "shared": controller is not None,
        "class": "lamp:Lamp",
        "path": [str(example("instruments").parent)],
        "args": ["{resource}"],
        "resource": "dimmer-1",
        "set": {"power": "power"},
        "call": ["switch_on"],
        "read": {"photocurrent": "photocurrent"},
        "setpoints": {"power": {"min": 0, "max": 1}},
        "programme": {"duration": 8.0, "speed": 16.0, "sample": 1.0, "update": 1.0}
        | {"steps": [{"at": 0.0, "power": 0}, {"at": 2.0, "power": "power", "ramp": 4.0}]},
    }
    maker = HeadMaker("lamp", "instrument", options, (Field("power"),), (Field("photocurrent"),), controller)
    head = maker.make(context := maker.context(""))
    head.open()
    head.begin_task()
    told: list[dict[str, Any]] = []
    output = drive(head.evaluate({"power": 0.8}), told.append, context.stopping)
    powers = [one["set.power"] for one in told]
    assert (powers[0], powers[-1]) == (0, 0.8)
    assert powers == sorted(powers)
    assert len(set(powers)) > 3
    assert output["photocurrent"] == told[-1]["photocurrent"]
    head.close()


def test_a_clock_that_was_set_is_of_no_interest(chamber: HeadAddress) -> None:
    tried = Tried(chamber)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    for wall in (0.0, 4e9):
        kept = Kept(1.8 * DAY, Kept.read(_token(tried)).start, now - 0.01, wall)
        began = time.monotonic()
        tried.run(token=msgspec.msgpack.encode(kept))
        assert time.monotonic() - began < 1.0
        assert tried.told[0]["elapsed"] >= 1.8 * DAY
    tried.head.close()


def _token(tried: Tried) -> bytes:
    """A checkpoint of this machine."""
    if not tried.tokens:
        evaluation = tried.head.evaluate({"celsius": 25.0})
        next(evaluation)
        evaluation.close()
        tried.told.clear()
    return tried.tokens[0]
