"""Writes the configuration reference, ``docs/configuration.md``, from the settings.

``python -m taskmaster.config.reference > docs/configuration.md`` after any change to them; a test compares the two.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from taskmaster.config.base import declared
from taskmaster.config.operations import OPERATIONS
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

Every key, with what it does. It ships with TaskMaster, as do shorter ones: `minimal`, `svm`, and for instruments
`stm`, `chambers`, `growth` (programmes), `pymeasure` and `qcodes`.

```toml
"""

_INSTRUMENTS = """\
## A complete example of instruments

Every key of their drivers; it ships with TaskMaster, too, as `instruments`.

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
    parts += (_section(f"`[{name}]`", schema["properties"][name]) for name in OPERATIONS)
    masters = {name: definitions[f"{name}-master"] for name in BUILTIN_DRIVERS}
    common = {**next(iter(masters.values())), "description": MasterKeys.__doc__}
    parts.append(_section("`[masters.NAME]`", _only(common, set(declared(MasterKeys)))))
    parts.append(
        "`NAME` is a letter, then letters, digits, `_` or `-`, at most 64 in all. "
        "The driver's own keys, below, stand in the same table.\n"
    )
    for name, master in masters.items():
        title = f'`[masters.NAME]` with `driver = "{name}"`'
        parts.append(_section(title, _only(master, set(declared(BUILTIN_DRIVERS[name]))) | _changed(name)))
    parts += (_section(title, definitions[name]) for title, name in _inner(masters, definitions))
    parts.append(f"{_EXAMPLE}{example('full').read_text(encoding='utf-8')}```\n")
    parts.append(f"{_INSTRUMENTS}{example('instruments').read_text(encoding='utf-8')}```\n")
    return "\n".join(parts)


def _changed(driver: str) -> dict[str, Any]:
    """The description of a driver's table, with the defaults of common keys that are others there."""
    model = BUILTIN_DRIVERS[driver]
    others = " ".join(f"`{key}` is {_quoted(value)} by default." for key, value in model.common_defaults.items())
    return {"description": f"{inspect.getdoc(model)} {others}".rstrip()}


def _inner(masters: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The tables within the Masters' tables: (title, name of the definition)."""
    found: dict[str, dict[str, list[str]]] = {}
    for driver, master in masters.items():
        for header, name in _tables(master, "masters.NAME", definitions):
            found.setdefault(header, {}).setdefault(name, []).append(driver)
    for header, names in found.items():
        for name, drivers in names.items():
            which = " or ".join(f'"{driver}"' for driver in drivers)
            yield f"`{header}`" + (f" with `driver = {which}`" if len(drivers) < len(masters) else ""), name


def _tables(table: Mapping[str, Any], path: str, definitions: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, schema in table["properties"].items():
        inner = f"{path}.{key}"
        for values, header in (
            (schema, f"[{inner}]"),
            (schema.get("additionalProperties"), f"[{inner}]"),
            (schema.get("items"), f"[[{inner}]]"),
        ):
            name = _reference(values)
            if name is not None:
                yield header, name
                yield from _tables(definitions[name], inner, definitions)


def _reference(schema: object) -> str | None:
    """The definition that a value has, or may have."""
    if not isinstance(schema, dict):
        return None
    alternatives = [schema, *schema.get("anyOf", ())]
    return next((str(one["$ref"]).rpartition("/")[2] for one in alternatives if "$ref" in one), None)


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
    if "$ref" in key:
        return "table"
    if key["type"] == "array":
        items = key["items"]
        if "$ref" in items:
            return "array of tables"
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
        return _quoted(value)
    if isinstance(value, dict):
        return "{}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else str(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(render())
