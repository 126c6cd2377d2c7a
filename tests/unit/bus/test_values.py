"""One value as bytes and back: the same value of the same type, or an error that says what cannot travel."""

from __future__ import annotations

import datetime as dt
import enum
from collections import OrderedDict, namedtuple
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.strategies import arrays, same, values
from hypothesis import given
from hypothesis import strategies as st

from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.values import (
    EXT_ARRAY,
    EXT_COMPLEX,
    EXT_NAIVE_DATETIME,
    EXT_SCALAR,
    EXT_TUPLE,
    decode,
    encode,
    keep,
)

FIVE = dt.timezone(dt.timedelta(hours=5))
Pair = namedtuple("Pair", "x y")


class Colour(str, enum.Enum):  # noqa: UP042 - str() of one is not its value
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@given(values)
def test_what_travels_arrives_as_it_was(value: Any) -> None:
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Level.HIGH, 3),
        (Colour.RED, "red"),
        ({Colour.RED: Level.HIGH}, {"red": 3}),
        (OrderedDict(a=1), {"a": 1}),
        (Pair(1, 2.0), (1, 2.0)),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (np.str_(""), np.str_("")),
        (np.array(["", ""]), np.array(["", ""], "<U1")),
        (np.zeros(1, [("a", "U0")])["a"], np.array([""], "<U1")),
        (dt.datetime(2024, 1, 1, tzinfo=FIVE), dt.datetime(2023, 12, 31, 19, tzinfo=dt.UTC)),
    ],
)
def test_relatives_of_what_travels_arrive_as_their_kin(value: Any, arrives: Any) -> None:
    assert same(decode(encode(value)), arrives)


def circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (iter(()), "builtins.tuple_iterator"),
        (object(), "builtins.object"),
        (len, "builtins.builtin_function_or_method"),
        ({1, 2}, "builtins.set"),
        (dt.date(2024, 1, 1), "datetime.date"),
        ([{"a": {3j}}], "builtins.set"),
        ({(1, 2): 3}, "a key of type tuple"),
        ({np.float64(1): 3}, "a key of type float64"),
        ({2**64: 3}, "0x10000000000000000"),
        (np.array([object()]), "dtype object"),
        (np.zeros(2, "i4,f8"), "dtype"),
        (np.array(["\ud800"]), "no Unicode"),
        (np.str_("\ud800"), "no Unicode"),
        (np.void(b"ab"), r"scalar of dtype \|V2"),
        ("\udcff", "no Unicode"),
        (circle(), "contains itself"),
    ],
    ids=str,
)
def test_what_cannot_travel_is_named(value: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        encode(value)


@given(values)
def test_a_value_that_is_kept_does_not_change_with_the_one_it_was_taken_from(value: Any) -> None:
    kept, before = keep(value), encode(value)
    if isinstance(value, list):
        value.append(1)
    elif isinstance(value, dict):
        value["more"] = 1
    elif isinstance(value, np.ndarray) and value.flags.writeable:
        value[...] = np.zeros((), value.dtype)
    assert same(decode(encode(kept)), decode(before))


@given(arrays((2, 2)))
def test_an_array_that_arrives_cannot_be_written_to(array: np.ndarray[Any, Any]) -> None:
    assert not decode(encode(array)).flags.writeable


def ext(code: int, data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


def headed(head: object, body: bytes) -> bytes:
    packed = msgspec.msgpack.encode(head)
    return bytes((len(packed),)) + packed + body


@pytest.mark.parametrize(
    "data",
    {
        "nothing": b"",
        "two values": b"\x01\x02",
        "an unknown extension": ext(99, b"ab"),
        "a complex number of nothing": ext(EXT_COMPLEX, b""),
        "two complex numbers": ext(EXT_COMPLEX, bytes(32)),
        "a date that never was": ext(EXT_NAIVE_DATETIME, b"2023-02-30T00:00:00"),
        "a tuple that is a number": ext(EXT_TUPLE, b"\x01"),
        "an array without a head": ext(EXT_ARRAY, b""),
        "an array with half a head": ext(EXT_ARRAY, b"\x20\x92"),
        "an array of objects": ext(EXT_ARRAY, headed(("|O8", (1,)), bytes(8))),
        "an array that is cut short": ext(EXT_ARRAY, headed(("<f8", (2,)), bytes(8))),
        "an array of too many dimensions": ext(EXT_ARRAY, headed(("|i1", (1,) * 65), bytes(1))),
        "an array larger than all memory": ext(EXT_ARRAY, headed(("<f8", (2**62, 2**62, 0)), b"")),
        "text of no characters": ext(EXT_ARRAY, headed(("<U1", (1,)), b"\xff" * 4)),
        "text of half a character": ext(EXT_SCALAR, headed("<U1", b"\0\xd8\0\0")),
        "two scalars": ext(EXT_SCALAR, headed("<f8", bytes(16))),
        "a deprecated dtype": ext(EXT_SCALAR, headed("a4", bytes(4))),
        "a time in steps of none": ext(EXT_SCALAR, headed("<M8[0s]", bytes(8))),
        "a very deep list": b"\x91" * 100_000 + b"\x01",
        "a list of four thousand million": b"\xdd\xff\xff\xff\xff",
        "a dict with a dict for a key": b"\x81\x80\x01",
        "a text that is no Unicode": b"\xa1\xff",
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_no_value_is_refused(data: tuple[str, bytes]) -> None:
    with pytest.raises(ProtocolError, match=r"could not be decoded|unknown|cut short|bytes|not a plain|holds 2"):
        decode(data[1])


def test_a_tuple_in_a_tuple_in_a_tuple_has_an_end() -> None:
    data = b"\x01"
    for _ in range(3000):
        data = ext(EXT_TUPLE, b"\x91" + data)
    with pytest.raises(ProtocolError, match="recursion"):
        decode(data)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except ProtocolError:
        return
    assert same(decode(encode(value)), value), "what has come can travel on"
