"""``taskmaster check``: would it work?"""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--journal", is_flag=True, help="PATH is a state directory: check its journal, changing nothing.")
@click.option(
    "--salvage", type=click.Path(path_type=Path), help="With --journal: bring what can be kept to this folder."
)
def command(path: Path, journal: bool, salvage: Path | None) -> None:
    """Check the configuration PATH, or with --journal the journal of a state directory."""
    if journal or salvage is not None:
        _check_journal(path, salvage)
        return
    from taskmaster.config.load import load

    config = load(path)
    for master in config.masters.values():
        click.echo(
            f"Master {master.name}: driver {master.driver}, {len(master.parameters)} parameters, "
            f"{len(master.outputs)} outputs"
        )
    click.echo(f"{path}: no mistakes")


def _check_journal(state: Path, target: Path | None) -> None:
    from taskmaster.daemon.journal import check

    report = check.report(state) if target is None else check.salvage(state, target)
    for line in report.lines():
        click.echo(line)
    if not report.ok:
        raise SystemExit(7)
