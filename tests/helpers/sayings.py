"""Messages of every kind that the daemon takes, made by their types: well formed, and they may mean something."""

from __future__ import annotations

import random
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from taskmaster.bus import codec, messages as m
from taskmaster.bus.joining import first_of
from taskmaster.bus.table import Layout, Table, pack_column, pack_columns, pack_values

__all__ = ["CLIENT", "WORKER", "saying"]

CLIENT: Sequence[type[msgspec.Struct]] = get_args(m.ClientMessage)
WORKER: Sequence[type[msgspec.Struct]] = get_args(m.WorkerMessage)

_INTEGERS = (0, 0, 1, 1, 1, 2, 3, 5, 8, 100, -1, 2**31, 2**53, 2**63 - 1)
_FLOATS = (0.0, 1.0, -1.0, 0.5, 1e9, 1e308, float("inf"), float("nan"))
#: Names that a daemon to be fuzzed may know, and words of the protocol.
_TEXTS = (
    "none", "none", "held", "first", "mad", "done", "failed", "cancelled", "retry", "fail", "resume", "start", "now",
    "", "ä", "x" * 70, "a/b",
)  # fmt: skip


def saying(chance: random.Random, kind: type[msgspec.Struct], leases: Sequence[m.LeaseId] = ()) -> list[bytes]:
    """One message of a kind, frame by frame; ``leases`` are those that there may be."""
    if kind is m.Several and chance.random() < 0.9:
        others = [other for other in WORKER if other is not kind]
        said = [saying(chance, chance.choice(others), leases) for _ in range(chance.randint(2, 5))]
        return [bytes(frame) for frame in first_of(said)[1]]
    table: Table | None = None
    fields = {}
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        if not field.required and chance.random() < 0.4:
            continue
        fields[field.name] = _value(chance, hints[field.name], leases)
    if any(hints.get(name) in (Layout, Layout | None) for name in ("layout", "outputs")):
        name = "layout" if "layout" in hints else "outputs"
        table = _table(chance)
        fields[name] = table.layout
        if "n" in fields and chance.random() < 0.9:
            fields["n"] = table.n
        if "timed" in hints:
            fields["timed"] = False
            fields["errors"] = ()
    message = kind(**fields)
    frames = [] if table is None else [bytes(frame) for frame in table.frames]
    return [codec.encode(message), *frames]


def _table(chance: random.Random) -> Table:
    match chance.randrange(4):
        case 0:
            return pack_values([chance.random() for _ in range(chance.randint(1, 4))])
        case 1:
            return pack_values([None, "a", {"b": [1, 2]}][: chance.randint(1, 3)])
        case 2:
            return pack_columns({"x": [1.0, 2.0], "y": ["a", None]}, 2)
        case _:
            part, frames = pack_column("", np.arange(chance.randint(1, 5)))
            return Table(Layout((part,)), len(frames[0]) // 8, frames)


def _value(chance: random.Random, kind: Any, leases: Sequence[m.LeaseId], depth: int = 0) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _value(chance, arguments[0], leases, depth)
    if origin in (Union, types.UnionType):
        return _value(chance, chance.choice(arguments), leases, depth)
    if origin is Literal:
        return chance.choice(arguments)
    if origin is tuple:
        if leases and arguments == (int, int) and chance.random() < 0.8:
            return chance.choice(leases)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(
                _value(chance, arguments[0], leases, depth + 1) for _ in range(chance.randrange(3 - depth % 3))
            )
        return tuple(_value(chance, each, leases, depth + 1) for each in arguments)
    if origin in (list, Sequence) or kind is list:
        return [_value(chance, arguments[0], leases, depth + 1) for _ in range(chance.randrange(3))]
    if origin is dict or kind is dict:
        return {chance.choice(_TEXTS): chance.choice(_TEXTS)}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind, include_extras=True)
        return kind(**{f.name: _value(chance, hints[f.name], leases, depth + 1) for f in msgspec.structs.fields(kind)})
    return _plain(chance, kind)


def _plain(chance: random.Random, kind: Any) -> Any:
    if kind is int:
        return chance.choice(_INTEGERS)
    if kind is float:
        return chance.choice(_FLOATS)
    if kind is bool:
        return chance.random() < 0.5
    if kind is str:
        return chance.choice(_TEXTS)
    if kind is bytes:
        return chance.randbytes(chance.randrange(20))
    if kind is type(None):
        return None
    return chance.choice((None, 1, "x", [1, {"a": 2.0}]))
