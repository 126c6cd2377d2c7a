"""What fits a Master's parameters is taken however it comes; what does not is refused by name, value and limit."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.travelling import identical
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmaster.bus import values
from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.table import Layout, Part, Table, pack_columns, pack_matrix, pack_values

BIAS = Field("bias", unit="V", min=-2, max=4)
GAIN = Field("gain", "int", min=0, max=10)
ON = Field("on", "bool")
NAME = Field("name", "str")
MODE = Field("mode", "str", choices=("fast", "slow"))
STEP = Field("step", choices=(0.5, 1.0))
TRACE = Field("trace", shape=(2,), max=1)
COUNTS = Field("counts", "int", shape=(-1,), max=5)
MAYBE = Field("maybe", min=0, nan=True)
ANY = Field("any", "any")
FREE, WHOLE = Field("free"), Field("whole", "int")

HUGE = 10**400
#: Nothing that a person types, but a peer: it has too many digits to be shown.
ENDLESS = 10**5000


def one_by_one(field: Field, value: Any) -> Any:
    schema = Schema([field], "svm")
    return schema.pack_rows([schema.row({field.name: value})]).rows()[0][field.name]


def as_a_list(field: Field, value: Any) -> Any:
    return Schema([field], "svm").pack_points([{field.name: value}]).rows()[0][field.name]


def as_a_column(field: Field, value: Any) -> Any:
    return Schema([field], "svm").pack_points({field.name: [value]}).rows()[0][field.name]


WAYS = [one_by_one, as_a_list, as_a_column]
each_way = pytest.mark.parametrize("give", WAYS, ids=lambda give: give.__name__)

GOOD: list[tuple[Field, Any, Any]] = [
    (BIAS, 4, 4.0),
    (BIAS, -2.0, -2.0),
    (BIAS, np.float32(0.5), 0.5),
    (BIAS, np.array(3), 3.0),
    (GAIN, 10, 10),
    (GAIN, 2.0, 2),
    (GAIN, np.uint8(3), 3),
    (WHOLE, 2**63 - 1, 2**63 - 1),
    (WHOLE, -(2**63), -(2**63)),
    (FREE, math.inf, math.inf),
    (ON, True, True),
    (ON, np.bool_(False), False),
    (NAME, "µ", "µ"),
    (NAME, np.str_("x"), "x"),
    (MODE, "slow", "slow"),
    (STEP, 1, 1.0),
    (TRACE, [0, 1], np.array([0.0, 1.0])),
    (TRACE, (0.5, -1e300), np.array([0.5, -1e300])),
    (TRACE, np.array([0, 1], ">i2"), np.array([0.0, 1.0])),
    (COUNTS, [1, 2, 3], np.array([1, 2, 3])),
    (COUNTS, [2.0], np.array([2])),
    (COUNTS, [], np.array([], int)),
    (MAYBE, math.nan, math.nan),
    (ANY, {"a": [1, None]}, {"a": [1, None]}),
]


@each_way
@pytest.mark.parametrize(("field", "value", "comes"), GOOD, ids=[f"{f.name}-{v!r}" for f, v, _ in GOOD])
def test_what_fits_is_taken_in_the_type_of_its_field(
    give: Callable[[Field, Any], Any], field: Field, value: Any, comes: Any
) -> None:
    assert identical(give(field, value), comes)


BAD: list[tuple[Field, Any, str, str]] = [
    (BIAS, 4.001, "a number in [-2, 4] V", "4.001"),
    (BIAS, -3, "a number in [-2, 4] V", "-3"),
    (BIAS, math.nan, "a number in [-2, 4] V", "nan: NaN is not allowed"),
    (BIAS, math.inf, "a number in [-2, 4] V", "inf"),
    (BIAS, True, "a number in [-2, 4] V", "True"),
    (BIAS, "1", "a number in [-2, 4] V", "'1'"),
    (BIAS, None, "a number in [-2, 4] V", "None"),
    (BIAS, 1j, "a number in [-2, 4] V", "1j"),
    (BIAS, [1.0], "a number in [-2, 4] V", "[1."),
    (FREE, math.nan, "a number", "NaN is not allowed"),
    (FREE, HUGE, "a number", "1000000000"),
    (FREE, -ENDLESS, "a number", "too long to show"),
    (GAIN, 11, "a whole number in [0, 10]", "11"),
    (GAIN, 1.5, "a whole number in [0, 10]", "1.5"),
    (GAIN, math.nan, "a whole number in [0, 10]", "nan"),
    (GAIN, math.inf, "a whole number in [0, 10]", "inf"),
    (GAIN, True, "a whole number in [0, 10]", "True"),
    (WHOLE, 2**63, "a whole number", "9223372036854775808: it does not fit 64 bits"),
    (WHOLE, -(2**63) - 1, "a whole number", "-9223372036854775809: it does not fit 64 bits"),
    (WHOLE, np.uint64(2**63), "a whole number", "9223372036854775808: it does not fit 64 bits"),
    (WHOLE, 2.0**63, "a whole number", "it does not fit 64 bits"),
    (WHOLE, 1e300, "a whole number", "it does not fit 64 bits"),
    (WHOLE, ENDLESS, "a whole number", "too long to show"),
    (ON, 1, "true or false", "1"),
    (ON, "yes", "true or false", "'yes'"),
    (NAME, 1, "a string", "1"),
    (NAME, b"x", "a string", "b'x'"),
    (MODE, "medium", "one of 'fast', 'slow'", "'medium'"),
    (MODE, 1, "one of 'fast', 'slow'", "1"),
    (STEP, 0.7, "one of 0.5, 1.0", "0.7"),
    (STEP, math.nan, "one of 0.5, 1.0", "nan"),
    (STEP, HUGE, "one of 0.5, 1.0", "1000000"),
    (TRACE, [0], "an array of shape (2,) ≤ 1", "[0]"),
    (TRACE, [[0, 1]], "an array of shape (2,) ≤ 1", "[[0, 1]]"),
    (TRACE, [[0], [0, 1]], "an array of shape (2,) ≤ 1", "its rows differ in length"),
    (TRACE, [0, 2], "an array of shape (2,) ≤ 1", "2"),
    (TRACE, [0, math.nan], "an array of shape (2,) ≤ 1", "NaN is not allowed"),
    (TRACE, [0, HUGE], "an array of shape (2,) ≤ 1", "object"),
    (TRACE, "ab", "an array of shape (2,) ≤ 1", "'ab'"),
    (COUNTS, [6], "an array of shape (any,) ≤ 5", "6"),
    (COUNTS, [0.5], "an array of shape (any,) ≤ 5", "0.5"),
    (COUNTS, [True], "an array of shape (any,) ≤ 5", "True"),
    (Field("long", "int", shape=(1,)), [2**63], "an array of shape (1,)", "it does not fit 64 bits"),
    (MAYBE, -1, "a number ≥ 0", "-1"),
]


@each_way
@pytest.mark.parametrize(
    ("field", "value", "wanted", "got"), BAD, ids=[f"{f.name}-{type(v).__name__}" for f, v, *_ in BAD]
)
def test_what_does_not_fit_is_refused_by_name_value_and_limit(
    give: Callable[[Field, Any], Any], field: Field, value: Any, wanted: str, got: str
) -> None:
    with pytest.raises(InvalidTask) as refused:
        give(field, value)
    said = str(refused.value)
    assert said.startswith(f"Master 'svm': parameter {field.name!r} must be {wanted}, got ")
    assert got in said.partition(", got ")[2]
    assert len(said) < 300


@each_way
@pytest.mark.parametrize("value", [object(), {1}, "\ud800"], ids=ascii)
def test_what_cannot_travel_is_refused_where_it_is_given(give: Callable[[Field, Any], Any], value: Any) -> None:
    with pytest.raises(InvalidTask, match=r"Master 'svm': parameter 'any': .* cannot travel"):
        give(ANY, value)


# -- a peer's table ---------------------------------------------------------------------------------------------------


def _in_a_table(field: Field, value: Any) -> Table:
    """The value as a peer may send it that checks nothing."""
    encoded = values.encode(value)
    offsets = struct.pack("<2I", 0, len(encoded))
    return Table.checked(Layout((Part((field.name,), "O"),)), 1, [offsets, encoded])


@pytest.mark.parametrize(
    ("field", "value", "wanted", "got"), BAD, ids=[f"{f.name}-{type(v).__name__}" for f, v, *_ in BAD]
)
def test_a_peer_that_checks_nothing_is_refused_likewise(field: Field, value: Any, wanted: str, got: str) -> None:
    with pytest.raises(InvalidTask) as refused:
        Schema([field], "svm").check(_in_a_table(field, value), first=7)
    assert f"{field.name!r} must be {wanted}, got " in str(refused.value)
    assert "(task 7)" in str(refused.value)


@pytest.mark.parametrize(("field", "value", "comes"), GOOD, ids=[f"{f.name}-{v!r}" for f, v, _ in GOOD])
def test_what_a_schema_has_packed_it_takes(field: Field, value: Any, comes: Any) -> None:
    schema = Schema([field], "svm")
    for n in (0, 1, 40):
        schema.check(schema.pack_points([{field.name: value}] * n))
    schema.check(schema.pack_points({field.name: [value] * 3}))


@pytest.mark.parametrize(
    ("column", "got"),
    [
        (np.array([1, 2**63], "<u8"), "does not fit 64 bits (task 4)"),
        (np.array([1.0]), "shape () of float64"),
        (np.array([True]), "shape () of bool"),
        (np.array([[1]]), "shape (1,) of int64"),
        (np.array(["1"]), "shape () of <U1"),
    ],
)
def test_a_column_of_another_type_is_refused(column: Any, got: str) -> None:
    with pytest.raises(InvalidTask, match="'whole' must be a whole number, got ") as refused:
        Schema([WHOLE], "svm").check(pack_columns({"whole": column}, len(column)), first=3)
    assert got in str(refused.value)


TWO = Schema([BIAS, Field("flux", min=0, max=1)], "svm")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-2, 4), st.floats(0, 1)), max_size=30),
    st.integers(0, 29),
    st.sampled_from([None, (4.001, 0.5), (0.0, -0.1), (math.nan, 0.5), (0.0, math.inf)]),
)
def test_one_bad_row_among_many_is_found_and_numbered(
    rows: list[tuple[float, float]], at: int, bad: tuple[float, float] | None
) -> None:
    at = min(at, len(rows))
    if bad is not None:
        rows.insert(at, bad)
    matrix = np.array(rows, float).reshape(-1, 2)
    table = pack_matrix(matrix, TWO.names)
    if bad is None:
        TWO.check(table)
        assert identical(TWO.pack_points(matrix).rows(), table.rows())
        assert identical(TWO.pack_rows(rows).rows(), table.rows())
        return
    with pytest.raises(InvalidTask, match=rf"\(task {100 + at}\)"):
        TWO.check(table, first=100)
    with pytest.raises(InvalidTask, match=r"'(bias|flux)' must be"):
        TWO.pack_points(matrix)
    with pytest.raises(InvalidTask, match=rf"\(point {at} of the block; none of it was queued\)"):
        TWO.pack_points([dict(zip(TWO.names, row)) for row in rows])


# -- names and forms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "why"),
    [
        ({"bias": 1.0}, "parameter 'flux' is missing"),
        ({}, "'bias', 'flux' is missing"),
        ({"bias": 1.0, "flux": 1.0, "fluxx": 1.0}, "parameter 'fluxx' is unknown; did you mean 'flux'?"),
        ({"bias": 1.0, "flx": 1.0}, "parameter 'flx' is unknown; did you mean 'flux'?"),
        ({"bias": 1.0, "flux": 1.0, 7: 1.0}, "parameter 7 is unknown; there are 'bias', 'flux'"),
        (1.0, "a point must be a dict of its parameters (bias, flux), not 1.0"),
        ([1.0, 2.0], "a point must be a dict"),
    ],
)
def test_a_point_names_each_parameter_once(point: Any, why: str) -> None:
    with pytest.raises(InvalidTask) as refused:
        TWO.row(point)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (np.zeros((3, 1)), "needs shape (n, 2), one column for each of bias, flux; got (3, 1)"),
        (np.zeros(3), "needs shape (n, 2)"),
        (np.zeros((3, 2), complex), "needs a dtype of numbers, not complex128"),
        (np.zeros((3, 2), "U1"), "needs a dtype of numbers, not <U1"),
        ({"bias": [1.0]}, "parameter 'flux' is missing"),
        ({"bias": [1.0], "flux": [1.0, 0.5]}, "the columns differ in length: {'bias': 1, 'flux': 2}"),
        ([{"bias": 1.0, "flux": 1.0}, {"bias": 1.0}], "parameter 'flux' is missing (point 1 of the block"),
    ],
)
def test_a_block_that_has_not_a_column_for_each_parameter_is_refused(points: Any, why: str) -> None:
    with pytest.raises(InvalidTask) as refused:
        TWO.pack_points(points)
    assert why in str(refused.value)


def test_a_peer_must_name_its_columns() -> None:
    with pytest.raises(InvalidTask, match=r"takes its parameters by name \(bias, flux\), not bare values"):
        TWO.check(pack_values([1.0]))
    endless = "x" * 1_000_000
    with pytest.raises(InvalidTask, match="is unknown") as refused:
        TWO.check(pack_columns({endless: [1.0], "bias": [1.0], "flux": [1.0]}, 1))
    assert len(str(refused.value)) < 300


def test_what_was_packed_does_not_change_with_the_callers_array() -> None:
    points = np.zeros((20, 2))
    column = np.zeros(20)
    tables = [TWO.pack_points(points), TWO.pack_points({"bias": column, "flux": column})]
    points[:], column[:] = 7, 7
    for table in tables:
        assert identical(table.rows(), [{"bias": 0.0, "flux": 0.0}] * 20)
    traces = np.zeros((3, 2))
    table = Schema([TRACE], "svm").pack_points({"trace": traces})
    traces[:] = 1
    assert identical(table.column("trace"), np.zeros((3, 2)))


def test_blocks_of_one_run_share_a_layout_however_they_came() -> None:
    schema = Schema([BIAS, GAIN, ON, TRACE], "svm")
    point = {"bias": 1, "gain": 2.0, "on": np.bool_(True), "trace": [0, 1]}
    tables = [
        schema.pack_rows([schema.row(point)]),
        schema.pack_points([point, point]),
        schema.pack_points({name: [value] for name, value in point.items()}),
        schema.pack_rows([]),
    ]
    assert len({table.layout for table in tables}) == 1
    assert identical(tables[0].rows(), [{"bias": 1.0, "gain": 2, "on": True, "trace": np.array([0.0, 1.0])}])
