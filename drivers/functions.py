"""Finding the user's functions: ``module:name`` on the configured path, or code that travelled."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import ModuleType
from typing import Any

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.text import did_you_mean

__all__ = ["add_to_path", "find_called", "find_function", "find_object", "load_code"]


def add_to_path(path: Sequence[str]) -> None:
    """Have modules be searched in these folders first."""
    for folder in reversed(path):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def find_function(name: str, path: Sequence[str] = ()) -> Callable[..., Any]:
    """The callable ``module:qualified.name``; folders in ``path`` are searched first.

    Raises ConfigError naming what is missing; what the module itself raises while being imported comes through.
    """
    function = find_object(name, path, "function")
    if not callable(function):
        raise ConfigError(f"function {name!r} is a {type(function).__name__}, not something to call")
    return function  # type: ignore[no-any-return]


def find_called(pattern: str, path: Sequence[str] = ()) -> None:
    """See whether there is what ``calls`` allow: ``module:name``, ``module:*`` or ``package.*``.

    Raises ConfigError as :func:`find_function` does.
    """
    module_name, _, qualified = pattern.removesuffix(".*").partition(":")
    if qualified not in ("", "*"):
        find_function(pattern, path)
    else:
        _imported(module_name, path, f"calls {pattern!r}")


def find_object(name: str, path: Sequence[str] = (), what: str = "object") -> Any:
    """Whatever is at ``module:qualified.name``, which messages call ``what``; as :func:`find_function` else."""
    module_name, _, qualified = name.partition(":")
    module = _imported(module_name, path, f"{what} {name!r}")
    try:
        return reduce(getattr, qualified.split("."), module)
    except AttributeError:
        hint = did_you_mean(qualified, [n for n in dir(module) if not n.startswith("_")])
        raise ConfigError(
            f"{what} {name!r}: module {module_name!r} ({module.__file__}) has no {qualified!r}{hint}"
        ) from None


def _imported(module_name: str, path: Sequence[str], what: str) -> ModuleType:
    add_to_path(path)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        where = ", ".join(path) or "the Python path"
        raise ConfigError(f"{what}: no module {module_name!r} in {where}") from error


def load_code(options: Mapping[str, Any]) -> Any:
    """What an embedded Master's program pickled, where the daemon's configuration lets it send code."""
    import cloudpickle

    return cloudpickle.loads(options["code"])
