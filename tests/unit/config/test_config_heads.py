"""Heads in the file: their names, resources and lines, and what wrong ones are told."""

from __future__ import annotations

import pytest
from helpers.instrument_files import LAMP, ONE, STM, changed, complaints, options

from taskmaster.config.heads import heads_of, normal_resource
from taskmaster.drivers.instruments import Commands


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
