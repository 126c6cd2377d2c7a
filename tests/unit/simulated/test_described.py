"""Instruments made from descriptions: what the drivers' readers ask for is what they get, within the limits."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from taskmaster.bus.fields import Field, Schema
from taskmaster.config.load import Config, loads
from taskmaster.config.shipped import example
from taskmaster.drivers.instruments.replies import Number, Reply, Text, reply_for
from taskmaster.drivers.simulated.actions import ActionLog
from taskmaster.drivers.simulated.answers import Reading, Unanswerable, answer
from taskmaster.drivers.simulated.bench import descriptions
from taskmaster.drivers.simulated.clock import Clock
from taskmaster.drivers.simulated.described import DescribedInstrument


def content(reply: Reply, data: bytes) -> bytes:
    """What a transport hands to the reader: a block without its header."""
    if not reply.is_block:
        return data
    digits = int(data[1:2])
    assert int(data[2 : 2 + digits]) == len(data) - 2 - digits
    return data[2 + digits :]


# -- answers -----------------------------------------------------------------------------------------------------------

LIMITS = st.floats(-1e12, 1e12, allow_nan=False).map(lambda x: round(x, 6))


@st.composite
def limits(draw: st.DrawFn, whole: bool) -> dict[str, Any]:
    low, high = sorted((draw(LIMITS), draw(LIMITS)))
    if whole:
        low, high = math.floor(low), math.ceil(high)
    return draw(st.sampled_from([{}, {"min": low}, {"max": high}, {"min": low, "max": high}, {"min": low, "max": low}]))


PATTERNS = [None, "T=(.*)", r"(\S+) end", "A=.*;B=(.*)", r"(?:CH1:)?(.+)"]


@st.composite
def scalars(draw: st.DrawFn) -> tuple[Field, dict[str, Any]]:
    """An output of a single value, and a table that reads it."""
    kind = draw(st.sampled_from(["float", "int", "bool", "str", "any", "choice"]))
    table: dict[str, Any] = {"pattern": draw(st.sampled_from(PATTERNS))}
    if kind in ("float", "int"):
        table["unit"] = draw(st.sampled_from(["", "V", "mA", "%", "°C"]))
        return Field("out", kind, **draw(limits(kind == "int")), nan=draw(st.booleans()) and kind == "float"), table
    if kind == "choice":
        choices: tuple[str | float, ...] = draw(st.sampled_from([("SIN", "SQU"), (1.0, 2.5), (3.0,), ("LONG-ONE",)]))
        return Field("out", "str" if isinstance(choices[0], str) else "float", choices=choices), table
    return Field("out", kind), table


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Field, dict[str, Any]]:
    """An output that is an array, and a table that reads it."""
    shape = draw(st.sampled_from([(-1,), (3,), (2, 3), (4, -1), (0,)]))
    table: dict[str, Any] = {}
    if draw(st.booleans()):
        whole = draw(st.booleans())
        table |= {"parse": "list", "separator": draw(st.sampled_from([",", ";", " ", ", "]))}
        table |= {"pattern": draw(st.sampled_from([None, "W=(.*)"])), "unit": draw(st.sampled_from(["", "V"]))}
        return Field("out", "int" if whole else "float", shape=shape, **draw(limits(whole))), table
    dtype = draw(st.sampled_from(["<f4", ">f4", "<f8", ">i2", "<u2", "u1", "<i8"]))
    table |= {"parse": "block", "dtype": dtype}
    kind = "float" if "f" in dtype else draw(st.sampled_from(["int", "float"]))
    bounds: dict[str, Any] = draw(st.sampled_from([{}, {"min": -1, "max": 3}, {"min": 5}, {"max": 300}]))
    return Field("out", kind, shape=shape, **bounds), table


@settings(max_examples=400, deadline=None)
@given(st.one_of(scalars(), arrays()), st.floats(0.1, 0.9))
def test_whatever_is_declared_is_answered_within_its_limits(
    declared: tuple[Field, dict[str, Any]], level: float
) -> None:
    field, table = declared
    reply = reply_for(table, field)
    data = answer([Reading(field, reply)], {}, level)
    value = reply.parse(content(reply, data))
    assert b"\n" not in data or reply.is_block
    Schema([field], "lab", "output").row({"out": value})
    low, high = field.limits
    if not field.choices and field.kind in ("float", "int"):
        assert np.all((np.asarray(value) >= low) & (np.asarray(value) <= high))


def test_what_several_read_from_one_answer_all_find_in_it() -> None:
    """Two outputs by their patterns, and an interlock that looks at one of them."""
    a = Reading(Field("a", min=2, max=9), reply_for({"pattern": r"A=([^;]*)"}, None))
    b = Reading(Field("b", "str"), Text(re.compile("B=(.*)")))
    bound = Reading(Field("a", max=3), reply_for({"pattern": r"A=([^;]*)"}, None))
    said = answer([a, b, bound], {}, 0.5)
    assert said == b"A=2.5;B=simulated"


def test_what_excludes_each_other_is_not_answered() -> None:
    plain, other = Reading(Field("a"), Number()), Reading(Field("a"), reply_for({"pattern": "T=(.*)"}, None))
    with pytest.raises(Unanswerable, match="no answer fits all that read it"):
        answer([plain, other], {}, 0.5)
    with pytest.raises(Unanswerable, match="fits all"):
        answer([Reading(Field("a", min=2), Number()), Reading(Field("a", max=1), Number())], {}, 0.5)
    with pytest.raises(Unanswerable, match=r"shape \[100000, 100000\] is too large"):
        answer([Reading(Field("a", shape=(-1, -1)), reply_for({"shape": ("n", "n")}, None))], {"n": 100_000}, 0.5)


# -- an instrument -----------------------------------------------------------------------------------------------------

TWO = """\
[masters.lab]
driver = "visa"
shared = true
resource = "GPIB0::5::INSTR"
identity = "ACME,.*"
write_terminator = "\\r"
read_terminator = "\\r\\n"
parameters = { v = { min = -2, max = 2 }, n = { kind = "int", min = 1, max = 9 }, mode = { choices = ["A", "B"] } }
outputs = { i = { unit = "mA", min = 0, max = 5 }, wave = { shape = [-1] } }
heads = [{ name = "one", values = { ch = 1 } }, { name = "two", values = { ch = 2 } }]
interlocks.order = { query = "T? {ch:d}", head = "one", above = "two" }
interlocks.door = { query = "DOOR?", equals = "SHUT" }
monitor.t = { query = "T? {ch:d}" }
[masters.lab.commands]
open = ["RST {ch:d}"]
set = ["V {ch:d},{v:.2f}", "MODE {mode};N {n:x}"]
wait = { query = "DONE?", until = "READY|IDLE" }
read = { i = { query = "I? {ch:d}", unit = "mA" }, wave = { query = "W? {n:d}", parse = "list", shape = ["n"] } }
safe = ["V {ch:d},0.00"]
errors = { query = "ERR?", ok = "0,.*" }
watchdog = { arm = ["WD 5"], keep = "WD?" }
ramps.v = { step = 0.5, every = "1 ms", query = "V? {ch:d}" }
"""


def instrument(text: str = TWO) -> DescribedInstrument:
    (description,) = descriptions(loads(text, folder="/"))
    return DescribedInstrument(description, Clock(), ActionLog())


def test_everything_that_is_asked_is_answered() -> None:
    lab = instrument()
    asked = ["*IDN?", "DONE?", "ERR?", "DOOR?", "WD?", "V? 1"]
    assert [lab.execute(line.encode()) for line in asked] == [
        b"ACME,simulated", b"READY", b'0,"No error"', b"SHUT", b"1", b"0",
    ]  # fmt: skip
    current = lab.execute(b"I? 2")
    assert isinstance(current, bytes)
    assert current.endswith(b" mA")
    assert lab.execute(b"W? 3") == lab.execute(b"W? 3")
    wave = lab.execute(b"W? 3")
    assert isinstance(wave, bytes)
    assert len(wave.split(b",")) == 3
    assert (lab.name, lab.hears, lab.says) == ("lab", b"\r", b"\r\n")


def test_it_knows_what_was_set_at_which_head() -> None:
    lab = instrument()
    before = lab.execute(b"I? 1"), lab.execute(b"I? 2")
    for line in (b"V 1,1.50", b"MODE B;N 9"):
        assert lab.execute(line) is None
    assert (lab.execute(b"V? 1"), lab.execute(b"V? 2")) == (b"1.5", b"0")
    assert lab.execute(b"I? 1") != before[0]
    lab.execute(b"V 1,0.00")
    assert lab.execute(b"V? 1") == b"0"
    lab.execute(b"V 1,1.50")
    lab.power_cycle()
    assert lab.execute(b"V? 1") == b"0"
    assert lab.execute(b"I? 1") == before[0]


def test_its_record() -> None:
    lab = instrument()
    for line in (b"V 1,1.50", b"I? 1", b"V 1,0.00", b"V 1,1.5;*RST", b"nonsense", b"\xff"):
        lab.execute(line)
    assert lab.log.counts == {"V {ch:d},{v:.2f}": 1, "I? {ch:d}": 1, "V {ch:d},0.00": 1, "(undefined)": 3}
    assert [(action.kind, action.arguments, action.safe) for action in lab.log.since(0, 9)] == [
        ("set", (1.5,), False),
        ("measure", (), False),
        ("set", (), True),
    ]
    assert lab.log.since(1, 1)[0].at["v"] == 1.5


def test_heads_are_in_the_order_that_interlocks_want() -> None:
    lab = instrument()
    one, two = lab.execute(b"T? 1"), lab.execute(b"T? 2")
    assert isinstance(one, bytes)
    assert isinstance(two, bytes)
    assert float(one) > float(two)


def test_an_answer_that_nobody_can_give_says_so() -> None:
    text = TWO.replace('query = "DOOR?", equals = "SHUT"', 'query = "DONE?", equals = "SHUT"')
    assert instrument(text).execute(b"DONE?") == b"SIMULATOR: no answer fits all that read it"


def test_one_resource_is_one_instrument_whoever_names_it() -> None:
    text = TWO.replace('name = "two",', 'name = "two", resource = "gpib::5",')
    (description,) = descriptions(loads(text, folder="/"))
    assert [(head.master, head.name) for head in description.heads] == [("lab", "one"), ("lab", "two")]


def test_the_bench_of_an_example() -> None:
    path = example("instruments")
    config: Config = loads(path.read_text(encoding="utf-8"), folder=path.parent)
    assert [one.name for one in descriptions(config)] == ["analyser", "heater.oven", "heater.plate", "furnace"]
