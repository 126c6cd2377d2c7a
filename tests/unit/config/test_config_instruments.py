"""Instruments in the file: what a wrong description is told, with its line, and what a right one comes to."""

from __future__ import annotations

import math
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from taskmaster.bus.errors import ConfigError
from taskmaster.config.heads import has_safe_state, heads_of, normal_resource
from taskmaster.config.instruments import CommandOptions, HumanOptions, InstrumentClassOptions, VisaOptions
from taskmaster.config.load import load, loads
from taskmaster.config.shipped import example
from taskmaster.config.templates import Template
from taskmaster.drivers.instruments import Commands
from taskmaster.drivers.simulated import Laboratory

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


def complaints(text: str, folder: str | Path = "/") -> list[str]:
    """What ``text`` is told as the file ``lab.toml``, without file and Master: ``LINE: key: message``."""
    try:
        loads(text, "lab.toml", folder)
    except ConfigError as error:
        return [line.removeprefix("lab.toml:").replace("masters.stm.", "") for line in str(error).splitlines()]
    return []


def changed(old: str, new: str) -> str:
    assert old in STM
    return STM.replace(old, new)


def options(text: str, name: str = "stm") -> Any:
    return loads(text, folder="/").masters[name].options


def test_the_plain_description_is_right() -> None:
    assert complaints(STM) == []
    master = loads(STM).masters["stm"]
    assert isinstance(master.options, VisaOptions)
    assert (master.on_lost, master.options.deadman, master.options.query_timeout) == ("hold", 60.0, 2.0)


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("BIAS {bais:.4f}", "{bais:.4f}: there is no parameter 'bais'; did you mean 'bias'?"),
        (
            "BIAS {bias:d}",
            "{bias:d}: the format does not fit parameter 'bias', whose kind is 'float'; for example {bias:.4f}",
        ),
        (
            "BIAS {bias.real}",
            (
                "{bias.real}: there is no parameter 'bias.real'; 'bias' is one, but a place takes a whole value: "
                "write {bias}"
            ),
        ),
        ("B {bias[0]}", "{bias[0]} does not name a parameter; write {name} or {name:format}, nothing else"),
        ("B {bias!r}", "{bias!r} has a conversion, '!r'; write {bias} and a format after ':'"),
        ("B {bias", "'B {bias': a brace is missing; a { or } that is meant as such is doubled"),
        ("BIAS 1\\n", "'BIAS 1\\n' cannot be a command: it has '\\n'; use the characters from ' ' to '~'"),
        ("", "'' cannot be a command: it is empty"),
    ],
)
def test_a_command_that_cannot_be_sent(command: str, expected: str) -> None:
    text = changed('"BIAS {bias:.4f}"', f'"BIAS {{bias:.4f}}",\n"{command}"')
    assert complaints(text) == [f"17: commands.set[1]: {expected}"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("open = ['B {bias:.1f}']", "commands.open[0]"),
        ("watchdog = { arm = ['W'], disarm = ['W {bias:.1f}'] }", "commands.watchdog.disarm[0]"),
        ("errors = { query = 'ERR? {bias:.1f}' }", "commands.errors.query"),
        ("watchdog = { arm = ['W {bias:.1f}'] }", "commands.watchdog.arm[0]"),
        ("watchdog = { arm = ['W'], keep = 'W {bias:.1f}' }", "commands.watchdog.keep"),
        ("ramps = { bias = { step = 1, query = 'B? {bias:.1f}' } }", "commands.ramps.bias.query"),
        ("[masters.stm.interlocks]\nhot = { query = 'T {bias:.1f}', max = 1 }", "interlocks.hot.query"),
        ("[masters.stm.monitor]\nhot = { query = 'T {bias:.1f}' }", "monitor.hot.query"),
    ],
)
def test_what_is_sent_without_a_task_has_no_values(line: str, expected: str) -> None:
    (complaint,) = complaints(STM + line)
    _, key, what = complaint.split(": ", 2)
    assert key == expected
    assert what == ("{bias}: this is sent without a task, so parameter 'bias' has no value; write the value itself")


def test_what_makes_a_head_safe_may_name_no_parameter() -> None:
    (complaint,) = complaints(changed('"BIAS 0"', '"BIAS 0", "B {bias:.1f}"'))
    assert complaint.startswith("18: commands.safe[1]: {bias}: this is sent without a task, so parameter 'bias' has")


