"""``taskmaster version``"""

from __future__ import annotations

import platform

import click

from taskmaster import __version__
from taskmaster.cli.base import Command, json_option

__all__ = ["command"]


@click.command("version", cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        from taskmaster.cli.output import print_json

        print_json({"version": __version__, "python": platform.python_version(), "system": platform.system()})
        return
    click.echo(f"TaskMaster {__version__} (Python {platform.python_version()}, {platform.system()})")
