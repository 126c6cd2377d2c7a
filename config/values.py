"""The kinds of values that settings are made of: durations, sizes, folders, functions by name.

Each is an annotation that reads what TOML gives (text, numbers, lists) and says in plain words what was expected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from taskmaster.bus.calls import PATTERN
from taskmaster.bus.text import FIELD_NAME, parse_duration, parse_size
from taskmaster.config.templates import Template

__all__ = [
    "MAX_INTEGER",
    "NAME",
    "Backend",
    "CallName",
    "Command",
    "Constant",
    "Environment",
    "ExistingFolder",
    "FieldName",
    "File",
    "Folder",
    "FunctionName",
    "Label",
    "Member",
    "Name",
    "Regex",
    "base_folder",
    "check_command",
    "check_member",
    "check_regex",
    "duration",
    "show",
    "size",
]

#: TOML's and SQLite's integers have 64 bits.
MAX_INTEGER = 2**63 - 1

_NUMBER = r"\s*\d+(\.\d+)?(e[+-]?\d+)?\s*"


def show(value: object) -> str:
    """A value as the user wrote it, short enough for one line of a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        text = "[" + ", ".join(show(item) for item in value[:20]) + "]"
        return text if len(text) <= 60 else "a list"
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 60 else text[:59] + "…"


def base_folder(info: ValidationInfo) -> Path:
    """What relative paths are relative to: the folder of the file being read, else the current one."""
    return Path((info.context or {}).get("folder") or Path.cwd())


# -- durations and sizes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Quantity:
    """Annotates a number that the file writes as text with a unit; ``least`` is the smallest one allowed."""

    name: str
    example: str
    parse: Callable[[Any], float]
    units: str
    least: str | None = None
    #: a bare number is refused: what it would do is too much to be a matter of guessing
    with_unit: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        text = {"type": "string", "pattern": f"^{_NUMBER}({self.units}){'' if self.with_unit else '?'}\\s*$"}
        if self.with_unit:
            return {"title": self.name, **text}
        number = {"type": "number" if self.name == "duration" else "integer", "minimum": 0}
        return {"title": self.name, "anyOf": [text, number]}

    def read(self, value: object) -> float:
        """The number in ``value``; ValueError in plain words where there is none or it is too small."""
        if self.with_unit and not str(value).strip()[-1:].isalpha():
            raise ValueError(f"expected a {self.name} with its unit, such as {self.example!r}, got {show(value)}")
        if isinstance(value, str):
            number = self._parsed(value)  # its own message names the units
        else:
            try:
                number = self._parsed(value)
            except ValueError:
                raise ValueError(f"expected a {self.name} such as {self.example!r}, got {show(value)}") from None
        if self.least is not None and number < self.parse(self.least):
            raise ValueError(f"expected a {self.name} of at least {self.least!r}, got {show(value)}")
        return number

    def _parsed(self, value: object) -> float:
        try:
            number = self.parse(value)
        except OverflowError:
            number = float("inf")
        if number > MAX_INTEGER:
            raise ValueError(f"the {self.name} {show(value)} is too large")
        return number


def duration(least: str | None = None) -> _Quantity:
    """Annotates a ``float`` of seconds; written ``"60 s"``, ``"5 min"``, or as a bare number of seconds."""
    return _Quantity("duration", "60 s", parse_duration, "us|µs|ms|s|min|h|d", least)


def age(least: str) -> _Quantity:
    """The same of what is deleted when it is so old: ``"180 d"``. The unit is asked for."""
    return _Quantity("duration", "180 d", parse_duration, "us|µs|ms|s|min|h|d", least, with_unit=True)


def size(least: str | None = None) -> _Quantity:
    """Annotates an ``int`` of bytes; written ``"512 MB"``, ``"4 GiB"``, or as a bare number of bytes."""
    return _Quantity("size", "512 MB", parse_size, "B|[kMGT]B|[KMGT]iB", least)


# -- folders -----------------------------------------------------------------------------------------------------------


def _read_folder(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ValueError(f"expected the name of a folder, got {show(value)}")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"cannot tell whose home folder {show(value)} is; write the path in full") from None
    return Path(os.path.normpath(base_folder(info) / path))


def _check_folder(path: Path) -> Path:
    try:
        if path.is_dir():
            return path
        reason = "is not a folder" if path.exists() else "does not exist"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise ValueError(f"folder {str(path)!r} {reason}")


def _read_file(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value) or str(value).endswith("/"):
        raise ValueError(f"expected the name of a file, got {show(value)}")
    return _read_folder(value, info)


File = Annotated[Path, BeforeValidator(_read_file), WithJsonSchema({"type": "string", "title": "file"})]
Folder = Annotated[Path, BeforeValidator(_read_folder), WithJsonSchema({"type": "string", "title": "folder"})]
ExistingFolder = Annotated[Folder, AfterValidator(_check_folder)]


