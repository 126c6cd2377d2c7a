"""Parameters and outputs as programs declare them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners import SimulatedMaster
from taskmaster.learners.declared import as_fields


def test_each_form_makes_the_field_that_it_says() -> None:
    assert as_fields({"x": (0, 1)}) == (Field("x", min=0, max=1),)
    assert as_fields({"x": (np.float64(0.5), np.float64(1))}) == (Field("x", min=0.5, max=1),)
    assert as_fields({"x": {"min": 0, "unit": "V"}}) == (Field("x", min=0, unit="V"),)
    assert as_fields({"k": ["a", "b"]}) == (Field("k", kind="str", choices=("a", "b")),)
    assert as_fields({"n": [1, 2]}) == (Field("n", kind="int", choices=(1, 2)),)
    assert as_fields({"n": {"kind": "float", "choices": [1, 2]}}) == (Field("n", choices=(1.0, 2.0)),)
    assert as_fields({"b": [True, False]}) == (Field("b", kind="bool", choices=(True, False)),)
    assert as_fields({"x": Field("y", unit="V")}) == (Field("x", unit="V"),)
    assert as_fields([Field("x"), Field("y")]) == (Field("x"), Field("y"))
    assert as_fields({"out": {}, "text": {"kind": "str"}}, nan=True) == (Field("out", nan=True), Field("text", "str"))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (["x"], r"'x' says nothing of what it takes: .* like \{'x': \(0, 1\)\}, or give those of a Master"),
        ("x", r"""declared as \{"x": \(0, 1\)\}, not as 'x'"""),
        (3, "not as 3"),
        ({"x": 3}, r"'x' cannot be declared as 3; it may be \(min, max\), a list of choices, or a dict"),
        ({"x": (0, 1, 2)}, r"'x' .* \(0, 1, 2\): a tuple is \(min, max\), .* go in a list, \[0, 1, 2\]"),
        ({"x": ("a", "b")}, r"a tuple is \(min, max\), two numbers; values to choose from go in a list, \['a', 'b'\]"),
        ({"x": (1, 0)}, "'x' takes nothing: its min is 1 and its max 0"),
        ({"x": (0, float("nan"))}, "'x' takes nothing: its min is 0 and its max nan"),
        ({"x": {"mni": 0}}, "'x' cannot be declared by 'mni'; did you mean 'min'"),
        ({"x": {"kind": "flaot"}}, "'x' cannot be of kind 'flaot'; did you mean 'float'"),
        ({"x": {"kind": "str", "min": 0}}, "'x' cannot have limits: only numbers do, and its kind is 'str'"),
        ({"x": {"choices": [1], "min": 0}}, "'x' has limits and choices; leave out one of the two"),
        ({"x": {"choices": []}}, r"'x' cannot have the choices \[\]: they are a list of values"),
        ({"x": [1, "a"]}, r"'x' cannot have the choices \[1, 'a'\]: .* all numbers, all text or all true/false"),
        ({"x": ["a", "b", "a"]}, "'x' has the choice 'a' twice"),
        ({"x": {"kind": "int", "choices": ["a"]}}, r"'x' is of kind 'int', and its choices, \('a',\), are not"),
        ({3: (0, 1)}, "declared by its name, a string; not by 3"),
        ({"x": {"min": "low"}}, "'x' cannot be declared as .*`float"),
    ],
)
def test_what_declares_nothing_is_said(declared: Any, said: str) -> None:
    with pytest.raises(CallerError, match=said):
        as_fields(declared)
    with pytest.raises(CallerError, match=said):
        SimulatedMaster(lambda point: 0.0, parameters=declared)
