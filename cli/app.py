"""The command group: finds a subcommand's module by its name, and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.text import did_you_mean
from taskmaster.cli.exits import EXITS, INTERRUPTED, exit_code

__all__ = ["COMMANDS", "cli", "run"]

#: command → module of `taskmaster.cli.commands` and one line of help, so that listing them imports none of them
COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("check", "Check a configuration, or a journal."),
    "config": ("config", "The configuration's JSON Schema and examples."),
    "demo": ("demo", "A learner explores a real function on this machine, with a picture at the end."),
    "serve": ("serve", "Run the daemon in the foreground."),
    "status": ("status", "How the daemon, its Masters and workers are."),
    "version": ("version", "The versions of TaskMaster and what it stands on."),
}


class _Commands(click.Group):
    """Subcommands by `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"taskmaster.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], COMMANDS)
            ctx.fail(f"no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, (text, _) in EXITS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Durable feedback loops between learners and parallel evaluators."""
    context.obj = {"debug": debug}


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        code: Any = cli.main(
            args=list(arguments) if arguments is not None else None, prog_name="taskmaster", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; there is nobody to tell, and closing must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except TaskMasterError as error:
        if debug:
            raise
        click.echo(f"taskmaster: {error}", err=True)
        code = exit_code(error)
    sys.exit(code if isinstance(code, int) else 0)
