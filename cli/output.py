"""What commands print: tables for people on a terminal, aligned text where it is piped, JSON for programs."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import msgspec

from taskmaster.bus.text import count, format_duration, printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

__all__ = [
    "Cell",
    "Table",
    "console",
    "count",
    "duration",
    "figure",
    "in_red",
    "is_terminal",
    "json_text",
    "line_width",
    "number",
    "one_line",
    "print_json",
    "print_line",
    "print_table",
    "record",
    "rich_table",
    "say",
    "say_aside",
    "shortened",
    "shown_json",
    "value_text",
]


#: Blanks between two columns.
_GAP = 2
#: Characters that an elastic column is left.
_NARROWEST = 12
#: Letters that order a terminal about, or make a text look like another one: from DEL on, and the marks of direction.
_UNSHOWN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
#: Blanks before what goes on from the line above.
_INDENT = 4


@dataclass(frozen=True)
class Cell:
    """Text in a style of rich's, which only a terminal shows."""

    text: str
    style: str = ""


@dataclass
class Table:
    """Rows under headings; a heading that begins with ``>`` is of a column of numbers, aligned to the right."""

    headings: Sequence[str]
    rows: list[Sequence[str | Cell]]
    #: headings of the columns that give way where the terminal is narrow, the first of them first
    elastic: Sequence[str] = ()
    #: headings of those that are left out where that is not enough, the first of them first
    dispensable: Sequence[str] = ()

    def widths(self, limit: float = math.inf) -> list[int]:
        """How wide each column is, so that all have room in ``limit`` characters as far as that can be."""
        lines = [[heading.removeprefix(">") for heading in self.headings], *self.texts()]
        widths = [max(map(len, column)) for column in zip(*lines)]
        for heading in self.elastic:
            k = self.headings.index(heading)
            excess = _total(widths) - limit
            widths[k] = int(max(min(widths[k], _NARROWEST), widths[k] - max(0, excess)))
        return widths

    def texts(self) -> list[list[str]]:
        """The rows without their styles, and without what a terminal would take for an order."""
        return [list(map(_text, row)) for row in self.rows]

    def fitted(self, limit: float) -> Table:
        """The table with as many of its columns as have room in ``limit`` characters."""
        table = self
        for heading in self.dispensable:
            if _total(table.widths(limit)) <= limit:
                break
            table = table._without(heading)
        return table

    def _without(self, heading: str) -> Table:
        k = [one.removeprefix(">") for one in self.headings].index(heading)
        rows: list[Sequence[str | Cell]] = [[*row[:k], *row[k + 1 :]] for row in self.rows]
        return Table([*self.headings[:k], *self.headings[k + 1 :]], rows, self.elastic, self.dispensable)


def _text(cell: str | Cell) -> str:
    return one_line(cell.text if isinstance(cell, Cell) else cell)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console of rich's. It heeds NO_COLOR, and says things as they are: nothing in them is markup."""
    from rich.console import Console

    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def say(text: str = "", red: str = "") -> None:
    """A line on standard output, or several; ``red`` in that colour at its end.

    What others have written is in many of them: a terminal gets no orders from it.
    """
    click.echo(printable_lines(text) + (in_red(printable_lines(red)) if red else ""))


def say_aside(text: str) -> None:
    """A remark on standard error, likewise."""
    click.echo(f"taskmaster: {printable_lines(text)}", err=True)


def one_line(text: str) -> str:
    """A text that others may have written, as a terminal may have it, in one line."""
    return printable_lines(text).replace("\n", " ")


def in_red(text: str) -> str:
    """``text``, red on a terminal that is to have colours."""
    return click.style(text, fg="red") if is_terminal() and not os.environ.get("NO_COLOR") else text


