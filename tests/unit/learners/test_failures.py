"""What was raised elsewhere, raised here: of the same type where that is known, and nothing is run to find out."""

from __future__ import annotations

import json
import subprocess
import traceback

import msgspec
import numpy as np
import pytest

from taskmaster.bus.errors import InvalidTask, TaskFailed
from taskmaster.bus.messages import TaskError
from taskmaster.bus.values import encode
from taskmaster.drivers.outputs import task_error
from taskmaster.learners.failures import as_raised


class Choosy(Exception):
    """Cannot be made of a message."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} of {b}")


class Boastful(Exception):
    def __str__(self) -> str:
        return "something else"


class Broken(Exception):
    def __new__(cls) -> Broken:
        raise RuntimeError("not like this")


def raised(kind: str, message: str) -> Exception:
    failed = TaskFailed(message, kind, "Traceback …\n  in f\n")
    error = as_raised(failed)
    assert error is failed or error.__cause__ is failed
    return error


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("ValueError", "no such thing", ValueError("no such thing")),
        ("ZeroDivisionError", "", ZeroDivisionError("")),
        ("KeyError", "'a'", KeyError("a")),
        ("KeyError", "(1, 2)", KeyError((1, 2))),
        ("numpy.linalg.LinAlgError", "Singular matrix", np.linalg.LinAlgError("Singular matrix")),
        ("taskmaster.bus.errors.InvalidTask", "x", InvalidTask("x")),
        ("FileNotFoundError", "[Errno 2] No such file", FileNotFoundError("[Errno 2] No such file")),
    ],
)
def test_a_type_that_is_known(kind: str, message: str, expected: Exception) -> None:
    error = raised(kind, message)
    assert type(error) is type(expected)
    assert error.args == expected.args


def test_the_constructor_is_not_asked() -> None:
    error = raised(f"{__name__}.Choosy", "1 of 2")
    assert isinstance(error, Choosy)
    assert str(error) == "1 of 2"


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "nowhere.at.All",
        "os.system",
        "builtins.int",
        "SystemExit",
        "KeyboardInterrupt",
        "GeneratorExit",
        "UnicodeDecodeError",
        f"{__name__}.Boastful",
        f"{__name__}.Broken",
        "antigravity.Error",
    ],
)
def test_anything_else_is_a_failure(kind: str) -> None:
    error = raised(kind, "a message")
    assert isinstance(error, TaskFailed)
    assert error.kind == kind


class Held(Exception):
    """Holds more than its message says, and cannot be made of its arguments."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.where = where


def travelled(error: Exception) -> Exception:
    try:
        raise error
    except Exception as raised:  # noqa: BLE001 - any
        told = codec_round(task_error(0, raised))
    return as_raised(TaskFailed(told.message, told.kind, told.traceback, told.made_of))


def codec_round(error: TaskError) -> TaskError:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(error), type=TaskError)


def held() -> Exception:
    error = Held(7, where="here")
    error.add_note("a note")
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a message"),
        ValueError("two", 2),
        ValueError(),
        KeyError(("a", 1)),
        FileNotFoundError(2, "No such file", "/nowhere"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        subprocess.CalledProcessError(3, ["false"], output=b"out"),
        json.JSONDecodeError("bad", "{", 1),
        held(),
    ],
    ids=repr,
)
def test_what_an_exception_holds_is_there_again(error: Exception) -> None:
    again = travelled(error)
    assert type(again) is type(error)
    assert (again.args, again.__dict__, str(again)) == (error.args, error.__dict__, str(error))
    for name in ("errno", "filename", "object", "reason"):
        assert getattr(again, name, None) == getattr(error, name, None)
    assert isinstance(again.__cause__, TaskFailed)


@pytest.mark.parametrize("what", [object(), "x" * 10_000, {1: {2}}], ids=["no value", "much", "a set"])
def test_of_what_cannot_travel_the_message_is_left(what: object) -> None:
    error = held()
    error.what = what  # type: ignore[attr-defined]
    again = travelled(error)
    assert type(again) is Held
    assert str(again) == "code 7"
    assert again.__dict__ == {}


def test_what_is_made_of_rubbish_is_made_of_its_message() -> None:
    for rubbish in (b"\xc1", encode(3), encode((1, 2)), encode(((), {1: 2}))):
        again = as_raised(TaskFailed("bad", "ValueError", "", rubbish))
        assert (type(again), again.args) == (ValueError, ("bad",))


def test_what_is_printed_has_the_remote_traceback() -> None:
    text = "".join(traceback.format_exception(raised("ValueError", "bad")))
    assert "Remote traceback:\nTraceback …\n  in f" in text
    assert text.rstrip().endswith("ValueError: bad")
