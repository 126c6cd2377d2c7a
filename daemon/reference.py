"""Writes the tables of metrics and alarms in `docs/operations.md`, from the code.

``python -m taskmaster.daemon.reference alarms`` or ``… metrics`` prints one; a test compares them.
"""

from __future__ import annotations

import sys

from taskmaster.daemon.alarms import KINDS
from taskmaster.daemon.metrics import METRICS

__all__ = ["alarms_table", "metrics_table"]


def alarms_table() -> str:
    """What each kind of alarm means, and what to do, in Markdown."""
    rows = [f"| `{name}` | {_cell(kind.meaning)} | {_cell(kind.remedy)} |" for name, kind in KINDS.items()]
    return "\n".join(["| kind | what it means | what to do |", "|---|---|---|", *rows])


def metrics_table() -> str:
    """What each metric is, in Markdown."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels) or '–'} | "
        f"{_cell(metric.help)} |"
        for metric in METRICS
    ]
    return "\n".join(["| metric | type | labels | what |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write({"alarms": alarms_table, "metrics": metrics_table}[sys.argv[1]]() + "\n")
