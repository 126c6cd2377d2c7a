"""Programmes in the file: what a wrong one is told, with its line, and what a right one comes to."""

from __future__ import annotations

import re

import pytest
from helpers.complaints import complaints_of

from taskmaster.config.load import load, loads
from taskmaster.config.shipped import example

GROWTH = """\
[masters.growth]
driver = "visa"
resource = "TCPIP0::127.0.0.1::5025::SOCKET"
[masters.growth.parameters]
warm = { unit = "°C", min = 10, max = 35 }
day = { unit = "h", min = 6, max = 20 }
[masters.growth.setpoints]
temperature = { unit = "°C", min = 5, max = 45 }
light = { unit = "µmol/m²/s", min = 0, max = 1500 }
gas = { choices = ["AIR", "N2"] }
[masters.growth.outputs]
mass = { unit = "g" }
name = { kind = "str" }
[masters.growth.programme]
duration = "14 d"
cycle = "24 h"
steps = [
  { at = "0 h", temperature = "warm", light = 300, gas = "AIR", ramp = "30 min" },
  { at = "day", temperature = 18, light = 0, ramp = "1 h" },
  { at = "22 h", light = 50 },
]
stop_when = { output = "mass", above = 5.0 }
[masters.growth.commands]
set = ["TEMP {temperature:.2f};LIGHT {light:.0f};GAS {gas}"]
read = { mass = "MASS?", name = "NAME?" }
safe = ["STANDBY"]
"""


def complaints(text: str) -> list[str]:
    """What ``text`` is told as the file ``lab.toml``, without file and Master: ``LINE: key: message``."""
    return complaints_of("growth", text)


def changed(old: str, new: str) -> str:
    assert old in GROWTH
    return GROWTH.replace(old, new)


def test_the_plain_programme_is_right() -> None:
    assert complaints(GROWTH) == []
    programme = loads(GROWTH).masters["growth"].options.model_dump()["programme"]
    assert programme["duration"] == 14 * 86400
    assert programme["steps"][1] == {"at": "day", "ramp": 3600.0, "temperature": 18, "light": 0}
    assert programme["stop_when"] == ({"output": "mass", "above": 5.0, "below": None},)
    assert (programme["sample"], programme["interruption"], programme["speed"]) == (60.0, "counts", 1.0)


def test_the_shipped_one_is_a_fortnight() -> None:
    options = load(example("growth")).masters["growth"].options.model_dump()
    assert options["programme"]["duration"] == 14 * 86400
    assert options["setpoints"].keys() == {"temperature", "light", "humidity"}


