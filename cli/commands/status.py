"""``taskmaster status``."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from taskmaster.bus.text import format_duration, format_size

__all__ = ["command"]


@click.command()
@click.option("--address", help="The daemon's control address; by default $TASKMASTER, else the local daemon's.")
@click.option("--json", "as_json", is_flag=True, help="For programs: everything, as one JSON object.")
def command(address: str | None, as_json: bool) -> None:
    """How the daemon, its Masters and workers are."""
    from rich.console import Console
    from rich.table import Table

    from taskmaster.learners.client import connect

    with connect(address) as lab:
        status = lab.status()
    if as_json:
        built: Any = msgspec.to_builtins(status)
        click.echo(json.dumps(built, indent=2))
        return
    click.echo(
        f"{status.name}: up {format_duration(status.uptime)}, {format_size(status.memory)} of memory, journal "
        f"{status.journal.state} ({format_size(status.journal.size)}, {format_size(status.journal.free)} free)"
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("master", "state", "slots", "queued", "leased", "held", "done", "failed", "a task"):
        table.add_column(heading, justify="left" if heading in ("master", "state") else "right")
    for master in status.masters:
        numbers = (master.slots, master.queued, master.leased, master.held, master.done, master.failed)
        each = format_duration(master.task_seconds) if master.task_seconds else "–"
        table.add_row(master.name, master.state, *map(str, numbers), each)
    Console().print(table)
    for master in status.masters:
        if master.reason:
            click.echo(f"{master.name}: {master.reason}")
