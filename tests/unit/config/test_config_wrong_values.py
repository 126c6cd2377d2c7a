"""Any wrong value anywhere in a file is told in plain words."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.complaints import complaints
from hypothesis import given, strategies as st

from taskmaster.config.shipped import example

FULL = {name: tomllib.loads(example(name).read_text(encoding="utf-8")) for name in ("full", "instruments")}
WRONG = [
    0,
    -1,
    2**70,
    1.5,
    "nan",
    True,
    "",
    "5 s",
    "'\\u0000'",
    "1e400 s",
    "tcp://1",
    "ipc://x",
    "process",
    "a:b",
    "{x.y!r}",
    "LEV {level:d};{nothing}",
    "(",
    [],
    {},
]
WORDS = re.compile(r"lab\.toml:\d+: [a-z]+(\.[\w-]+|\[\d+\]|\.\"[^\n]*\")*: [a-zA-Z0-9'\"{-][^\n]*")
JARGON = (
    "Input should",
    "Value error",
    "valid ",
    "Extra inputs",
    "Field required",
    "NoneType",
    "pydantic",
    "Traceback",
)


def keys(table: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as (its container, its key there)."""
    for key, value in table.items() if isinstance(table, dict) else enumerate(table):
        yield table, key
        if isinstance(value, dict | list):
            yield from keys(value)


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    return f"[{', '.join(map(as_toml, value))}]" if isinstance(value, list) else json.dumps(value)


@pytest.mark.parametrize("name", ["full", "instruments"])
@given(data=st.data())
def test_any_wrong_value_anywhere_gets_plain_words(name: str, data: st.DataObject) -> None:
    document = copy.deepcopy(FULL[name])
    for _ in range(data.draw(st.integers(1, 4))):
        places = list(keys(document))
        container, key = data.draw(st.sampled_from(places))
        container[key] = copy.deepcopy(data.draw(st.sampled_from(WRONG)))
    text = "\n".join(f"{json.dumps(key)} = {as_toml(value)}" for key, value in document.items())
    for line in complaints(text, example("full").parent):
        assert WORDS.fullmatch(line), line
        assert not any(word in line for word in JARGON), line
