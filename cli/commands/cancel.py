"""``taskmaster cancel``"""

from __future__ import annotations

import click

from taskmaster.bus import messages as m
from taskmaster.bus.text import how_to_resolve
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, find_run
from taskmaster.cli.indices import read_interval, require_tasks
from taskmaster.cli.output import count, print_json, say

__all__ = ["command"]


@click.command("cancel", cls=Command)
@click.argument("run")
@click.argument("indices", nargs=-1, metavar="[INDEX|FIRST-LAST]...")
@click.option("--all", "all_tasks", is_flag=True, help="All tasks without an outcome.")
@click.option("--queued", is_flag=True, help="Only those of them that no worker has yet.")
@address_option
@json_option
def command(
    run: str, indices: tuple[str, ...], all_tasks: bool, queued: bool, address: str | None, as_json: bool
) -> None:
    """Cancel tasks of RUN that have no outcome yet.

    Each becomes a result that says so. A task that is being evaluated is broken off where that does no harm. One
    that is in doubt stays so: 'taskmaster resolve' ends it. With --queued, what was granted to a worker goes on.
    """
    if bool(indices) == all_tasks:
        raise click.UsageError("name the numbers of tasks (3 7 10-19), or all of them with --all")
    intervals = None if all_tasks else tuple(map(read_interval, indices))
    with connected(address) as lab:
        found = find_run(lab, run)
        require_tasks(found, intervals or ())
        cancelled = lab.ask(m.Cancel(0, found.run, intervals, queued)).count
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
