"""Tables hold what they were given, and are cut and joined like lists of rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
import pytest
from helpers.strategies import arrays, same, tables
from hypothesis import given
from hypothesis import strategies as st

from taskmaster.bus.codec import concatenate, merge
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.layout import _REMEMBERED, Layout, Part, _checked
from taskmaster.bus.table import BARE, Table, pack_column, pack_columns, pack_matrix, pack_values, split

Given = tuple[Table, list[Any]]


def travelled(table: Table) -> Table:
    """What arrives: the same bytes, in a memory of their own."""
    return Table.checked(table.layout, table.n, [bytes(frame) for frame in table.frames])


@given(tables())
def test_the_rows_of_a_table_arrive_as_they_were(given: Given) -> None:
    table, rows = given
    arrived = travelled(table)
    assert same(arrived.rows(), rows)
    assert same(table.rows(), rows)
    assert len(arrived) == len(rows)
    assert arrived.nbytes == sum(map(len, arrived.frames))
    assert arrived.digest() == table.digest()


_ROWS: dict[str, list[Any]] = {
    "floats": [0.5, 1.5, 2.5, 3.5],
    "values": ["a", {"b": [1, 10**30]}, "", b"cc", None],
    "tuples": [(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)],
    "arrays": [np.arange(k, k + 2) for k in range(4)],
}
#: One table of each kind of part, and its rows.
KINDS: dict[str, Given] = {kind: (pack_values(rows), rows) for kind, rows in _ROWS.items()}
KINDS["a matrix"] = (
    pack_matrix(np.arange(8.0).reshape(4, 2), "xy"),
    [{"x": 2.0 * k, "y": 2.0 * k + 1} for k in range(4)],
)
KINDS["the other order of bytes"] = (
    pack_columns({"x": np.arange(4, dtype=">i2"), "y": np.arange(4, 8, dtype=">i2")}, 4),
    [{"x": np.int16(k), "y": np.int16(k + 4)} for k in range(4)],
)
KINDS["mixed"] = (
    pack_columns({"x": np.ones((3, 2)), "y": ["a", "bb", ""], "z": [1, 2, 3]}, 3),
    [{"x": np.ones(2), "y": y, "z": z} for y, z in (("a", 1), ("bb", 2), ("", 3))],
)


def cuts(table: Table, rows: list[Any]) -> Iterator[Given]:
    for low, high in combinations_with_replacement(range(table.n + 1), 2):
        yield table.slice(low, high), rows[low:high]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_cut_and_joined_as_lists_are(kind: str) -> None:
    pieces = list(cuts(*KINDS[kind]))
    for table, rows in pieces:
        assert same(table.rows(), rows)
        assert same(travelled(table).rows(), rows), "what is cut out is whole"
        for again, fewer in cuts(table, rows):
            assert same(again.rows(), fewer)
        backwards = list(range(len(rows)))[::-1]
        assert same(table.take(backwards).rows(), rows[::-1])
    for (a, its), (b, others) in product(pieces[1:], pieces[::2]):
        joined = concatenate([a, b])
        assert same(travelled(joined).rows(), its + others)
        if joined.n:
            assert same(concatenate([joined.slice(1, joined.n), a]).rows(), (its + others)[1:] + its)


@given(st.lists(tables(max_rows=3), min_size=1, max_size=3))
def test_tables_of_any_layouts_are_joined_as_lists_are(given: list[Given]) -> None:
    joined = merge([travelled(table) for table, _ in given])
    assert same(joined.rows(), [row for _, rows in given for row in rows])


@given(tables(), st.integers(1, 60), st.integers(1, 6))
def test_a_block_is_split_into_pieces_that_make_it_up(given: Given, max_bytes: int, max_rows: int) -> None:
    table, rows = given
    pieces = list(split(table, max_bytes, max_rows))
    assert same([row for piece in pieces for row in piece.rows()], rows)
    assert all(1 <= piece.n <= max_rows for piece in pieces)


@given(tables(), tables())
def test_digests_tell_tables_apart(a: Given, b: Given) -> None:
    alike = a[0].layout == b[0].layout and same(a[1], b[1])
    assert (a[0].digest() == b[0].digest()) == alike


@given(arrays((4, 3)))
def test_a_matrix_is_packed_by_rows(matrix: np.ndarray[Any, Any]) -> None:
    table = travelled(pack_matrix(matrix, "abc"))
    back = table.matrix()
    assert back is not None
    assert same(back, np.ascontiguousarray(matrix))
    assert not back.flags.writeable
    for k, name in enumerate("abc"):
        assert same(np.array(table.column(name)), np.array(matrix[:, k]))


def test_columns_of_one_dtype_share_a_buffer_and_others_do_not() -> None:
    assert len(pack_columns({"x": [1.0], "y": np.ones(1)}, 1).frames) == 1
    mixed = pack_columns({"x": [1.0], "y": [1], "z": ["text"]}, 1)
    assert len(mixed.frames) == mixed.layout.frame_count == 4
    assert mixed.matrix() is None
    assert "x, y, z" in repr(mixed)


def test_an_array_that_is_contiguous_is_not_copied() -> None:
    array = np.zeros((1000, 8))
    assert np.shares_memory(np.frombuffer(pack_matrix(array, "abcdefgh").frames[0]), array)


def test_what_cannot_be_packed_says_why() -> None:
    with pytest.raises(TypeError, match="no Unicode"):
        pack_column("x", np.array(["\ud800"]))
    with pytest.raises(TypeError, match=r"builtins\.object"):
        pack_values([object()])


# -- what peers may say -----------------------------------------------------------------------------------------------

_ANY_PART = st.builds(
    Part,
    st.lists(st.text(max_size=2), max_size=3).map(tuple),
    st.sampled_from(["<f8", "|b1", "O", "<U1", ">U2", "<M8[s]", "<M8", "<f2", "|S3", "V8"]) | st.text(max_size=5),
    st.lists(st.integers(-1, 3) | st.sampled_from([2**40, 2**63]), max_size=3).map(tuple),
    st.integers(-1, 3),
)


@given(st.lists(_ANY_PART, max_size=3), st.integers(-1, 4) | st.sampled_from([2**24, 2**40]), st.randoms())
def test_frames_of_a_peer_make_a_table_or_are_refused(parts: list[Part], n: int, chance: random.Random) -> None:
    layout = Layout(tuple(parts))
    frames = [chance.randbytes(size) for size in _fitting(layout, n, chance)]
    try:
        table = Table.checked(layout, n, frames)
    except ProtocolError:
        return
    try:
        rows = table.rows()
    except ProtocolError:  # of values, that alone is found out when they are looked at
        assert "O" in {part.dtype for part in parts}
        return
    if n <= 4:
        assert len(rows) == n
        assert same(merge([table, pack_values([None])]).rows(), [*rows, None]), "what has come can travel on"


def _fitting(layout: Layout, n: int, chance: random.Random) -> list[int]:
    """Lengths of frames that fit, where that can be; now and then they do not."""
    lengths: list[int] = []
    for part in layout.parts:
        try:
            size = max(0, n) * part.row_bytes
        except (TypeError, ValueError, ZeroDivisionError):
            size = 8
        lengths += [4 * (max(0, n) + 1), 5] if part.is_objects else [size]
    return [min(1000, max(0, length + chance.choice([0] * 9 + [1]))) for length in lengths]


@pytest.mark.parametrize(
    ("layout", "n", "said"),
    [
        (Layout(()), 0, "0 parts"),
        (Layout((Part(("a",), "<f8"),) * 5000), 0, "5000 parts"),
        (Layout((Part((), "<f8"),)), 0, "none"),
        (Layout((Part(tuple(map(str, range(70_000))), "<f8"),)), 0, "more than 65536"),
        (Layout((Part(("a", "a"), "<f8"),)), 0, "twice"),
        (Layout((Part(("a",), "<f8"), Part((), "<f8"))), 0, "malformed"),
        (Layout((Part(("a",), "<f8", (), 7),)), 0, "malformed"),
        (Layout((Part(("a",), "<f8", (), 2),)), 0, "tuples"),
        (Layout((Part(("a",), "O", (2,)),)), 0, "objects"),
        (Layout((Part(("a",), "<f8", (-1,)),)), 0, "shape"),
        (Layout((Part(("a",), "<f8", (1,) * 17),)), 0, "shape"),
        (Layout((Part(("a",), "<f8", (0, 2**40)),)), 0, "too large"),
        (Layout((Part(("a",), "<f8"),)), 2**40, "1099511627776 rows"),
        (Layout((Part(("a",), "<f8"),)), -1, "-1 rows"),
        (Layout((Part(("a",), "<f8"),)), 1, "needs 8 bytes for 1 rows, not 0"),
    ],
)
def test_what_is_no_table_is_refused_before_anything_is_made_of_it(layout: Layout, n: int, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        Table.checked(layout, n, [b""] * min(2, layout.frame_count))


def test_ever_new_layouts_do_not_fill_the_memory() -> None:
    vast = Layout((Part(tuple(f"{k:0100}" for k in range(2000)), "<f8"),))
    Table.checked(vast, 0, [b""])
    assert vast not in _checked
    for k in range(_REMEMBERED + 1):
        Table.checked(Layout((Part((f"column {k}",), "<f8"),)), 0, [b""])
    assert len(_checked) <= _REMEMBERED


def test_values_that_came_and_cannot_travel_on_are_the_peers_fault() -> None:
    deep = b"\x91" * 500 + b"\x01"  # what Python packs is not as deep as what it can unpack
    table = Table.checked(Layout((Part((BARE,), "O"),)), 1, [np.array([0, len(deep)], "<u4").tobytes(), deep])
    with pytest.raises(ProtocolError, match="cannot travel on"):
        merge([table, pack_values([1.0])])
