"""What a function raised elsewhere, as its caller expects it: of the same type, with the remote traceback.

What travels of an exception are words and values: its type's name, its message, its traceback, what it holds. The type
is looked for among what this program has imported; nothing is imported, and nothing unpickled, because somebody has
sent its name.
"""

from __future__ import annotations

import ast
import builtins
import sys
from typing import Any

from taskmaster.bus import values
from taskmaster.bus.errors import TaskFailed

__all__ = ["as_raised"]


def as_raised(failed: TaskFailed) -> Exception:
    """What the function raised, with ``failed``, which tells the remote traceback, as its cause.

    It has the arguments and attributes that it had, as far as they could travel; else its message. ``failed`` itself
    where nothing was raised (a worker was lost, a time-out), or the type is not known here or cannot be made of that.
    """
    kind = _known(failed.kind)
    if kind is None:
        return failed
    message = str(failed.args[0])
    for make in (_as_it_was, _of_message):
        try:
            error = make(kind, failed)
            if error is not None and str(error) == message:
                error.__cause__ = failed
                return error
        except Exception:  # noqa: BLE001 - a user's class may do anything when it is made, or shown
            continue
    return failed


def _as_it_was(kind: type[Exception], failed: TaskFailed) -> Exception | None:
    if not failed.made_of:
        return None
    arguments, attributes = values.decode(failed.made_of)
    # A class of somebody's is not asked to make one, unless it says how: its __init__ wants something else.
    is_asked = kind.__module__ == "builtins" or kind.__reduce__ is not BaseException.__reduce__
    error = kind(*arguments) if is_asked else kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


def _of_message(kind: type[Exception], failed: TaskFailed) -> Exception:
    error = kind.__new__(kind)  # its own __init__ may want more than a message
    error.args = (_argument(kind, str(failed.args[0])),)
    return error


def _known(name: str) -> type[Exception] | None:
    module_name, _, qualified = name.rpartition(".")
    places: list[Any] = [sys.modules.get(module_name)] if module_name else [builtins, sys.modules.get("__main__")]
    for place in places:
        found = getattr(place, qualified, None)
        if isinstance(found, type) and issubclass(found, Exception):
            return found
    return None


def _argument(kind: type[Exception], message: str) -> Any:
    if not issubclass(kind, KeyError):
        return message
    try:
        return ast.literal_eval(message)  # a KeyError shows what it was made with
    except (ValueError, SyntaxError):
        return message
