"""Messages of the protocol, drawn from their own annotations; and bytes and frames as a bad wire leaves them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from taskmaster.bus.table import Buffer

__all__ = ["damaged", "damaged_frames", "instances", "members", "messages"]

S = TypeVar("S", bound=msgspec.Struct)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def members(union: Any) -> tuple[type[msgspec.Struct], ...]:
    """The classes of the messages that one side of a socket takes."""
    return get_args(union)


def messages(union: Any) -> st.SearchStrategy[Any]:
    """Any of the messages that one side of a socket takes."""
    return st.sampled_from(members(union)).flatmap(instances)


def instances(kind: type[S]) -> st.SearchStrategy[S]:
    """Every instance of a Struct that its annotations allow."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return st.builds(kind, **{field.name: _values(field.type) for field in info.fields})


def _values(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType():
            return st.deferred(lambda: instances(info.cls))
        case inspect.UnionType():
            return st.one_of([_values(inner) for inner in info.types])
        case inspect.VarTupleType():
            return st.lists(_values(info.item_type), max_size=3).map(tuple)
        case inspect.TupleType():
            return st.tuples(*map(_values, info.item_types))
        case inspect.DictType():
            return st.dictionaries(_values(info.key_type), _values(info.value_type), max_size=3)
        case inspect.IntType():
            return st.integers(-(2**63) if info.ge is None else info.ge, 2**64 - 1 if info.le is None else info.le)
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.FloatType():
            return st.floats(info.ge, info.le, allow_nan=False)
    plain: dict[type, st.SearchStrategy[Any]] = {
        inspect.StrType: st.text(max_size=8),
        inspect.BytesType: st.binary(max_size=8),
        inspect.BoolType: st.booleans(),
        inspect.NoneType: st.none(),
    }
    return _JSON if isinstance(info, inspect.AnyType) else plain[type(info)]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """``data`` with bits turned, cut short, doubled, or with a length in it that is far beyond what follows."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(spoilt) + 1)
        match chance.randrange(6):
            case 0 if at < len(spoilt):
                spoilt[at] ^= 1 << chance.randrange(8)
            case 1:
                del spoilt[at:]
            case 2:
                del spoilt[at : at + chance.randint(1, 4)]
            case 3:
                spoilt[at:at] = chance.randbytes(chance.randint(1, 4))
            case 4:  # a text, bytes, an extension, a list, a map of very many
                absurd = chance.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x80\x00\x00"])
                spoilt[at : at + chance.randrange(6)] = (
                    chance.choice([b"\xdb", b"\xc6", b"\xc9", b"\xdd", b"\xdf"]) + absurd
                )
            case _:
                spoilt[at:at] = spoilt[: chance.randint(0, 64)]
    return bytes(spoilt)


def damaged_frames(frames: Sequence[Buffer], chance: random.Random) -> list[Buffer]:
    """``frames`` with one lost, doubled, moved or damaged."""
    spoilt = list(frames)
    at = chance.randrange(len(spoilt) + 1)
    match chance.randrange(4):
        case 0:
            del spoilt[at : at + 1]
        case 1:
            spoilt.insert(at, chance.choice(spoilt) if spoilt else b"")
        case 2:
            chance.shuffle(spoilt)
        case _ if at < len(spoilt):
            spoilt[at] = damaged(bytes(spoilt[at]), chance)
    return spoilt
