"""Drivers of third parties: their settings get the same messages."""

from __future__ import annotations

import pytest
from pydantic import Field, field_validator

from taskmaster.bus.errors import ConfigError
from taskmaster.config.load import loads
from taskmaster.config.settings import BUILTIN_DRIVERS, DriverOptions, Settings

MASTER = """
[masters.svm]
driver = "process"
function = "digits:accuracy"
"""


class Limits(Settings):
    lowest: float
    highest: float


class VisaOptions(DriverOptions):
    resource: str = Field(pattern="^[A-Z]+::")
    heads: list[int] | dict[str, int] = Field(default=[])
    names: list[str] | dict[str, str] = Field(default=[])
    rate: int = Field(default=1, multiple_of=5)
    limits: Limits | None = None
    channels: list[Limits] = Field(default=[])

    @field_validator("heads")
    @classmethod
    def _few(cls, heads: object) -> object:
        if not heads:
            raise ValueError("name at least one head")
        return heads


def test_a_third_partys_driver_gets_the_same_messages() -> None:
    text = """\
[masters.probe]
driver = 'visa'
resource = 'asrl1'
rat = 3
rate = 3
heads = {}
workers = 2
names = [1]
limits = { lowest = 0, heighest = 1, highest = 2 }
[[masters.probe.channels]]
lowest = 0
[[masters.probe.channels]]
lowest = 0
highest = 1
hihgest = 1
"""
    with pytest.raises(ConfigError) as caught:
        loads(text, "lab.toml", drivers={**BUILTIN_DRIVERS, "visa": VisaOptions})
    assert str(caught.value).splitlines() == [
        "lab.toml:3: masters.probe.resource: expected text of the form ^[A-Z]+::, got 'asrl1'",
        "lab.toml:4: masters.probe.rat: unknown key; did you mean 'rate'?",
        "lab.toml:5: masters.probe.rate: expected a multiple of 5, got 3",
        "lab.toml:6: masters.probe.heads: name at least one head",
        "lab.toml:7: masters.probe.workers: driver 'visa' has no such key; 'process' has",
        "lab.toml:8: masters.probe.names[0]: expected text in quotes, got 1",
        "lab.toml:8: masters.probe.names: expected a table, got [1]",
        "lab.toml:9: masters.probe.limits.heighest: unknown key; did you mean 'highest'?",
        "lab.toml:10: masters.probe.channels[0].highest: is missing",
        "lab.toml:15: masters.probe.channels[1].hihgest: unknown key; did you mean 'highest'?",
    ]
    with pytest.raises(ConfigError, match="unknown driver 'viza'; did you mean 'visa'"):
        loads(text.replace("'visa'", "'viza'"), drivers={"visa": VisaOptions})


def test_a_driver_cannot_take_over_a_common_key() -> None:
    class Greedy(DriverOptions):
        timeout: float = 1.0

    with pytest.raises(TypeError, match="driver 'greedy' declares 'timeout', which every Master has"):
        loads(MASTER, drivers={"greedy": Greedy})
