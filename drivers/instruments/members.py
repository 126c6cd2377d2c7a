"""Whether a class has what its tables in the configuration name, without making an object of it.

An object has more than its class: what its constructor assigns, channels and parameters that a library adds. What of
that can be known from the class's code counts, so that only names are doubted that appear nowhere in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from taskmaster.bus.text import nearest
from taskmaster.drivers.instruments.attributes import class_name

__all__ = ["Doubt", "doubts"]


@dataclass(frozen=True)
class Doubt:
    """A name that is not found."""

    #: where it stands, as a key within the Master's table: ``set.power``
    key: str
    name: str
    problem: str
    #: whether it is a slip: another name is near
    is_slip: bool

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


def doubts(kind: type, options: Mapping[str, Any]) -> Iterator[Doubt]:
    """The names in a head's options that nothing in the class or its bases mentions."""
    if any("__getattr__" in vars(base) for base in kind.__mro__):
        return  # it makes attributes up on demand
    mentioned = _mentioned(kind)
    for key, name in dict.fromkeys(_names(options)):
        first = name.partition(".")[0]
        if first in mentioned:
            continue
        meant = nearest(first, (known for known in mentioned if known.isidentifier() and not known.startswith("_")))
        hint = f"did you mean {meant!r}?" if meant else "it may be made when the object is"
        problem = f"nothing in {class_name(kind)} mentions {first!r}; {hint}"
        yield Doubt(key, name, problem, meant is not None)


def _names(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every property, parameter or method that the file names, and where."""
    for key in ("init", "call", "safe"):
        for step in options.get(key) or ():
            yield from ((key, name) for name in _of(step))
    for key in ("set", "read"):
        for entry, target in (options.get(key) or {}).items():
            yield from ((f"{key}.{entry}", name) for name in _of(target))
    for key in ("interlocks", "monitor"):
        for entry, table in (options.get(key) or {}).items():
            yield f"{key}.{entry}", table["method"]
    watchdog = options.get("watchdog") or {}
    yield from (("watchdog", watchdog[key]) for key in ("arm", "keep", "disarm") if watchdog.get(key))


def _of(step: str | Mapping[str, Any]) -> Iterable[str]:
    if isinstance(step, str):
        return (step,)
    return (step["method"],) if "method" in step else step


def _mentioned(kind: type) -> set[str]:
    """Attributes of the class, and every name and text in the code of its methods."""
    names = set(dir(kind))
    for base in kind.__mro__:
        names |= set(getattr(base, "__annotations__", ()))
        for member in vars(base).values():
            for code in _codes(member):
                names |= set(code.co_names) | {text for text in code.co_consts if isinstance(text, str)}
    return names


def _codes(member: Any) -> Iterator[CodeType]:
    functions = (member, *(getattr(member, part, None) for part in ("fget", "fset", "__func__", "__wrapped__")))
    yield from (function.__code__ for function in functions if isinstance(function, FunctionType))
