"""What is put into a table comes out of it, however it is packed, cut and put together again."""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from helpers.travelling import DTYPES, any_value, arrays, identical, one_type, scalars
from hypothesis import given, settings, strategies as st

from taskmaster.bus import codec, values
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import (
    BARE,
    Layout,
    Part,
    Table,
    content_digest,
    pack_column,
    pack_columns,
    pack_matrix,
    pack_values,
    split,
)

quick = settings(max_examples=60, deadline=None)


def over_the_wire(table: Table) -> Table:
    """The table as a peer makes it of the bytes that it gets."""
    layout = msgspec.msgpack.decode(msgspec.msgpack.encode(table.layout), type=Layout)
    return Table.checked(layout, table.n, [bytes(frame) for frame in table.frames])


# -- one value --------------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(any_value)
def test_a_value_arrives_as_it_was_sent(value: Any) -> None:
    assert identical(values.decode(values.encode(value)), value)


@quick
@given(any_value)
def test_a_value_kept_stays_what_it_was(value: Any) -> None:
    assert identical(values.decode(values.encode(values.keep(value))), value)


def test_what_is_kept_does_not_change_with_what_was_given() -> None:
    points: list[Any] = [np.zeros(2), [1.0], {"gain": [1]}, np.array(["x"])]
    kept = [values.keep(point) for point in points]
    points[0][0], points[1][0], points[3][0] = 7, 7, "y"
    points[2]["gain"].append(7)
    came = [values.decode(values.encode(value)) for value in kept]
    assert identical(came, [np.zeros(2), [1.0], {"gain": [1]}, np.array(["x"])])


@pytest.mark.parametrize("bits", [7, 8, 31, 32, 63, 64, 65, 127, 128, 1000])
def test_whole_numbers_of_any_size_arrive(bits: int) -> None:
    edges = [sign * (2**bits + by) for sign in (1, -1) for by in (-1, 0, 1)]
    assert identical(values.decode(values.encode(edges)), edges)


class _Colour(enum.IntEnum):
    RED = 1


class _Pair(NamedTuple):
    left: float
    right: str


class _Text(str):
    pass


def _name(given: Any) -> str:
    """The same in every process: without addresses."""
    return re.sub(r" at 0x\w+", "", ascii(given))[:40]


@pytest.mark.parametrize(
    ("given_", "comes"),
    [
        (_Colour.RED, 1),
        (_Pair(1.0, "r"), (1.0, "r")),
        (_Text("text"), "text"),
        (bytearray(b"12"), b"12"),
        (memoryview(b"1234")[::2], b"13"),
        ({_Colour.RED: 1, _Text("k"): 2}, {1: 1, "k": 2}),
        (np.str_(""), np.str_("")),
        (np.bytes_(b""), np.bytes_(b"")),
        (np.ndarray((2,), "U0"), np.array(["", ""])),
    ],
    ids=_name,
)
def test_a_relative_of_what_travels_arrives_as_the_plain_thing(given_: Any, comes: Any) -> None:
    assert identical(values.decode(values.encode(given_)), comes)


_round: list[Any] = []
_round.append(_round)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (object(), "builtins.object"),
        ({1, 2}, "builtins.set"),
        ([1, (2, {"a": range(3)})], "builtins.range"),
        ({(1, 2): 3}, "key of type tuple"),
        ({np.float64(1): 3}, "key of type float64"),
        ({2**70: 3}, str(2**70)),
        (np.array([1, "a"], object), "dtype object"),
        (np.zeros(2, "f8,i4"), "f8"),
        (np.void(b"abc"), "V3"),
        (_round, "contains itself"),
        ("\ud800", "no Unicode"),
        ({"\ud800": 1}, "no Unicode"),
        (dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5))), "a datetime that UTC"),
    ],
    ids=_name,
)
def test_what_cannot_travel_is_refused_where_it_is_and_named(value: Any, names: str) -> None:
    for attempt in (values.encode, values.keep, lambda value: pack_values([value])):
        with pytest.raises(TypeError, match="cannot travel") as refused:
            attempt(value)
        assert names in str(refused.value)


# -- columns ----------------------------------------------------------------------------------------------------------