def test_that_there_is_no_safe_state_has_to_be_written() -> None:
    """An oversight would show only when an instrument is stopped, and is not."""
    wanted = (
        "is missing: nothing would be done to a head that is stopped or lost; for example safe = ['OUTP 0'], or "
        "safe = [] for what only looks on"
    )
    assert complaints(changed('safe = ["BIAS 0"]', "")) == [f"15: commands.safe: {wanted}"]
    assert complaints(ONE.replace("commands.safe = []\n", "")) == [f"6: commands.safe: {wanted}"]
    for text, declared in ((STM, True), (changed('"BIAS 0"', ""), False), (LAMP, True), (LAMP + "safe = []", False)):
        assert has_safe_state(options(text).model_dump()) == declared
    (complaint,) = complaints(changed("safe = [", "sfae = ["))
    assert complaint == "18: commands.sfae: unknown key; did you mean 'safe'?"


def test_a_wait_and_a_reading_may_name_parameters() -> None:
    text = changed('"MEAS:CURR?"', '"MEAS? {n:d}"') + "wait = { query = 'DONE? {n:d}' }\n"
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("FAST", "A;B", "5: parameters.mode.choices: 'A;B' cannot be sent in a command: it has ';', which could end"),
        ("FAST", "Ä", "5: parameters.mode.choices: 'Ä' cannot be sent in a command: it has 'Ä'; use the characters"),
        ("min = -2.0", "nan = true", "4: parameters.bias.nan: NaN cannot be sent in a command; remove it"),
        (
            "AVER {n:d}",
            "AVER 1",
            "6: parameters.n: no command sends it; put {n} into one of commands.set, or remove it",
        ),
        (
            'kind = "int", min = 1',
            "shape = [3]",
            "16: commands.set[1]: {n:d}: parameter 'n' is an array and cannot stand in a command",
        ),
        (
            'kind = "int", min = 1',
            'kind = "any"',
            "16: commands.set[1]: {n:d}: parameter 'n' is of any kind and cannot stand in a command",
        ),
    ],
)
def test_a_parameter_that_cannot_be_sent(old: str, new: str, expected: str) -> None:
    (complaint,) = complaints(changed(old, new))
    assert complaint.startswith(expected)


def test_a_parameter_that_is_wrong_itself_is_complained_of_once() -> None:
    assert complaints(changed("min = -2.0", "mim = -2.0")) == [
        "4: parameters.bias.mim: unknown key; did you mean 'min'?"
    ]


def test_no_number_for_an_instrument_is_infinite() -> None:
    assert {field.name: field.finite for field in loads(STM).masters["stm"].parameter_fields} == {
        "bias": True, "mode": False, "n": False,
    }  # fmt: skip
    assert not any(field.finite for field in loads(STM).masters["stm"].output_fields)


def test_a_terminator_stands_in_no_command() -> None:
    assert complaints(STM.replace("{n:d}", "{n:d}!")) == []
    text = changed('driver = "visa"', 'driver = "visa"\nwrite_terminator = "!"').replace("{n:d}", "{n:d}!")
    assert complaints(text) == [
        (
            "17: commands.set[1]: 'MODE {mode};AVER {n:d}!' cannot be a command: it has the terminator '!', "
            "which is added by itself"
        )
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("opne = ['*CLS']", "commands.opne: unknown key; did you mean 'open'?"),
        ("open = '*CLS'", "commands.open: expected a list, got '*CLS'"),
        ("open = [1]", "commands.open[0]: expected text in quotes, got 1"),
        ("delay = 'soon'", "commands.delay: 'soon' is not a duration; write a number and one of us, µs, ms, s, min, h"),
        ("wait = '*OPC?'", "commands.wait: expected a table, got '*OPC?'"),
        ("wait = { until = '1' }", "commands.wait.query: is missing; for example query = '*OPC?'"),
        ("wait = { query = '*OPC?', until = '(' }", "commands.wait.until: '(' is not a regular expression: missing ),"),
        ("errors = { query = 'E?', okay = '0' }", "commands.errors.okay: unknown key; did you mean 'ok'?"),
        ("watchdog = { every = '1 s' }", "commands.watchdog.arm: is missing; for example arm = 'WDOG 5'"),
        ("watchdog = { arm = [] }", "commands.watchdog.arm: expected at least 1 elements, got []"),
        (
            "ramps = { bais = { step = 1, start = 0 } }",
            "commands.ramps.bais: there is no parameter 'bais'; did you mean",
        ),
        ("ramps = { bias = { step = 0, start = 0 } }", "commands.ramps.bias.step: expected more than 0.0, got 0"),
        (
            "ramps = { bias = { step = 1 } }",
            "commands.ramps.bias: where a ramp begins has to be known from one place; add query or start",
        ),
        (
            "ramps = { bias = { step = 1, start = 0, query = 'B?' } }",
            "commands.ramps.bias.start: where a ramp begins has to be known from one place; remove one of query and",
        ),
        (
            "ramps = { n = { step = 0.5, start = 0 } }",
            "commands.ramps.n.step: expected a whole number, as the parameter's kind is 'int', got 0.5",
        ),
        (
            "ramps = { mode = { step = 1, start = 0 } }",
            "commands.ramps.mode: only a number can be ramped, and parameter 'mode' is one of choices",
        ),
    ],
)
def test_a_key_of_the_commands(line: str, expected: str) -> None:
    (complaint,) = complaints(STM + line)
    assert complaint.startswith(f"19: {expected}")


