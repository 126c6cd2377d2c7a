"""Every key that tomllib finds is located on the line where it stands, however the document is written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, strategies as st

from taskmaster.config.lines import KeyPath, locate

# -- documents in every style, by a writer that knows its lines --------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "key-1", "2", "x y", "dots.in.it", "# no", "[t]", 'quo"te', "tab\t", "ä", "", "b\\"])
DECOYS = ["# a = 1", '# """', "# ''' [a] {", '\t # "']
SCALARS = [
    "1",
    "-2.5e3",
    "inf",
    "true",
    "1979-05-27 07:32:00Z",
    "07:32:00",
    '"a = 1 # \\" [b]"',
    "'it is \"\\'",
    '""',
    '"""\na = 1\n"" [b]\n\\""" \\\n  b = 2"""',
    '"""a""""',
    '"""a"""""',
    "'''\nb = 1\n''\n'''",
    "'''x'''''",
]


@dataclass
class Writer:
    """Text in the making, with the lines on which keys were written."""

    choose: Any
    text: str = ""
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def note(self, path: KeyPath, explicit: bool = False) -> None:
        line = self.text.count("\n") + 1
        if explicit:
            self.lines[path] = line
        self.lines.setdefault(path, line)

    def one_of(self, choices: list[str]) -> str:
        return str(self.choose(st.sampled_from(choices)))

    def break_line(self) -> None:
        newline = self.one_of(["\n", "\r\n"])
        self.text += self.one_of(["", " ", *DECOYS]) + newline
        self.text += self.one_of(["", "", "\t", *DECOYS]) + newline

    def key(self, part: str) -> str:
        bare = part != "" and all(c.isascii() and (c.isalnum() or c in "-_") for c in part)
        styles = ["basic"] + ["bare"] * 3 * bare + ["literal"] * ("'" not in part and part.isprintable())
        style = self.one_of(styles)
        return part if style == "bare" else f"'{part}'" if style == "literal" else json.dumps(part)

    def dotted(self, parts: tuple[str, ...]) -> str:
        return self.one_of([".", " . ", ".\t"]).join(map(self.key, parts))


def write_table(writer: Writer, table: dict[str, Any], path: KeyPath, dotted: tuple[str, ...] = ()) -> None:
    """The body of a table: its values first, then, under headers, the tables that are not written in place."""
    later = []
    for key, value in table.items():
        here = (*path, key)
        tables = value if isinstance(value, list) else [value]
        is_nested = bool(tables) and all(isinstance(item, dict) for item in tables)
        if is_nested and not dotted and writer.choose(st.booleans()):
            later.append((key, value))
        elif isinstance(value, dict) and value and writer.choose(st.booleans()):
            write_table(writer, value, here, (*dotted, key))
        else:
            writer.text += writer.one_of(["", "  ", "\t"])
            for end in range(len(path) - len(dotted) + 1, len(here) + 1):
                writer.note(here[:end])
            writer.text += writer.dotted((*dotted, key)) + writer.one_of(["=", " = ", "\t= "])
            write_value(writer, value, here)
            writer.break_line()
    for key, value in later:
        write_under_headers(writer, value, (*path, key))


def write_under_headers(writer: Writer, value: Any, path: KeyPath) -> None:
    has_only_tables = isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values())
    if has_only_tables and writer.choose(st.booleans()):  # then it needs no header of its own
        for key, item in value.items():
            write_under_headers(writer, item, (*path, key))
        return
    names = tuple(part for part in path if isinstance(part, str))
    opening, closing = ("[[", "]]") if isinstance(value, list) else ("[", "]")
    for i, table in enumerate(value if isinstance(value, list) else [value]):
        here = (*path, i) if isinstance(value, list) else path
        for end in range(1, len(path)):
            writer.note(path[:end])
        writer.note(path, explicit=isinstance(value, dict))
        writer.note(here, explicit=True)
        writer.text += opening + writer.one_of(["", " "]) + writer.dotted(names) + writer.one_of(["", " "]) + closing
        writer.break_line()
        write_table(writer, table, here)


def write_value(writer: Writer, value: Any, path: KeyPath) -> None:
    if isinstance(value, dict):
        writer.text += "{"
        for i, (key, item) in enumerate(value.items()):
            writer.text += ", " if i else " "
            writer.note((*path, key))
            writer.text += writer.key(key) + " = "
            write_value(writer, item, (*path, key))
        writer.text += " }"
    elif isinstance(value, list):
        writer.text += "["
        for i, item in enumerate(value):
            if writer.choose(st.booleans()):
                writer.break_line()
            writer.note((*path, i))
            write_value(writer, item, (*path, i))
            writer.text += ","
        writer.text += "]"
    else:
        writer.text += str(value)


def values(depth: int = 3) -> st.SearchStrategy[Any]:
    scalar = st.sampled_from(SCALARS)
    if depth == 0:
        return scalar
    inner = values(depth - 1)
    return scalar | st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of everything in a parsed document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


@given(st.dictionaries(KEYS, values(), max_size=5), st.data())
def test_every_key_is_found_on_its_line(document: dict[str, Any], data: st.DataObject) -> None:
    writer = Writer(data.draw)
    write_table(writer, document, ())
    parsed = tomllib.loads(writer.text)
    found = locate(writer.text)
    for path in paths(parsed):
        assert path in found
        assert found[path] == writer.lines[path], (path, writer.text)


# -- particular cases --------------------------------------------------------------------------------------------------

DOCUMENT = '''\
top = 1
# [masters.svm]
[masters.svm]
text = """
timeout = 3   # not a key
"""
timeout = "60 s"
list = [
  { x = 1 },
  [2,
   3],
]
parameters.log_C = { min = -2,   "max" = 4 }

[masters]
[[ heads . "left hand" ]]
port = 1
[[heads."left hand"]]
port = 2
  [heads."left hand".limits]
  z = 3
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("masters", "svm"), 3),
        (("masters", "svm", "timeout"), 7),
        (("masters", "svm", "list", 0), 9),
        (("masters", "svm", "list", 0, "x"), 9),
        (("masters", "svm", "list", 1, 1), 11),
        (("masters", "svm", "parameters"), 13),
        (("masters", "svm", "parameters", "log_C", "max"), 13),
        (("masters",), 15),
        (("heads", "left hand"), 16),
        (("heads", "left hand", 0, "port"), 17),
        (("heads", "left hand", 1), 18),
        (("heads", "left hand", 1, "port"), 19),
        (("heads", "left hand", 1, "limits", "z"), 21),
    ],
)
def test_a_key_is_where_its_reader_sees_it(path: KeyPath, line: int) -> None:
    found = locate(DOCUMENT)
    assert path in found
    assert found[path] == line


def test_what_is_not_there_is_at_the_nearest_table_around_it() -> None:
    found = locate(DOCUMENT)
    assert ("masters", "svm", "workers") not in found
    assert found["masters", "svm", "workers"] == 3
    assert found["daemon", "name"] == 1
