"""``python -m taskmaster.cli.probe``: can a Master's functions be had? In a process of its own, as its workers are.

What to look for comes on standard input and what was found goes back on a pipe, both in msgpack: the modules that are
imported may print what they like.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import msgspec

import taskmaster
from taskmaster.bus.errors import ConfigError, WorkerError
from taskmaster.drivers.functions import add_to_path, find_called, find_function
from taskmaster.drivers.instruments.binding import find_class
from taskmaster.drivers.instruments.head import Head
from taskmaster.drivers.instruments.members import doubts
from taskmaster.drivers.registry import driver_class

__all__ = ["Finding", "Question", "main"]

#: Characters of a message or a traceback. All findings together must fit into a pipe that is read at the end.
_LONGEST = 4000


#: How the names of files begin that lead to a user's module: the package's own, and what imports.
_NOT_THE_USERS = (
    os.path.join(os.path.dirname(taskmaster.__file__), ""),
    os.path.join(os.path.dirname(importlib.__file__), ""),
    "<frozen importlib",
)


class Question(msgspec.Struct, frozen=True):
    """What a Master's workers will need."""

    driver: str
    path: tuple[str, ...] = ()
    #: role (``function``, ``setup``, ``teardown``, ``class``; ``calls.0``, …) → ``module:name``
    functions: dict[str, str] = {}
    #: names of the keyword arguments that the function gets; None where it gets the point as one argument
    keywords: tuple[str, ...] | None = None
    #: the driver's options, as far as they decide which packages it needs and what a class has to have
    options: dict[str, Any] = {}


class Finding(msgspec.Struct, frozen=True):
    """What became of one of them: ``problem`` is empty where all is well.

    The ``role`` is its key in the Master's table; of a name within a class, the key that has that: ``read.current``.
    """

    role: str
    name: str
    problem: str = ""
    traceback: str = ""


def main(arguments: list[str]) -> int:
    """Entry point; the argument is the file descriptor to answer on."""
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question)
    findings = [_driver(question)] if not question.functions else []
    for role, name in question.functions.items():
        findings.append(_function(question, role, name))
        if role == "class" and not findings[-1].problem:
            findings += _members(question, name)
    with open(int(arguments[0]), "wb") as answer:
        answer.write(msgspec.msgpack.encode(findings))
    return 0


def _driver(question: Question) -> Finding:
    """The driver of a Master that names nothing to import: the packages that it needs itself."""
    match question.driver:
        case "visa":
            from taskmaster.drivers.instruments.visa import resource_manager

            return _attempt("driver", "visa", lambda: resource_manager(str(question.options.get("backend", "@py"))))
        case "serial":
            from taskmaster.drivers.instruments.serialport import pyserial

            return _attempt("driver", "serial", pyserial)
        case "human":
            return Finding("driver", "human")
    return _attempt("driver", question.driver, lambda: driver_class(question.driver, question.options))


def _function(question: Question, role: str, name: str) -> Finding:
    add_to_path(question.path)
    importlib.invalidate_caches()

    def find() -> None:
        if role == "class":
            find_class(name, question.path)
            return
        if role.startswith("calls."):
            find_called(name, question.path)
            return
        function = find_function(name, question.path)
        if role == "function":
            _check_call(function, name, question.keywords)
        else:
            _check_call(function, name, ())

    return _attempt(role, name, find)


def _members(question: Question, name: str) -> Iterator[Finding]:
    """The slips among the names by which the tables speak of a class. One of our heads needs no tables."""
    kind = find_class(name, question.path)
    if not issubclass(kind, Head):
        found = (doubt for doubt in doubts(kind, question.options) if doubt.is_slip)
        yield from (Finding(doubt.key, doubt.name, doubt.problem) for doubt in found)


def _check_call(function: Callable[..., Any], name: str, keywords: tuple[str, ...] | None) -> None:
    """Raise ConfigError where the function cannot be called as it will be."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # one that is not written in Python does not always say
    try:
        signature.bind(*(() if keywords is not None else (None,)), **dict.fromkeys(keywords or ()))
    except TypeError as error:
        given = "the point" if keywords is None else ", ".join(keywords) or "nothing"
        raise ConfigError(f"{name}{signature} cannot be called with {given}: {error}") from None


def _attempt(role: str, name: str, look: Callable[[], object]) -> Finding:
    try:
        look()
    except (ConfigError, WorkerError) as error:
        return Finding(role, name, str(error)[:_LONGEST])
    except SyntaxError as error:  # what was executed before it has nothing to do with it
        problem = f"importing it raised {type(error).__qualname__}: {error.filename}, line {error.lineno}: {error.msg}"
        return Finding(role, name, problem[:_LONGEST])
    except BaseException as error:  # noqa: BLE001 - whatever the user's modules raise when they are imported is told
        text = "".join(traceback.format_exception(type(error), error, _of_the_user(error.__traceback__)))
        problem = f"importing it raised {type(error).__qualname__}: {error}"
        return Finding(role, name, problem[:_LONGEST], text[-_LONGEST:])
    return Finding(role, name)


def _of_the_user(frames: TracebackType | None) -> TracebackType | None:
    """Without those at the beginning that are ours, or Python's for an import."""
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        frames = frames.tb_next
    return frames


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
