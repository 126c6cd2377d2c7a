"""A configuration on other instruments says the same, but for where they are."""

from __future__ import annotations

import pytest

from taskmaster.bus.errors import ConfigError
from taskmaster.config.heads import heads_of
from taskmaster.config.load import Config, load, loads
from taskmaster.config.relocated import relocated
from taskmaster.config.shipped import example

ONE = """
[masters.meter]
driver = "visa"
resource = "TCPIP0::127.0.0.1::5025::SOCKET"
[masters.meter.outputs]
voltage = { unit = "V" }
[masters.meter.commands]
read = { voltage = "MEAS?" }
safe = []
"""


def resources(config: Config, master: str) -> dict[str, str]:
    return {head["name"]: head["resource"] for head in heads_of(config.masters[master].options.model_dump())}


def test_heads_are_moved_one_by_one_and_nothing_else_changes() -> None:
    config = load(example("stm"))
    moved = relocated(config, {"stm": {"tip-2": "TCPIP0::127.0.0.1::9999::SOCKET"}})
    before, after = resources(config, "stm"), resources(moved, "stm")
    assert after == {**before, "tip-2": "TCPIP0::127.0.0.1::9999::SOCKET"}
    assert relocated(moved, {"stm": {"tip-2": before["tip-2"]}}) == config


def test_a_master_of_one_head_is_moved_by_the_empty_name() -> None:
    moved = relocated(loads(ONE), {"meter": {"": "GPIB0::7::INSTR"}})
    assert resources(moved, "meter") == {"": "GPIB0::7::INSTR"}


def test_what_is_not_there_cannot_be_moved() -> None:
    config = load(example("stm"))
    with pytest.raises(ConfigError, match=r"no Master 'smt'.*did you mean 'stm'"):
        relocated(config, {"smt": {}})
    with pytest.raises(ConfigError, match=r"no head 'tip-9'"):
        relocated(config, {"stm": {"tip-9": "x"}})
    with pytest.raises(ConfigError, match=r"has no resources: its driver, 'process', has no heads"):
        relocated(load(example("svm")), {"svm": {"": "x"}})