# -- readings ----------------------------------------------------------------------------------------------------------


def test_outputs_and_readings_belong_together() -> None:
    assert complaints(changed("read = { current", "read = { curent")) == [
        "8: outputs.current: nothing reads it; add commands.read.current, or remove it",
        "17: commands.read.curent: there is no output 'curent'; did you mean 'current'?",
    ]
    assert complaints(STM.replace('[masters.stm.outputs]\ncurrent = { unit = "A" }\n', "")) == [
        "15: commands.read.current: there is no output 'current'; declare it in outputs"
    ]


@pytest.mark.parametrize(
    ("output", "reading", "expected"),
    [
        ("{}", "3", ": expected a query or a table, got 3"),
        ("{}", "{ parse = 'number' }", ".query: is missing; for example query = 'MEAS:CURR?'"),
        (
            "{}",
            "{ query = 'Q?', parse = 'numbr' }",
            ".parse: expected 'number', 'list', 'text' or 'block', got 'numbr'; did you mean 'number'?",
        ),
        (
            "{}",
            "{ query = 'Q?', pattern = '(a)(b)' }",
            ".pattern: expected at most one group, got 2 in '(a)(b)'; (?:…) groups without one",
        ),
        (
            "{}",
            "{ query = 'Q?', parse = 'number', separator = ';' }",
            ".separator: parse = 'number' has no use for it; only 'list' has",
        ),
        (
            "{}",
            "{ query = 'Q?', parse = 'number', dtype = '<f4' }",
            ".dtype: parse = 'number' has no use for it; only 'block' has",
        ),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', parse = 'block', dtype = 'f4' }",
            ".dtype: expected '<' or '>' and f4, i2, u8, …, or i1, u1, got 'f4'",
        ),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', parse = 'block' }",
            ".dtype: is missing; for example dtype = '<f4'",
        ),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', parse = 'number' }",
            ".parse: 'number' gives a single value, and the output has a shape; use 'list' or 'block'",
        ),
        (
            "{}",
            "{ query = 'Q?', parse = 'list' }",
            ".parse: 'list' gives an array; declare the output's shape, such as shape = [-1]",
        ),
        ("{}", "{ query = 'Q?', parse = 'text' }", ".parse: 'text' gives text, and the output's kind is 'float'"),
        (
            "{ kind = 'str' }",
            "{ query = 'Q?', parse = 'number' }",
            ".parse: 'number' gives numbers, and the output's kind is 'str'",
        ),
        (
            "{ shape = [3, -1] }",
            "{ query = 'Q?', shape = [-1] }",
            ".shape: expected 2 axes, as the output has, got 1",
        ),
        (
            "{ shape = [3, -1] }",
            "{ query = 'Q?', shape = [4, 'n'] }",
            ".shape: expected the output's, [3, -1], got [4, 'n']",
        ),
        ("{ shape = [-1] }", "{ query = 'Q?', shape = ['m'] }", ".shape[0]: there is no parameter 'm'; there are"),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', shape = ['bias'] }",
            ".shape[0]: expected a parameter of kind 'int', and 'bias' is of kind 'float'",
        ),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', shape = [-2] }",
            ".shape[0]: expected a whole number of at least -1 or the name of a parameter, got -2",
        ),
        ("{ shape = [-1] }", "{ query = 'Q?', shape = [0] }", ".shape[0]: an axis of length 0 has no values; write -1"),
        (
            "{ shape = [-1, -1] }",
            "{ query = 'Q?', shape = [-1, -1] }",
            ".shape: only one axis can be of any length; give the others' or the parameters that have them",
        ),
    ],
)
def test_a_reading(output: str, reading: str, expected: str) -> None:
    text = changed('{ unit = "A" }', output).replace('"MEAS:CURR?"', reading)
    (complaint,) = complaints(text)
    assert complaint.startswith(f"17: commands.read.current{expected}")


