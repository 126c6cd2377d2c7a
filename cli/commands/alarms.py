"""``taskmaster alarms``"""

from __future__ import annotations

import datetime

import click

from taskmaster.bus.status import AlarmInfo
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.output import Cell, Table, print_json, print_table, record, say

__all__ = ["command"]

_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}


@click.command("alarms", cls=Command)
@address_option
@json_option
def command(address: str | None, as_json: bool) -> None:
    """List the alarms that stand.

    Each is about something that an operator should see to, and ends by itself when that is over. What each kind means,
    and what to do, is in docs/operations.md; a program that is run for each is named in the configuration, in [alarms].
    """
    with connected(address) as lab:
        alarms = lab.standing_alarms()
    if as_json:
        print_json([record(alarm) for alarm in alarms])
    elif not alarms:
        say("no alarm stands")
    else:
        print_table(_table(alarms))


def _table(alarms: tuple[AlarmInfo, ...]) -> Table:
    table = Table(["since", "level", "kind", "about", "message"], [], ("message", "about"), ("about",))
    for alarm in alarms:
        since = datetime.datetime.fromtimestamp(alarm.since).isoformat(" ", "seconds")
        level = Cell(alarm.level, _STYLES.get(alarm.level, ""))
        about = "/".join(filter(None, (alarm.subject, alarm.about)))
        table.rows.append([since, level, alarm.kind, about, " ".join(alarm.message.split())])
    return table
