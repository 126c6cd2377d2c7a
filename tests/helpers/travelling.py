"""Everything that may travel, drawn by Hypothesis, and whether what arrives is what was sent."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

__all__ = ["DTYPES", "any_value", "arrays", "identical", "one_type", "scalars"]

#: One and more of every kind of numpy dtype that travels, in both byte orders.
DTYPES = (
    "<f8",
    ">f8",
    "<f4",
    "<i8",
    ">i4",
    "|u1",
    "<u8",
    "|b1",
    "<c16",
    ">c8",
    "<U3",
    ">U2",
    "|S3",
    "<M8[ns]",
    "<m8[7s]",
)

_ZONES: Any = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-5))])
_DATES = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=_ZONES)
_TEXT = st.text(max_size=8)

#: Values of one type each, so that a column of them may become an array.
one_type: tuple[st.SearchStrategy[Any], ...] = (
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**90), 2**90),
    st.floats(),
    st.complex_numbers(),
    _DATES,
    _TEXT,
    st.binary(max_size=8),
    st.tuples(st.floats(), st.floats()),
    st.tuples(st.integers(), _TEXT),
    st.floats().map(np.float64),
    st.floats(width=32).map(np.float32),
    st.integers(0, 255).map(np.uint8),
    st.booleans().map(np.bool_),
    _TEXT.map(lambda text: np.str_(text.rstrip("\0"))),  # numpy itself takes NULs at the end for padding
)
scalars = st.one_of(one_type)


_SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


def arrays(shape: Any = _SHAPES) -> st.SearchStrategy[Any]:
    """Arrays of any dtype that travels; as they are, or as a view that is not contiguous, or read-only."""
    plain = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), shape))
    return st.tuples(plain, st.sampled_from([_as_it_is, _strided, _fortran, _read_only])).map(
        lambda drawn: drawn[1](drawn[0])
    )


def _as_it_is(array: Any) -> Any:
    return array


def _strided(array: Any) -> Any:
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array


def _fortran(array: Any) -> Any:
    return np.asfortranarray(array)


def _read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


_keys = st.one_of(_TEXT, st.integers(-(2**63), 2**64 - 1), st.booleans(), st.none(), st.binary(max_size=3))
#: Any value, in lists, tuples and dicts too.
any_value = st.recursive(
    scalars | arrays(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(_keys, inner, max_size=4)
    ),
    max_leaves=8,
)


def identical(one: Any, other: Any) -> bool:
    """Whether nobody could tell them apart, except for an array's strides and byte order, and a datetime's zone."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, dict):
        return identical(list(one), list(other)) and identical(list(one.values()), list(other.values()))
    if isinstance(one, np.ndarray):
        same_type = one.dtype.newbyteorder("<") == other.dtype.newbyteorder("<")
        return same_type and one.shape == other.shape and identical(one.ravel().tolist(), other.ravel().tolist())
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, complex):
        return identical((one.real, one.imag), (other.real, other.imag))
    if isinstance(one, dt.datetime):
        return one == other and (one.tzinfo is None) == (other.tzinfo is None)
    if isinstance(one, np.floating):
        return identical(float(one), float(other))
    if isinstance(one, (np.complexfloating, np.datetime64, np.timedelta64)):
        return bool(one.dtype == other.dtype) and one.tobytes() == other.tobytes()
    return bool(one == other)
