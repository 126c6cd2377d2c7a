"""Calls that travel: what a pattern allows, by which name a function goes, what a worker finds under a name."""

from __future__ import annotations

import functools
import math
import os
import pickle
import re
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest

from taskmaster.bus.calls import (
    PATTERN,
    Packed,
    each,
    find_allowed,
    named_call,
    opened,
    require_allowed,
    returning_objects,
)
from taskmaster.bus.errors import NotAllowed
from taskmaster.bus.sections import is_parallel, section


@pytest.mark.parametrize("text", ["a:b", "a.b:c.d", "a:*", "a.*", "a.b.*", "größe:maß"])
def test_patterns(text: str) -> None:
    assert re.fullmatch(PATTERN, text)


@pytest.mark.parametrize(
    "text", ["", "*", "a", "a.b", "*:b", "a:b*", "a:b.*", "a.*:b", "a.*.b", ":b", "a:", "a b:c", "1:b"]
)
def test_what_is_no_pattern(text: str) -> None:
    assert not re.fullmatch(PATTERN, text)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("work:fit", ["work:fit"]),
        ("work:Fit.run", ["work:*"]),
        ("work:fit", ["work.*"]),
        ("work.deep.er:fit", ["other:*", "work.*"]),
        ("work:_private", ["work:_private"]),
    ],
)
def test_what_is_allowed(name: str, allowed: list[str]) -> None:
    require_allowed("m", allowed, name)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("work:fit", []),
        ("work:fit", ["work:fi", "ork:fit", "work:fit.x"]),
        ("worker:fit", ["work.*", "work:*"]),
        ("work.deep:fit", ["work:*", "work:fit"]),
        ("work:_private", ["work:*", "work.*"]),
        ("work:Fit.__class__", ["work:*"]),
        ("work._deep:fit", ["work.*"]),
        ("work", ["work.*"]),
        ("work:*", ["work:*"]),
        ("work:fit()", ["work:*"]),
        ("work:", ["work:*"]),
    ],
)
def test_what_is_not(name: str, allowed: list[str]) -> None:
    with pytest.raises(NotAllowed, match="Master 'm'"):
        require_allowed("m", allowed, name)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (math.sqrt, "math:sqrt"),
        (np.sin, "numpy:sin"),
        (os.path.join, "os.path:join"),
        (pickle.Pickler, "_pickle:Pickler"),
        (functools.partial, "functools:partial"),
        ("anything:goes", "anything:goes"),
    ],
)
def test_the_name_of_a_function(function: Callable[..., Any] | str, name: str) -> None:
    assert named_call("m", [name], function, (1,), {"a": 2}) == (name, (1,), {"a": 2})


def test_partial_functions_bring_their_arguments() -> None:
    call = functools.partial(functools.partial(math.isclose, rel_tol=0.1), 1.0, abs_tol=0.5)
    assert named_call("m", ["math:*"], call, (2.0,), {"abs_tol": 3}) == (
        "math:isclose",
        (1.0, 2.0),
        {"rel_tol": 0.1, "abs_tol": 3},
    )
    assert named_call("m", ["math:*"], Packed(cloudpickle.dumps(math.sqrt), "sqrt"), (4,), {})[0] == "math:sqrt"


def test_libraries_that_wrap_a_function_are_seen_through() -> None:
    scipy = pytest.importorskip("scipy._lib._util")
    emcee = pytest.importorskip("emcee.ensemble")
    assert named_call("m", ["math:*"], scipy._FunctionWrapper(math.pow, (3,)), (2,), {}) == ("math:pow", (2, 3), {})
    wrapped = emcee._FunctionWrapper(math.isclose, [1.0], {"rel_tol": 0.5})
    assert named_call("m", ["math:*"], wrapped, (2,), {}) == ("math:isclose", (2, 1.0), {"rel_tol": 0.5})


def test_a_worker_finds_what_a_name_says() -> None:
    assert find_allowed("m", ["math:*"], "math:sqrt") is math.sqrt
    assert find_allowed("m", ["os.path:join"], "os.path:join") is os.path.join, "listed by this name"
    assert find_allowed("m", ["os.*", "posixpath:*"], "os.path:join") is os.path.join, "allowed where it is defined"
    with pytest.raises(NotAllowed, match="has it from 'posixpath'; have the Master's calls list it by this name"):
        find_allowed("m", ["os.*"], "os.path:join")
    assert find_allowed("m", ["datetime:*"], "datetime:datetime.fromtimestamp")(0).year >= 1969


def test_a_function_that_was_packed_is_unpickled_once() -> None:
    kept: list[int] = []

    def count(x: int) -> int:
        kept.append(x)
        return len(kept)

    packed = Packed(cloudpickle.dumps(count), "lambda")
    assert repr(packed) == "<Packed lambda>"
    again = cloudpickle.loads(cloudpickle.dumps(packed))
    assert again is cloudpickle.loads(cloudpickle.dumps(packed)), "it arrives as the function itself"
    assert (again(1), again(1), packed(1)) == (1, 2, 3)


def test_many_calls_in_one_are_a_parallel_section() -> None:
    assert each(lambda x, y: (x + y, is_parallel()), [(1, 2), (3, 4)]) == [(3, True), (7, True)]
    assert not is_parallel()
    with section(), section():
        assert is_parallel()
    assert not is_parallel()


@pytest.mark.parametrize("value", [None, True, 3, 2.5, 10**30, [1, 2.5, None], []])
def test_plain_results_stay_readable(value: Any) -> None:
    assert returning_objects(lambda: value, (), {}) is value
    assert opened(value) is value


@pytest.mark.parametrize("value", [{"pickle": b""}, "text", "\ud800", {1}, [[1]], (1,), math.sqrt, {}, [True, "x"]])
def test_other_results_are_pickled(value: Any) -> None:
    packed = returning_objects(lambda: value, (), {})
    assert packed.keys() == {"pickle"}
    assert opened(packed) == value
    assert type(opened(packed)) is type(value)
