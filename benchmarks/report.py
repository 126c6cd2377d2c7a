"""What was measured, for people (a Markdown table, also in the documents) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contest import Row, median

__all__ = ["as_json", "table", "write_section"]

_HEADINGS = ("figure", "ours", "beside", "theirs", "ratio", "must", "aim", "verdict", "neighbours", "wake-up")
_RIGHT = frozenset({"ours", "theirs", "ratio", "neighbours", "wake-up"})


def table(rows: Sequence[Row]) -> str:
    """All rows as a Markdown table that also reads well as it is."""
    cells = [list(_HEADINGS), *(_cells(row) for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(_HEADINGS))]
    rule = [("-" * (width - 1) + ":") if name in _RIGHT else "-" * width for name, width in zip(_HEADINGS, widths)]
    lines = [cells[0], rule, *cells[1:]]
    justified = [map(_justify, line, widths, _HEADINGS) for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in justified)


def _justify(text: str, width: int, heading: str) -> str:
    return text.rjust(width) if heading in _RIGHT else text.ljust(width)


def _cells(row: Row) -> list[str]:
    theirs = _figure(median(row.theirs), row.unit) if row.theirs else ""
    return [
        row.figure,
        _figure(median(row.ours), row.unit),
        row.rival,
        theirs,
        "" if row.ratio is None else f"{row.ratio:.3g} ×",
        "" if row.must is None else str(row.must),
        "" if row.aim is None else str(row.aim),
        row.verdict,
        "" if row.conditions is None else f"{row.conditions.neighbours:.0%}",
        "" if row.conditions is None else f"{row.conditions.wakeup * 1e6:.0f} µs",
    ]


def _figure(value: float, unit: str) -> str:
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f} {unit}"
    return f"{value:.3g} {unit}"


def as_json(rows: Sequence[Row], machine: Mapping[str, str], command: str, started: str) -> str:
    """Everything, with each round."""
    return json.dumps(
        {
            "format": 1,
            "started": started,
            "command": command,
            "machine": dict(machine),
            "rows": [_row(row) for row in rows],
        },
        indent=1,
        ensure_ascii=False,
    )


def _row(row: Row) -> dict[str, Any]:
    return {
        "figure": row.figure,
        "unit": row.unit,
        "ours": list(row.ours),
        "rival": row.rival or None,
        "theirs": None if row.theirs is None else list(row.theirs),
        "ratio": row.ratio,
        "ratio_of_best": row.ratio_of_best,
        "must": None if row.must is None else str(row.must),
        "aim": None if row.aim is None else str(row.aim),
        "verdict": row.verdict,
        "conditions": None if row.conditions is None else asdict(row.conditions),
    }


def write_section(document: Path, name: str, text: str) -> None:
    """Replace what stands between the markers ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` of a document.

    Raises ValueError if the document does not have them.
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document} has no section {name!r}; put {begin.strip()!r} and {end!r} where it belongs")
    document.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
