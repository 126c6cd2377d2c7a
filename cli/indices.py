"""Numbers of tasks as people type them."""

from __future__ import annotations

from collections.abc import Iterable

import click

from taskmaster.bus.errors import UnknownTask
from taskmaster.bus.status import RunInfo
from taskmaster.cli.output import count

__all__ = ["read_interval", "require_tasks"]


def read_interval(text: str) -> tuple[int, int]:
    """``7`` or ``10-19`` as the interval ``low ≤ i < high``. Raises UsageError."""
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
        raise click.UsageError(f"{text!r} is neither the number of a task nor a range like 10-19")
    return int(first), int(last or first) + 1


def require_tasks(run: RunInfo, intervals: Iterable[tuple[int, int]]) -> None:
    """Raise UnknownTask for an interval that lies beyond the last task of the run."""
    for first, end in intervals:
        if first >= run.tasks:
            wanted = f"task {first}" if end == first + 1 else f"tasks {first}-{end - 1}"
            has = f"it has {count(run.tasks, 'task')}" + (f", the last is number {run.tasks - 1}" if run.tasks else "")
            raise UnknownTask(f"run {run.run} ({run.master}/{run.name}) has no {wanted}: {has}")
