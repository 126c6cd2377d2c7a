"""``python -m taskmaster.daemon.pruner``: archives the runs of a daemon that are not to be kept, and asks it to let go.

A process of its own, with little priority, since to write Parquet takes long and much memory; it reads the journal as
anybody may and never writes to it. What is to be done comes on standard input in one line of JSON; for each run that is
archived it asks by a line on standard output, and the daemon, which is the journal's only writer, answers by one on
standard input: empty, or why the run is kept. It ends when standard input does, as with the daemon.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from taskmaster.bus.errors import Conflict, TaskMasterError
from taskmaster.bus.fields import Field
from taskmaster.daemon.archiving import prune, require_parquet
from taskmaster.daemon.journal.reading import RecordedRuns
from taskmaster.daemon.retention import ClosedRun, Retention

__all__ = ["Errand", "Wish", "main"]

_NICE = 10


class Errand(msgspec.Struct, frozen=True):
    """What is to be done."""

    state: str
    rules: Retention
    #: the parameters and outputs of Masters
    fields: dict[str, tuple[tuple[Field, ...], tuple[Field, ...]]] = {}


class Wish(msgspec.Struct, frozen=True):
    """A run that is archived, and is to be deleted if it has just so many events."""

    run: int
    events: int
    #: for the log
    text: str


def _ask(run: ClosedRun) -> None:
    text = f"run {run.run} ({run.master}/{run.name})"
    sys.stdout.buffer.write(msgspec.json.encode(Wish(run.run, run.events, text)) + b"\n")
    sys.stdout.buffer.flush()
    answer = sys.stdin.buffer.readline()
    if not answer:
        os._exit(0)  # the daemon is gone
    if answer.strip():
        raise Conflict(answer.decode(errors="replace").strip())


def main() -> int:
    """Entry point; what stands in the way goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    errand = msgspec.json.decode(sys.stdin.buffer.readline(), type=Errand)
    try:
        if errand.rules.archive is not None:
            require_parquet()
        with contextlib.closing(RecordedRuns(Path(errand.state), errand.fields)) as runs:
            for _ in prune(runs, errand.rules, time.time(), _ask):
                pass
    except TaskMasterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename or errand.rules.archive}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