FIRST = '{ at = "0 h", temperature = "warm", light = 300, gas = "AIR", ramp = "30 min" }'


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # names
        (
            "light = 0, ramp",
            "ligth = 0, ramp",
            "19: programme.steps[1].ligth: there is no setpoint 'ligth'; did you mean 'light'?",
        ),
        (
            '"warm", light',
            '"warn", light',
            "18: programme.steps[0].temperature: there is no parameter 'warn'; did you mean 'warm'?",
        ),
        ('at = "day"', 'at = "dya"', "19: programme.steps[1].at: there is no parameter 'dya'; did you mean 'day'?"),
        (
            'output = "mass"',
            'output = "mas"',
            "22: programme.stop_when.output: there is no output 'mas'; did you mean 'mass'?",
        ),
        (
            '{ output = "mass", above = 5.0 }',
            '[{ output = "mass", above = 5.0 }, { output = "name", below = 1 }]',
            "22: programme.stop_when[1].output: only a number can end it, and 'name' is none",
        ),
        (
            "{light:.0f}",
            "{ligth:.0f}",
            "24: commands.set[0]: {ligth:.0f}: there is no setpoint 'ligth'; did you mean 'light'?",
        ),
        (
            "{light:.0f}",
            "0",
            "9: setpoints.light: no command sends it; put {light} into one of commands.set, or remove it",
        ),
        (
            "{light:.0f}",
            "{warm:.0f}",
            "24: commands.set[0]: {warm:.0f}: there is no setpoint 'warm'; there are 'temperature', 'light', 'gas'",
        ),
        (
            '"MASS?"',
            '"MASS? {light:.0f}"',
            ("25: commands.read.mass: samples are read without setting anything, so there is no value of 'light' here"),
        ),
        # values
        (
            "light = 50",
            "light = 5000",
            "20: programme.steps[2].light: expected a number in [0, 1500] µmol/m²/s, got 5000",
        ),
        ('gas = "AIR"', 'gas = "CO2"', "18: programme.steps[0].gas: expected one of 'AIR', 'N2', got 'CO2'"),
        (
            "min = 10, max = 35",
            "min = 10, max = 50",
            (
                "18: programme.steps[0].temperature: parameter 'warm' may be a number in [10, 50] °C, and "
                "the setpoint has to be a number in [5, 45] °C"
            ),
        ),
        (
            '"°C", min = 10, max = 35',
            '"K", min = 10, max = 35',
            "18: programme.steps[0].temperature: parameter 'warm' is in 'K', and the setpoint in '°C'",
        ),
        (', gas = "AIR"', "", "18: programme.steps[0]: no step says what the setpoint 'gas' is; add it to this one"),
        (
            'light = 300, gas = "AIR"',
            'gas = "AIR"',
            "19: programme.steps[1].light: the first step does not say what it is until then; add it there",
        ),
        # times
        ('at = "0 h"', 'at = "1 h"', "18: programme.steps[0].at: the first step is at 0, not at 1 h"),
        (
            'at = "22 h"',
            'at = "19 h"',
            "20: programme.steps[2].at: expected later than the step before, at 6 h … 20 h; got 19 h",
        ),
        ('at = "22 h"', 'at = "24 h"', "20: programme.steps[2].at: 1 d is not before the end of the cycle, 1 d"),
        ('cycle = "24 h"\n', "", None),
        (
            'duration = "14 d"\ncycle = "24 h"',
            'duration = "21 h"',
            "19: programme.steps[2].at: 22 h is not before the end of the programme, 21 h",
        ),
        (
            'ramp = "1 h"',
            'ramp = "3 h"',
            (
                "19: programme.steps[1].ramp: 3 h from 6 h … 20 h on is not over when its setpoints change "
                "again, at 22 h"
            ),
        ),
        (
            "light = 50 }",
            'light = 50, ramp = "150 min" }',
            "20: programme.steps[2].ramp: 2 h 30 min from 22 h on is not over when the cycle ends, at 1 d",
        ),
        (
            '"h", min = 6',
            '"km", min = 6',
            "19: programme.steps[1].at: 'day' is in 'km', which is no unit of time; write 's', 'min', 'h' or 'd'",
        ),
        (
            '"h", min = 6, max = 20',
            '"h"',
            (
                "19: programme.steps[1].at: parameter 'day' needs min and max, from 0 on: whatever it is "
                "has to make a programme"
            ),
        ),
        (
            'duration = "14 d"',
            "duration = true",
            "15: programme.duration: expected a duration such as '16 h' or the name of a parameter, got true",
        ),
        ('duration = "14 d"', "duration = 0", "15: programme.duration: expected more than 0 s, got 0 s"),
        (
            'driver = "visa"\n',
            'driver = "visa"\ntimeout = "1 d"\n',
            "16: programme.duration: is not over before timeout = '1 d'; make that longer, or remove it",
        ),
        # tables
        (
            "[masters.growth.outputs]\n",
            "[masters.growth.outputs]\nelapsed = {}\n",
            "12: outputs.elapsed: is what samples of a programme call something else; rename it",
        ),
        (
            'gas = { choices = ["AIR", "N2"] }',
            'gas = { choices = ["AIR", "N2"] }\nat = {}',
            "11: setpoints.at: is a key of steps; rename it",
        ),
        (
            'gas = { choices = ["AIR", "N2"] }',
            'gas = { kind = "any" }',
            "10: setpoints.gas.kind: expected 'float', 'int', 'bool' or 'str', got 'any'",
        ),
        (
            "light = { unit",
            "light = { shape = [2], unit",
            "9: setpoints.light.shape: a setpoint is a single value; remove it",
        ),
        (", above = 5.0", "", "22: programme.stop_when: nothing would end it; add above or below"),
        (
            "day = {",
            "dusk = { unit = 'h' }\nday = {",
            "6: parameters.dusk: nothing in the programme uses it; name it in a step, or remove it",
        ),
        (
            f"steps = [\n  {FIRST},",
            "steps = []\nother = [",
            "17: programme.steps: expected at least 1 elements, got []",
        ),
    ],
)
def test_what_a_wrong_programme_is_told(old: str, new: str, expected: str | None) -> None:
    assert expected in complaints(changed(old, new)) if expected else complaints(changed(old, new)) == []


def without(text: str, *tables: str) -> str:
    """The text without some tables."""
    parts = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    return "".join(
        part for part in parts if not part.startswith(tuple(f"[masters.growth.{table}]" for table in tables))
    )


def test_setpoints_need_a_programme_and_a_programme_setpoints() -> None:
    alone = (
        without(GROWTH, "programme").replace("temperature:", "warm:").replace(":.0f}", "}").replace("light}", "day}")
    )
    assert "7: setpoints: have no effect without a programme; add one, or remove them" in complaints(alone)
    (told,) = (line for line in complaints(without(GROWTH, "setpoints")) if " setpoints: " in line)
    assert "are missing; declare what the programme sets, for example temperature = { unit = '°C' }" in told


def test_a_ramp_of_commands_is_of_a_setpoint() -> None:
    ramp = "ramps = { {} = { step = 1, start = 20 } }\n"
    assert complaints(GROWTH + ramp.replace("{}", "temperature", 1)) == []
    assert complaints(GROWTH + ramp.replace("{}", "warm", 1)) == [
        "27: commands.ramps.warm: there is no setpoint 'warm'; there are 'temperature', 'light', 'gas'"
    ]


def test_members_of_a_class_are_set_by_setpoints() -> None:
    text = """\
[masters.growth]
driver = "instrument"
class = "lamp:Lamp"
parameters.power = { min = 0, max = 1 }
setpoints.dimmer = { min = 0, max = 1 }
outputs.photocurrent = {}
set = { power = "power" }
read = { photocurrent = "photocurrent" }
programme = { duration = "1 h", steps = [{ at = 0, dimmer = "power" }] }
"""
    assert complaints(text) == [
        "5: setpoints.dimmer: nothing sets it; add set.dimmer, or remove it",
        "7: set.power: there is no setpoint 'power'; declare it in setpoints",
    ]
    assert complaints(text.replace('{ power = "power" }', '{ dimmer = "power" }')) == []
