"""The commands, and what becomes of their errors. A command's module is imported when it is called."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from taskmaster import __version__
from taskmaster.bus.errors import ConfigError, TaskMasterError
from taskmaster.bus.text import printable_lines
from taskmaster.cli.base import Group, end_of_line, notes_of, sentences, show_tracebacks
from taskmaster.cli.exits import BROKEN_PIPE, ERROR, EXITS, INTERRUPTED, OK, USAGE, exit_code
from taskmaster.cli.journald import priority
from taskmaster.cli.logs import goes_to_journal

__all__ = ["COMMANDS", "Entry", "app", "run"]


@dataclass(frozen=True)
class Entry:
    """A command as ``taskmaster --help`` lists it: its module below `commands`, and what it does."""

    module: str
    summary: str


#: By section of the help.
COMMANDS: Mapping[str, Mapping[str, Entry]] = {
    "To begin with": {
        "demo": Entry("demo", "See a learner drive an evaluation through a daemon."),
        "init": Entry("init", "Write a configuration and an example to start from."),
        "check": Entry("check", "Check a configuration, or the journal."),
        "scan": Entry("scan", "List the instruments that can be reached from here."),
        "config": Entry("config", "What can stand in a configuration."),
        "version": Entry("version", "Print the version."),
    },
    "The daemon": {
        "serve": Entry("serve", "Run the daemon in the foreground."),
        "worker": Entry("worker", "Evaluate for a daemon elsewhere."),
        "install-service": Entry("install_service", "Have systemd run the daemon."),
        "keys": Entry("keys", "Who may come over the network, and which daemons you know."),
        "status": Entry("status", "Show how the daemon and its Masters are."),
        "alarms": Entry("alarms", "List the alarms that stand."),
        "audit": Entry("audit", "Show what operators and admins have done."),
        "top": Entry("top", "Watch Masters and workers at work."),
        "pause": Entry("switches:pause", "Evaluate nothing further of a Master or run."),
        "resume": Entry("switches:resume", "Go on with a Master or run that was paused."),
        "heads": Entry("heads:heads", "Show the heads of instruments; take one out, put it back."),
        "stop": Entry("heads:stop", "Emergency stop of instruments."),
        "reset": Entry("heads:reset", "Let instruments go on after a stop."),
    },
    "Keeping what was measured": {
        "backup": Entry("backup:backup", "Back a journal up, also while its daemon is at work."),
        "restore": Entry("backup:restore", "Go back to a backup."),
        "journal": Entry("journal", "Check the journal, prune old runs, give room back."),
    },
    "Tasks and runs": {
        "submit": Entry("submit", "Put points to be evaluated."),
        "watch": Entry("watch", "Follow the results of a run as they come."),
        "learn": Entry("learn", "Have a learner choose the points."),
        "simulate": Entry("simulate", "Compare learners in virtual time."),
        "cancel": Entry("cancel", "Cancel tasks that have no outcome yet."),
        "held": Entry("held:held", "List the tasks in doubt."),
        "resolve": Entry("held:resolve", "Say what becomes of a task in doubt."),
        "requests": Entry("requests", "List what waits for people's answers."),
        "answer": Entry("answer", "Answer requests, at the terminal or in one line."),
        "proposed": Entry("approval:proposed", "List the tasks that wait for approval."),
        "approve": Entry("approval:approve", "Have proposed tasks evaluated."),
        "reject": Entry("approval:reject", "Have proposed tasks fail."),
        "edit": Entry("approval:edit", "Have a proposed task evaluated at another point."),
        "runs": Entry("runs", "List, show, export, replay, fork and delete runs."),
        "samples": Entry("samples", "Write monitored values as a table."),
    },
}

#: Set by the shell that wants its command line completed.
_COMPLETION = "_TASKMASTER_COMPLETE"
_ENTRIES = {name: entry for section in COMMANDS.values() for name, entry in section.items()}


class _App(Group):
    """The commands of :data:`COMMANDS`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_ENTRIES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        entry = _ENTRIES.get(name)
        if entry is None:
            return None
        module, _, attribute = entry.module.partition(":")
        found = getattr(importlib.import_module(f"taskmaster.cli.commands.{module}"), attribute or "command")
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(10), entry.summary) for name, entry in section.items()])

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(way.code).ljust(10), way.meaning) for way in EXITS])
        formatter.write_paragraph()
        formatter.write_text(
            "RUN is a run's number, or MASTER/NAME. The daemon is found by --address, else $TASKMASTER, else it is the "
            "local one's default. 'taskmaster COMMAND --help' tells more."
        )


@click.group(cls=_App, name="taskmaster", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="TaskMaster", message="%(prog)s %(version)s")
def app() -> None:
    """Durable feedback loops between learners and parallel evaluators."""


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code. Errors are said in a line on standard error."""
    _open_standard_files()
    show_tracebacks(False)
    try:
        return _invoke(list(arguments))
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        _say(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        end_of_line()
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing may be written at exit, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (TaskMasterError, OSError) as error:
        return _fail(error)


def _invoke(arguments: list[str]) -> int:
    """What `click.Command.main` does, but for the ways in which that ends by itself."""
    if asked := os.environ.get(_COMPLETION):
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, "taskmaster", _COMPLETION, asked)
    with app.make_context("taskmaster", arguments) as context:
        ended = app.invoke(context)
    sys.stdout.flush()  # now, while it can still be met in good order that nobody reads it
    return ended if isinstance(ended, int) else OK


def _open_standard_files() -> None:
    """Have all three, for where one was closed the first socket would take its number, and be written to."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - it stays open
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _usage(error: click.UsageError) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return USAGE
    text = error.format_message().rstrip(".")
    place = error.ctx.command_path if error.ctx is not None else "taskmaster"
    first, space, rest = text.partition(" ")
    if first.istitle() and first != "Master":  # a sentence's beginning, and neither GaussianProcess nor a term
        first = first.lower()
    _say(f"{first}{space}{rest}{'' if text.endswith('?') else ';'} see '{place} --help'")
    return USAGE


def _fail(error: TaskMasterError | OSError) -> int:
    if sys.excepthook is sys.__excepthook__:
        traceback.print_exception(error)
    elif isinstance(error, ConfigError):
        for mistake in str(error).splitlines():  # each in a line of its own, with its place
            _say(mistake)
    elif isinstance(error, OSError) and not isinstance(error, TaskMasterError):
        what = error.strerror or str(error)
        _say(f"{error.filename}: {what}" if error.filename else f"cannot read or write: {what}")
    else:
        _say(sentences(str(error), notes_of(error)))
    return exit_code(error) if isinstance(error, TaskMasterError) else ERROR


def _say(text: str) -> None:
    mark = f"<{priority(logging.ERROR)}>" if goes_to_journal() else ""  # else it would pass for a piece of information
    click.echo(f"{mark}taskmaster: {printable_lines(text)}", err=True)
