"""Columns of words and of choices are looked at as a whole; what is odd among them is still found, and named."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from taskmaster.bus import values
from taskmaster.bus.errors import InvalidTask, ProtocolError
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.table import Layout, Part, Table, pack_columns

#: More than are looked at one by one for being few.
MANY = 100
_CHOICES: dict[str, tuple[Field, Any, Any]] = {
    "words": (Field("x", "str"), ["sample"] * MANY, 7),
    "named": (Field("x", "str", choices=("up", "down")), ["up", "down"] * MANY, "left"),
    "numbers": (Field("x", "float", choices=(1.0, 2.5)), np.array([1.0, 2.5] * MANY), 2.0),
    "whole": (Field("x", "int", choices=(1.0, 2.0)), np.array([1, 2] * MANY), 3),
    "named numbers": (Field("x", "float", choices=(1.0, "auto")), ["auto"] * MANY, 2.0),
    "true": (Field("x", "bool", choices=(True,)), np.array([True] * MANY), False),
}


def from_peer(column: Any) -> Table:
    """A table of one column, as it arrives."""
    table = pack_columns({"x": column}, len(column))
    return Table.checked(table.layout, table.n, [bytes(frame) for frame in table.frames])


@pytest.mark.parametrize("kind", _CHOICES)
def test_what_fits_is_taken_and_the_one_that_does_not_is_named(kind: str) -> None:
    field, column, odd = _CHOICES[kind]
    schema = Schema((field,), "svm")
    schema.check(from_peer(column))
    spoiled = column.copy() if isinstance(column, np.ndarray) else list(column)
    spoiled[MANY // 2] = odd
    with pytest.raises(InvalidTask, match=rf"'x' must be .*, got {odd!r} \(task {1000 + MANY // 2}\)"):
        schema.check(from_peer(spoiled), 1000)


def test_not_a_number_is_a_choice_only_where_it_may_be() -> None:
    column = np.array([1.0, np.nan] * MANY)
    Schema((Field("x", choices=(1.0,), nan=True),), "svm").check(from_peer(column))
    with pytest.raises(InvalidTask, match="NaN is not allowed"):
        Schema((Field("x", choices=(1.0,)),), "svm").check(from_peer(column))


@settings(max_examples=30)
@given(st.lists(st.text(max_size=300), min_size=64, max_size=80))
def test_words_are_read_at_once_as_they_are_one_by_one(words: list[str]) -> None:
    table = from_peer(words)
    assert table.slice(3, 70).column("x") == words[3:70]
    offsets, blob = (np.frombuffer(table.frames[0], "<u4"), table.frames[1])
    long = any(len(word.encode()) > 255 for word in words)
    assert values.decode_words(offsets, blob) == (None if long else words)


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([b"\xa1a", b"\xa2bc", b"\x01"], "a number"),
        ([b"\xa0\xa0", b"\xa1b"], "two in one, which together are as many as there should be"),
        ([b"\xa1", b"a\xa1b"], "one that begins in the middle of another"),
        ([b"\xa1a", b"\xa1\xff"], "no UTF-8"),
        ([b"\xa1a", b"\xd9"], "a length that is not there"),
        ([b"\xa1a", b""], "nothing"),
    ],
)
def test_what_only_looks_like_words_is_refused(pieces: list[bytes], why: str) -> None:
    pieces = [b"\xa1x"] * MANY + pieces
    offsets = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    table = Table.checked(Layout((Part(("x",), "O"),)), len(pieces), [offsets.tobytes(), b"".join(pieces)])
    assert values.decode_words(offsets, b"".join(pieces)) is None, why
    with pytest.raises((ProtocolError, InvalidTask)):
        Schema((Field("x", "str"),), "svm").check(table)


def test_a_block_of_words_is_checked_in_a_fraction_of_a_second() -> None:
    """The daemon looks at each, and nobody else is served meanwhile."""
    n = 131_072
    table = from_peer([f"sample {k}" for k in range(n)])
    schema = Schema((Field("x", "str"),), "svm")
    began = time.process_time()
    schema.check(table)
    assert time.process_time() - began < 0.4e-6 * n
