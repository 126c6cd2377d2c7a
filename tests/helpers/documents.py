"""Reading the documents: their sections, code and tables, so that tests can hold them against the code."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["ROOT", "code_blocks", "document", "section", "tables"]

ROOT = Path(__file__).resolve().parents[2]

_HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
_CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def document(name: str) -> str:
    """The text of a file, named from the root of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under the only heading that begins with ``heading``, its subsections included."""
    plain = _CODE.sub(lambda block: " " * len(block[0]), text)
    found = [match for match in _HEADING.finditer(plain) if match[2].startswith(heading)]
    assert len(found) == 1, f"{len(found)} headings begin with {heading!r}"
    [start] = found
    ends = (m.start() for m in _HEADING.finditer(plain, start.end()) if len(m[1]) <= len(start[1]))
    return text[start.end() : next(ends, len(text))]


def code_blocks(text: str, language: str) -> list[str]:
    """The code in one language, block by block."""
    return [body for kind, body in _CODE.findall(text) if kind == language]


def tables(text: str) -> list[list[list[str]]]:
    """Every table: its rows without the heading and the line below it, as lists of cells without backquotes."""
    found: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE):
        lines = block.strip().splitlines()[2:]
        found.append([[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines])
    return found
