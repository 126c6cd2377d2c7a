"""Writes the configuration reference, ``docs/configuration.md``, from the settings.

``python -m taskmaster.config.reference > docs/configuration.md`` after any change to them; a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from taskmaster.config.base import declared
from taskmaster.config.schema import json_schema
from taskmaster.config.settings import BUILTIN_DRIVERS, MasterKeys
from taskmaster.config.shipped import example

__all__ = ["render"]

_INTRODUCTION = """\
# Configuration

<!-- Generated: `python -m taskmaster.config.reference > docs/configuration.md` -->

One [TOML](https://toml.io) file sets up a daemon and its Masters. `taskmaster check FILE` reports every mistake in it
at once, each with its line; `taskmaster config schema` prints a JSON Schema with which editors complete and check it.

- **Durations** are text with a unit, `"20 ms"`, `"60 s"`, `"5 min"`, `"2 h"`, `"7 d"`, or a number of seconds.
- **Sizes** are text with a unit, `"512 MB"` (10⁶ bytes) or `"4 GiB"` (2³⁰ bytes), or a number of bytes.
- **Folders** and ipc addresses that are relative are relative to the file; `~` is a home folder.
- **Functions** are text, `"module:name"`.
- A key that is not listed here is a mistake.
"""

_EXAMPLE = """\
## A complete example

Every key, with what it does. It ships with TaskMaster, as do two shorter ones, `minimal` and `svm`.

```toml
"""

#: JSON's name of a type → ours.
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "table",
}


def render() -> str:
    """The whole document, in Markdown."""
    schema = json_schema()
    definitions = schema["$defs"]
    parts = [_INTRODUCTION, _section("`[daemon]`", schema["properties"]["daemon"])]
    masters = {name: definitions[f"{name}-master"] for name in BUILTIN_DRIVERS}
    common = {**next(iter(masters.values())), "description": MasterKeys.__doc__}
    parts.append(_section("`[masters.NAME]`", _only(common, set(declared(MasterKeys)))))
    parts.append(
        "`NAME` is a letter, then letters, digits, `_` or `-`, at most 64 in all. "
        "The driver's own keys, below, stand in the same table.\n"
    )
    for name, master in masters.items():
        title = f'`[masters.NAME]` with `driver = "{name}"`'
        parts.append(_section(title, _only(master, set(declared(BUILTIN_DRIVERS[name])))))
    parts.append(_section("`[masters.NAME.parameters]`", definitions["ParameterSettings"]))
    parts.append(_section("`[masters.NAME.outputs]`", definitions["OutputSettings"]))
    parts.append(f"{_EXAMPLE}{example('full').read_text(encoding='utf-8')}```\n")
    return "\n".join(parts)


def _only(table: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {**table, "properties": {key: value for key, value in table["properties"].items() if key in keys}}


def _section(title: str, table: Mapping[str, Any]) -> str:
    required = table.get("required", ())
    rows = (_row(name, key, name in required) for name, key in table["properties"].items())
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", table["description"], "", *head, *rows, ""])


def _row(name: str, key: Mapping[str, Any], required: bool) -> str:
    return f"| `{name}` | {_type(key)} | {_default(key, required)} | {key['description']} |"


def _type(key: Mapping[str, Any]) -> str:
    if "const" in key:
        return "text"
    if "enum" in key:
        return " or ".join(f'`"{value}"`' for value in key["enum"])
    if "title" in key:
        return str(key["title"])
    if key["type"] == "array":
        items = key["items"]
        return f"list of {items.get('title') or _TYPES.get(str(items['type']), 'value')}s" + _least(items)
    return _TYPES[key["type"]] + _least(key)


def _least(key: Mapping[str, Any]) -> str:
    return f" ≥ {key['minimum']}" if "minimum" in key else ""


def _default(key: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    if "x-default" in key:
        return str(key["x-default"])
    if "default" not in key:
        return "–"
    return f"`{_toml(key['default'])}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.stdout.write(render())
