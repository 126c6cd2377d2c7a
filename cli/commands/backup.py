"""``taskmaster backup`` and ``taskmaster restore``"""

from __future__ import annotations

import datetime
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskmaster.bus.text import format_size
from taskmaster.cli.base import Command, json_option
from taskmaster.cli.output import count, print_json, record, say
from taskmaster.cli.states import state_of

if TYPE_CHECKING:
    from taskmaster.daemon.journal.backup import Manifest

__all__ = ["backup", "restore"]


@click.command("backup", cls=Command)
@click.argument("place", metavar="CONFIG|STATE", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", metavar="NEW", type=click.Path(path_type=Path))
@json_option
def backup(place: Path, folder: Path, as_json: bool) -> None:
    """Back the journal of a configuration, or in a state folder, up to the folder NEW.

    Also while the daemon is at work, which it does not disturb: the backup is of one moment, and holds everything that
    was acknowledged before. All of it is read again and compared with the original before it gets its name. What it
    does not hold: the configuration, functions, and keys.
    """
    from taskmaster.daemon.journal.backup import back_up

    state = state_of(place)
    made = back_up(state, folder, time.time())
    if as_json:
        print_json({"backup": str(folder.absolute()), "state": str(state), **_shown(made)})
        return
    say(f"{folder}: {_contents(made)}; compared with {state}")
    say(f"to go back to it: taskmaster restore {shlex.quote(str(folder))} STATE")


@click.command("restore", cls=Command)
@click.argument("folder", metavar="BACKUP", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("place", metavar="CONFIG|STATE", type=click.Path(path_type=Path))
@click.option(
    "--resume", is_flag=True,
    help="Leave Masters as they were, not paused: nothing was evaluated after the backup was made.",
)  # fmt: skip
@json_option
def restore(folder: Path, place: Path, resume: bool, as_json: bool) -> None:
    """Go back to a BACKUP, in the state folder of a configuration, or another one.

    That has to be empty, or not there yet, and no daemon at work in it. All that is restored is read again and
    compared. Every Master is paused then, as what was evaluated since would be evaluated again; clients that were told
    more than the backup holds say so.
    """
    from taskmaster.daemon.journal.backup import restore

    state = state_of(place)
    made = restore(folder, state, resume=resume)
    is_paused = not resume and made.runs > 0
    if as_json:
        print_json({"backup": str(folder.absolute()), "state": str(state), "paused": is_paused, **_shown(made)})
        return
    say(f"{state}: {_contents(made)}, as of {_moment(made.made)}; compared with the backup")
    if is_paused:
        say("its Masters are paused: what was evaluated since would be evaluated again. If it may be:")
        say("taskmaster resume MASTER")


def _contents(made: Manifest) -> str:
    size = format_size(made.database + made.bytes)
    return f"{count(made.runs, 'run')}, {count(made.tasks, 'task')}, {count(made.events, 'event')}, {size}"


def _shown(made: Manifest) -> dict[str, object]:
    return {key: value for key, value in record(made).items() if key not in ("tables", "format", "state")}


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
