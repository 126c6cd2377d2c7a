"""What Hypothesis draws: values that travel, tables of them, messages; and what it is for two values to be the same."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from msgspec import inspect

from taskmaster.bus import codec
from taskmaster.bus import messages as m
from taskmaster.bus.table import Table, pack_columns, pack_values

__all__ = ["SOCKETS", "Column", "arrays", "columns", "messages", "same", "scalars", "tables", "values"]

#: Each direction of each socket: the messages it takes, and what decodes them.
SOCKETS: dict[str, tuple[Any, codec.Decoder[Any]]] = {
    "client to daemon": (m.ClientMessage, codec.client_decoder()),
    "daemon to client": (m.DaemonMessage, codec.daemon_decoder()),
    "daemon to subscribers": (m.Publication, codec.publication_decoder()),
    "worker to daemon": (m.WorkerMessage, codec.worker_decoder()),
    "daemon to worker": (m.ToWorker, codec.to_worker_decoder()),
    "daemon to host": (m.ToHost, codec.to_host_decoder()),
}

# ---------------------------------------------------------------------------------------------------------------------
# Values

_DTYPES = st.sampled_from(
    ["|b1", "|i1", "<i4", "<i8", ">i2", "<u8", "<f2", "<f4", "<f8", ">f8", "<c8", "<c16",
     "<U3", ">U2", "|S4", "<m8[s]", "<M8[ns]"]
)  # fmt: skip
_INTS = st.integers() | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400])
_KEYS = st.text(max_size=4) | st.integers(-(2**63), 2**64 - 1)


@st.composite
def arrays(draw: st.DrawFn, shape: st.SearchStrategy[tuple[int, ...]] | tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Arrays of any dtype that travels; some are not contiguous, some in Fortran's order, some cannot be written to."""
    sides = shape if isinstance(shape, tuple) else draw(shape)
    dtype = np.dtype(draw(_DTYPES))
    count = int(np.prod(sides))
    if dtype.kind == "U":
        texts = draw(st.lists(st.text(max_size=dtype.itemsize // 4), min_size=count, max_size=count))
        array: np.ndarray[Any, Any] = np.array(texts, dtype).reshape(sides)
    else:
        raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
        array = (np.frombuffer(raw, "u1") & 1).view(dtype) if dtype.kind == "b" else np.frombuffer(raw, dtype)
        array = array.reshape(sides)
    form = draw(st.sampled_from(["plain", "every other", "Fortran", "writable"]))
    if form == "every other" and array.ndim:
        array = np.repeat(array, 2, axis=0)[::2]
    elif form == "Fortran":
        array = np.asfortranarray(array)
    elif form == "writable":
        array = array.copy()
    return array


scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    _INTS,
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.complex_numbers(),
    st.datetimes(),
    st.datetimes(timezones=st.just(dt.UTC)),
    arrays((1,)).map(lambda array: array[0]),
)

#: Everything that travels.
values: st.SearchStrategy[Any] = st.recursive(
    scalars | arrays(st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_KEYS, inner, max_size=3),
    ),
    max_leaves=6,
)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, of one type, and to the last bit: NaN is NaN, and -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (np.ndarray, np.generic)):
        native = a.dtype.newbyteorder("=")  # the order of bytes is not part of a value
        return native == b.dtype.newbyteorder("=") and a.shape == b.shape and _raw(a, native) == _raw(b, native)
    if isinstance(a, complex):
        return same((a.real, a.imag), (b.real, b.imag))
    if isinstance(a, float):
        return (a == b == 0 and struct.pack("d", a) == struct.pack("d", b)) or (a == b != 0) or (a != a and b != b)
    return bool(a == b)


def _raw(array: Any, dtype: np.dtype[Any]) -> bytes:
    return np.asarray(array).astype(dtype).tobytes()


# ---------------------------------------------------------------------------------------------------------------------
# Tables


@dataclass
class Column:
    """A column as it is given, and the values that its rows have then."""

    given: Any
    rows: Sequence[Any]


def _of_array(array: np.ndarray[Any, Any]) -> Column:
    plain = array.ndim == 1 and array.dtype.str in ("<f8", "<i8", "|b1")
    return Column(array, array.tolist() if plain else list(array))


@st.composite
def columns(draw: st.DrawFn, n: int) -> Column:
    """``n`` values: an array, or a list that becomes one, or one that does not."""
    if draw(st.booleans()):
        shape = draw(st_numpy.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
        return _of_array(draw(arrays((n, *shape))))
    of_one_kind: list[st.SearchStrategy[Any]] = [
        st.floats(),
        st.integers(-(2**63), 2**63 - 1),
        _INTS,
        st.booleans(),
        st.text(max_size=8),
        st.binary(max_size=8),
        st.tuples(st.floats(), st.floats()),
        st.floats().map(np.float64),
        arrays((2,)),
        values,
    ]
    rows = draw(st.lists(draw(st.sampled_from(of_one_kind)), min_size=n, max_size=n))
    return Column(rows, rows)


@st.composite
def tables(draw: st.DrawFn, max_rows: int = 5) -> tuple[Table, list[Any]]:
    """A table, bare or of named columns, and its rows."""
    n = draw(st.integers(0, max_rows))
    if draw(st.booleans()):
        column = draw(columns(n))
        return pack_values(column.given), list(column.rows)
    names = draw(st.lists(st.text(max_size=3), min_size=1, max_size=4, unique=True).filter(lambda names: names != [""]))
    given = {name: draw(columns(n)) for name in names}
    table = pack_columns({name: column.given for name, column in given.items()}, n)
    return table, [{name: column.rows[k] for name, column in given.items()} for k in range(n)]


# ---------------------------------------------------------------------------------------------------------------------
# Messages

_WIRE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def messages(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Every instance that the annotations of a message allow."""
    return _drawn(inspect.type_info(kind))


def _drawn(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            low, high = info.ge if info.ge is not None else -(2**63), info.le if info.le is not None else 2**64 - 1
            return st.sampled_from([low, high]) | st.integers(low, high)
        case inspect.FloatType():
            return st.floats(info.ge, info.le, allow_nan=False)
        case inspect.StrType():
            return st.text(max_size=6)
        case inspect.VarTupleType():
            return st.lists(_drawn(info.item_type), max_size=2).map(tuple)
        case inspect.TupleType():
            return st.tuples(*map(_drawn, info.item_types))
        case inspect.DictType():
            return st.dictionaries(_drawn(info.key_type), _drawn(info.value_type), max_size=2)
        case inspect.UnionType():
            return st.one_of(*map(_drawn, info.types))
        case inspect.StructType():
            return st.builds(info.cls, **{field.name: _drawn(field.type) for field in info.fields})
        case inspect.AnyType():
            return _WIRE
        case _:
            raise TypeError(f"no strategy for {info}")
