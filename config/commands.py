"""How an instrument is spoken to: its commands, as the file declares them for the drivers `visa` and `serial`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field as PydanticField,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema

from taskmaster.config.base import Settings, setting
from taskmaster.config.safety import QueryWatchdog
from taskmaster.config.sent import Commands
from taskmaster.config.values import Command, FieldName, Regex, duration, show

__all__ = ["CommandSettings", "ErrorsSettings", "Parse", "RampSettings", "ReadSettings", "WaitSettings"]

Parse = Literal["number", "list", "text", "block"]

#: numpy's names of the types that instruments send; of more than one byte, in which order is to be said.
_DTYPE = re.compile(r"[<>](f[248]|[iu][248]|c8|c16)|[iu]1")

#: Key of a reading → the ways to parse an answer that it belongs to.
_BELONGS: Mapping[str, tuple[Parse, ...]] = {
    "separator": ("list",),
    "pattern": ("number", "list", "text"),
    "unit": ("number", "list"),
    "dtype": ("block",),
    "shape": ("list", "block"),
}


@dataclass(frozen=True)
class _OrText:
    """Annotates a table that may be written as text, which is then its key ``key``."""

    key: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"title": f"{self.key} or table", "anyOf": [{"type": "string"}, handler(schema)]}


def _read_query(value: object) -> object:
    if not isinstance(value, (str, dict)):
        raise ValueError(f"expected a query or a table, got {show(value)}")  # noqa: TRY004
    return {"query": value} if isinstance(value, str) else value


def _read_extent(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or (isinstance(value, int) and value < -1):
        raise ValueError(f"expected a whole number of at least -1 or the name of a parameter, got {show(value)}")
    if value == 0:
        raise ValueError("an axis of length 0 has no values; write -1 for any length")
    return value


Extent = Annotated[Any, BeforeValidator(_read_extent)]


class ReadSettings(Settings):
    """How one output is read: a query and what to make of its answer."""

    query: Command = setting("What is asked; it may name parameters as in `set`.", example="MEAS:CURR?")
    parse: Parse | None = setting(
        "What the answer is: a `number`, a `list` of numbers, `text`, or a `block` of binary values as of IEEE 488.2 "
        "(`#` …). By default by the output: text if its kind is `str`, a list if it has a shape, else a number.",
        default=None,
    )
    separator: str = setting("What stands between the numbers of a list.", default=",")
    pattern: Regex | None = setting(
        "Finds the value in the answer: its group, or all that matches. By default the whole answer.", default=None
    )
    unit: str = setting(
        "What follows the number in the answer and has to be there, say `mA`; white space between does not matter.",
        default="",
    )
    dtype: str | None = setting(
        "Type of the values in a block, as numpy writes it: `<f4` is a little-endian float of 4 bytes, `>i2` a "
        "big-endian whole number of 2, `u1` a byte.",
        default=None,
        example="<f4",
    )
    shape: Annotated[
        tuple[Extent, ...], PydanticField(strict=False, json_schema_extra={"items": {"type": ["integer", "string"]}})
    ] = setting(
        "Shape of the values in a list or block: the length along each axis, -1 for any, or the name of the parameter "
        "that has it. By default the output's.",
        default=(),
    )

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and (groups := re.compile(pattern).groups) > 1:
            raise ValueError(f"expected at most one group, got {groups} in {show(pattern)}; (?:…) groups without one")
        return pattern

    @field_validator("separator")
    @classmethod
    def _separates(cls, separator: str) -> str:
        if not separator:
            raise ValueError("expected at least 1 character, got ''")
        return separator

    @field_validator("dtype")
    @classmethod
    def _known_to_numpy(cls, dtype: str | None) -> str | None:
        if dtype is not None and not _DTYPE.fullmatch(dtype):
            raise ValueError(f"expected '<' or '>' and f4, i2, u8, …, or i1, u1, got {show(dtype)}")
        return dtype

    @field_validator(*_BELONGS)
    @classmethod
    def _belongs(cls, value: object, info: ValidationInfo) -> object:
        parse = info.data.get("parse")
        assert info.field_name is not None
        ways = _BELONGS[info.field_name]
        if parse is not None and parse not in ways:
            raise ValueError(f"parse = {parse!r} has no use for it; only {' and '.join(map(repr, ways))} has")
        return value


class WaitSettings(Settings):
    """How the instrument tells that what was set has come about: it is asked until it gives the expected answer."""

    query: Command = setting("What is asked.", example="*OPC?")
    until: Regex = setting("The answer that is waited for, as a regular expression for the whole of it.", default="1")
    timeout: Annotated[float, duration("1 ms")] = setting(
        "After so long in all the instrument counts as failed.", default=10.0, shown="10 s"
    )
    every: Annotated[float, duration("1 ms")] = setting("How often it is asked.", default=0.05, shown="50 ms")


class ErrorsSettings(Settings):
    """How the instrument tells its errors: it is asked after `set`, `read` and `safe` until it has no more."""

    query: Command = setting("What is asked.", example="SYST:ERR?")
    ok: Regex = setting(
        "The answer that means none, as a regular expression for the whole of it. Any other one fails the task.",
        default="[+-]?0(,.*)?",
    )


class RampSettings(Settings):
    """A parameter that is never set at a jump: it goes to its value in steps, each sent by the commands of `set`."""

    step: Annotated[float, PydanticField(gt=0)] = setting("The largest step, in the parameter's unit.", example="0.1")
    every: Annotated[float, duration("1 ms")] = setting("Time from one step to the next.", default=0.1, shown="100 ms")
    query: Command | None = setting(
        "What is asked for the present value, before the first ramp of a connection.", default=None, example="BIAS?"
    )
    start: float | None = setting(
        "The value that it has after `open`, where it cannot be asked for; `open` has to see to that.",
        default=None,
        validate_default=True,
    )

    @field_validator("start")
    @classmethod
    def _from_somewhere(cls, start: float | None, info: ValidationInfo) -> float | None:
        if "query" in info.data and (start is None) == (info.data["query"] is None):
            known = "add query or start" if start is None else "remove one of query and start"
            raise ValueError(f"where a ramp begins has to be known from one place; {known}")
        return start


Reading = Annotated[ReadSettings, BeforeValidator(_read_query), _OrText("query")]


class CommandSettings(Settings):
    """The commands of an instrument. In `set`, `wait` and `read`, `{name:.3f}` is the value of a parameter."""

    # That `safe` is missing is said together with all that does not agree, and with what to write instead.
    model_config = ConfigDict(json_schema_extra={"required": ["safe"]})

    open: Commands = setting("Sent at every connection, after the identity was right.", default=())
    set: Commands = setting(
        "Sent for each task, in this order. `{name:format}` is the value of a parameter in a format of Python's, or a "
        "head's constant of `values`; `{{` and `}}` are braces. A command that the instrument answers is a table "
        "`{ command = …, answer = … }`, here and in `open` and `safe`: `answer` is a regular expression for the whole "
        "of what it says when all is well; anything else fails the task.",
        default=(),
    )
    wait: WaitSettings | None = setting("How to know that what was set has come about.", default=None)
    read: Mapping[FieldName, Reading] = setting(
        "How each output is read, by name: a query, or a table with what to make of the answer.", default={}
    )
    safe: Commands = setting(
        "Sent to bring the head to its safe state. `[]`: there is none to bring it to, as of a meter.", default=()
    )
    errors: ErrorsSettings | None = setting(
        "How the instrument tells its errors. By default it is not asked.", default=None
    )
    watchdog: QueryWatchdog | None = setting("The instrument's own watchdog, where it has one.", default=None)
    delay: Annotated[float, duration()] = setting(
        "Pause after each command that is not a query, for instruments that need it.", default=0.0, shown="0 s"
    )
    ramps: Mapping[FieldName, RampSettings] = setting("Parameters that are set in steps, by name.", default={})
