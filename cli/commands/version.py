"""``taskmaster version``"""

from __future__ import annotations

import platform

import click

from taskmaster import __version__
from taskmaster.cli.base import Command

__all__ = ["command"]


@click.command("version", cls=Command)
def command() -> None:
    """Print the version."""
    click.echo(f"TaskMaster {__version__} (Python {platform.python_version()}, {platform.system()})")
