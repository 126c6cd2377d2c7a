"""``taskmaster requests``: what waits for people's answers."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import click

from taskmaster.bus.status import RequestInfo
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.output import Table, print_json, print_table, record, say, value_text
from taskmaster.learners.export.plain import plain

__all__ = ["command"]


#: Rows of a table that somebody looks at.
_SHOWN = 200


@click.command("requests", cls=Command)
@click.argument("master", required=False)
@address_option
@json_option
def command(master: str | None, address: str | None, as_json: bool) -> None:
    """List the tasks that wait for people's answers, of MASTER or of all.

    Each can be taken by one person at a time, which 'taskmaster answer' does. Who has taken one and not answered it for
    too long leaves it to others.
    """
    with connected(address) as lab:
        found = lab.requests(master, limit=None if as_json else _SHOWN + 1)
    if as_json:
        print_json([{**record(request), "input": plain(request.input)} for request in found])
    elif not found:
        say("nothing waits for an answer")
    else:
        print_table(_table(found[:_SHOWN]))
        if len(found) > _SHOWN:
            say("… and more: --json lists all")
        click.echo("answer them: taskmaster answer MASTER", err=True)


def _table(found: Sequence[RequestInfo]) -> Table:
    headings = [">run", "master", ">task", "since", "taken by", "until", "input"]
    table = Table(headings, [], ("input", "taken by", "master"), ("since", "until"))
    for one in found:
        since = datetime.datetime.fromtimestamp(one.since).isoformat(" ", "seconds")
        until = datetime.datetime.fromtimestamp(one.until).strftime("%H:%M:%S") if one.claimed else ""
        point = "(too large to be shown)" if one.input_omitted else value_text(one.input)
        table.rows.append([str(one.run), one.master, str(one.index), since, one.claimed, until, point])
    return table
