"""Files that declare an instrument, and what they are told where they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.complaints import complaints_of
from taskmaster.config.load import loads

__all__ = ["LAMP", "ONE", "STM", "changed", "complaints", "options"]

#: an instrument of two heads that understand commands
STM = """\
[masters.stm]
driver = "visa"
[masters.stm.parameters]
bias = { unit = "V", min = -2.0, max = 2.0 }
mode = { choices = ["FAST", "SLOW"] }
n = { kind = "int", min = 1 }
[masters.stm.outputs]
current = { unit = "A" }
[[masters.stm.heads]]
name = "tip-1"
resource = "TCPIP0::127.0.0.1::5025::SOCKET"
[[masters.stm.heads]]
name = "tip-2"
resource = "TCPIP0::127.0.0.1::5026::SOCKET"
[masters.stm.commands]
set = ["BIAS {bias:.4f}", "MODE {mode};AVER {n:d}"]
read = { current = "MEAS:CURR?" }
safe = ["BIAS 0"]
"""
#: one that is the only head itself
ONE = """\
[masters.stm]
driver = "serial"
resource = "/dev/ttyUSB0"
baud_rate = 19200
outputs.mass = {}
commands.read.mass = "SI"
commands.safe = []
"""
#: one by a class
LAMP = """\
[masters.stm]
driver = "instrument"
class = "lamp:Lamp"
set = { power = "dimmer.power" }
read = { current = "photocurrent" }
parameters.power = {}
outputs.current = {}
"""


def complaints(text: str, folder: str | Path = "/") -> list[str]:
    """What ``text`` is told as the file ``lab.toml``, without file and Master: ``LINE: key: message``."""
    return complaints_of("stm", text, folder)


def changed(old: str, new: str) -> str:
    """``STM`` with something else in a place."""
    assert old in STM
    return STM.replace(old, new)


def options(text: str, name: str = "stm") -> Any:
    """What is declared of a Master's driver."""
    return loads(text, folder="/").masters[name].options
