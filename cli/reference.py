"""The commands as `docs/cli.md` has them: ``python -m taskmaster.cli.reference`` prints that part of it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import click

from taskmaster.cli.app import COMMANDS, app

__all__ = ["commands", "reference"]

#: Options that every command has, which are explained once.
_COMMON = ("no_color", "debug", "help", "address", "as_json")
_WIDTH = 120


def reference() -> str:
    """The section ``Commands``, in Markdown."""
    lines = []
    for title, section in COMMANDS.items():
        lines += [f"### {title}", ""]
        for path, command in commands().items():
            if path.split()[1] in section and not isinstance(command, click.Group):
                lines += _described(path, command)
    return "\n".join(lines)


def commands() -> dict[str, click.Command]:
    """Every command and group of commands by what one types: ``taskmaster runs list``."""
    context = click.Context(app, info_name="taskmaster")
    found: dict[str, click.Command] = {}
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        found[f"taskmaster {name}"] = command
        if isinstance(command, click.Group):
            found |= {f"taskmaster {name} {sub}": subcommand for sub, subcommand in command.commands.items()}
    return found


def _described(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    yield f"#### `{' '.join([path, *arguments])}`"
    yield ""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield textwrap.fill(" ".join(paragraph.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)
        yield ""
    also = [f"`--{name}`" for name, key in (("address", "address"), ("json", "as_json")) if _has(command, key)]
    options = [p for p in command.params if isinstance(p, click.Option) and p.name not in _COMMON]
    if options:
        yield "| option | meaning |"
        yield "|---|---|"
        for option in options:
            yield f"| `{_form(option, context)}` | {_meaning(option)} |"
        yield ""
    if also:
        yield f"{'Also' if options else 'Takes'} {' and '.join(also)}."
        yield ""


def _has(command: click.Command, name: str) -> bool:
    return any(parameter.name == name for parameter in command.params if isinstance(parameter, click.Option))


def _form(option: click.Option, context: click.Context) -> str:
    value = "" if option.is_flag else f" {option.make_metavar(context)}"
    return f"{', '.join(option.opts)}{value}".replace("|", r"\|")


def _meaning(option: click.Option) -> str:
    more = []
    if option.required:
        more.append("Required.")
    if option.show_default:
        more.append(f"Default: `{option.default}`.")
    return " ".join([option.help or "", *more]).replace("|", r"\|")


if __name__ == "__main__":
    print(reference(), end="")
