"""What one side says, the other understands; and nothing that anybody sends raises anything but ProtocolError."""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.spoken import damaged, damaged_frames, instances, members, messages
from helpers.travelling import any_value, arrays
from hypothesis import given, settings, strategies as st
from msgspec import inspect
from msgspec.structs import replace

from taskmaster.bus import codec, messages as m, values
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import BARE, NUMPY, PYTHON, TUPLE, Buffer, Layout, Part, Table, pack_columns, pack_values
from taskmaster.bus.text import LONGEST_TEXT
from taskmaster.bus.wire import (
    LONGEST_NAME,
    MOST_ERRORS,
    MOST_INTERVALS,
    MOST_LEASES,
    MOST_POSITIONS,
    MOST_TOKENS,
)

#: Who takes which messages.
SIDES: dict[str, tuple[Callable[[], codec.Decoder[Any]], Any]] = {
    "the daemon from a client": (codec.client_decoder, m.ClientMessage),
    "a client": (codec.daemon_decoder, m.DaemonMessage),
    "a subscriber": (codec.publication_decoder, m.Publication),
    "the daemon from a worker": (codec.worker_decoder, m.WorkerMessage),
    "a worker": (codec.to_worker_decoder, m.ToWorker),
    "a host": (codec.to_host_decoder, m.ToHost),
}
#: Bytes that a message of a few may cost at most, whatever it claims.
DEAR = 128 << 20

sides = pytest.mark.parametrize("side", SIDES)
each_message = pytest.mark.parametrize(
    ("side", "kind"),
    [pytest.param(side, kind, id=f"{kind.__name__} to {side}") for side in SIDES for kind in members(SIDES[side][1])],
)
chances = st.integers(0, 2**32).map(random.Random)


def understood(take: Callable[..., object], *said: Any) -> bool:
    """Whether somebody could take what was said; whatever is raised but ProtocolError goes on to the test."""
    try:
        take(*said)
    except ProtocolError:
        return False
    return True


@contextlib.contextmanager
def in_proportion(most: int = DEAR) -> Iterator[None]:
    """Nothing within takes more than ``most`` bytes at a time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"it took {peak >> 20} MiB"


# -- what is said is understood ---------------------------------------------------------------------------------------


@each_message
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_every_message_arrives_as_it_was_said(side: str, kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(instances(kind))
    arrived = SIDES[side][0]().decode(codec.encode(message))
    assert type(arrived) is kind
    assert arrived == message


@each_message
@settings(max_examples=2, deadline=None)
@given(data=st.data())
def test_a_newer_peer_may_say_more(side: str, kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(instances(kind))
    more = {**msgspec.msgpack.decode(codec.encode(message)), "unheard of": [1, {"a": None}]}
    assert SIDES[side][0]().decode(msgspec.msgpack.encode(more)) == message


@sides
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_nobody_takes_what_is_meant_for_another(side: str, data: st.DataObject) -> None:
    make, own = SIDES[side]
    for other, (_, union) in SIDES.items():
        message = data.draw(messages(union), label=other)
        if type(message).__struct_config__.tag not in {kind.__struct_config__.tag for kind in members(own)}:
            with pytest.raises(ProtocolError, match="not a message of this socket"):
                make().decode(codec.encode(message))


def test_a_header_beyond_the_limit_is_not_even_looked_at() -> None:
    full = m.TaskError(0, "E", "x" * 9_000)

    def outcome(n: int) -> bytes:
        errors = (full,) * (codec.MAX_HEADER // len(codec.encode(full)) - 1) + (m.TaskError(0, "E", "x" * n),)
        return codec.encode(m.Outcome((1, 1), 0, len(errors), errors=errors))

    longest = outcome(1_000 + codec.MAX_HEADER - len(outcome(1_000)))
    assert len(longest) == codec.MAX_HEADER
    assert isinstance(codec.worker_decoder().decode(longest), m.Outcome)
    with pytest.raises(ProtocolError, match=f"{codec.MAX_HEADER + 1} bytes"):
        codec.worker_decoder().decode(longest + b"\0")


#: Numbers whose limits the daemon explains to who oversteps them.
EXPLAINED = {"seed", "priority"}


@pytest.mark.parametrize("side", ["the daemon from a client", "the daemon from a worker"])
def test_every_number_that_the_daemon_is_told_is_one_that_it_can_keep(side: str) -> None:
    make, union = SIDES[side]
    bounded = 0
    for kind in members(union):
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        said = {field.encode_name: _least(field.type) for field in info.fields if field.required}
        for field in info.fields:
            if not _is_number(field.type) or field.name in EXPLAINED:
                continue
            absurdities = (2**64 - 1, -(2**63)) if isinstance(field.type, inspect.IntType) else (1e300, float("nan"))
            for absurd in absurdities:
                told = {"t": kind.__struct_config__.tag, **said, field.encode_name: absurd}
                assert not understood(make().decode, msgspec.msgpack.encode(told)), (kind, field.name)
                bounded += 1
    assert bounded > 10


def _is_bounded(info: inspect.Type) -> bool:
    """Whether a text is, that somebody may say; or all texts of what it is made of, and how many those are."""
    match info:
        case inspect.StrType():
            return info.max_length is not None
        case inspect.DictType():
            return info.max_length is not None and _is_bounded(info.key_type)
        case inspect.VarTupleType():
            return info.max_length is not None or isinstance(info.item_type, inspect.StructType)
        case inspect.UnionType():
            return all(map(_is_bounded, info.types))
        case inspect.TupleType():
            return all(map(_is_bounded, info.item_types))
    return True


@pytest.mark.parametrize("kind", members(m.ClientMessage) + members(m.WorkerMessage), ids=lambda kind: kind.__name__)
def test_every_text_and_list_that_the_daemon_is_told_is_bounded(kind: type[msgspec.Struct]) -> None:
    """It is read before anybody has looked whether its sender may say so at all."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    assert not [field.name for field in info.fields if not _is_bounded(field.type)]


