"""Mistakes in a configuration, in plain words and with their lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taskmaster.bus.text import did_you_mean
from taskmaster.config.base import Conflict, declared
from taskmaster.config.lines import KeyPath, Lines
from taskmaster.config.values import show

__all__ = ["Mistake", "Placed", "in_words", "placed", "quoted", "table_with", "unknown_key"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

#: pydantic's error type → what was expected. ``{…}`` are the error's details.
_EXPECTED = {
    "string_type": "text in quotes",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "the name of a file or folder",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "at least {min_length} elements",
    "too_long": "at most {max_length} elements",
    "literal_error": "{expected}",
    "enum": "{expected}",
}


#: What people write → the keys that it may mean.
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "address": ("resource",),
    "port": ("resource",),
    "get": ("read",),
    "init": ("open",),
    "interval": ("every",),
    "period": ("every",),
    "maximum": ("max",),
    "minimum": ("min",),
    "speed": ("baud_rate",),
    "terminator": ("read_terminator",),
}


class Mistake(NamedTuple):
    """One thing to correct: the ``path`` of the key to blame and what is wrong with it."""

    path: KeyPath
    text: str


class Placed(NamedTuple):
    """A mistake as a person or a program finds it: ``line`` is None, and ``key`` empty, where it is the file's."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


def placed(mistakes: Iterable[Mistake], lines: Lines, name: str) -> tuple[Placed, ...]:
    """The mistakes with their lines in the file ``name``, in its order."""
    found = sorted(((lines[mistake.path], mistake) for mistake in mistakes), key=lambda pair: pair[0])
    return tuple(Placed(name, line, _dotted(path), text) for line, (path, text) in found)


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say of a key that its table does not have."""
    names = sorted(known)
    meant = next((name for name in _SYNONYMS.get(key, ()) if name in names), key)
    return "unknown key" + (did_you_mean(meant, names) or f"; known are {quoted(names)}")


def table_with(model: type[BaseModel], key: str) -> str | None:
    """The table within a table of ``model`` where ``key`` may stand; None if there is none, or more than one."""
    owners = [name for name, field in declared(model).items() if _is_key_of(key, field.annotation)]
    return owners[0] if len(owners) == 1 else None


def _is_key_of(key: str, annotation: Any) -> bool:
    model = _bare(annotation)
    return isinstance(model, type) and issubclass(model, BaseModel) and key in declared(model)


def quoted(names: Iterable[str]) -> str:
    """``'a', 'b', 'c'``."""
    return ", ".join(map(repr, names))


def in_words(
    error: ValidationError, model: type[BaseModel], table: Mapping[str, Any], *, missing: bool = True
) -> Iterator[Mistake]:
    """The mistakes that pydantic found when it validated ``table`` as ``model``; paths are within the table.

    Without ``missing``, those of what the table has.
    """
    for details in error.errors(include_url=False):
        if not missing and details["type"] == "missing":
            continue
        yield _mistake(details, model, table)


def _mistake(details: ErrorDetails, model: type[BaseModel], table: Mapping[str, Any]) -> Mistake:
    location, kind = details["loc"], details["type"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        return Mistake(location, unknown_key(str(location[-1]), declared(owner) if owner else ()))
    if kind == "missing":
        owner = _model_at(model, location[:-1])
        examples = declared(owner)[str(location[-1])].examples if owner else None
        hint = f"; for example {location[-1]} = {examples[0]!r}" if examples else ""
        return Mistake(location, f"is missing{hint}")
    path = _within(location, table)
    complaint = context.get("error")
    if isinstance(complaint, Conflict):
        return Mistake((*location[:-1], complaint.key), complaint.message)
    if isinstance(complaint, ValueError | AssertionError):
        return Mistake(path, str(complaint))
    return Mistake(path, _expected(details, context) + _how_to_write(details, model))


def _expected(details: ErrorDetails, context: Mapping[str, Any]) -> str:
    given = details["input"]
    template = _EXPECTED.get(details["type"])
    if template is None:  # a third party's validator
        message = details["msg"]
        return f"{message[:1].lower()}{message[1:]}, got {show(given)}"
    text = f"expected {template.format_map(context)}, got {show(given)}"
    if details["type"] == "literal_error" and isinstance(given, str):
        text += did_you_mean(given, re.findall(r"'([^']*)'", context["expected"]))
    return text


def _how_to_write(details: ErrorDetails, model: type[BaseModel]) -> str:
    """Of a single text where there should be several, or a table: what that looks like."""
    given = details["input"]
    if not isinstance(given, str):
        return ""
    if details["type"] in ("list_type", "tuple_type"):
        return f"; write [{show(given)}]"
    owner = _model_at(model, details["loc"])
    if details["type"] == "model_type" and owner is not None and "query" in declared(owner):
        return f"; write {{ query = {show(given)} }}"
    return ""


def _within(location: KeyPath, table: Any) -> KeyPath:
    """``location`` as a path in ``table``: without the labels that pydantic adds for keys and members of unions."""
    path: KeyPath = ()
    for part in location:
        try:
            table = table[part]
        except (LookupError, TypeError):
            continue
        path = (*path, part)
    return path or location[:1]


def _model_at(annotation: Any, path: KeyPath) -> type[BaseModel] | None:
    """The model of the table at ``path`` below a value of type ``annotation``; None where that is no table of ours."""
    for part in path:
        annotation = _child(_bare(annotation), part)
    annotation = _bare(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _child(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = declared(annotation).get(str(part))
        return field.annotation if field else None
    arguments = get_args(annotation)
    if not arguments:
        return None
    return arguments[0] if isinstance(part, int) else arguments[-1]


def _bare(annotation: Any) -> Any:
    """Without ``Annotated`` and ``| None``."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    return annotation


def _dotted(path: KeyPath) -> str:
    """``masters.svm.path[0]``; a key is quoted where TOML needs it to be."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False))
    return text
