"""How a learner was made, in words that are recorded with its run: ``GaussianProcess(maximize=True, kernel='rbf')``.

A run is resumed and replayed by a learner that was made in the same way, and whoever has to make it anew after a month
wants to know how. So the words are a call, as Python would have it, with what differs from the defaults. Of a Master's
parameters, and of its only output, nothing is said where the learner was made for just these.

What is not known, or has no words, is an ellipsis; nothing is pickled. A class that is not ours says what it was made
with by ``made_with()``; without that its attributes are looked at that are called as its arguments are.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from functools import wraps
from typing import Any

import numpy as np

from taskmaster.bus.fields import Field
from taskmaster.learners.protocol import Configured, Learner

__all__ = ["LOST", "UNKNOWN", "Given", "is_known", "made_of", "remembering", "settings_of"]

#: Stands for what is not known, or left out.
UNKNOWN = "…"

#: What is written down at most: items of a list, characters of a text, calls within calls, characters of it all.
_ITEMS = 12
_TEXT = 200
_DEPTH = 6
_CHARACTERS = 2000


class _Unknown:
    """The value of an argument that nobody has kept."""


#: The settings of what was made nobody knows how.
LOST: Mapping[str, Any] = {UNKNOWN: _Unknown}


class Given:
    """The arguments of a call of ``init``: what an object was made with. It goes with no copy and no pickle of that."""

    def __init__(self, init: Callable[..., None], arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        self._call = (init, arguments, keywords)

    def settings(self) -> dict[str, Any]:
        """All arguments by their names, those that were not given with their defaults."""
        init, arguments, keywords = self._call
        signature = inspect.signature(init)
        bound = signature.bind(None, *arguments, **keywords)
        bound.apply_defaults()
        found: dict[str, Any] = {}
        for (name, value), one in zip(bound.arguments.items(), signature.parameters.values(), strict=True):
            if one.kind is one.VAR_KEYWORD:
                found.update(value)
            else:
                found[name] = value
        del found[next(iter(found))]  # self
        return found

    def __deepcopy__(self, memo: object) -> Given:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()


def _nothing() -> None:
    return None


def remembering(init: Callable[..., None]) -> Callable[..., None]:
    """An ``__init__`` that keeps what it is called with as ``_made_by``: of several that call each other, the first."""

    @wraps(init)
    def made(self: Any, *arguments: Any, **keywords: Any) -> None:
        if self._made_by is None:
            self._made_by = Given(init, arguments, keywords)
        init(self, *arguments, **keywords)

    return made


def made_of(learner: object, parameters: Sequence[Field] = (), outputs: Sequence[Field] = ()) -> str:
    """How a learner was made for a Master with these parameters and outputs."""
    text = _Words(parameters, outputs).of(learner)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}{UNKNOWN}"


def is_known(made: str) -> bool:
    """Whether these words say all of it."""
    return bool(made) and UNKNOWN not in made


def settings_of(thing: object) -> dict[str, Any]:
    """What an object was made with, as far as its attributes tell: those that are called as the arguments of its class.

    An argument ``step`` is looked for as ``step`` and as ``_step``. Nothing is computed for it.
    """
    if dataclasses.is_dataclass(thing):
        return {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing) if field.init}
    kept = getattr(thing, "__dict__", {})
    found: dict[str, Any] = {}
    for one in _arguments(thing):
        names = () if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) else (one.name, f"_{one.name}")
        found[one.name] = next((kept[name] for name in names if name in kept), _Unknown)
    return found


def _arguments(thing: object) -> list[inspect.Parameter]:
    """Those that an object's class takes."""
    kind = type(thing)
    if kind.__init__ is object.__init__:
        return []
    try:
        return list(inspect.signature(kind.__init__).parameters.values())[1:]
    except (TypeError, ValueError):  # of what is written in C
        return [inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)]