@quick
@given(st.sampled_from(one_type).flatmap(lambda kind: st.lists(kind, max_size=6)) | st.lists(scalars, max_size=6))
def test_a_list_of_values_comes_back(column: list[Any]) -> None:
    assert identical(over_the_wire(pack_values(column)).rows(), column)


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        ([1.0, -0.0, float("nan"), float("inf")], "<f8"),
        ([1, -(2**63)], "<i8"),
        ([1, 2**63], "O"),
        ([True, False], "|b1"),
        ([True, 1], "O"),
        ([1, 1.0], "O"),
        ([(1.0, 2.0), (3.0, 4.0)], "<f8"),
        ([(1.0,), (1.0, 2.0)], "O"),
        ([(), ()], "O"),
        ([_Colour.RED, _Colour.RED], "O"),
        ([np.zeros(3), np.ones(3)], "<f8"),
        ([np.zeros(3), np.ones(2)], "O"),
        ([np.float32(1), np.float32(2)], "<f4"),
        ([], "O"),
    ],
    ids=str,
)
def test_numbers_of_one_type_and_shape_travel_as_an_array(column: list[Any], dtype: str) -> None:
    part, _ = pack_column("x", column)
    assert part.dtype == dtype
    table = over_the_wire(pack_columns({"x": column}, len(column)))
    plain = [int(value) if isinstance(value, _Colour) else value for value in column]
    assert identical(table.rows(), [{"x": value} for value in plain])


array_columns = st.integers(0, 5).flatmap(
    lambda n: st.lists(st.sampled_from([(n,), (n, 2), (n, 2, 3), (n, 0)]).flatmap(arrays), min_size=1, max_size=4).map(
        lambda columns: (n, columns)
    )
)


