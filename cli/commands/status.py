"""``taskmaster status``"""

from __future__ import annotations

import click

from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.output import print_json, print_line, print_table, record, say
from taskmaster.cli.views import devices_table, facts, masters_table, troubles, workers_table

__all__ = ["command"]


@click.command("status", cls=Command)
@click.argument("master", required=False)
@click.option("-w", "--workers", is_flag=True, help="List the workers, too.")
@address_option
@json_option
def command(master: str | None, workers: bool, address: str | None, as_json: bool) -> None:
    """Show how the daemon and its Masters are.

    With MASTER, only that one, and its workers.
    """
    with connected(address) as lab:
        if master is not None:
            _ = lab[master]  # raises UnknownMaster
        status = lab.status()
        place = lab.address
    chosen = tuple(one for one in status.masters if master in (None, one.name))
    if as_json:
        shown = record(status)
        shown["address"] = place
        shown["masters"] = record(chosen)
        print_json(shown)
        return
    for line in facts(status, place):
        print_line(line)
    say()
    print_table(masters_table(chosen))
    if (workers or master is not None) and any(one.workers for one in chosen):
        say()
        print_table(workers_table(chosen))
        if (devices := devices_table(chosen)).rows:
            say()
            print_table(devices)
    for line in troubles(status):
        say()
        print_line(line)