@pytest.mark.parametrize(
    ("output", "reading", "parse", "shape"),
    [
        ("{}", "'Q?'", "number", ()),
        ("{ kind = 'bool' }", "'Q?'", "number", ()),
        ("{ kind = 'str' }", "'Q?'", "text", ()),
        ("{ shape = [-1] }", "'Q?'", "list", (-1,)),
        ("{ shape = [2, -1] }", "{ query = 'Q?', parse = 'block', dtype = '>i2' }", "block", (2, -1)),
        ("{ shape = [-1, -1] }", "{ query = 'Q?', shape = ['n', -1] }", "list", ("n", -1)),
    ],
)
def test_what_a_reading_leaves_out_follows_from_the_output(
    output: str, reading: str, parse: str, shape: tuple[object, ...]
) -> None:
    text = changed('{ unit = "A" }', output).replace('"MEAS:CURR?"', reading)
    found = options(text).commands.read["current"]
    assert (found.query, found.parse, found.shape) == ("Q?", parse, shape)


# -- heads -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"tip-2"', '"tip-1"', "13: heads[1].name: 'tip-1' is the name of heads[0], too; each needs its own"),
        (
            '"tip-2"',
            '"tip 2"',
            "13: heads[1].name: 'tip 2' cannot be a name: use a letter, then letters, digits, '_' or",
        ),
        ('name = "tip-2"\n', "", "12: heads[1].name: is missing; for example name = 'tip-1'"),
        (
            '"TCPIP0::127.0.0.1::5026::SOCKET"',
            '"tcpip::127.0.0.1::5025::socket"',
            "14: heads[1].resource: 'tcpip::127.0.0.1::5025::socket' is that of heads[0], too; with shared = true they",
        ),
        (
            'resource = "TCPIP0::127.0.0.1::5026::SOCKET"',
            "",
            "12: heads[1].resource: is missing; for example resource = 'TCPIP0::127.0.0.1::5025::SOCKET'",
        ),
        (
            'name = "tip-2"',
            'name = "tip-2"\nbaud_rate = 9600',
            "14: heads[1].baud_rate: has no effect: 'TCPIP0::127.0.0.1::5026::SOCKET' is no serial line",
        ),
        (
            'name = "tip-2"',
            'name = "tip-2"\nread_terminator = ""',
            "14: heads[1].read_terminator: an answer from 'TCPIP0::127.0.0.1::5026::SOCKET' ends by nothing else; give",
        ),
        (
            '"TCPIP0::127.0.0.1::5026::SOCKET"',
            '"TCPIP::127.0.0.1::5026"',
            "14: heads[1].resource: 'TCPIP::127.0.0.1::5026' is no VISA resource; did you mean 'TCPIP0::127",
        ),
        (
            '"TCPIP0::127.0.0.1::5026::SOCKET"',
            '"TCPIP0::127.0.0.1::5026::soket"',
            "14: heads[1].resource: 'TCPIP0::127.0.0.1::5026::soket' is no VISA resource; did you mean 'TCPIP0::127",
        ),
        (
            'name = "tip-2"',
            'name = "tip-2"\nidentity = "["',
            "14: heads[1].identity: '[' is not a regular expression: ",
        ),
        ('name = "tip-2"', 'name = "tip-2"\ncapabilities = [""]', "14: heads[1].capabilities[0]: expected 1 to 64"),
        (
            'driver = "visa"',
            'driver = "visa"\nresource = "GPIB0::1::INSTR"',
            "3: resource: has no effect beside heads: each has its own; or they share this one, with shared = true",
        ),
    ],
)
def test_a_head(old: str, new: str, expected: str) -> None:
    (complaint,) = complaints(changed(old, new))
    assert complaint.startswith(expected)


ONE = """\
[masters.stm]
driver = "serial"
resource = "/dev/ttyUSB0"
baud_rate = 19200
outputs.mass = {}
commands.read.mass = "SI"
commands.safe = []
"""


def test_a_single_head_has_no_name() -> None:
    assert complaints(ONE) == []
    (head,) = heads_of(options(ONE).model_dump())
    assert (head["name"], head["resource"], head["baud_rate"]) == ("", "/dev/ttyUSB0", 19200)
    assert complaints(ONE.replace('resource = "/dev/ttyUSB0"\n', "")) == [
        "1: resource: is missing; for example resource = '/dev/serial/by-id/usb-…', or declare heads"
    ]
    assert complaints(ONE.replace("/dev/ttyUSB0", "ttyUSB0")) == [
        "3: resource: 'ttyUSB0' is not the whole path of a serial port, as '/dev/ttyUSB0' is"
    ]
    assert complaints(ONE + "shared = true") == ["8: shared: there is one head only; declare heads, or remove it"]


LINE = """\
[masters.stm]
driver = "visa"
resource = "ASRL/dev/ttyUSB0::INSTR"
baud_rate = 19200
data_bits = 7
parity = "even"
stop_bits = 2
rtscts = true
connect_timeout = "300 ms"
outputs.mass = {}
commands.read.mass = "SI"
commands.safe = []
"""


