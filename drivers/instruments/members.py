"""Whether a class has what its tables in the configuration name, without making an object of it.

An object has more than its class: what its constructor assigns, channels and parameters that a library adds. What of
that can be known from the class's code counts, so that only names are doubted that appear nowhere in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from taskmaster.bus.text import nearest
from taskmaster.drivers.instruments.attributes import class_name
from taskmaster.drivers.instruments.plan import Assign, Call, Plan

__all__ = ["Doubt", "doubts"]


@dataclass(frozen=True)
class Doubt:
    """A name that is not found."""

    text: str
    #: whether it is a slip: another name is near
    is_slip: bool


def doubts(kind: type, plan: Plan) -> Iterator[Doubt]:
    """The names in a plan that nothing in the class or its bases mentions."""
    if any("__getattr__" in vars(base) for base in kind.__mro__):
        return  # it makes attributes up on demand
    mentioned = _mentioned(kind)
    for table, name in dict.fromkeys(_names(plan)):
        first = name.partition(".")[0]
        if first in mentioned:
            continue
        meant = nearest(first, (known for known in mentioned if known.isidentifier() and not known.startswith("_")))
        hint = f"did you mean {meant!r}?" if meant else "it may be made when the object is"
        yield Doubt(f"{table}: nothing in {class_name(kind)} mentions {first!r}; {hint}", meant is not None)


def _names(plan: Plan) -> Iterator[tuple[str, str]]:
    def of(entry: str | Call | Assign) -> str:
        return entry if isinstance(entry, str) else entry.name

    yield from (("init", of(step)) for step in plan.init)
    yield from ((f"set.{parameter}", of(entry)) for parameter, entry in plan.set.items())
    yield from (("call", of(call)) for call in plan.call)
    yield from ((f"read.{output}", of(entry)) for output, entry in plan.read.items())
    yield from (("safe", of(step)) for step in plan.safe or ())


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
