"""What a Master's parameters and outputs are, as a program declares them, in short forms as well."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import KINDS, Field, shown
from taskmaster.bus.text import did_you_mean, did_you_mean_or

__all__ = ["Fields", "as_fields"]

#: ``{name: {"min": 0, "max": 1}}`` with the keys of the configuration file, or for short ``{name: (min, max)}`` and
#: ``{name: [choice, choice, …]}``; or a Master's ``parameters``.
Fields: TypeAlias = "Mapping[str, Field | Mapping[str, Any] | tuple[float, float] | list[Any]] | Sequence[Field]"

_KEYS = tuple(key for key in Field.__struct_fields__ if key != "name")
_FORMS = '(min, max), a list of choices, or a dict such as {"min": 0, "max": 1}'


def as_fields(fields: Fields, *, nan: bool = False) -> tuple[Field, ...]:
    """Fields from their declarations. Raises CallerError naming what is wrong with one.

    ``nan`` says whether those that do not say so themselves take NaN, as outputs do.
    """
    if isinstance(fields, Mapping):
        return tuple(_field(name, declared, nan) for name, declared in fields.items())
    given: Any = fields
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise CallerError(f'parameters and outputs are declared as {{"x": (0, 1)}}, not as {shown(given)}')
    made = tuple(given)
    for field in made:
        if not isinstance(field, Field):
            raise CallerError(
                f"{shown(field)} says nothing of what it takes: declare parameters and outputs in a dict, like "
                f"{{{field if isinstance(field, str) else 'x'!r}: (0, 1)}}, or give those of a Master"
            )
    return made


def _field(name: str, declared: Any, nan: bool) -> Field:
    if not isinstance(name, str) or not name:
        raise CallerError(f"a parameter or output is declared by its name, a string; not by {shown(name)}")
    if isinstance(declared, Field):
        return msgspec.structs.replace(declared, name=name)
    keys = _keys(name, declared)
    keys.setdefault("nan", nan and keys.get("kind", "float") == "float")
    try:
        field = msgspec.convert({**keys, "name": name}, Field)
    except (msgspec.ValidationError, TypeError) as error:
        raise CallerError(f"{name!r} cannot be declared as {shown(declared)}: {error}") from error
    _check(field)
    return field


def _keys(name: str, declared: Any) -> dict[str, Any]:
    """The declaration in the words of the configuration file."""
    if isinstance(declared, tuple):
        if len(declared) != 2 or not all(map(_is_number, declared)):
            raise CallerError(
                f"{name!r} cannot be declared as {shown(declared)}: a tuple is (min, max), two numbers; "
                f"values to choose from go in a list, {shown(list(declared))}"
            )
        return {"min": _plain(declared[0]), "max": _plain(declared[1])}
    if isinstance(declared, list):
        declared = {"choices": declared}
    if not isinstance(declared, Mapping):
        raise CallerError(f"{name!r} cannot be declared as {shown(declared)}; it may be {_FORMS}")
    for key in declared:
        if key not in _KEYS:
            raise CallerError(
                f"{name!r} cannot be declared by {key!r}{did_you_mean(str(key), _KEYS)}; it may have {', '.join(_KEYS)}"
            )
    keys = {key: _plain(value) for key, value in declared.items()}
    if "choices" in keys:
        keys["choices"] = choices = _choices(name, keys["choices"])
        keys.setdefault("kind", _kind_of(choices))
        if keys["kind"] == "float" and _kind_of(choices) == "int":
            keys["choices"] = tuple(map(float, choices))
        elif keys["kind"] != _kind_of(choices):
            raise CallerError(f"{name!r} is of kind {keys['kind']!r}, and its choices, {shown(choices)}, are not")
    return keys


def _choices(name: str, choices: Any) -> tuple[Any, ...]:
    """Those that a configuration file may have, too."""
    values = tuple(map(_plain, choices)) if isinstance(choices, Iterable) and not isinstance(choices, str) else ()
    if not values or _kind_of(values) is None:
        raise CallerError(
            f"{name!r} cannot have the choices {shown(choices)}: they are a list of values, all numbers, all text or "
            "all true/false"
        )
    if len(set(values)) != len(values):
        twice = next(value for k, value in enumerate(values) if value in values[:k])
        raise CallerError(f"{name!r} has the choice {shown(twice)} twice")
    return values


def _kind_of(values: Sequence[Any]) -> str | None:
    """The kind of these values; None where they have none in common."""
    types = {type(value) for value in values}
    if types == {int, float}:
        return "float"
    kinds = {str: "str", bool: "bool", int: "int", float: "float"}
    return kinds.get(next(iter(types))) if len(types) == 1 else None


def _check(field: Field) -> None:
    """Raise CallerError for what would be no parameter, though each of its keys is in order."""
    if field.kind not in KINDS:
        raise CallerError(f"{field.name!r} cannot be of kind {field.kind!r}{did_you_mean_or(field.kind, KINDS)}")
    limits = [limit for limit in (field.min, field.max) if limit is not None]
    if limits and field.kind not in ("float", "int"):
        raise CallerError(f"{field.name!r} cannot have limits: only numbers do, and its kind is {field.kind!r}")
    if limits and field.choices:
        raise CallerError(f"{field.name!r} has limits and choices; leave out one of the two")
    if any(map(math.isnan, limits)) or (len(limits) == 2 and limits[0] > limits[1]):
        raise CallerError(f"{field.name!r} takes nothing: its min is {field.min:g} and its max {field.max:g}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