class _Words:
    """Writes objects as the calls that make them."""

    def __init__(self, parameters: Sequence[Field], outputs: Sequence[Field]) -> None:
        self._ranges = {field.name: _range(field) for field in parameters}
        self._only = outputs[0].name if len(outputs) == 1 else None
        self._depth = 0

    def of(self, value: Any) -> str:
        """Any value."""
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.size <= _ITEMS):
            value = value.tolist()
        if value is None or isinstance(value, (bool, int, float, complex)):
            return repr(value)
        if isinstance(value, str):
            return repr(value) if len(value) <= _TEXT else UNKNOWN
        if isinstance(value, Field):
            return self.of(_range(value))
        if value is _Unknown or self._depth >= _DEPTH:
            return UNKNOWN
        self._depth += 1
        try:
            return self._nested(value)
        finally:
            self._depth -= 1

    def _nested(self, value: Any) -> str:
        if isinstance(value, Mapping):
            items = [f"{self.of(key)}: {self.of(item)}" for key, item in _some(value.items(), len(value))]
            return _listed("{", items, "}", len(value))
        if isinstance(value, Set):
            return _listed("{", sorted(map(self.of, _some(value, len(value)))), "}", len(value))
        if isinstance(value, tuple):
            items = [self.of(item) for item in _some(value, len(value))]
            return f"({items[0]},)" if len(value) == 1 else _listed("(", items, ")", len(value))
        if isinstance(value, list):
            return _listed("[", [self.of(item) for item in _some(value, len(value))], "]", len(value))
        if isinstance(value, type) or inspect.isroutine(value):
            return _name(value)
        if not isinstance(value, Configured) and not hasattr(value, "__dict__"):  # what is written in C, mostly
            return UNKNOWN
        return self._call(value)

    def _call(self, thing: Any) -> str:
        settings = thing.made_with() if isinstance(thing, Configured) else settings_of(thing)
        defaults = {one.name: self.of(one.default) for one in _arguments(thing) if one.default is not one.empty}
        parts = []
        for k, (name, value) in enumerate(self._without_saying(settings).items()):
            text = self.of(value)
            if defaults.get(name) != text:
                is_first = k == 0 and name in ("learner", "learners", "points")
                parts.append(text if is_first or name == UNKNOWN else f"{name}={text}")
        if not (isinstance(thing, Learner) or all(map(is_known, parts))):
            parts = [UNKNOWN]  # what is no learner is known by all that it was made with, or not at all
        return f"{_name(type(thing))}({', '.join(parts)})"

    def _without_saying(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings, without what follows from the Master."""
        kept = dict(settings)
        if "parameters" in kept and (ranges := _ranges(kept["parameters"])) is not None:
            kept["parameters"] = ranges
            if not ranges or ranges == self._ranges:
                del kept["parameters"]
        if self._only is not None:
            for name in ("output", "minimize", "maximize"):
                if kept.get(name) in (self._only, [self._only], (self._only,)):
                    kept[name] = None if name == "output" else True
            if kept.get("minimize") is True and not kept.get("maximize"):
                del kept["minimize"]
        return kept


def _listed(opening: str, items: list[str], closing: str, n: int) -> str:
    more = [f"{UNKNOWN} {n} in all"] if n > len(items) else []
    return f"{opening}{', '.join(items + more)}{closing}"


def _some(items: Any, n: int) -> list[Any]:
    return [item for _, item in zip(range(min(n, _ITEMS)), items)]


def _name(thing: Any) -> str:
    """Of a class or a function, as it is imported; of ours and of a program's own without the module."""
    qualified = getattr(thing, "__qualname__", UNKNOWN)
    if "<" in qualified:  # a lambda, or what is defined in a function
        return UNKNOWN
    module = getattr(thing, "__module__", None) or "builtins"
    if module in ("builtins", "__main__") or module.partition(".")[0] == "taskmaster":
        return qualified
    parts = module.split(".")
    for k in range(1, len(parts)):  # where a package has it, too, that is where it is imported from
        if getattr(sys.modules.get(".".join(parts[:k])), qualified, None) is thing:
            parts = parts[:k]
    return ".".join((*parts, qualified))


def _range(field: Field) -> Any:
    """What a parameter may be, as learners take it in a mapping; of one without limits its kind."""
    if field.choices:
        return list(field.choices)
    if field.min is None or field.max is None:
        return field.kind
    return field.min, field.max


def _ranges(parameters: Any) -> dict[str, Any] | None:
    """The same of all; None for what is not looked at, as an iterator."""
    if isinstance(parameters, Mapping):
        return {
            name: _range(one) if isinstance(one, Field) else tuple(one) if isinstance(one, tuple) else one
            for name, one in parameters.items()
        }
    if isinstance(parameters, Sequence) and all(isinstance(one, Field) for one in parameters):
        return {field.name: _range(field) for field in parameters}
    return None
