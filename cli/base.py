"""What all commands share: options, suggestions for misspelt words, and the address of the daemon."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import click

from taskmaster.bus.places import ENVIRONMENT
from taskmaster.bus.text import did_you_mean_or

__all__ = [
    "Command",
    "Group",
    "address_option",
    "end_of_line",
    "json_option",
    "notes_of",
    "sentences",
    "show_tracebacks",
]

F = TypeVar("F", bound=Callable[..., Any])


def _no_color(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ["NO_COLOR"] = "1"  # heard by everything that draws, here and in child processes


def _debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        show_tracebacks(True)


def show_tracebacks(wanted: bool) -> None:
    """Whether a mistake of ours is shown in full, or in a line that says how to see it."""
    sys.excepthook = sys.__excepthook__ if wanted else _in_a_line


def _in_a_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = " ".join(str(error).split())
    if notes := notes_of(error):
        click.echo(f"taskmaster: {sentences(f'{kind.__name__}: {text}' if text else kind.__name__, notes)}", err=True)
        return
    click.echo(
        f"taskmaster: unexpected {kind.__name__}{f': {text}' if text else ''}; this is a mistake in TaskMaster: "
        "run it again with --debug, and report what that shows",
        err=True,
    )


def notes_of(error: BaseException) -> str:
    """What was noted with an error: where a user's code raised it, and what to do then."""
    return " ".join(getattr(error, "__notes__", ()))


def sentences(*parts: str) -> str:
    """Those that are not empty, one behind the other; the last as it is."""
    said = [part for part in parts if part]
    ended = [part if part.endswith((".", "?", "!")) else f"{part}." for part in said[:-1]]
    return " ".join([*ended, *said[-1:]])


def end_of_line() -> None:
    """End the line of the ^C that a terminal has echoed, on standard error."""
    if sys.stderr.isatty():
        click.echo(err=True)


def _common() -> list[click.Parameter]:
    return [
        click.Option(
            ["--no-color"], is_flag=True, expose_value=False, is_eager=True, callback=_no_color,
            help="Draw without colours, as the environment variable NO_COLOR asks for, too.",
        ),
        click.Option(
            ["--debug"], is_flag=True, expose_value=False, is_eager=True, callback=_debug,
            help="Show errors with their traceback.",
        ),
    ]  # fmt: skip


class Command(click.Command):
    """A command with the options that all have."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self.params += _common()


class Group(click.Group):
    """A group of commands that knows what a misspelt one was meant to be."""

    command_class = Command

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self.params += _common()

    def list_commands(self, context: click.Context) -> list[str]:
        """In the order in which they were made."""
        return list(self.commands)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but name the nearest command where there is none of that name."""
        name = arguments[0]
        known = self.list_commands(context)
        if name not in known and not name.startswith("-"):
            context.fail(f"there is no command {name!r}{did_you_mean_or(name, known)}")
        return super().resolve_command(context, arguments)


def address_option(function: F) -> F:
    """Adds ``--address``, passed as ``address``: None for the default, which `connecting` works out."""
    return click.option(
        "--address",
        metavar="ADDRESS",
        help=f"The daemon's control address. By default ${ENVIRONMENT}, else the local daemon's.",
    )(function)


def json_option(function: F) -> F:
    """Adds ``--json``, passed as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)
