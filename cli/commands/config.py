"""``taskmaster config``: what editors and people need to write a configuration."""

from __future__ import annotations

import json

import click

__all__ = ["command"]


@click.group("config")
def command() -> None:
    """The configuration's JSON Schema and examples."""


@command.command()
def schema() -> None:
    """Print the JSON Schema, for editors that complete and check TOML."""
    from taskmaster.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@command.command()
@click.argument("name", default="full")
def example(name: str) -> None:
    """Print an annotated example: minimal, svm or full."""
    from taskmaster.config.shipped import example as shipped

    click.echo(shipped(name).read_text(encoding="utf-8"), nl=False)
