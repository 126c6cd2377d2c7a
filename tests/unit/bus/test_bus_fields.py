"""What a Master declares, and what it is given: the same verdict for a point, a block and a peer's table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.travelling import any_value, arrays, identical
from hypothesis import given, strategies as st

from taskmaster.bus.errors import InvalidTask, ProtocolError
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.table import Table, pack_columns, pack_values

FIELDS = {
    "float": Field("x", min=-2, max=4, unit="V"),
    "float, unbounded": Field("x"),
    "float, nan": Field("x", nan=True, min=0),
    "int": Field("x", "int"),
    "int, bounded": Field("x", "int", min=-5, max=5),
    "bool": Field("x", "bool"),
    "str": Field("x", "str"),
    "any": Field("x", "any"),
    "texts": Field("x", "str", choices=("red", "green")),
    "numbers": Field("x", choices=(1.0, 2.0)),
    "vector": Field("x", shape=(2,), max=1),
    "rows": Field("x", "int", shape=(-1, 2)),
    "flags": Field("x", "bool", shape=(-1,)),
}


def schema(*fields: Field) -> Schema:
    return Schema(fields, "m")


numbers = st.one_of(
    st.floats(),
    st.integers(-6, 6),
    st.booleans(),
    st.sampled_from([2**63, -(2**63), 10**400, "red", "blue", 1.0, np.float32(2), np.int8(1), np.longdouble(3)]),
    arrays(st.sampled_from([(), (2,), (1, 2)])),
    st.lists(st.floats(-1, 1), max_size=3),
)


@pytest.mark.parametrize("kind", FIELDS)
def test_what_is_taken_in_one_form_is_taken_in_every(kind: str) -> None:
    schema_ = schema(FIELDS[kind])

    @given(numbers | any_value)
    def holds(value: Any) -> None:
        try:
            row = schema_.row({"x": value})
        except InvalidTask:
            with pytest.raises(InvalidTask, match=r"^Master 'm': parameter 'x'(.|\n)*none of it was queued"):
                schema_.pack_points([{"x": value}])
            return
        table = schema_.pack_rows([row])
        schema_.check(Table.checked(table.layout, 1, [bytes(frame) for frame in table.frames]))
        assert identical(schema_.pack_points([{"x": value}]).rows(), table.rows())
        again = table.rows()[0]["x"]
        assert identical(schema_.pack_rows([schema_.row({"x": again})]).rows(), table.rows()), "it stays as it is"

    holds()


@given(st.lists(st.fixed_dictionaries({"a": st.floats(0, 1), "b": st.floats(-1, 1)}), min_size=1, max_size=40))
def test_a_block_is_the_same_in_every_form(points: list[dict[str, float]]) -> None:
    both = schema(Field("a", min=0), Field("b", max=1))
    a, b = [point["a"] for point in points], [point["b"] for point in points]
    forms = [points, np.array([a, b]).T, {"b": b, "a": np.array(a)}]
    packed = [both.pack_points(form) for form in forms]
    assert all(identical(table.rows(), [{"a": x, "b": y} for x, y in zip(a, b)]) for table in packed)
    assert len({table.digest() for table in packed}) == 1, "blocks of a run share a layout"
    for table in packed:
        both.check(table, first=7)


@pytest.mark.parametrize("kind", FIELDS)
def test_a_peers_table_is_taken_or_refused(kind: str) -> None:
    schema_ = schema(FIELDS[kind])

    @given(st.lists(numbers | any_value, min_size=1, max_size=3) | arrays(st.sampled_from([(2,), (1, 2), (2, 0, 2)])))
    def holds(column: Any) -> None:
        table = pack_columns({"x": column}, len(column))
        try:
            schema_.check(table)
        except (InvalidTask, ProtocolError):
            return
        for row in table.rows():
            schema_.row(row)

    holds()


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("float", 4.5, r"must be a number in \[-2, 4\] V, got 4\.5"),
        ("float", float("nan"), "got nan: NaN is not allowed"),
        ("float", "4", "must be a number in"),
        ("float", True, "got True"),
        ("float", 10**5000, "got a value of type int that cannot be shown"),
        ("float, nan", -1, "a number ≥ 0, got -1"),
        ("int", 1.5, r"must be a whole number, got 1\.5"),
        ("int", 2**63, "it does not fit 64 bits"),
        ("int", np.inf, "got inf"),
        ("bool", 1, "must be true or false, got 1"),
        ("str", 1, "must be a string, got 1"),
        ("str", "\ud800", "no Unicode"),
        ("any", object(), r"builtins\.object cannot travel"),
        ("texts", "blue", "must be one of 'red', 'green', got 'blue'"),
        ("numbers", 3.0, r"one of 1\.0, 2\.0, got 3\.0"),
        ("numbers", np.array(3.0), r"one of 1\.0, 2\.0, got 3\.0"),
        ("vector", [0.0, 2.0], r"shape \(2,\) ≤ 1, got 2\.0"),
        ("vector", [1.0], r"got shape \(1,\) of float64"),
        ("vector", [[1.0], [1.0, 2.0]], "its rows differ in length"),
        ("rows", [[1, 2, 3]], r"of shape \(any, 2\), got .*: got shape \(1, 3\)"),
        ("rows", [[1.0, 2.0]], "got an array of float64"),
        ("rows", np.array([[1, 2**64 - 1]], "u8"), "it does not fit 64 bits"),
        ("flags", [1, 0], "got an array of int64"),
        ("str", ["x" * 200], r"must be a string, got \['xxx.*…$"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_names_master_parameter_value_and_limit(kind: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidTask, match=f"^Master 'm': parameter 'x'.*{said}") as raised:
        schema(FIELDS[kind]).row({"x": value})
    assert len(str(raised.value)) < 300


BOTH = schema(Field("low", max=1), Field("high", "int"))
PLAIN = schema(Field("low", max=1), Field("high"))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([{"low": 0.0, "high": 1}, {"low": 2.0, "high": 1}], r"got 2\.0 \(point 1 of the block; none of it was queued"),
        ([{"low": 0.0}], "'high' is missing"),
        ([{"low": 0.0, "hihg": 1}], "'hihg' is unknown; did you mean 'high'"),
        ([3.0], r"a point must be a dict of its parameters \(low, high\), not 3\.0"),
        ({"low": [0.0], "high": [1, 2]}, r"differ in length: \{'low': 1, 'high': 2\}"),
        ({"low": [0.0], "high": [1.5]}, r"whole number, got 1\.5"),
        ({"low": [0.0], "high": np.array([np.nan])}, "whole number, got nan"),
        ({"low": [0.0], "high": np.array([1e300])}, r"got 1e\+300: it does not fit 64 bits"),
        ({"low": [0.0], "high": np.array([2**63], "u8")}, "it does not fit 64 bits"),
        ({"low": np.zeros((1, 2)), "high": [1]}, r"'low' must be a number ≤ 1, got array"),
        ({"low": np.array([0.0, 3.0]), "high": [1, 2]}, r"got 3\.0 \(task 1\)"),
        (np.zeros((2, 3)), r"shape \(n, 2\), one column for each of low, high; got \(2, 3\)"),
        (np.array([[0.0, 0.5]]), r"whole number, got 0\.5"),
    ],
)
def test_a_block_is_refused_whole_by_its_first_fault(points: Any, said: str) -> None:
    with pytest.raises(InvalidTask, match=f"^Master 'm': .*{said}"):
        BOTH.pack_points(points)


def test_columns_of_texts_and_choices_are_looked_at_one_by_one() -> None:
    colours = schema(FIELDS["texts"])
    assert colours.pack_points({"x": np.array(["red", "green"])}).rows() == [{"x": "red"}, {"x": "green"}]
    with pytest.raises(InvalidTask, match="one of 'red', 'green', got 'blue'"):
        colours.pack_points({"x": ["red", "blue"]})


def test_matrices_are_checked_whole() -> None:
    matrix = np.zeros((100, 2))
    PLAIN.check(PLAIN.pack_points(matrix))
    PLAIN.check(PLAIN.pack_points(matrix[:0]))
    matrix[70, 0] = 5
    with pytest.raises(InvalidTask, match=r"'low' must be a number ≤ 1, got 5\.0 \(task 70\)"):
        PLAIN.pack_points(matrix)
    with pytest.raises(InvalidTask, match="a dtype of numbers, not <U1"):
        PLAIN.pack_points(np.array([["a", "b"]]))
    single = schema(Field("x")).pack_points(np.arange(3.0))
    assert single.rows() == [{"x": 0.0}, {"x": 1.0}, {"x": 2.0}]


@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_what_is_finite_is_so_without_limits_and_in_every_form(infinite: float, shape: tuple[int, ...]) -> None:
    value: Any = np.array([1e308, infinite]) if shape else infinite
    forms: list[Callable[[Schema], object]] = [
        lambda taking: taking.row({"x": value}),
        lambda taking: taking.pack_points([{"x": value}]),
        lambda taking: taking.pack_points({"x": np.array([value] * 99)}),
        lambda taking: taking.check(pack_columns({"x": np.array([value])}, 1)),
    ]
    for take in forms:
        take(schema(Field("x", unit="V", shape=shape)))
        with pytest.raises(InvalidTask, match=r"parameter 'x' must be a.* V, got -?inf: it is not finite"):
            take(schema(Field("x", unit="V", shape=shape, finite=True)))
    assert not Field("x", finite=True).is_bounded, "it has no limit that a learner could go to"


def test_tables_of_peers_are_held_to_it_by_index() -> None:
    bad = pack_columns({"low": [0.0, 7.0], "high": [1, 1]}, 2)
    with pytest.raises(InvalidTask, match=r"got 7\.0 \(task 11\)"):
        BOTH.check(bad, first=10)
    with pytest.raises(InvalidTask, match=r"'high' must be a whole number, got shape \(\) of float64"):
        BOTH.check(pack_columns({"low": [0.0], "high": [1.0]}, 1))
    with pytest.raises(InvalidTask, match=r"got 'text' \(task 4\)"):
        BOTH.check(pack_columns({"low": [0.0, "text"], "high": [1, 1]}, 2), first=3)
    with pytest.raises(InvalidTask, match=r"by name \(low, high\), not bare values"):
        BOTH.check(pack_values([1.0]))
    with pytest.raises(InvalidTask, match="'wide' is unknown"):
        BOTH.check(pack_columns({"low": [0.0], "high": [1], "wide": [1]}, 1))


def test_what_was_packed_does_not_change_with_what_it_was_packed_from() -> None:
    anything = schema(FIELDS["any"])
    given_ = {"x": [1]}
    row = anything.row(given_)
    given_["x"].append(2)
    assert anything.pack_rows([row]).rows() == [{"x": [1]}]
    matrix = np.zeros((2, 2))
    table = PLAIN.pack_points(matrix)
    matrix += 9
    assert table.rows() == [{"low": 0.0, "high": 0.0}] * 2


def test_a_field_says_what_it_is() -> None:
    said = {kind: field.describe() for kind, field in FIELDS.items()}
    assert said["float"] == "a number in [-2, 4] V"
    assert said["int"] == "a whole number"
    assert Field("current", "float", unit="A").describe() == "a number in A"
    assert Field("wave", "float", unit="V", shape=(-1,)).describe() == "an array of shape (any,) in V"
    assert said["rows"] == "an array of shape (any, 2)"
    assert {kind for kind, field in FIELDS.items() if field.is_bounded} == {"float", "int, bounded"}
    assert FIELDS["float, nan"].limits[0] == 0
    assert [bool(schema()), bool(PLAIN)] == [False, True]