def test_a_line_by_visa_has_the_settings_of_one() -> None:
    """They reach the transport; those that are left out are the library's, and a socket has no use for any."""
    assert complaints(LINE) == []
    (head,) = heads_of(options(LINE).model_dump())
    connection = Commands.from_options(head).connection
    assert connection["connect_timeout"] == 0.3
    assert connection["line"] == {
        "baud_rate": 19200, "data_bits": 7, "parity": "even", "stop_bits": 2.0, "rtscts": True,
    }  # fmt: skip
    socket = LINE.replace("ASRL/dev/ttyUSB0::INSTR", "TCPIP0::h::5025::SOCKET")
    assert [line.split(": has no effect")[0] for line in complaints(socket)] == [
        "4: baud_rate", "5: data_bits", "6: parity", "7: stop_bits", "8: rtscts",
    ]  # fmt: skip
    mixed = """\
[[masters.stm.heads]]
name = "a"
resource = "ASRL/dev/ttyUSB0::INSTR"
[[masters.stm.heads]]
name = "b"
resource = "GPIB0::5::INSTR"
"""
    assert complaints(LINE.replace('resource = "ASRL/dev/ttyUSB0::INSTR"\n', "") + mixed) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"visa"', '"VISA"', "2: driver: unknown driver 'VISA'; did you mean 'visa'?"),
        ('"visa"', '"gpib"', "2: driver: unknown driver 'gpib'; did you mean 'visa'?"),
        ('"visa"', '"pymeasure"', "2: driver: unknown driver 'pymeasure'; did you mean 'instrument'?"),
        (
            '"ASRL/dev/ttyUSB0::INSTR"',
            '"10.0.0.7:5025"',
            "3: resource: '10.0.0.7:5025' is no VISA resource; did you mea",
        ),
        ('"ASRL/dev/ttyUSB0::INSTR"', '"scope"', "3: resource: 'scope' is no VISA resource, as 'GPIB0::5::INSTR' is;"),
        (
            '"ASRL/dev/ttyUSB0::INSTR"',
            '"TCPIP::10.0.0.7::99999::SOCKET"',
            "3: resource: 'TCPIP::10.0.0.7::99999::SOCKET': a port is a number from 1 to 65535, and 99999 is not",
        ),
        (
            '"ASRL/dev/ttyUSB0::INSTR"',
            '"asrl1::INSTR"',
            "3: resource: 'asrl1::INSTR' is no VISA resource here: PyVISA-py knows a serial port by its path, as",
        ),
        ('connect_timeout = "300 ms"', "safe = []", "9: safe: stands in the table 'commands': write commands.safe"),
        ("commands.read.mass", "commands.get.mass", "11: commands.get: unknown key; did you mean 'read'?"),
        ("safe = []", 'safe = "0"', "12: commands.safe: expected a list, got '0'; write ['0']"),
        ('"SI"', '"SI"\ncommands.wait = "S"', "12: commands.wait: expected a table, got 'S'; write { query = 'S' }"),
        (
            '"SI"',
            '"SI"\nmonitor.a = { query = "S", period = 3 }',
            "12: monitor.a.period: unknown key; did you mean 'every'",
        ),
    ],
)
def test_what_was_meant(old: str, new: str, expected: str) -> None:
    assert any(complaint.startswith(expected) for complaint in complaints(LINE.replace(old, new)))


@pytest.mark.parametrize(
    "resource", ["GPIB0::22", "TCPIP::10.0.0.7::inst0", "USB0::0x1AB1::0x0588::DS1ED::RAW", "tcpip0::scope::instr"]
)
def test_what_is_a_resource_is_left_alone(resource: str) -> None:
    text = LINE.replace("ASRL/dev/ttyUSB0::INSTR", resource)
    assert not [complaint for complaint in complaints(text) if ": resource: " in complaint]


def test_a_name_of_a_resource_is_another_librarys_to_know() -> None:
    text = LINE.replace("ASRL/dev/ttyUSB0::INSTR", "scope").replace(
        'driver = "visa"', 'driver = "visa"\nbackend = "@ivi"'
    )
    assert complaints(text) == []


