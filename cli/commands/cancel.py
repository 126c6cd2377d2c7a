"""``taskmaster cancel``"""

from __future__ import annotations

from collections.abc import Iterable

import click

from taskmaster.bus import messages as m
from taskmaster.bus.errors import UnknownTask
from taskmaster.bus.status import RunInfo
from taskmaster.bus.text import how_to_resolve
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, find_run
from taskmaster.cli.output import count, print_json, say

__all__ = ["command"]


@click.command("cancel", cls=Command)
@click.argument("run")
@click.argument("indices", nargs=-1, metavar="[INDEX|FIRST-LAST]...")
@click.option("--all", "all_tasks", is_flag=True, help="All tasks without an outcome.")
@address_option
@json_option
def command(run: str, indices: tuple[str, ...], all_tasks: bool, address: str | None, as_json: bool) -> None:
    """Cancel tasks of RUN that have no outcome yet.

    Each becomes a result that says so. A task that is being evaluated is broken off where that does no harm. One
    that is in doubt stays so: 'taskmaster resolve' ends it.
    """
    if bool(indices) == all_tasks:
        raise click.UsageError("name the numbers of tasks (3 7 10-19), or all of them with --all")
    intervals = None if all_tasks else tuple(map(_interval, indices))
    with connected(address) as lab:
        found = find_run(lab, run)
        _require_tasks(found, intervals or ())
        cancelled = lab.ask(m.Cancel(0, found.run, intervals)).count
        held = [task.index for task in lab.held(run=found.run) if _is_among(task.index, intervals)]
    if as_json:
        run_ = {"run": found.run, "master": found.master, "name": found.name}
        print_json({**run_, "cancelled": cancelled, "held": len(held)})
    else:
        say(f"run {found.run} ({found.master}/{found.name}): {count(cancelled, 'task')} cancelled")
    if held:
        what = f"{count(len(held), 'task is', 'tasks are')} in doubt and not cancelled"
        click.echo(f"taskmaster: {what}: {how_to_resolve(found.run, held[0])}", err=True)


def _is_among(index: int, intervals: tuple[tuple[int, int], ...] | None) -> bool:
    return intervals is None or any(low <= index < high for low, high in intervals)


def _require_tasks(run: RunInfo, intervals: Iterable[tuple[int, int]]) -> None:
    """Raise UnknownTask for an interval that lies beyond the last task of the run."""
    for first, end in intervals:
        if first >= run.tasks:
            wanted = f"task {first}" if end == first + 1 else f"tasks {first}-{end - 1}"
            has = f"it has {count(run.tasks, 'task')}" + (f", the last is number {run.tasks - 1}" if run.tasks else "")
            raise UnknownTask(f"run {run.run} ({run.master}/{run.name}) has no {wanted}: {has}")


def _interval(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
        raise click.UsageError(f"{text!r} is neither the number of a task nor a range like 10-19")
    return int(first), int(last or first) + 1
