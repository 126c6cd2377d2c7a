"""Every message of the protocol arrives as it was sent; what else arrives is refused, and costs what it weighs."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, get_args

import msgspec
import pytest
from helpers.absurd import values
from helpers.garbage import SAID, mutated
from helpers.strategies import SOCKETS, messages, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmaster.bus import codec
from taskmaster.bus import messages as m
from taskmaster.bus.errors import InvalidTask, ProtocolError
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.table import Buffer, Layout, Part, Table, pack_values

KINDS = [(socket, kind) for socket, (union, _) in SOCKETS.items() for kind in get_args(union)]


def test_every_message_is_taken_by_somebody() -> None:
    assert {kind for _, kind in KINDS} == set(m.Message.__subclasses__())


@pytest.mark.parametrize(("socket", "kind"), KINDS, ids=[f"{socket}, {kind.__name__}" for socket, kind in KINDS])
def test_a_message_arrives_as_it_was_sent(socket: str, kind: type[msgspec.Struct]) -> None:
    decoder = SOCKETS[socket][1]

    @settings(max_examples=12)
    @given(messages(kind))
    def arrives(message: Any) -> None:
        header = codec.encode(message)
        assert decoder.decode(header) == message
        assert decoder.decode(memoryview(header)) == message

    arrives()


@pytest.mark.parametrize(("socket", "kind"), KINDS, ids=[f"{socket}, {kind.__name__}" for socket, kind in KINDS])
def test_it_is_refused_by_the_other_sockets(socket: str, kind: type[msgspec.Struct]) -> None:
    tag = codec.encode({"t": kind.__struct_config__.tag})
    for union, decoder in SOCKETS.values():
        if kind not in get_args(union):
            with pytest.raises(ProtocolError, match="Invalid value"):
                decoder.decode(tag)


def test_a_newer_peer_may_say_more() -> None:
    said = {"t": "ping", "id": 3, "mood": ["fine", {"since": 7}]}
    assert codec.client_decoder().decode(codec.encode(said)) == m.Ping(3)


def test_a_header_has_a_limit() -> None:
    with pytest.raises(ProtocolError, match=r"8388609 bytes; at most 8388608"):
        codec.client_decoder().decode(bytes(codec.MAX_HEADER + 1))


# -- events -----------------------------------------------------------------------------------------------------------


@st.composite
def events(draw: st.DrawFn) -> tuple[m.EventHead, list[Buffer], list[Any]]:
    """A ``done`` event, its frames, and what became of each of its tasks: an output or an error."""
    table, rows = draw(tables())
    ended: list[Any] = list(rows)
    for at in sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3))):
        ended.insert(at, None)
    errors: list[m.TaskError] = []
    outputs = iter(rows)
    for at, _ in enumerate(ended):
        if ended[at] is None and len(errors) < len(ended) - len(rows):
            errors.append(m.TaskError(at, "ValueError", "no"))
            ended[at] = errors[-1]
        else:
            ended[at] = next(outputs)
    n, timed = len(ended), draw(st.booleans())
    inputs = pack_values(list(range(n))) if draw(st.booleans()) else None
    frames = [*table.frames, *([struct.pack(f"<{n}d", *range(n))] if timed else []), *(inputs.frames if inputs else ())]
    head = m.EventHead(
        0, n, "done", 0, len(frames), table.layout, tuple(errors), timed=timed, inputs=inputs.layout if inputs else None
    )
    return head, frames, ended


@given(events())
def test_an_event_is_taken_apart_as_it_was_put_together(event: tuple[m.EventHead, list[Buffer], list[Any]]) -> None:
    head, frames, ended = event
    outputs, times, inputs = codec.event_tables(head, frames)
    assert outputs is not None
    assert outputs.n == sum(not isinstance(output, m.TaskError) for output in ended)
    assert times is None or memoryview(times).cast("d").tolist() == list(range(head.n))
    assert inputs is None or inputs.rows() == list(range(head.n))
    assert (times is None, inputs is None) == (not head.timed, head.inputs is None)
    for wrong in (frames[:-1], [*frames, b""]):
        with pytest.raises(ProtocolError, match=f"{len(frames)} frames came with {len(wrong)}"):
            codec.event_tables(head, wrong)


_ONE = pack_values([1.0])


@pytest.mark.parametrize(
    ("head", "frames"),
    [
        (m.EventHead(0, -1, "done"), []),
        (m.EventHead(0, 2**40, "done"), []),
        (m.EventHead(0, 2**40, "done", 0, 1, _ONE.layout), _ONE.frames),
        (m.EventHead(0, 2**40, "cancelled", 0, 1, inputs=_ONE.layout), _ONE.frames),
        (m.EventHead(0, 1, "done", 0, 1, timed=True), [b""]),
        (m.EventHead(0, 1, "done", 0, 1, _ONE.layout, timed=True), _ONE.frames),
        (m.EventHead(0, 1, "done", 0, 0, _ONE.layout), []),
        (m.EventHead(0, 1, "cancelled", 0, 1), [b""]),
        (m.EventHead(0, 1, "done", 0, 1, _ONE.layout, (m.TaskError(0, "", ""),)), _ONE.frames),
        (m.EventHead(0, 2, "done", 0, 0, None, (m.TaskError(1, "", ""), m.TaskError(0, "", ""))), []),
        (m.EventHead(0, 1, "done", 0, 0, None, (m.TaskError(1, "", ""),)), []),
        (m.EventHead(0, 2, "done", 0, 0, None, (m.TaskError(0, "", ""), m.TaskError(0, "", ""))), []),
        (m.EventHead(0, 1, "cancelled", 0, 0, None, (m.TaskError(0, "", ""), m.TaskError(0, "", ""))), [b""]),
    ],
)
def test_an_event_that_does_not_add_up_is_refused(head: m.EventHead, frames: Sequence[Buffer]) -> None:
    with pytest.raises(ProtocolError):
        codec.event_tables(head, frames)


# -- whatever else comes ----------------------------------------------------------------------------------------------

#: What a Master may have declared; the daemon holds what comes against it.
_SCHEMAS = [
    Schema([Field("x"), Field("y")], "m"),
    Schema([Field("x", "int"), Field("y", "str", choices=("a", "b"))], "m"),
    Schema([Field("x", shape=(2, -1)), Field("y", "any")], "m"),
    Schema([Field("x", "bool"), Field("y", "str")], "m"),
]


def take(frames: Sequence[bytes]) -> None:
    """What anybody does with a message: decode it as all who may get it, and look at all that came with it."""
    header, own = frames[0], frames[1:]
    for _, decoder in SOCKETS.values():
        try:
            _look_into(decoder.decode(header), own)
        except ProtocolError:
            continue


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
    for _ in range(2500):
        take(mutated(chance))


def test_what_is_damaged_is_sometimes_taken() -> None:
    """Else the tests above would say little."""
    for frames in SAID:
        take(frames)
    chance, taken = random.Random(0), 0
    for _ in range(500):
        frames = mutated(chance)
        for union, decoder in SOCKETS.values():
            try:
                taken += isinstance(decoder.decode(frames[0]), get_args(union))
            except ProtocolError:
                continue
    assert taken > 50


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=3))
def test_arbitrary_bytes_are_refused(frames: list[bytes]) -> None:
    take(frames)


_BIG = b"\xdd\xff\xff\xff\xff"


def _in(tag: str, key: str, value: bytes) -> bytes:
    pack: Callable[[str], bytes] = codec.encode
    return b"\x82" + pack("t") + pack(tag) + pack(key) + value


@pytest.mark.parametrize(
    "frames",
    {
        "a million million rows": [codec.encode(m.Submit(1, 1, 0, 2**40, _ONE.layout)), b"12345678"],
        "rows of nothing": [codec.encode(m.Submit(1, 1, 0, 2**24, Layout((Part(("x",), "<f8", (0,)),)))), b""],
        "a million million tasks that ended": [codec.encode(m.Outcome((1, 1), 0, 2**40))],
        "a million million events": [codec.encode(m.Page(1, 1, 1, (m.EventHead(0, 2**40, "cancelled"),)))],
        "intervals without end": [_in("cancel", "intervals", _BIG)],
        "tokens without end": [_in("heartbeat", "tokens", _BIG)],
        "options without end": [_in("welcome", "options", b"\xdf\xff\xff\xff\xff")],
        "nobody knows what, without end": [_in("ping", "mood", _BIG * 5)],
        "all there is to cancel": [codec.encode(m.Cancel(1, 1, ((0, 2**53),)))],
        "large sides": [codec.encode(m.Submit(1, 1, 0, 1, Layout((Part(("x",), "|i1", (2**20, 2**20)),)))), b""],
        "a text without end": [_in("leave", "token", b"\xdb\xff\xff\xff\xff")],
        "a value without end": [codec.encode(m.Submit(1, 1, 0, 1, values(_BIG)[0])), *map(bytes, values(_BIG)[1])],
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_claimed_takes_no_memory(frames: tuple[str, list[bytes]]) -> None:
    tracemalloc.start()
    try:
        take(frames[1])
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()