def test_heads_of_one_instrument_differ_by_constants() -> None:
    text = """\
[masters.stm]
driver = "visa"
shared = true
resource = "GPIB0::5::INSTR"
values = { gain = 2 }
query_timeout = "1 s"
parameters.v = {}
outputs.i = {}
commands = { set = ["C {channel:d};V {v:.2f}"], read = { i = "I? {channel:d},{gain:d}" }, safe = ["V 0,{channel:d}"] }
heads = [{ name = "a", values = { channel = 1 } },
  { name = "b", values = { channel = 2, gain = 3 }, query_timeout = 5 }]
"""
    assert complaints(text) == []
    a, b = heads_of(options(text).model_dump())
    assert (a["name"], a["values"], a["query_timeout"]) == ("a", {"gain": 2, "channel": 1}, 1.0)
    assert (b["name"], b["values"], b["query_timeout"]) == ("b", {"gain": 3, "channel": 2}, 5.0)
    assert a["resource"] == b["resource"] == "GPIB0::5::INSTR"
    (complaint, *_) = complaints(text.replace("values = { channel = 1 }", "values = { chanel = 1 }"))
    assert complaint.startswith("9: commands.set[0]: {channel:d}: there is no parameter 'channel'; there are ")
    assert complaints(text.replace("gain = 2", "gain = 2, v = 1")) == [
        "5: values.v: is the name of a parameter, too; rename one"
    ]
    assert complaints(text.replace("gain = 2", "gain = []")) == [
        "5: values.gain: expected a number, text or true/false, got []"
    ]


def test_two_masters_cannot_have_one_instrument() -> None:
    """Each has processes of its own; one of them would wait for the instrument for ever."""
    two = STM.replace("masters.stm", "masters.two").replace("5026", "5027")
    first = len(STM.splitlines())
    told = "is that of Master 'stm', too, and an instrument is one Master's alone; declare it in one of them"
    resource = "TCPIP0::127.0.0.1::5025::SOCKET"
    assert complaints(STM + two) == [f"{first + 11}: masters.two.heads[0].resource: {resource!r} {told}"]
    assert complaints(STM + two.replace(resource, "TCPIP::LOCALHOST::5025::SOCKET")) != []
    assert complaints(STM + two.replace("5025", "5028")) == []
    elsewhere = '"visa"\nprocesses = "elsewhere"'
    assert complaints(STM + two.replace('"visa"', elsewhere)) == [], "where that is, another one may have the name"


@pytest.mark.parametrize("key", ["resource = 'GPIB::1'", "resource = 'GPIB::1'\nbackend = '@sim'"])
def test_each_process_has_simulated_instruments_of_its_own(key: str) -> None:
    one = LAMP.replace('driver = "instrument"', f'driver = "instrument"\n{key}')
    wrong = bool(complaints(one + one.replace("masters.stm", "masters.two")))
    assert wrong == ("@sim" not in key)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("TCPIP::10.0.0.1", "tcpip0::10.0.0.1::INSTR"),
        ("TCPIP::10.0.0.1", "TCPIP0::10.0.0.1::inst0::INSTR"),
        ("TCPIP::localhost::5025::SOCKET", "TCPIP0::127.0.0.1::5025::SOCKET"),
        ("gpib::5", "GPIB0::5::INSTR"),
        ("USB::0x1::0x2::A", "USB0::0x1::0x2::A::INSTR"),
        ("ASRL/dev/ttyS0::INSTR", "/dev/ttyS0"),
    ],
)
def test_spellings_of_one_resource(one: str, other: str) -> None:
    assert normal_resource(one) == normal_resource(other)


def test_different_resources_stay_different() -> None:
    assert len({normal_resource(f"TCPIP::h::{port}::SOCKET") for port in (1, 2, 3)}) == 3
    assert normal_resource("/dev/ttyS0") != normal_resource("/dev/TTYS0")


# -- safety ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interlock", "expected"),
    [
        ("{ max = 1 }", ".query: is missing; for example query = 'TEMP?'"),
        ("{ query = 'T?' }", ".min: nothing would trip this interlock; add min, max, equals, below or above"),
        ("{ query = 'T?', min = 2, max = 1 }", ".max: expected at least min = 2, got 1"),
        ("{ query = 'T?', min = 2, equals = 1 }", ".equals: cannot stand beside min or max; remove one of them"),
        ("{ query = 'T?', equals = [1] }", ".equals: expected a number, text or true/false, got [1]"),
        ("{ query = 'T?', max = 1, action = 'halt' }", ".action: expected 'pause', 'safe' or 'stop', got 'halt'"),
        ("{ query = 'T?', max = 1, every = 0 }", ".every: expected a duration of at least '10 ms', got 0"),
        ("{ query = 'T?', below = 'tip-3' }", ".below: there is no head 'tip-3'; did you mean 'tip-2'?"),
        ("{ query = 'T?', head = 'a', max = 1 }", ".head: there is no head 'a'; there are 'tip-1', 'tip-2'"),
        ("{ query = 'T?', head = 'tip-1', above = 'tip-1' }", ".above: 'tip-1' is the head itself; name another one"),
        ("{ method = 't', query = 'T?', max = 1 }", ".method: unknown key; known are 'above', 'action', 'below',"),
    ],
)
def test_an_interlock(interlock: str, expected: str) -> None:
    (complaint,) = complaints(f"{STM}[masters.stm.interlocks]\nhot = {interlock}")
    assert complaint.startswith(f"20: interlocks.hot{expected}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deadman = '5 s'", "deadman: expected at least the daemon's lost_after = 10 s, got 5 s"),
        ("deadman = 'never'", "deadman: 'never' is not a duration; write a number and one of"),
        ("reconnect = { first = 9, longest = 1 }", "reconnect.longest: expected at least first = 9 s, got 1 s"),
        ("quarantine_after = 0", "quarantine_after: expected at least 1, got 0"),
        (
            "resume_policy = 'resum'",
            "resume_policy: expected 'resume', 'restart', 'fail' or 'ask', got 'resum'; did you",
        ),
        ("max_attempts = 3", "max_attempts: has no effect without on_lost = 'retry': a task of an instrument is"),
        ("workers = 3", "workers: driver 'visa' has no such key; 'process' has"),
        ("path = ['.']", "path: driver 'visa' has no such key; 'process', 'thread', 'instrument' have"),
        ("read_terminator = 'abcde'", "read_terminator: expected at most 4 ASCII characters, such as"),
        ("monitor = { t = { query = 'T?', every = 0 } }", "monitor.t.every: expected a duration of at least '50 ms'"),
    ],
)
def test_a_key_of_the_master(line: str, expected: str) -> None:
    (complaint,) = complaints(changed('driver = "visa"', f'driver = "visa"\n{line}'))
    assert complaint.startswith(f"3: {expected}")


