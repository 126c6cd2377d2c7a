"""How a file names what an object has: its properties and methods, and what those are called with.

These are the values of the tables ``init``, ``set``, ``call``, ``read`` and ``safe`` of the driver `instrument`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field as PydanticField, WithJsonSchema

from taskmaster.bus.text import did_you_mean_or
from taskmaster.config.lines import KeyPath
from taskmaster.config.values import check_member, show

__all__ = ["Arguments", "Keywords", "Steps", "Target", "parameters_of"]

_CALL = ("method", "args", "kwargs")


def _check_call(table: Mapping[str, Any]) -> None:
    """Of ``{ method = "ramp", args = [3], kwargs = { pause = 0.1 } }``. Raises ValueError in plain words."""
    for key in table:
        if key not in _CALL:
            raise ValueError(f"a call has no key {key!r}{did_you_mean_or(key, _CALL)}")
    if not isinstance(table["method"], str):
        raise ValueError(f"expected the name of a method, got {show(table['method'])}")  # noqa: TRY004
    check_member(table["method"])
    if not isinstance(table.get("args", []), (list, tuple)):
        raise ValueError(f"args: expected a list, got {show(table['args'])}")  # noqa: TRY004
    if not isinstance(table.get("kwargs", {}), dict):
        raise ValueError(f"kwargs: expected a table, got {show(table['kwargs'])}")  # noqa: TRY004


def _is_call(value: object) -> bool:
    return isinstance(value, dict) and "method" in value


def _read_target(value: object) -> object:
    """The name of a member, or a call of a method."""
    if isinstance(value, dict) and _is_call(value):
        _check_call(value)
        return value
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004
            f"expected the name of a property, parameter or method, or a table {{method = …}}, got {show(value)}"
        )
    return check_member(value)


def _read_steps(value: object) -> object:
    """A list of steps; a single one may stand alone."""
    steps = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for step in steps:
        if not isinstance(step, (str, dict)):
            problem = f"expected the name of a method, or a table of properties and values, got {show(step)}"
            raise ValueError(problem)  # noqa: TRY004
        if isinstance(step, dict) and _is_call(step):
            _check_call(step)
            continue
        for name in [step] if isinstance(step, str) else step:
            check_member(name)
    return steps


Target = Annotated[
    Any, BeforeValidator(_read_target), WithJsonSchema({"title": "name or table", "type": ["string", "object"]})
]
Steps = Annotated[
    tuple[Any, ...],
    BeforeValidator(_read_steps),
    WithJsonSchema({"title": "table, name or list of them", "type": ["string", "object", "array"]}),
]
Arguments = Annotated[tuple[Any, ...], PydanticField(strict=False), WithJsonSchema({"type": "array", "title": "list"})]
Keywords = Annotated[Mapping[str, Any], WithJsonSchema({"type": "object", "title": "table"})]


def parameters_of(section: str, value: object) -> Iterator[tuple[KeyPath, str]]:
    """The parameters that stand as ``{ parameter = "x" }`` among a section's arguments, and where.

    ``value`` is what the file has there: a step, a list of steps, or a table of targets.
    """
    entries: Iterator[tuple[int | str, Any]]
    if isinstance(value, dict) and not _is_call(value):
        entries = iter(value.items())
    else:
        entries = iter(enumerate(value if isinstance(value, list) else [value]))
    for key, entry in entries:
        if not isinstance(entry, dict):
            continue
        args, kwargs = entry.get("args"), entry.get("kwargs")
        given = [
            *(args if isinstance(args, list) else ()),
            *(kwargs.values() if isinstance(kwargs, dict) else ()),
        ]
        for argument in given:
            if isinstance(argument, dict) and set(argument) == {"parameter"}:
                yield (section, key), str(argument["parameter"])
