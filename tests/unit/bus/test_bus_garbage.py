"""Thousands of damaged messages, looked at as the daemon, its clients and its workers do: taken, or refused."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers.garbage import SAID, mutated

from taskmaster.bus import codec, messages as m
from taskmaster.bus.codec import merge
from taskmaster.bus.errors import InvalidTask, ProtocolError
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.layout import _REMEMBERED, _checked
from taskmaster.bus.table import BARE, Layout, Part, Table, pack_values

DECODERS: list[codec.Decoder[Any]] = [
    codec.client_decoder(),
    codec.daemon_decoder(),
    codec.publication_decoder(),
    codec.worker_decoder(),
    codec.to_worker_decoder(),
    codec.to_host_decoder(),
]

#: What a Master may have declared; the daemon holds what comes against it.
_SCHEMAS = [
    Schema([Field("x"), Field("y")], "m"),
    Schema([Field("x", "int"), Field("y", "str", choices=("a", "b"))], "m"),
    Schema([Field("x", shape=(2, -1)), Field("y", "any")], "m"),
    Schema([Field("x", "bool"), Field("y", "str")], "m"),
]


def take(frames: Sequence[bytes]) -> int:
    """What anybody does with a message: decode it, and look at all that came with it. How many have taken it."""
    header, own = frames[0], frames[1:]
    taken = 0
    for decoder in DECODERS:
        try:
            _look_into(decoder.decode(header), own)
            taken += 1
        except ProtocolError:
            continue
    return taken


def _look_into(message: Any, frames: Sequence[bytes]) -> None:
    found: list[Table | None] = []
    if isinstance(message, (m.Submit, m.Dispatch, m.Resolve)):
        found.append(codec.table_of(message.layout, getattr(message, "n", 1), frames))
    elif isinstance(message, m.Outcome):
        head = m.EventHead(0, message.n, "done", 0, len(frames), message.outputs, message.errors, timed=message.timed)
        found += codec.event_tables(head, frames)[::2]
    elif isinstance(message, (m.Page, m.Events)):
        at = 0
        for head in message.events:
            found += codec.event_tables(head, frames[at : at + head.frames])[::2]
            at += head.frames
    elif isinstance(message, (m.Cancel, m.Revoke)):
        IntervalSet(message.intervals or ())
    for table in found:
        if table is not None and table.n < 1000:
            _look_at(table)


def _look_at(table: Table) -> None:
    for schema in _SCHEMAS:
        try:
            schema.check(table)
        except (InvalidTask, ProtocolError):
            continue
    table.digest()
    table.slice(0, table.n // 2)
    table.rows()


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_damaged_messages_are_taken_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    taken = sum(take(mutated(chance)) for _ in range(2500))
    assert taken > 25, "else this says little"


def test_what_is_not_damaged_yet_is_taken_or_refused() -> None:
    assert sum(take(frames) for frames in SAID) > 10


# -- what came cannot travel on ---------------------------------------------------------------------------------------


def test_values_that_came_and_cannot_travel_on_are_the_peers_fault() -> None:
    deep = b"\x91" * 500 + b"\x01"  # what Python packs is not as deep as what it can unpack
    table = Table.checked(Layout((Part((BARE,), "O"),)), 1, [np.array([0, len(deep)], "<u4").tobytes(), deep])
    with pytest.raises(ProtocolError, match="cannot travel on"):
        merge([table, pack_values([1.0])])


@pytest.mark.parametrize("dtype", ["<M8[D]", "<M8[s]", "<m8[W]", "<M8"])
@pytest.mark.parametrize("form", [0, 1])
def test_times_come_in_numpys_form_whatever_form_was_asked_for(dtype: str, form: int) -> None:
    """What Python makes of them are dates, say, and those do not travel."""
    times = Table.checked(Layout((Part((BARE,), dtype, (), form),)), 2, [np.array([3, 2**40]).tobytes()])
    mixed = merge([times, pack_values([None])]).rows()
    assert [type(row) for row in mixed[:2]] == [np.dtype(dtype).type] * 2
    assert [row.astype("i8") for row in mixed[:2]] == [3, 2**40]


def test_arrays_without_dimensions_are_no_scalars() -> None:
    rows = pack_values([np.array(1.0), np.array(2.0)]).rows()
    assert [(type(row), row.shape) for row in rows] == [(np.ndarray, ())] * 2


# -- what peers may say of tables -------------------------------------------------------------------------------------


def test_vast_layouts_are_not_remembered_and_others_not_for_ever() -> None:
    vast = Layout((Part(tuple(f"{k:0100}" for k in range(2000)), "<f8"),))
    Table.checked(vast, 0, [b""])
    assert vast not in _checked
    for k in range(_REMEMBERED + 1):
        Table.checked(Layout((Part((f"column {k}",), "<f8"),)), 0, [b""])
    assert len(_checked) <= _REMEMBERED


def test_columns_have_a_number() -> None:
    with pytest.raises(ProtocolError, match="more than 65536"):
        Table.checked(Layout((Part(tuple(map(str, range(70_000))), "<f8"),)), 0, [b""])
