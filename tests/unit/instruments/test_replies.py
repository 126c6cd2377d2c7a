"""What instruments answer, read as it was declared or refused with what was received."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from taskmaster.bus.fields import Field
from taskmaster.drivers.instruments.errors import Garbled
from taskmaster.drivers.instruments.replies import reply_for

FLOAT, INT, BOOL, STR = (Field(name="out", kind=kind) for kind in ("float", "int", "bool", "str"))
IMAGE = Field(name="out", shape=(2, 3))


@pytest.mark.parametrize(
    ("options", "declared", "answer", "value"),
    [
        ({}, FLOAT, b"+1.25E-09", 1.25e-9),
        ({}, FLOAT, b" .5 \r", 0.5),
        ({}, FLOAT, b"-INF", -math.inf),
        ({}, FLOAT, b"9.9E37", math.inf),
        ({}, FLOAT, b"-9.9E+37", -math.inf),
        ({}, INT, b"+12", 12),
        ({}, INT, b"1.2E1", 12),
        ({}, BOOL, b"ON", True),
        ({}, BOOL, b"0", False),
        ({}, STR, b"APPROACHED\r", "APPROACHED"),
        ({"pattern": r"T=(\S+) C"}, FLOAT, b"ok T=21.5 C", 21.5),
        ({"pattern": r"[A-Z]+"}, STR, b"--RUN--", "RUN"),
        ({"unit": "V"}, FLOAT, b"1.5 V", 1.5),
        ({"unit": "V"}, FLOAT, b"1.5V", 1.5),
        ({"parse": "text"}, None, b"x", "x"),
        ({}, None, b"7", 7.0),
    ],
)
def test_one_value(options: dict[str, Any], declared: Field | None, answer: bytes, value: object) -> None:
    assert reply_for(options, declared).parse(answer) == value


def test_no_number_at_all_is_nan() -> None:
    assert math.isnan(reply_for({}, FLOAT).parse(b"9.91E37"))


@pytest.mark.parametrize(
    ("options", "answer", "values"),
    [
        ({"separator": ","}, b"1,2.5,-3e2", [1, 2.5, -300]),
        ({"separator": " "}, b"1  2\t3", [1, 2, 3]),
        ({"separator": ";", "unit": "mV"}, b"1mV;2 mV", [1, 2]),
        ({"separator": ","}, b"", []),
        ({"separator": ",", "pattern": r"\[(.*)\]"}, b"DATA [1,9.9E37]", [1, math.inf]),
    ],
)
def test_a_list(options: dict[str, Any], answer: bytes, values: list[float]) -> None:
    parsed = reply_for({"parse": "list", **options}, None).parse(answer)
    assert parsed.dtype == np.float64
    assert parsed.tolist() == values


def test_a_shape_may_be_a_parameter_of_the_task() -> None:
    image = reply_for({"dtype": "u1", "shape": ("h", "w")}, None)
    assert image.parse(b"abcdef", {"w": 2, "h": 3}).shape == (3, 2)
    with pytest.raises(Garbled, match=r"6 numbers, which do not fill the shape \[4, 2\]"):
        image.parse(b"abcdef", {"w": 2, "h": 4})


def test_an_image_by_its_declared_shape_and_as_a_block_of_another_byte_order() -> None:
    assert reply_for({}, IMAGE).parse(b"1,2,3,4,5,6").tolist() == [[1, 2, 3], [4, 5, 6]]
    block = reply_for({"dtype": ">i2"}, IMAGE)
    assert block.is_block
    parsed = block.parse(np.arange(6, dtype=">i2").tobytes())
    assert parsed.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert parsed.dtype == np.dtype("<i2"), "the byte order that travels"


@pytest.mark.parametrize(
    ("options", "declared", "answer", "says"),
    [
        ({}, FLOAT, b"", "nothing, which is no number"),
        ({}, FLOAT, b"1.2.3", "'1.2.3', which is no number"),
        ({}, FLOAT, b"1,2", "'1,2'"),
        ({}, FLOAT, b"1_0", "'1_0'"),
        ({}, FLOAT, b"\xff\x00\x91", r"'\xff\x00\x91', which is no text"),
        ({}, FLOAT, b"1.5 mV", "a number alone is expected"),
        ({"unit": "V"}, FLOAT, b"1.5 mV", "the unit 'V' is expected"),
        ({"unit": "V"}, FLOAT, b"1.5", "without the unit 'V'"),
        ({}, INT, b"1.5", "no whole number"),
        ({}, BOOL, b"2", "neither 1 or ON"),
        ({"pattern": r"T=(\S+)"}, FLOAT, b"P=3", "is not found"),
        ({}, STR, b"a\x07b", "no text"),
        ({}, IMAGE, b"1,2,3,4,5", "5 numbers, which do not fill the shape [2, 3]"),
        ({"parse": "list"}, None, b"1,,2", "no number"),
        ({"parse": "list"}, None, b"1,2_0", "no number"),
        ({"parse": "list"}, INT, b"1,2.5", "whole numbers are expected"),
        ({"dtype": "<f4"}, None, b"12345", "5 bytes"),
        ({"dtype": "<f4"}, IMAGE, b"1234" * 5, "5 numbers"),
        ({}, FLOAT, b"x" * 100_000, "… (100000 bytes)"),
    ],
)
def test_whatever_else_is_garbled_and_shown(
    options: dict[str, Any], declared: Field | None, answer: bytes, says: str
) -> None:
    with pytest.raises(Garbled) as caught:
        reply_for(options, declared).parse(answer)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300