# -- VISA's libraries --------------------------------------------------------------------------------------------------


def _read_backend(value: object, info: ValidationInfo) -> str:
    """A path in it is one relative to the file; PyVISA-sim's is that of a description, which has to be there."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected the name of a VISA library, such as '@py', got {show(value)}")
    library, at, wrapper = value.rpartition("@") if "@" in value else (value, "", "")
    path = os.path.normpath(base_folder(info) / Path(library)) if library else ""
    if library and os.path.isfile(path):
        return f"{path}{at}{wrapper}"
    if library and wrapper == "sim":
        raise ValueError(f"there is no file {path}, by which PyVISA-sim would simulate")
    return value


Backend = Annotated[
    str, BeforeValidator(_read_backend), WithJsonSchema({"type": "string", "title": "VISA library", "minLength": 1})
]


# -- names -------------------------------------------------------------------------------------------------------------

_IDENTIFIER = r"[^\W\d]\w*"
_DOTTED = rf"{_IDENTIFIER}(\.{_IDENTIFIER})*"
#: What a Master or a head may be called: its name stands in topics, file names and command lines.
NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_FUNCTION = re.compile(rf"{_DOTTED}:{_DOTTED}")


def _read_function(value: object) -> str:
    if isinstance(value, str) and _FUNCTION.fullmatch(value) and ".py:" not in value:
        return value
    raise ValueError(f"expected 'module:name', got {show(value)}{_meant_function(value)}")


def _meant_function(value: object) -> str:
    """``; did you mean …?`` for the two usual slips: ``module.name`` and ``file.py:name``."""
    if not isinstance(value, str):
        return ""
    meant = value.replace(".py:", ":") if ":" in value else ":".join(value.rsplit(".", 1))
    return f"; did you mean {meant!r}?" if meant != value and _FUNCTION.fullmatch(meant) else ""


def _check_field_name(name: str) -> str:
    if not re.fullmatch(FIELD_NAME, name) or len(name) > 64:
        raise ValueError(
            f"{name!r} cannot be a name: use a letter, then letters, digits, '_', '-' or '.', at most 64 in all"
        )
    return name


def _check_label(label: str) -> str:
    if not 0 < len(label) <= 64 or not label.isprintable() or label != label.strip():
        raise ValueError(f"expected 1 to 64 printable characters, got {show(label)}")
    return label


def _check_environment(table: dict[str, str]) -> dict[str, str]:
    for name, value in table.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"{show(name)} = {show(value)} cannot be an environment variable")
    return table


def _check_call(text: str) -> str:
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"expected 'module:name', 'module:*' or 'package.*', got {show(text)}")
    return text


def _check_name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"{show(name)} cannot be a name: use a letter, then letters, digits, '_' or '-', at most 64 in all"
        )
    return name


def check_regex(pattern: str) -> str:
    """The pattern itself; ValueError in plain words where it is none."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{show(pattern)} is not a regular expression: {error}") from None
    return pattern


def check_command(text: str) -> str:
    """The command itself; ValueError in plain words where it cannot be one."""
    Template(text)
    return text


def check_member(name: str) -> str:
    """The name of an attribute, dotted or not; ValueError in plain words where it cannot be one."""
    if not re.fullmatch(_DOTTED, name):
        raise ValueError(
            f"expected the name of a property, parameter or method, such as 'ch1.voltage', got {show(name)}"
        )
    return name


def _read_constant(value: object) -> object:
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"expected a number, text or true/false, got {show(value)}")  # noqa: TRY004
    return value


FunctionName = Annotated[
    str,
    BeforeValidator(_read_function),
    WithJsonSchema({"type": "string", "title": "module:name", "pattern": r"^[^\W\d][\w.]*:[^\W\d][\w.]*$"}),
]
CallName = Annotated[
    str, AfterValidator(_check_call), WithJsonSchema({"type": "string", "title": "module:name", "pattern": PATTERN})
]
FieldName = Annotated[str, AfterValidator(_check_field_name)]
Label = Annotated[str, AfterValidator(_check_label)]
Environment = Annotated[dict[str, str], AfterValidator(_check_environment)]
Name = Annotated[str, AfterValidator(_check_name)]
Regex = Annotated[str, AfterValidator(check_regex), WithJsonSchema({"type": "string", "title": "regular expression"})]
#: What is sent to an instrument; which parameters it may name is for its Master's table to say.
Command = Annotated[str, AfterValidator(check_command), WithJsonSchema({"type": "string", "title": "command"})]
#: An attribute of an object, dotted where it is one of a part of it.
Member = Annotated[str, AfterValidator(check_member)]
#: A single value that TOML has, whatever its type.
Constant = Annotated[
    Any,
    PlainValidator(_read_constant),
    WithJsonSchema({"type": ["number", "string", "boolean"], "title": "value"}),
]