A_LEASE: m.LeaseId = (1, 1)
LONG_NAME, LONG_TEXT = "x" * LONGEST_NAME, "x" * LONGEST_TEXT


@pytest.mark.parametrize(
    ("most", "more"),
    [
        (m.WorkerHello(1, "svm", "w", leases=(A_LEASE,) * MOST_LEASES), (A_LEASE,)),
        (m.Heartbeat(("w",) * MOST_TOKENS), ("w",)),
        (m.WorkerLost("w", "WorkerLost", "it died", positions=((A_LEASE, 1),) * MOST_POSITIONS), ((A_LEASE, 1),)),
        (m.Outcome(A_LEASE, 0, 0, errors=(m.TaskError(0, "E", "x"),) * MOST_ERRORS), (m.TaskError(0, "E", "x"),)),
        (m.WorkerLost("w", LONG_NAME, LONG_TEXT), "x"),
        (m.WorkerFailed("w", LONG_NAME, LONG_TEXT, LONG_TEXT), "x"),
        (m.HeadReport("ready", LONG_TEXT, LONG_TEXT), "x"),
        (m.Polled(0.0, LONG_NAME, LONG_TEXT, LONG_TEXT), "x"),
        (m.Tripped(0.0, LONG_NAME, LONG_TEXT), "x"),
        (m.Reconciled(1, 1, 1, "unknown", reason=LONG_TEXT), "x"),
        (m.Guarded(0.0, LONG_NAME, LONG_NAME, LONG_TEXT, LONG_TEXT), "x"),
        (m.Samples(0.0, {str(k): 1.0 for k in range(1000)}), {"one more": 1.0}),
        (m.Progress(A_LEASE, 0, 1, 0.0, {str(k): 1.0 for k in range(1000)}), {"one more": 1.0}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_as_much_as_a_worker_may_say_is_understood_and_more_is_not(most: msgspec.Struct, more: Any) -> None:
    decode = codec.worker_decoder().decode
    assert understood(decode, codec.encode(most))
    lengthened = 0
    for field in msgspec.structs.fields(most):
        value = getattr(most, field.name)
        if type(value) is type(more) and len(value) >= 1000:
            longer = {**value, **more} if isinstance(value, dict) else value + more
            assert not understood(decode, codec.encode(replace(most, **{field.name: longer}))), field.name
            lengthened += 1
    assert lengthened


def test_what_is_called_by_a_vast_name_is_no_message() -> None:
    decoder = codec.client_decoder()
    assert understood(decoder.decode, codec.encode(m.Open(1, "svm", "x" * LONGEST_NAME)))
    assert not understood(decoder.decode, codec.encode(m.Open(1, "svm", "x" * (LONGEST_NAME + 1))))
    assert not understood(decoder.decode, codec.encode(m.Cancel(1, 1, ((0, 1),) * (MOST_INTERVALS + 1))))
    assert not understood(decoder.decode, codec.encode(m.Stop(1, "svm", "x" * (LONGEST_TEXT + 1))))


def _is_number(info: inspect.Type) -> bool:
    return isinstance(info, (inspect.IntType, inspect.FloatType))


def _least(info: inspect.Type) -> Any:
    plain: dict[type, Any] = {
        inspect.IntType: 1,
        inspect.FloatType: 1.0,
        inspect.StrType: "",
        inspect.BytesType: b"",
        inspect.DictType: {},
        inspect.UnionType: None,
        inspect.TupleType: (1, 1),
        inspect.VarTupleType: (),
        inspect.StructType: [[]],
        inspect.BoolType: False,
    }
    return info.values[0] if isinstance(info, inspect.LiteralType) else plain[type(info)]


# -- and what nobody would say is refused -----------------------------------------------------------------------------


@sides
@settings(max_examples=100, deadline=None)
@given(data=st.data(), chance=chances)
def test_a_damaged_message_is_understood_or_refused(side: str, data: st.DataObject, chance: random.Random) -> None:
    make, union = SIDES[side]
    decoder = make()
    said = codec.encode(data.draw(messages(union)))
    for _ in range(30):
        understood(decoder.decode, damaged(said, chance))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_understood_or_refused(data: bytes) -> None:
    for make, _ in SIDES.values():
        understood(make().decode, data)
    understood(values.decode, data)


#: The head of a text, bytes, an extension, a list, a map; and a list in a list in a list.
HEADS = {"text": b"\xdb", "bytes": b"\xc6", "list": b"\xdd", "map": b"\xdf", "extension": b"\xc9"}


@pytest.mark.parametrize("head", HEADS.values(), ids=list(HEADS))
@pytest.mark.parametrize("n", [2**20, 2**31, 2**32 - 1])
def test_a_length_with_nothing_behind_it_costs_nothing(head: bytes, n: int) -> None:
    absurd = head + struct.pack(">I", n) + b"\x01"
    before = b"\x82\xa1t\xa6submit\xa4"
    with in_proportion(1 << 20):
        for data in (absurd, b"\x91" * 500 + absurd, b"\x81\xa1a" + absurd, b"\xc7\x06\x01" + absurd):
            assert not understood(values.decode, data)
        for key in (b"asks", b"what"):
            assert not understood(codec.client_decoder().decode, before + key + absurd)
        options = b"\x82\xa1t\xa7welcome\xa7options\x81\xa1a" + absurd
        assert not understood(codec.to_worker_decoder().decode, options)


def test_lists_that_each_claim_all_that_is_left_cost_no_more_than_one() -> None:
    size = 1 << 18
    nested = b"".join(b"\xdd" + struct.pack(">I", size // 2) for _ in range(500)) + b"\xc0" * size
    with in_proportion(32 * size):
        assert not understood(values.decode, nested)
        assert not understood(codec.client_decoder().decode, b"\x82\xa1t\xa6submit\xa4asks" + nested)


@pytest.mark.parametrize("one", [b"\x91", b"\x81\xa1a", b"\xd4\x01\x91"], ids=["lists", "maps", "tuples"])
def test_what_is_nested_without_end_is_refused(one: bytes) -> None:
    assert not understood(values.decode, one * 200_000 + b"\x01")
    options = b"\x82\xa1t\xa7welcome\xa7options\x81\xa1a" + one * 200_000 + b"\x01"
    assert not understood(codec.to_worker_decoder().decode, options)


def test_tuples_nested_without_end_are_refused() -> None:
    data = b"\x90"
    for _ in range(3000):
        data = b"\xc9" + struct.pack(">I", len(data) + 1) + b"\x01\x91" + data
    assert not understood(values.decode, data)


@settings(max_examples=150, deadline=None)
@given(any_value, chances)
def test_a_damaged_value_is_understood_or_refused(value: Any, chance: random.Random) -> None:
    sent = values.encode(value)
    for _ in range(30):
        understood(_look_at, damaged(sent, chance))


def _look_at(encoded: bytes) -> None:
    """Do with a value what any reader might."""
    left = [values.decode(encoded)]
    while left:
        match left.pop():
            case list() | tuple() as items:
                left += items
            case dict() as items:
                left += items.values()
            case np.ndarray() | np.generic() as numbers:
                numbers.tolist()


@pytest.mark.parametrize(
    "data",
    [
        b"\xc7\x00\x02",
        b"\xd8\x02" + bytes(16) + b"\0",
        b"\xc7\x00\x03",
        b"\xd5\x03\x05\x92",
        b"\xc7\x08\x03\x06\x92\xa3<U1\x90\xff",
        b"\xc7\x0a\x03\x06\x92\xa3<U1\x91\x01\xff\xff\xff\x7f",
        b"\xc7\x09\x04\x04\xa3<U1\xff\xff\xff\xff",
        b"\xc7\x05\x04\x04\xa3<f8",
        b"\xc7\x05\x06today",
        b"\xc7\x01\x63\x00",
        b"\xc7\x01\x01\x01",
        b"\x01\x01",
        b"",
    ],
)
def test_an_extension_that_holds_something_else_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        values.decode(data)


# -- tables -----------------------------------------------------------------------------------------------------------

layouts_of_arrays = st.integers(1, 4).flatmap(
    lambda n: st.dictionaries(
        st.text(max_size=2), st.sampled_from([(n,), (n, 2), (n, 0)]).flatmap(arrays), min_size=1, max_size=3
    ).map(lambda columns: pack_columns(columns, n))
)
tables = st.lists(any_value, min_size=1, max_size=5).map(pack_values) | layouts_of_arrays

ODD_DTYPES = [
    "O",
    "<f8",
    ">i4",
    "|b1",
    "<U1",
    "|S2",
    "<M8[ns]",
    "<M8",
    "<m8[7D]",
    "<q9",
    "|V8",
    "<f8,<f8",
    "(2,)<f8",
    "",
]
ODD_SHAPES = [(), (0,), (1,), (2, 2), (2**40, 2**40), (0, 2**64 - 1), (2**62, 0), (-1,), (1,) * 99, (2**22, 0)]
ODD_COUNTS = [0, 1, 2, 3, -1, 2**24, 2**40, 2**63, 2**64 - 1]


def _spoil(layout: Layout, chance: random.Random) -> Layout:
    parts = list(layout.parts)
    k = chance.randrange(len(parts))
    match chance.randrange(6):
        case 0:
            parts[k] = replace(parts[k], dtype=chance.choice(ODD_DTYPES))
        case 1:
            parts[k] = replace(parts[k], shape=chance.choice(ODD_SHAPES))
        case 2:
            parts[k] = replace(parts[k], form=chance.choice([PYTHON, NUMPY, TUPLE, 77, -1]))
        case 3:
            parts[k] = replace(parts[k], names=chance.choice([(), (BARE,), ("a", "a"), ("a", "b"), ("x" * 1000,)]))
        case 4:
            parts.insert(k, chance.choice(parts))
        case _:
            del parts[k]
    return Layout(tuple(parts))


def _read(table: Table | None) -> None:
    """Do with a table what the daemon, a worker and a client do with one that was checked."""
    if table is None:
        return
    table.digest()
    table.matrix()
    with contextlib.suppress(ProtocolError):  # a value may be damaged on its own
        table.columns()
    with contextlib.suppress(ProtocolError):
        assert len(table.rows()) == table.n
    if table.n:
        middle = table.n // 2
        half = table.slice(middle, table.n)
        assert half.take([0]).n == 1
        assert codec.concatenate([table.slice(0, middle), half]).nbytes == table.nbytes


@settings(max_examples=150, deadline=None)
@given(tables, chances)
def test_a_damaged_table_is_read_or_refused(table: Table, chance: random.Random) -> None:
    with in_proportion():
        for _ in range(8):
            layout = _spoil(table.layout, chance) if chance.random() < 0.6 else table.layout
            n = chance.choice(ODD_COUNTS) if chance.random() < 0.3 else table.n
            frames = damaged_frames(table.frames, chance) if chance.random() < 0.6 else table.frames
            understood(lambda *said: _read(codec.table_of(*said)), layout, n, frames)


def _part(dtype: str = "<f8", shape: tuple[int, ...] = (), names: tuple[str, ...] = (BARE,), form: int = 0) -> Part:
    return Part(names, dtype, shape, form)


@pytest.mark.parametrize(
    ("parts", "n", "frames", "why"),
    [
        ((), 1, [], "0 parts"),
        ((_part(),) * 5000, 1, [bytes(8)] * 5000, "5000 parts"),
        ((_part(names=()),), 1, [b""], "a column twice, or none"),
        ((_part(names=("a", "a")),), 1, [bytes(16)], "a column twice"),
        ((_part(form=3),), 1, [bytes(8)], "malformed"),
        ((_part("O", (2,)),), 1, [bytes(8), b""], "no shape"),
        ((_part("O", names=("a", "b")),), 1, [bytes(8), b""], "one name"),
        ((_part(shape=(-1,)),), 1, [b""], r"shape \(-1,\)"),
        ((_part(shape=(1,) * 17),), 1, [bytes(8)], "shape .* is not allowed"),
        ((_part(shape=(2**40, 2**40)),), 0, [b""], "too large"),
        ((_part(shape=(0, 2**64 - 1)),), 1, [b""], "too large"),
        ((_part(shape=(2**22, 0)),), 1, [b""], "4194304 items without content"),
        ((_part(shape=(0,)), _part(shape=(0,), names=("b",))), 2**20, [b"", b""], "2097152 items without content"),
        ((_part(form=TUPLE),), 1, [bytes(8)], "a tuple has one axis"),
        ((_part("<U1"),), 1, [b"\xff" * 4], "0xffffffff, which is no character"),
        ((_part(">U1"),), 1, [b"\0\x11\0\0"], "0x110000, which is no character"),
        ((_part(),), 2**40, [b""], f"{2**40} rows"),
        ((_part(),), -1, [b""], "-1 rows"),
        ((_part(),), 2, [bytes(15)], "needs 16 bytes for 2 rows, not 15"),
        ((_part(),), 1, [bytes(8), b""], "1 frames came with 2"),
        ((_part("O"),), 1, [bytes(8)], "2 frames came with 1"),
        ((_part("O"),), 2, [bytes(8), b""], "12 bytes of offsets, not 8"),
        ((_part("O"),), 2, [struct.pack("<3I", 0, 3, 2), b"12"], "offsets .* do not fit"),
        ((_part("O"),), 2, [struct.pack("<3I", 0, 1, 9), b"12"], "offsets .* do not fit"),
    ],
)
def test_a_table_that_its_layout_does_not_fit_is_refused(
    parts: tuple[Part, ...], n: int, frames: Sequence[bytes], why: str
) -> None:
    with in_proportion(4 << 20), pytest.raises(ProtocolError, match=why):
        Table.checked(Layout(parts), n, frames)


@pytest.mark.parametrize(
    "dtype",
    [
        *("m8[s/0]", "<M8[s/0]", "<m8[0s]", "<m8[999999999999s]", "<M8[parsec]", "|O", "|V8", "<f8,<f8", "(2,)f8"),
        *(
            "<f8\0",
            "f8",
            "=f8",
            "float64",
            "|a5",
            "<U0",
            "|S0",
            "<q8",
            "<f7",
            "<f٨",
            "<U4294967295",
            "<f8" + " " * 99,
            "",
        ),
    ],
)
def test_only_plain_dtypes_in_numpys_own_spelling_are_taken(dtype: str) -> None:
    with pytest.raises(ProtocolError, match="dtype"):
        Table.checked(Layout((_part(dtype),)), 0, [b""])


@pytest.mark.parametrize(("layouts", "size"), [(3000, 12_000), (60, 1 << 20)])
def test_ever_new_layouts_do_not_fill_the_memory(layouts: int, size: int) -> None:
    known = codec.table_of(Layout((_part(),)), 1, [bytes(8)])
    with in_proportion(24 << 20):
        for k in range(layouts):
            codec.table_of(Layout((_part(names=(f"{k:0{size}}",)),)), 0, [b""])
    assert known is not None
    assert known.rows() == [0.0]


def test_frames_that_no_layout_speaks_of_are_refused() -> None:
    assert codec.table_of(None, 3, []) is None
    with pytest.raises(ProtocolError, match="1 frames that no layout speaks of"):
        codec.table_of(None, 3, [b""])


# -- events -----------------------------------------------------------------------------------------------------------


def _event(
    n: int, failed: Sequence[int] = (), *, timed: bool = False, inputs: bool = False
) -> tuple[m.EventHead, list[Buffer]]:
    """An event of ``n`` tasks that are done but for those that failed, and its frames."""
    outputs = pack_values([float(i) for i in range(n - len(failed))]) if n > len(failed) else None
    points = pack_values([f"input {i}" for i in range(n)]) if inputs else None
    frames = [*(outputs.frames if outputs else ()), *([np.arange(n, dtype="<f8").tobytes()] if timed else ())]
    frames += points.frames if points else ()
    head = m.EventHead(
        seq=0,
        n=n,
        kind="done",
        frames=len(frames),
        outputs=outputs.layout if outputs else None,
        errors=tuple(m.TaskError(at, "ValueError", "no") for at in failed),
        timed=timed,
        inputs=points.layout if points else None,
    )
    return head, frames


@pytest.mark.parametrize("failed", [(), (0,), (1, 3), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("inputs", [False, True])
def test_an_event_is_taken_apart_as_it_was_put_together(failed: tuple[int, ...], timed: bool, inputs: bool) -> None:
    head, frames = _event(4, failed, timed=timed, inputs=inputs)
    outputs, times, given_ = codec.event_tables(head, frames)
    assert (outputs.rows() if outputs else []) == [float(i) for i in range(4 - len(failed))]
    assert (times is not None and np.frombuffer(times).tolist()) == (timed and [0.0, 1.0, 2.0, 3.0])
    assert (given_ and given_.rows()) == (["input 0", "input 1", "input 2", "input 3"] if inputs else None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"n": -1}, "an event of"),
        ({"n": 5}, "bytes for 4 rows, not 24"),
        ({"n": 2**40}, "rows; up to"),
        ({"frames": 2**40}, f"{2**40} frames came with 4"),
        ({"errors": ()}, "bytes for 4 rows"),
        ({"errors": (m.TaskError(4, "", ""),)}, "task 4 of 4"),
        ({"errors": (m.TaskError(-1, "", ""),)}, "task -1 of 4"),
        ({"errors": (m.TaskError(1, "", ""),) * 2}, "has one already"),
        ({"outputs": None}, "without outputs"),
        ({"outputs": None, "kind": "held"}, "finish times do not fit"),
        ({"timed": False}, "came with 3"),
        ({"inputs": None}, "no layout speaks of"),
    ],
    ids=str,
)
def test_an_event_that_does_not_fit_its_frames_is_refused(change: dict[str, Any], why: str) -> None:
    head, frames = _event(4, (1,), timed=True, inputs=True)
    with pytest.raises(ProtocolError, match=why):
        codec.event_tables(replace(head, **change), frames)


@settings(max_examples=150, deadline=None)
@given(instances(m.EventHead), st.booleans(), st.booleans(), chances)
def test_a_damaged_event_is_understood_or_refused(
    other: m.EventHead, timed: bool, inputs: bool, chance: random.Random
) -> None:
    head, frames = _event(4, (1,), timed=timed, inputs=inputs)
    fields = list(m.EventHead.__struct_fields__)
    with in_proportion():
        for _ in range(10):
            some = chance.sample(fields, chance.randrange(3))
            bad_frames = damaged_frames(frames, chance)
            bad = replace(
                head, frames=len(bad_frames), **{name: getattr(other, name) for name in some if name != "frames"}
            )
            understood(_take_apart, bad, bad_frames)


def _take_apart(head: m.EventHead, frames: Sequence[Buffer]) -> None:
    outputs, _, inputs = codec.event_tables(head, frames)
    _read(outputs)
    _read(inputs)
