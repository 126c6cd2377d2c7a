"""``taskmaster config``: what can stand in a configuration."""

from __future__ import annotations

import json

import click

from taskmaster.bus.text import did_you_mean_or
from taskmaster.cli.base import Command, Group

__all__ = ["command"]


@click.group("config", cls=Group)
def command() -> None:
    """What can stand in a configuration."""


@command.command("schema", cls=Command)
def schema() -> None:
    """Print the JSON Schema of the configuration file.

    Editors complete and check TOML by it, where they are told of it.
    """
    from taskmaster.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@command.command("example", cls=Command)
@click.argument("name", default="full")
def example(name: str) -> None:
    """Print an example: full (every key, explained), minimal, or svm."""
    from taskmaster.config import shipped

    if name not in shipped.examples():
        raise click.UsageError(f"there is no example {name!r}{did_you_mean_or(name, shipped.examples())}")
    click.echo(shipped.example(name).read_text(encoding="utf-8"), nl=False)
