"""``taskmaster config``: what can stand in a configuration."""

from __future__ import annotations

import json

import click

from taskmaster.bus.errors import ConfigError
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
    """Print an example.

    full has every key, explained, but those of instruments; these are in instruments. minimal and svm evaluate
    functions; stm, chambers and growth are instruments by their commands, pymeasure and qcodes by classes of these
    libraries. bench.yaml, digits.py, lamp.py, lorenz.cu and lorenz.py are files that some of them need beside
    them.
    """
    from taskmaster.config import shipped

    try:
        path = shipped.example(name)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    click.echo(path.read_text(encoding="utf-8"), nl=False)
