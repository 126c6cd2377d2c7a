"""What functions return, as the daemon gets it: whatever does not fit is the error of its own task, and of no other."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Table
from taskmaster.drivers.outputs import OutputPacker, task_error

NUMBER = (Field("y"),)
PICTURE = (Field("picture", shape=(2, 3)), Field("count", kind="int"))
ANYTHING = (Field("y", kind="any"),)


class Unlucky(dict[str, Any]):
    """A dict whose author was."""

    def items(self) -> Any:
        raise RuntimeError("not today")

    __iter__ = items


class Mood(enum.IntEnum):
    GOOD = 1


def packer(*fields: Field) -> OutputPacker:
    return OutputPacker(Schema(fields, "svm", "output"))


def arrived(table: Table | None, n: int, fields: Sequence[Field] = ()) -> list[Any]:
    """The rows that the daemon finds in a table: it trusts no worker."""
    if table is None:
        return []
    taken = Table.checked(table.layout, n, [bytes(frame) for frame in table.frames])
    if fields:
        Schema(fields, "svm", "output").check(taken)
    return taken.rows()


def pack(values: Sequence[Any], *fields: Field) -> tuple[list[Any], list[TaskError]]:
    """What arrives of ``values``, and what is told of those that do not."""
    table, errors = packer(*fields).pack(range(len(values)), values)
    msgspec.msgpack.encode(errors)
    return arrived(table, len(values) - len(errors), fields), errors


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(np.array_equal(a, b)) and np.shape(a) == np.shape(b)


# -- one by one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize(
    ("fields", "value", "expected"),
    [
        ((), 1.5, 1.5),
        ((), None, None),
        ((), {"a": [1, "two"]}, {"a": [1, "two"]}),
        ((), np.eye(2), np.eye(2)),
        ((), Mood.GOOD, 1),
        ((), 10**40, 10**40),
        (NUMBER, 1.5, {"y": 1.5}),
        (NUMBER, {"y": 2}, {"y": 2.0}),
        (NUMBER, np.float32(0.5), {"y": 0.5}),
        (NUMBER, np.array(3), {"y": 3.0}),
        (ANYTHING, {"y": [None, "x"]}, {"y": [None, "x"]}),
        (ANYTHING, "text", {"y": "text"}),
        ((Field("y", kind="bool"),), np.True_, {"y": True}),
        ((Field("y", kind="int"),), 3.0, {"y": 3}),
        ((Field("y", kind="str", choices=("a", "b")),), "b", {"y": "b"}),
        ((Field("y", shape=(-1,)),), [1, 2], {"y": np.array([1.0, 2.0])}),
        ((Field("y", nan=True),), math.nan, {"y": math.nan}),
        (PICTURE, {"count": 2, "picture": [[1, 2, 3]] * 2}, {"picture": np.array([[1.0, 2, 3]] * 2), "count": 2}),
    ],
)
def test_what_fits_arrives(n: int, fields: tuple[Field, ...], value: Any, expected: Any) -> None:
    rows, errors = pack([value] * n, *fields)
    assert errors == []
    assert len(rows) == n
    if not fields or not fields[0].nan:
        assert all(same(row, expected) for row in rows)
    else:
        assert all(math.isnan(row["y"]) for row in rows)


@pytest.mark.parametrize(
    ("fields", "value", "kind", "words"),
    [
        (NUMBER, None, "InvalidTask", ["svm", "output 'y'", "a number", "None"]),
        (NUMBER, "1.5", "InvalidTask", ["'y'", "'1.5'"]),
        (NUMBER, True, "InvalidTask", ["'y'"]),
        (NUMBER, math.nan, "InvalidTask", ["'y'", "NaN"]),
        (NUMBER, [1.0], "InvalidTask", ["'y'"]),
        (NUMBER, {}, "InvalidTask", ["'y' is missing"]),
        (NUMBER, {"z": 1.0}, "InvalidTask", ["'z' is unknown"]),
        (NUMBER, 10**400, "OverflowError", ["too large"]),
        ((Field("y", max=4, unit="V"),), 5.0, "InvalidTask", ["≤ 4 V", "5.0"]),
        ((Field("y", kind="int"),), 0.5, "InvalidTask", ["a whole number", "0.5"]),
        ((Field("y", kind="str", choices=("a", "b")),), "c", "InvalidTask", ["one of 'a', 'b'"]),
        ((Field("y", shape=(2,)),), [1, 2, 3], "InvalidTask", ["shape"]),
        ((Field("y", shape=(-1, 2)),), [[1, 2], [3]], "InvalidTask", ["differ in length"]),
        (PICTURE, 3, "InvalidTask", ["2 outputs (picture, count)", "dict", "int"]),
        (PICTURE, {"picture": np.ones(6), "count": 3}, "InvalidTask", ["picture"]),
        ((), object(), "TypeError", ["builtins.object cannot travel"]),
        ((), {"deep": [object()]}, "TypeError", ["builtins.object cannot travel"]),
        ((), "\udc80", "TypeError", ["no Unicode"]),
        ((), Unlucky(a=1), "RuntimeError", ["not today"]),
        ((), np.zeros(2, [("a", "i4")]), "TypeError", ["cannot travel"]),
        (ANYTHING, {"y": object()}, "InvalidTask", ["'y'", "cannot travel"]),
        (ANYTHING, Unlucky(y=1), "RuntimeError", ["not today"]),
    ],
)
def test_what_does_not_fit_fails_its_own_task_and_says_why(
    fields: tuple[Field, ...], value: Any, kind: str, words: list[str]
) -> None:
    fitting: Any = {"picture": np.ones((2, 3)), "count": 1} if fields == PICTURE else _fitting(fields)
    for values, at in [([value], 0), ([fitting, value, fitting], 1)]:
        rows, errors = pack(values, *fields)
        assert len(rows) == len(values) - 1
        (error,) = errors
        assert (error.position, error.kind.rpartition(".")[2]) == (at, kind)
        assert not [word for word in words if word not in error.message], error.message


def _fitting(fields: tuple[Field, ...]) -> Any:
    if not fields:
        return 1.0
    field = fields[0]
    return field.choices[0] if field.choices else np.ones([2 if s < 0 else s for s in field.shape])[()]


@pytest.mark.parametrize("fields", [(), ANYTHING])
@pytest.mark.parametrize("value", [np.ones((1,) * 20), np.str_(""), np.bytes_(b"")])
def test_what_the_daemon_would_drop_never_leaves(fields: tuple[Field, ...], value: Any) -> None:
    """It would be sent again for ever: a dropped outcome looks like a lost one."""
    table, errors = packer(*fields).pack((0,), (value,))
    assert (table is None) == bool(errors)
    if table is not None:
        Table.checked(table.layout, 1, [bytes(frame) for frame in table.frames])


def test_errors_carry_the_positions_of_the_tasks_not_of_the_values() -> None:
    table, errors = packer(*NUMBER).pack([3, 5, 9], [1.0, None, 2.0])
    assert [error.position for error in errors] == [5]
    assert arrived(table, 2, NUMBER) == [{"y": 1.0}, {"y": 2.0}]


def test_where_nothing_fits_and_where_nothing_was_there_is_no_table() -> None:
    assert packer(*NUMBER).pack([], []) == (None, [])
    table, errors = packer(*NUMBER).pack(range(20), [None] * 20)
    assert table is None
    assert [error.position for error in errors] == list(range(20))


# -- in batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "result", "expected"),
    [
        ((), [1, "two"], [1, "two"]),
        ((), np.array([[1.0, 2], [3, 4]]), [np.array([1.0, 2]), np.array([3.0, 4])]),
        ((), {"a": [1.0, 2.0], 5: ["x", "y"]}, [{"a": 1.0, "5": "x"}, {"a": 2.0, "5": "y"}]),
        (NUMBER, [1, 2], [{"y": 1.0}, {"y": 2.0}]),
        (NUMBER, {"y": np.array([1, 2], "f4")}, [{"y": 1.0}, {"y": 2.0}]),
        ((Field("y"), Field("z")), np.array([[1.0, 2], [3, 4]]), [{"y": 1.0, "z": 2.0}, {"y": 3.0, "z": 4.0}]),
        ((Field("y", shape=(2,)),), np.ones((2, 2)), [{"y": np.ones(2)}] * 2),
        ((Field("y", kind="str"),), ["a", "b"], [{"y": "a"}, {"y": "b"}]),
    ],
)
def test_columns_that_fit_arrive_as_rows(fields: tuple[Field, ...], result: Any, expected: list[Any]) -> None:
    rows = arrived(packer(*fields).pack_batch(result, 2), 2, fields)
    assert len(rows) == 2
    assert all(map(same, rows, expected))


@pytest.mark.parametrize(
    ("fields", "result", "error", "words"),
    [
        ((), [1.0], ValueError, "1 values for 2 tasks"),
        ((), {"a": [1.0, 2.0], "b": [1.0] * 3}, ValueError, "column 'b' has 3 values for 2 tasks"),
        ((), 1.0, TypeError, "one value for each of the 2 tasks, not be a float"),
        ((), None, TypeError, "not be a NoneType"),
        ((), {}, ValueError, "no column"),
        (NUMBER, [1.0, None], InvalidTask, "'y'"),
        (NUMBER, [1.0, math.nan], InvalidTask, "NaN"),
        (NUMBER, np.ones((2, 2)), InvalidTask, "'y'"),
        (NUMBER, 3.0, TypeError, "one value for each of the 2 tasks"),
        (NUMBER, {"y": [1.0, 2.0], "z": [1.0, 2.0]}, InvalidTask, "'z' is unknown"),
        (NUMBER, {}, InvalidTask, "'y' is missing"),
        ((Field("y"), Field("z")), np.ones((2, 3)), ValueError, r"\(n, 2\), not one of shape \(2, 3\)"),
        ((Field("y"), Field("z")), [1.0, 2.0], ValueError, "2 outputs returns a dict"),
        ((Field("y", kind="str"),), np.array([1.0, 2.0]), InvalidTask, "a string"),
    ],
)
def test_columns_that_do_not_fit_are_an_error(
    fields: tuple[Field, ...], result: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        packer(*fields).pack_batch(result, 2)


# -- what is told of an exception -------------------------------------------------------------------------------------


class Odd(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise SystemExit("no words for it")


def caught(error: BaseException, depth: int = 0) -> TaskError:
    """What is told of an exception that came from as many calls down."""

    def down(left: int) -> None:
        if left:
            down(left - 1)
        raise error

    try:
        down(depth)
    except BaseException as raised:  # noqa: BLE001 - as the loop that evaluates does
        told = task_error(4, raised)
    msgspec.msgpack.encode(told)
    return told


def test_an_exception_is_told_with_its_kind_message_and_the_users_lines_only() -> None:
    told = caught(ValueError("the sample\nis gone"))
    assert (told.position, told.kind, told.message) == (4, "ValueError", "the sample\nis gone")
    assert "raise error" in told.traceback
    assert "down(depth)" not in told.traceback  # the frame that called the function is not the user's
    assert told.traceback.endswith("ValueError: the sample\nis gone\n")


def test_an_exception_of_a_module_is_told_with_it() -> None:
    assert caught(msgspec.ValidationError("x")).kind == "msgspec.ValidationError"
    assert caught(InvalidTask("x")).kind == "InvalidTask"


def test_an_exception_that_cannot_be_shown_is_told_all_the_same() -> None:
    told = caught(Odd())
    assert told.kind.endswith(".Odd")
    assert told.message == "<its message cannot be shown: SystemExit>"


def test_half_a_character_in_a_message_is_written_out() -> None:
    told = caught(OSError("cannot read sample-\udcff.dat"))
    assert told.message == "cannot read sample-\\udcff.dat"
    assert "sample-\\udcff.dat" in told.traceback


def test_of_a_long_message_the_beginning_is_told_and_of_a_long_traceback_both_ends() -> None:
    told = caught(ValueError("long " * 100_000 + "the end"))
    assert told.message == ("long " * 1000)[:4096]
    assert len(told.traceback) < 16_010
    assert told.traceback.startswith("Traceback")
    assert told.traceback.endswith("the end\n")
