"""``taskmaster watch``: follow the results of a run."""

from __future__ import annotations

import click

from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, in_master, newest_run
from taskmaster.cli.lines import ResultLines

__all__ = ["command"]


@click.command("watch", cls=Command)
@click.argument("master")
@click.argument("run", required=False)
@click.option(
    "--since", type=click.Choice(["start", "now"]), default="start", show_default=True,
    help="All results of the run, or those that come from now on.",
)  # fmt: skip
@address_option
@json_option
def command(master: str, run: str | None, since: str, address: str | None, as_json: bool) -> None:
    """Follow the results of a run of MASTER as they come.

    RUN is its name or number; without it, the newest run. Ends when the run is closed and every task of it has an
    outcome; Ctrl-C leaves before, and changes nothing.
    """
    with connected(address) as lab:
        info = newest_run(lab, master) if run is None else in_master(lab, master, run)
        if not as_json:
            click.echo(f"run {info.run}, {master}/{info.name}:", err=True)
        lines = ResultLines(lab[master], as_json=as_json)
        for result in lab[master].watch(info.name, since).results.follow():
            lines.print(result)