@settings(max_examples=100, deadline=None)
@given(array_columns)
def test_arrays_of_any_dtype_and_memory_come_back_by_column_and_by_row(drawn: tuple[int, list[Any]]) -> None:
    n, columns = drawn
    named = {f"c{k}": column for k, column in enumerate(columns)}
    table = over_the_wire(pack_columns(named, n))
    for name, column in named.items():
        assert identical(table.column(name), column)
        assert not table.column(name).flags.writeable
    rows = table.rows()
    assert len(rows) == len(table) == n
    for i, row in enumerate(rows):
        assert list(row) == list(named)
        for name, value in row.items():
            dtype = named[name].dtype
            assert identical(np.asarray(value, dtype), np.asarray(named[name][i], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_that_share_a_dtype_share_a_buffer(dtype: str) -> None:
    one, two = np.array([1, 2, 0], "i8").astype(dtype), np.array([3, 0, 1], "i8").astype(dtype)
    table = over_the_wire(pack_columns({"one": one, "two": two}, 3))
    assert len(table.frames) == 1
    assert table.matrix() is not None
    assert identical(table.column("one"), one)
    assert identical(table.column("two"), two)


def test_a_matrix_is_neither_copied_going_in_nor_coming_out() -> None:
    matrix = np.arange(12.0).reshape(4, 3)
    table = pack_matrix(matrix, ["x", "y", "z"])
    seen = table.matrix()
    assert seen is not None
    assert np.shares_memory(seen, matrix)
    assert not seen.flags.writeable
    assert np.shares_memory(table.slice(1, 3).column("y"), matrix)
    assert table.slice(1, 3).rows() == [{"x": 3.0, "y": 4.0, "z": 5.0}, {"x": 6.0, "y": 7.0, "z": 8.0}]
    assert identical(pack_matrix(matrix[:, ::2], ["x", "z"]).matrix(), np.ascontiguousarray(matrix[:, ::2]))


# -- cut, and put together --------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """Rows that can be made from integers, and how to pack them."""

    row: Any
    pack: Any


def _row_of_all(i: int) -> dict[str, Any]:
    return {
        "a": float(i),
        "b": "x" * (i % 3),
        "c": np.array([i, i + 1]),
        "d": (float(i), 1.0),
        "e": [i] if i % 2 else None,
    }


def _pack_dicts(rows: Sequence[dict[str, Any]]) -> Table:
    columns = {name: [row[name] for row in rows] for name in _row_of_all(0)}
    typed = {**columns, "a": np.array(columns["a"], "<f8"), "c": np.array(columns["c"], "<i8").reshape(-1, 2)}
    typed["d"] = columns["d"] or np.zeros((0, 2))
    return pack_columns(typed, len(rows))


KINDS = {
    "numbers": Kind(
        float, lambda rows: Table(Layout((Part((BARE,), "<f8"),)), len(rows), [np.array(rows, "<f8").tobytes()])
    ),
    "objects": Kind(lambda i: "x" * (i % 4) if i % 3 else None, pack_values),
    "points": Kind(
        lambda i: {"x": float(i), "y": -float(i)},
        lambda rows: pack_matrix(np.array([[*row.values()] for row in rows], "<f8").reshape(-1, 2), ["x", "y"]),
    ),
    "all together": Kind(_row_of_all, _pack_dicts),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
@quick
@given(data=st.data())
def test_a_table_is_a_list_of_rows_whatever_is_cut_and_joined(kind: Kind, data: st.DataObject) -> None:
    start = [kind.row(i) for i in range(data.draw(st.integers(1, 12), label="rows"))]
    tables = [(over_the_wire(kind.pack(start)), start)]
    for _ in range(data.draw(st.integers(1, 8), label="steps")):
        table, rows = data.draw(st.sampled_from(tables), label="table")
        step = data.draw(st.sampled_from(["slice", "take", "join", "wire", "split"]), label="step")
        if step == "slice":
            low = data.draw(st.integers(0, len(rows)), label="low")
            high = data.draw(st.integers(low, len(rows)), label="high")
            tables.append((table.slice(low, high), rows[low:high]))
        elif step == "take" and rows:
            positions = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6), label="positions")
            tables.append((table.take(positions), [rows[i] for i in positions]))
        elif step == "join" and len(rows) < 60:
            others = [other for other in tables if other[0].layout == table.layout][-3:]
            joined = codec.concatenate([table, *(other for other, _ in others)])
            tables.append((joined, sum((rows_ for _, rows_ in others), rows)))
        elif step == "split":
            most = data.draw(st.integers(1, 4), label="most")
            pieces = list(split(table, max_bytes=1 << 20, max_rows=most))
            assert all(0 < piece.n <= most for piece in pieces)
            assert identical([row for piece in pieces for row in piece.rows()], rows)
        else:
            tables.append((over_the_wire(table), rows))
    for table, rows in tables:
        assert table.nbytes == sum(len(frame) for frame in table.frames)
        assert identical(table.rows(), rows)
        assert over_the_wire(table).digest() == table.digest(content_digest(table.frames))


def test_tables_of_several_layouts_merge_into_one() -> None:
    rows = [1.0, 2.0, "three", None]
    merged = codec.merge([pack_values(rows[:2]), pack_values(rows[2:])])
    assert identical(merged.rows(), rows)
    same = codec.merge([pack_values([1.0]), pack_values([2.0])])
    assert same.layout == pack_values([1.0]).layout
    assert identical(same.rows(), [1.0, 2.0])


def test_a_split_keeps_to_the_bytes_it_was_given_but_never_stops() -> None:
    table = pack_values(["x" * 100] * 10)
    assert [piece.n for piece in split(table, max_bytes=350, max_rows=100)] == [3, 3, 3, 1]
    assert [piece.n for piece in split(table, max_bytes=1, max_rows=100)] == [1] * 10
    assert list(split(table.slice(0, 0), max_bytes=1, max_rows=1)) == []


def test_digests_tell_tables_apart() -> None:
    tables = [pack_values([1.0, 2.0]), pack_values([1, 2]), pack_values([1.0]), pack_columns({"x": [1.0, 2.0]}, 2)]
    assert len({table.digest() for table in tables}) == len(tables)


def test_one_value_that_is_none_spoils_its_own_table_only() -> None:
    good, bad = pack_values(["good"]), pack_values(["bad", "good"])
    spoilt = Table.checked(bad.layout, 2, [bad.frames[0], b"\xc1" + bytes(bad.frames[1])[1:]])
    assert spoilt.slice(1, 2).rows() == good.rows()
    with pytest.raises(ProtocolError, match="could not be decoded"):
        spoilt.rows()
