"""Points as people type them, and as files hold them."""

from __future__ import annotations

import io
from typing import Any

import pytest

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Field
from taskmaster.cli.points import PointReader

DECLARED = PointReader(
    "probe",
    [
        Field("x", unit="mm", min=0, max=10),
        Field("n", kind="int"),
        Field("on", kind="bool"),
        Field("label", kind="str"),
        Field("v", shape=(2,)),
    ],
)
X = PointReader("probe", [Field("x", min=-10, max=10)])
ANYTHING = PointReader("any", [])

POINT = {"x": 1.5, "n": -3, "on": True, "label": "a b", "v": [1, 2.5]}


@pytest.mark.parametrize(
    "text",
    [
        "x=1.5,n=-3,on=true,label=a b,v=[1,2.5]",
        "v=[1, 2.5], label=a b, on=yes, n=-3, x=15e-1",
        "1.5,-3,1,a b,[1,2.5]",
        '{"x": 1.5, "n": -3, "on": true, "label": "a b", "v": [1, 2.5]}',
    ],
)
def test_a_point_is_typed_by_names_or_in_order_or_as_json(text: str) -> None:
    assert DECLARED.typed(text) == POINT


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("-0.5", -0.5), ("[1, [2]]", [1, [2]]), ('{"a": null}', {"a": None}), ('"5"', "5"), ("a,b", "a,b")],
)
def test_without_parameters_it_is_json_or_the_text(text: str, value: Any) -> None:
    assert ANYTHING.typed(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11", r"Master 'probe': parameter 'x' must be .*\[-10, 10\], got 11.0 \(in '11'\)"),
        ("x=nan", "'x'.*nan"),
        ("x=low", "'x=low': parameter 'x' must be a number in .*, got 'low'"),
        ("1,2", "'1,2' has 2 values, a point 1: x; commas part values, spaces part points"),
        ("y=2", r"parameter 'y' is unknown; there are 'x' \(in 'y=2'\)"),
        ("x=1,2", "'x=1,2': '2' has no name; write x=VALUE"),
        ('{"x": ', "not JSON"),
        ("{}", "parameter 'x' is missing"),
    ],
)
def test_what_is_no_point_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        X.typed(text)


def test_csv_names_the_parameters_in_its_first_line() -> None:
    text = 'n,x,label,on,v\n-3,1.5,"a b",yes,"[1, 2.5]"\n\n7,0,"c,d",no,"[3,4]"\n'
    points = DECLARED.read(io.StringIO(text), "p.csv", "csv")
    assert points == [POINT, {"x": 0.0, "n": 7, "on": False, "label": "c,d", "v": [3, 4]}]


def test_jsonl_has_a_point_a_line() -> None:
    assert X.read(io.StringIO('{"x": 1}\n\n{"x": 2}\n'), "p.jsonl", "jsonl") == [{"x": 1}, {"x": 2}]
    assert ANYTHING.read(io.StringIO('1\n"a"\n[2]'), "p.jsonl", "jsonl") == [1, "a", [2]]


def test_csv_without_parameters_makes_points_of_what_is_there() -> None:
    assert ANYTHING.read(io.StringIO("a,b\n1,x\n"), "p.csv", "csv") == [{"a": 1, "b": "x"}]


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("csv", "", "p is empty; its first line must name the parameters"),
        ("csv", "x\n1\n2,3\n", "p:3: 2 values, but the first line names 1"),
        ("csv", "x\nlow\n", "p:2: parameter 'x' must be a number"),
        ("csv", "x\n1\n11\n", r"parameter 'x' must be .*, got 11.0 \(in p:3\)"),
        ("csv", "y\n1\n", r"parameter 'y' is unknown; there are 'x' \(in p:1\)"),
        ("csv", "y\n", r"parameter 'y' is unknown; there are 'x' \(in p:1\)"),
        ("csv", "x,x\n1,2\n", r"two columns are named 'x' \(in p:1\)"),
        ("csv", 'x\n"1\n', "p:2: not CSV"),
        ("jsonl", '{"x": 1}\n{"x": }\n', "p:2: not JSON"),
        ("jsonl", '{"x": 1}\n[]\n', r"\(in p:2\)"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(form: str, text: str, message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        X.read(io.StringIO(text, newline=""), "p", form)


def test_a_file_in_another_encoding_is_named() -> None:
    with pytest.raises(InvalidTask, match=r"p\.csv: not UTF-8 text"):
        X.read(io.TextIOWrapper(io.BytesIO(b"x\n\xe4\n"), encoding="utf-8"), "p.csv", "csv")
