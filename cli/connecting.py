"""The daemon and the runs that a command line names."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections.abc import Iterator

import click

from taskmaster.bus.errors import DaemonUnreachable, UnknownRun, WorkerError
from taskmaster.bus.places import ENVIRONMENT, default_address
from taskmaster.bus.status import MasterStatus, RunInfo
from taskmaster.bus.text import did_you_mean, printable_lines
from taskmaster.cli.output import say_aside
from taskmaster.cli.views import unserved_text
from taskmaster.learners.client import Lab, Master, connect

__all__ = [
    "connected",
    "find_run",
    "in_master",
    "newest_run",
    "require_listener",
    "require_workers",
    "warn_if_idle",
]

#: Seconds that somebody who listens may take to answer.
CONNECT_SECONDS = 5.0
#: Seconds in which a connection is made, or refused.
_PROBE_SECONDS = 3.0
#: What the workers of a daemon that has just started may take to introduce themselves.
_STARTING_SECONDS = 5.0


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Lab]:
    """A connection to the daemon at ``address``, or at the default one. Raises DaemonUnreachable."""
    _log_to_stderr()
    chosen = address or default_address()
    require_listener(chosen)
    with connect(chosen, CONNECT_SECONDS) as lab:
        yield lab


def require_listener(address: str) -> None:
    """Raise DaemonUnreachable at once where nobody listens: ZeroMQ would wait for somebody to come."""
    try:
        if address.startswith("ipc://"):
            with socket.socket(socket.AF_UNIX) as probe:
                path = address.removeprefix("ipc://")
                probe.connect("\0" + path[1:] if path.startswith("@") else path)
        elif address.startswith("tcp://"):
            host, _, port = address.removeprefix("tcp://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS).close()
        else:
            raise click.UsageError(f"{address!r} is no address; write tcp://HOST:PORT or ipc:///PATH")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DaemonUnreachable(
            f"no daemon listens at {address} ({reason}); start one (taskmaster serve CONFIG), or say where it is "
            f"(--address, ${ENVIRONMENT})"
        ) from None


class _Stderr(logging.Handler):
    """Warnings of the client's, such as that the daemon is away, where errors go."""

    def emit(self, entry: logging.LogRecord) -> None:
        # Not by click.echo, which would find the terminal behind what rich puts in its place while it draws.
        sys.stderr.write(f"taskmaster: {printable_lines(entry.getMessage())}\n")


def _log_to_stderr() -> None:
    log = logging.getLogger("taskmaster")
    if not log.handlers:
        log.addHandler(_Stderr())


def warn_if_idle(master: Master) -> None:
    """Say so where a Master evaluates nothing at present, to somebody who would wait for it."""
    status, name = master.lab.status(), master.name
    seen = next(one for one in status.masters if one.name == name)
    if status.uptime < _STARTING_SECONDS and (
        seen.state == "no workers"
        or (seen.state == "no heads" and all(info.state in ("away", "connecting") for info in master.lab.heads(name)))
    ):
        return  # they are on their way
    why = {
        "paused": f"is paused{f' {seen.reason}' * bool(seen.reason)}; go on with it: taskmaster resume {name}",
        "no workers": f"has no workers; lend it some: taskmaster worker {master.lab.address} {name}",
        "no heads": f"has no head that works at present ({seen.reason}): taskmaster heads {name}",
        "stopped": f"is stopped {seen.reason}; when it may go on: taskmaster reset {name}",
        "crash loop": _broken(seen),
        "waiting for people": f"is answered by people: taskmaster answer {name}",
    }.get(seen.state)
    if why is None and seen.proposed:
        why = f"has them approved first: taskmaster proposed {name}"
    if why is None and seen.unserved and seen.state == "ready":
        say_aside(unserved_text(seen))
    if why is not None:
        say_aside(f"its tasks wait: Master {name!r} {why}")


def require_workers(master: Master) -> None:
    """Raise WorkerError where the daemon has given up a Master's workers: to wait for it would be in vain."""
    seen = master.statistics()
    if seen.state == "crash loop" and not seen.slots:
        raise WorkerError(f"Master {master.name!r} {_broken(seen)}")


def _broken(seen: MasterStatus) -> str:
    return f"cannot start its workers ({seen.reason}); when that is mended: taskmaster resume {seen.name}"


# -- runs -------------------------------------------------------------------------------------------------------------


def find_run(lab: Lab, text: str) -> RunInfo:
    """The run that ``text`` names: its number, MASTER/NAME, or NAME if no other run is called so.

    Raises UnknownRun naming what is nearest.
    """
    runs = lab.runs()
    if text.isdecimal():
        found = [run for run in runs if run.run == int(text)]
    else:
        found = [run for run in runs if f"{run.master}/{run.name}" == text] or [run for run in runs if run.name == text]
    if len(found) == 1:
        return found[0]
    if found:
        each = ", ".join(f"{run.master}/{run.name}" for run in found)
        raise UnknownRun(f"several runs are called {text!r}: name one of {each}")
    master, slash, _ = text.partition("/")
    if slash and not any(run.master == master for run in runs):
        _ = lab[master]  # raises UnknownMaster, unless it is only that it has no runs
    known = [f"{run.master}/{run.name}" for run in runs] + [run.name for run in runs]
    raise UnknownRun(f"there is no run {text!r} ('taskmaster runs list' lists them){did_you_mean(text, known)}")


def in_master(lab: Lab, master: str, text: str) -> RunInfo:
    """The run of a Master that ``text`` names, by its name alone, too."""
    _ = lab[master]  # raises UnknownMaster
    for run in lab.runs(master):
        if run.name == text or f"{master}/{run.name}" == text or str(run.run) == text:
            return run
    known = [run.name for run in lab.runs(master)]
    raise UnknownRun(f"Master {master!r} has no run {text!r}{did_you_mean(text, known)}")


def newest_run(lab: Lab, master: str) -> RunInfo:
    """The run of a Master that was created last."""
    _ = lab[master]  # raises UnknownMaster
    runs = lab.runs(master)
    if not runs:
        raise UnknownRun(f"Master {master!r} has no run yet; 'taskmaster submit' or 'taskmaster learn' begins one")
    return max(runs, key=lambda run: run.run)