def test_a_retry_has_to_be_asked_for() -> None:
    text = changed('driver = "visa"', 'driver = "visa"\non_lost = "retry"\nmax_attempts = 2')
    master = loads(text).masters["stm"]
    assert (master.on_lost, master.max_attempts) == ("retry", 2)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "parity = 'evn'",
            "parity: expected 'none', 'even', 'odd', 'mark' or 'space', got 'evn'; did you mean 'even'?",
        ),
        ("data_bits = 9", "data_bits: expected 5, 6, 7 or 8, got 9"),
        ("stop_bits = 3", "stop_bits: expected 1, 1.5 or 2, got 3"),
        ("backend = '@py'", "backend: driver 'serial' has no such key; 'visa', 'instrument' have"),
    ],
)
def test_a_key_of_a_serial_line(line: str, expected: str) -> None:
    assert complaints(ONE + line) == [f"8: {expected}"]


# -- classes and people ------------------------------------------------------------------------------------------------

LAMP = """\
[masters.stm]
driver = "instrument"
class = "lamp:Lamp"
set = { power = "dimmer.power" }
read = { current = "photocurrent" }
parameters.power = {}
outputs.current = {}
"""


def test_a_class_and_what_is_done_with_it() -> None:
    found = options(LAMP + "init = { power = 0 }\ncall = 'fire'\nsafe = ['shutdown', { power = 0 }]")
    assert isinstance(found, InstrumentClassOptions)
    assert found.importables() == {"class": "lamp:Lamp"}
    assert found.model_dump()["class"] == "lamp:Lamp"
    assert (found.init, found.call, found.safe) == (({"power": 0},), ("fire",), ("shutdown", {"power": 0}))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("init = 3", "init: expected the name of a method, or a table of properties and values, got 3"),
        (
            "safe = ['shut down']",
            "safe: expected the name of a property, parameter or method, such as 'ch1.voltage', got",
        ),
        ("args = 3", "args: expected a list, got 3"),
        ("clas = 'a:b'", "clas: unknown key; did you mean 'class'?"),
        ("commands = {}", "commands: driver 'instrument' has no such key; 'visa', 'serial' have"),
        ("interlocks.hot = { query = 'T?', max = 1 }", "interlocks.hot.method: is missing; for example method = 'temp"),
        ("parameters.colour = {}", "parameters.colour: nothing sets it; add set.colour, or remove it"),
        ("outputs.colour = {}", "outputs.colour: nothing reads it; add read.colour, or remove it"),
        ("set.powre = 'power'", "set.powre: there is no parameter 'powre'; did you mean 'power'?"),
    ],
)
def test_a_key_of_a_class(line: str, expected: str) -> None:
    text = LAMP.replace('set = { power = "dimmer.power" }', 'set.power = "dimmer.power"')
    found = complaints(text + line)
    assert any(complaint.startswith(f"8: {expected}") for complaint in found), found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("args = ['{resorce}']", "args[0]: {resorce}: nothing is filled in there; did you mean {resource}?"),
        (
            "kwargs = { at = { class = 'a:B', kwargs = { where = 'at {port}' } } }",
            "kwargs.at.kwargs.where: {port}: nothing is filled in there; there are {resource} and {name}.",
        ),
        ("heads = [{ name = 'a', args = ['{nane}'] }]", "heads[0].args[0]: {nane}: nothing is filled in there; did"),
        ("args = ['{resource}', '{name}', '{{port}}', '{\"a\": 1}', '{0:.3f}', '{}']", None),
    ],
)
def test_a_place_in_arguments(line: str, expected: str | None) -> None:
    found = complaints(LAMP + line)
    if expected is None:
        assert found == []
    else:
        number = len(LAMP.splitlines()) + 1
        (complaint,) = found
        assert complaint.startswith(f"{number}: {expected}")
        assert "As a text of its own, write {{" in complaint


