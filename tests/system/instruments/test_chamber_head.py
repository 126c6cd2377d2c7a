"""A head of commands at a simulated growth chamber: several outputs, a wait in simulated time, a trip."""

from __future__ import annotations

import pytest

from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments import CommandHead, HeadContext
from taskmaster.drivers.instruments.errors import DeviceError
from taskmaster.drivers.simulated import Laboratory

OUTPUTS = Schema(
    [
        Field(name="temperature", unit="°C"),
        Field(name="humidity", unit="%"),
        Field(name="mass", unit="g"),
        Field(name="state", kind="str"),
    ],
    "chambers",
    "output",
)
COMMANDS = {
    "open": ("*CLS", "RUN"),
    "set": ("TEMP:SP {temperature:.1f};HUM:SP {humidity:.0f}",),
    "wait": {"query": "TEMP?", "until": r"2[78]\..*", "timeout": 20.0, "every": 0.01},
    "read": {"temperature": "TEMP?", "humidity": "HUM?", "mass": "PLAN:MASS?", "state": "STAT?"},
    "safe": ("STAN",),
    "errors": {"query": "SYST:ERR?"},
}


def test_a_chamber_reaches_what_it_was_set_to_and_tells_when_it_has_tripped() -> None:
    with Laboratory("chambers", count=1, factor=2000, variation=0) as chambers:
        (chamber,) = chambers.heads
        options = {"resource": chamber.resource, "identity": chamber.identity, "commands": COMMANDS}
        head = CommandHead(HeadContext(chamber.name, "chambers", options, outputs=OUTPUTS))
        head.open()
        output = head.evaluate({"temperature": 28.0, "humidity": 60.0})
        assert output["temperature"] == pytest.approx(28, abs=1)
        assert 20 < output["humidity"] < 95
        assert output["mass"] > 0
        assert output["state"] == "RUNNING"
        assert chambers.control.actions(chamber.name).counts["TEMP:SP"] == 1

        with pytest.raises(DeviceError, match=r"after set of .*'temperature': 90.* -222"):
            head.evaluate({"temperature": 90.0, "humidity": 60.0})
        head.safe()
        assert head.read()["state"] == "STANDBY", "reading leaves it safe"
        head.close()