def print_json(value: Any) -> None:
    """``value`` as JSON: indented on a terminal, on one line in a pipe."""
    click.echo(json_text(value, 2 if is_terminal() else None))


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON."""
    return shown_json(json.dumps(value, ensure_ascii=False, indent=indent))


def shown_json(text: str) -> str:
    """JSON with letters escaped, too, that it may have as they are and a terminal would take for orders."""
    return _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def figure(value: float) -> float | None:
    """A figure as JSON has it, which knows none that is not finite: null."""
    return float(value) if math.isfinite(value) else None


def print_table(table: Table) -> None:
    """A table for whoever reads: with style on a terminal, else in full width and plain."""
    if not is_terminal():
        for line in _aligned(table):
            say(line)
        return
    width = console().width
    fitted = table.fitted(width)
    # Rather wrapped than cut off where the terminal is too narrow for it all the same.
    console(width=max(_total(fitted.widths(width)), width)).print(rich_table(fitted, width))


def rich_table(table: Table, limit: float = math.inf) -> RichTable:
    """The table as rich draws it, in ``limit`` characters as far as that can be."""
    from rich.table import Table as RichTable

    table = table.fitted(limit)
    widths = table.widths(limit)
    drawn = RichTable(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for heading, width in zip(table.headings, widths):
        drawn.add_column(
            heading.removeprefix(">"),
            justify="right" if heading.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=width,
        )
    for row in table.rows:
        drawn.add_row(*map(_drawn, row, widths))
    return drawn


def _drawn(cell: str | Cell, width: int) -> Text:
    from rich.text import Text

    style = cell.style if isinstance(cell, Cell) else ""
    return Text(shortened(_text(cell), width), style)


def _aligned(table: Table) -> Iterable[str]:
    widths = table.widths()
    for line in [[heading.removeprefix(">") for heading in table.headings], *table.texts()]:
        cells = (
            text.rjust(width) if heading.startswith(">") else text.ljust(width)
            for text, width, heading in zip(line, widths, table.headings)
        )
        yield (" " * _GAP).join(cells).rstrip()


def record(value: Any) -> Any:
    """A statistics record as JSON has it, with every key, also of what has its default value."""
    if isinstance(value, msgspec.Struct):
        return {name: record(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (list, tuple)):
        return [record(item) for item in value]
    return {key: record(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def print_line(text: str, end: str = "") -> None:
    """A line on standard output, ``end`` in red at its end; on a terminal broken between words where it is too long."""
    text, end = one_line(text), one_line(end)
    first, *rest = _wrapped(text + end, int(width)) if (width := line_width()) < math.inf else [text + end]
    say(first[: len(text)], first[len(text) :])
    for line in rest:
        say(*("", line) if end else (line,))


def line_width() -> float:
    """Characters that have room on a line of standard output; endlessly many where it is no terminal."""
    return shutil.get_terminal_size().columns if is_terminal() else math.inf


def _wrapped(line: str, width: int) -> list[str]:
    indent = " " * min(_INDENT, width // 4)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


# -- words and figures ------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """A duration for people; a dash for none, or one that nobody can tell."""
    return format_duration(seconds) if 0 < seconds < math.inf else "–"


def number(value: float) -> str:
    """A figure for people: four digits that mean something."""
    return f"{value:.4g}"


def value_text(value: Any, limit: int = 60) -> str:
    """A point or an output for people: ``log_C=0.5 log_gamma=-3``, at most about ``limit`` characters."""
    if isinstance(value, Mapping):
        text = " ".join(f"{name}={value_text(item, limit)}" for name, item in value.items())
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif hasattr(value, "shape") and getattr(value, "size", 0) > 8:
        text = f"<{value.dtype} array of shape {value.shape}>"
    elif hasattr(value, "tolist"):
        text = value_text(value.tolist(), limit)
    elif isinstance(value, (list, tuple)):
        text = f"[{', '.join(value_text(item, limit) for item in value)}]"
    else:
        text = value if isinstance(value, str) else repr(value)
    text = printable(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def shortened(text: str, limit: int) -> str:
    """``text`` in ``limit`` characters, without its middle where it is longer: names differ at their ends."""
    if len(text) <= limit:
        return text
    tail = limit // 2
    return f"{text[: limit - tail - 1]}…{text[len(text) - tail :]}"
