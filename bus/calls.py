"""Calls that travel as tasks: a function with its arguments, by name or, where that is granted, as code.

*By name* a call is ``("module:name", args, kwargs)``: nothing but values travels, the function is imported where it is
evaluated, and the Master's configuration says which ones may be. *As code* it is pickled, and whoever may put tasks may
run anything: only a program's own daemon takes that, or one whose configuration says so.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial, reduce
from importlib import import_module
from types import ModuleType
from typing import Any

from taskmaster.bus.errors import CallerError, NotAllowed
from taskmaster.bus.sections import section
from taskmaster.bus.text import did_you_mean

__all__ = [
    "PATTERN",
    "Packed",
    "each",
    "find_allowed",
    "meant",
    "named_call",
    "opened",
    "require_allowed",
    "returning_objects",
    "unwrapped",
]

#: What may be called: ``module:name``, ``module:*`` (all that the module defines), ``package.*`` (it and all below it).
PATTERN = r"^[^\W\d]\w*(\.[^\W\d]\w*)*(:([^\W\d]\w*(\.[^\W\d]\w*)*|\*)|\.\*)$"

#: Functions that a worker keeps unpickled.
_KEPT = 16
#: What travels as it is and arrives as the very same, also in a short list; a long one is pickled sooner than seen
#: through.
_PLAIN = frozenset({type(None), bool, int, float})
_SHORT = 16
_OBJECT = "pickle"

#: How libraries wrap the function that a user gave them, with further arguments: they call ``f(x, *args, **kwargs)``.
_WRAPPERS = frozenset({("scipy._lib._util", "_FunctionWrapper"), ("emcee.ensemble", "_FunctionWrapper")})


# -- as code ----------------------------------------------------------------------------------------------------------


class Packed:
    """A function that was pickled once for many tasks; a worker unpickles it once, and gets the function itself."""

    __slots__ = ("data", "name")

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result, here."""
        return _unpacked(self.data)(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return _unpacked, (self.data,)

    def __repr__(self) -> str:
        return f"<Packed {self.name}>"


@lru_cache(_KEPT)
def _unpacked(data: bytes) -> Callable[..., Any]:
    import cloudpickle

    return cloudpickle.loads(data)  # type: ignore[no-any-return]


def each(function: Callable[..., Any], rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The function's result for each row of arguments: many calls in one task."""
    with section():
        return [function(*row) for row in rows]


def returning_objects(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The function's result in a form that can travel whatever it is, see :func:`opened`."""
    import cloudpickle

    value = function(*args, **kwargs)
    return value if _is_plain(value) else {_OBJECT: cloudpickle.dumps(value)}


def meant(function: Any, args: Sequence[Any]) -> Any:
    """The function that a user gave, of a call that has one of ours call it."""
    return args[0] if function in (returning_objects, each) and args else function


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in _PLAIN or (kind is list and len(value) <= _SHORT and _PLAIN.issuperset(map(type, value)))


def opened(output: Any) -> Any:
    """What :func:`returning_objects` returned. To be called only on what a daemon sends that is trusted with code."""
    import cloudpickle

    return cloudpickle.loads(output[_OBJECT]) if type(output) is dict else output


# -- by name ----------------------------------------------------------------------------------------------------------


def named_call(
    master: str,
    allowed: Sequence[str],
    function: Callable[..., Any] | str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """A call by name for a Master that allows these; partial functions bring their arguments along.

    Raises NotAllowed for a function that has no name by which it can be imported, or that the Master does not allow.
    """
    while not isinstance(function, str):
        call = unwrapped(function, args, kwargs)
        if call is None:
            break
        function, args, kwargs = call
    name = function if isinstance(function, str) else _name_of(master, allowed, function)
    require_allowed(master, allowed, name)
    return name, tuple(args), dict(kwargs)


def unwrapped(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None:
    """The call that a partial function, or a library's wrapper of one, stands for; None for any other function."""
    if isinstance(function, partial):
        return function.func, (*function.args, *args), {**function.keywords, **kwargs}
    if isinstance(function, Packed):
        return _unpacked(function.data), tuple(args), dict(kwargs)
    if (type(function).__module__, type(function).__qualname__) in _WRAPPERS:
        return function.f, (*args, *function.args), {**getattr(function, "kwargs", {}), **kwargs}
    return None


def _name_of(master: str, allowed: Sequence[str], function: Any) -> str:
    for name in allowed:  # by which it may be known in a module that is not its own
        if _looked_up(name) is function:
            return name
    module, qualified = _home(function)
    shown = qualified or repr(function)
    if module == "__main__" or not module or not qualified or "<" in qualified:
        what = "is defined in the program itself" if module == "__main__" else "has no name to import it by"
        raise NotAllowed(
            f"Master {master!r} takes functions by name, and {shown} {what}: move it to a module that the Master's "
            "workers can import, or use a Master that takes code (code = true, or a WorkMaster)"
        )
    if _looked_up(f"{module}:{qualified}") is not function:
        raise NotAllowed(
            f"Master {master!r} takes functions by name, and {module}:{qualified} is not {function!r} but something "
            "else, or nothing; give a function of a module"
        )
    return f"{module}:{qualified}"


def _home(function: Any) -> tuple[str, str]:
    """Module and qualified name of where a function was defined; empty where it does not say."""
    module = getattr(function, "__module__", None) or type(function).__module__
    qualified = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or ""
    return str(module), str(qualified)


def _looked_up(name: str) -> Any:
    """What has this name in this program, as far as that has imported it; else None."""
    module, _, qualified = name.partition(":")
    try:
        return reduce(getattr, qualified.split("."), sys.modules.get(module))
    except AttributeError:
        return None


def require_allowed(master: str, allowed: Sequence[str], name: str) -> None:
    """Raise NotAllowed unless ``module:name`` is among what a Master's ``calls`` allow."""
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise NotAllowed(f"Master {master!r} takes functions as 'module:name', not {name!r}")
    if not _is_allowed(allowed, name):
        raise NotAllowed(
            f"Master {master!r} does not allow {name!r}{did_you_mean(name, allowed)}; its calls = "
            f"[{', '.join(map(repr, allowed))}] say what may be called"
        )


def _is_allowed(allowed: Sequence[str], name: str) -> bool:
    module, _, qualified = name.partition(":")
    if name in allowed:
        return True
    if any(part.startswith("_") for part in (*module.split("."), *qualified.split("."))):
        return False  # what is private has to be named
    return any(
        pattern == f"{module}:*" or (pattern.endswith(".*") and f"{module}.".startswith(pattern[:-1]))
        for pattern in allowed
    )


def find_allowed(master: str, allowed: Sequence[str], name: str) -> Callable[..., Any]:
    """Import the function of this name. Raises NotAllowed for what is not allowed, or only imported where it is.

    With ``from subprocess import run`` in ``work``, ``work:*`` does not allow ``work:run``; nor ``work:os.system``.
    """
    require_allowed(master, allowed, name)
    module_name, _, qualified = name.partition(":")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise CallerError(
            f"Master {master!r} cannot call {name!r}: its workers find no module {module_name!r}"
        ) from error
    for part in qualified.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            hint = did_you_mean(part, [other for other in dir(found) if not other.startswith("_")])
            raise CallerError(f"Master {master!r} cannot call {name!r}: there is no {part!r}{hint}") from None
        if isinstance(found, ModuleType):
            raise NotAllowed(f"Master {master!r} cannot call {name!r}: name the function by its own module")
        if not callable(found):
            raise CallerError(f"Master {master!r} cannot call {name!r}: {part!r} is a {type(found).__name__}")
        _require_home(master, allowed, name, found)
    return found  # type: ignore[no-any-return]


def _require_home(master: str, allowed: Sequence[str], name: str, found: Any) -> None:
    """Raise NotAllowed for what is listed neither by this name nor where it was defined, as far as that is known."""
    module, _, qualified = name.partition(":")
    home = getattr(found, "__module__", None) or ("" if "." in qualified else type(found).__module__)
    if home not in ("", module) and name not in allowed and not _is_allowed(allowed, f"{home}:{qualified}"):
        raise NotAllowed(
            f"Master {master!r} does not allow {name!r}: {module!r} has it from {home!r}; have the Master's calls list "
            "it by this name if it may be called"
        )