def test_a_class_that_is_not_named() -> None:
    assert complaints(LAMP.replace("lamp:Lamp", "lamp.Lamp")) == [
        "3: class: expected 'module:name', got 'lamp.Lamp'; did you mean 'lamp:Lamp'?"
    ]
    assert complaints(LAMP.replace('class = "lamp:Lamp"\n', "")) == [
        "1: class: is missing; for example class = 'lab:Probe'"
    ]


def test_a_head_of_ones_own_needs_no_tables() -> None:
    bare = '[masters.stm]\ndriver = "instrument"\nclass = "lab:Probe"\nparameters.x = {}\noutputs.y = {}\n'
    assert complaints(bare) == []
    assert options(bare).resource is None


PERSON = '[masters.stm]\ndriver = "human"\nquestion = "Weigh it."\noutputs.mass = { min = 0 }\n'


def test_a_person() -> None:
    found = options(PERSON)
    assert isinstance(found, HumanOptions)
    assert (found.claim_expires, found.people) == (1800.0, 1)
    assert loads(PERSON).masters["stm"].on_lost == "retry"
    assert complaints(PERSON + "timeout = '1 h'\npeople = 0") == [
        "5: timeout: nobody stops a person, so driver 'human' has no timeout; claim_expires is its like",
        "6: people: expected at least 1, got 0",
    ]
    assert complaints(PERSON.replace("outputs.mass = { min = 0 }\n", "")) == [
        "1: outputs: are missing; an answer is checked against them, so declare what is to be entered"
    ]


# -- examples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "heads"), [("stm", 4), ("chambers", 12)])
def test_the_examples_are_for_the_simulated_laboratory(name: str, heads: int) -> None:
    found = load(example(name)).masters[name].options
    assert isinstance(found, CommandOptions)
    declared = heads_of(found.model_dump())
    assert len(declared) == heads
    assert len({head["resource"] for head in declared}) == heads
    assert found.commands.safe


@pytest.mark.parametrize(("name", "simulator", "heads"), [("stm", "probe", "heads"), ("chambers", "chambers", "count")])
def test_the_simulated_laboratory_understands_the_examples(name: str, simulator: str, heads: str) -> None:
    """All that they send, each once, with the largest value of each parameter; the answers are what they expect."""
    master = load(example(name)).masters[name]
    assert isinstance(master.options, CommandOptions)
    commands = master.options.commands
    assert commands.wait is not None
    assert commands.errors is not None
    point = {field.name: field.max for field in master.parameter_fields}
    (head,) = [head for head in heads_of(master.options.model_dump()) if head["name"].endswith("-1")]
    queries = [interlock.query for interlock in master.options.interlocks.values()]
    queries += [value.query for value in master.options.monitor.values()]
    queries += [ramp.query for ramp in commands.ramps.values() if ramp.query is not None]
    with (
        Laboratory(simulator, None, stdin=None, **{heads: 1}) as laboratory,
        Talk(laboratory.heads[0].address) as talk,
    ):
        assert re.fullmatch(head["identity"], talk.ask(master.options.identify))
        talk.tell(*commands.open, *(Template(text).format(point) for text in commands.set))
        assert re.fullmatch(commands.wait.until, talk.ask(commands.wait.query))
        for query in [reading.query for reading in commands.read.values()]:
            assert math.isfinite(float(talk.ask(Template(query).format(point))))
        assert all(talk.ask(query) for query in queries)
        if commands.watchdog is not None:
            assert commands.watchdog.keep is not None
            talk.tell(*commands.watchdog.arm, *commands.watchdog.disarm)
            assert talk.ask(commands.watchdog.keep)
        talk.tell(*commands.safe)
        assert re.fullmatch(commands.errors.ok, talk.ask(commands.errors.query))


class Talk:
    """A line protocol with one head."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._lines = self._socket.makefile("rb")

    def tell(self, *commands: str) -> None:
        self._socket.sendall("".join(f"{command}\n" for command in commands).encode())

    def ask(self, query: str) -> str:
        self.tell(query)
        return self._lines.readline().decode().rstrip("\n")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *raised: object) -> None:
        self._lines.close()
        self._socket.close()
