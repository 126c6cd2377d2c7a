"""``taskmaster samples``: monitored values of heads as a table."""

from __future__ import annotations

import click

from taskmaster.bus import messages as m
from taskmaster.bus.text import did_you_mean_or
from taskmaster.cli.base import Command, address_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.exporting import series_format, write_series
from taskmaster.cli.moments import moment_option
from taskmaster.cli.output import count, say
from taskmaster.learners.export.series import samples_table

__all__ = ["command"]


@click.command("samples", cls=Command)
@click.argument("master")
@click.option("--head", metavar="HEAD", help="Of this head only.")
@click.option("--name", metavar="NAME", help="Of this value only.")
@click.option(
    "--since", metavar="TIME", help="From then on: 2026-11-21, 2026-11-21T12:00, or how long ago: '2 h', '7 d'."
)
@click.option("--until", metavar="TIME", help="Up to then.")
@click.option("--format", "form", metavar="csv|jsonl|parquet", help="By default as FILE's name says, else csv.")
@click.option(
    "-o", "--output", metavar="FILE", default="-", help="Where to write; by default, or -, to standard output."
)
@address_option
def command(
    master: str,
    head: str | None,
    name: str | None,
    since: str | None,
    until: str | None,
    form: str | None,
    output: str,
    address: str | None,
) -> None:
    """Write the monitored values of MASTER's heads as a table.

    A row for each: head, name, time (seconds since 1970), value; head by head, and name by name. The journal keeps them
    as long as the configuration says (retention).
    """
    form = series_format(form, output)
    begin, end = moment_option("--since", since), moment_option("--until", until)
    with connected(address) as lab:
        _ = lab[master]  # raises UnknownMaster
        known = {one for info in lab.heads(master) for one in info.values}
        table = samples_table(lab, m.ReadSamples(0, master, head, name, begin, end))
        rows = write_series(table, output, form)
    if not rows and name is not None and known and name not in known:
        click.echo(f"taskmaster: no head of {master} tells {name!r}{did_you_mean_or(name, known)}", err=True)
    if output != "-":
        say(f"{output}: {count(rows, 'row')} of Master {master}")
