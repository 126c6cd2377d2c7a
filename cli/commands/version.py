"""``taskmaster version``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from taskmaster import __version__

__all__ = ["command"]

_PARTS = ("pyzmq", "msgspec", "numpy", "apsw", "pydantic")


@click.command()
def command() -> None:
    """The versions of TaskMaster and what it stands on."""
    click.echo(f"taskmaster {__version__}")
    click.echo(f"Python {platform.python_version()} on {platform.system()} {platform.release()}")
    for part in _PARTS:
        try:
            click.echo(f"{part} {version(part)}")
        except PackageNotFoundError:
            click.echo(f"{part} is not installed")
