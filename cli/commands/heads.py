"""``taskmaster heads``, ``taskmaster stop`` and ``taskmaster reset``: the heads of instruments."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from taskmaster.bus.status import DaemonStatus, HeadInfo
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.exits import InstrumentTrouble
from taskmaster.cli.heads_view import heads_table, units_of
from taskmaster.cli.output import count, print_json, print_table, record, say
from taskmaster.learners.client import Lab

__all__ = ["SAFE_SECONDS", "heads", "reset", "stop"]

#: What heads may take to be safe after a stop before those that are not are named.
SAFE_SECONDS = 3.0
#: Between two looks whether they are.
_LOOK_SECONDS = 0.05

_reason = click.option("--reason", metavar="TEXT", default="", help="Why; it is put on record.")


@click.command("heads", cls=Command)
@click.argument("master", required=False)
@click.option("--out", "taken", metavar="HEAD", help="Take this head of MASTER out of service, in its safe state.")
@click.option("--in", "put", metavar="HEAD", help="Put it back into service, out of quarantine, too.")
@_reason
@address_option
@json_option
def heads(
    master: str | None, taken: str | None, put: str | None, reason: str, address: str | None, as_json: bool
) -> None:
    """List the heads of instruments, of MASTER or of all; or take one out of service, or put it back.

    A head whose connection was lost several times in a row is in quarantine, and one with a task in doubt is parked:
    both are in their safe state, and the others go on. Busy is the share of the last hour in which a head evaluated.
    """
    if taken is not None and put is not None:
        raise click.UsageError("a head is taken out or put in: name one of --out and --in")
    head = taken if taken is not None else put
    if head is not None and master is None:
        raise click.UsageError("name the Master of the head, too: taskmaster heads MASTER --out HEAD")
    with connected(address) as lab:
        if head is not None and master is not None:
            lab.set_head(master, head, inside=put is not None, reason=reason)
        infos = lab.heads(master)
        units = units_of(lab, infos)
        status = lab.status()
    if as_json:
        print_json([record(info) for info in infos])
    elif not infos:
        say("there are no instruments here" if master is None else f"Master {master!r} has no heads")
    else:
        print_table(heads_table(infos, units))
        if put is not None:
            _warn_if_idle(next(info for info in infos if info.head == put), status)


def _warn_if_idle(info: HeadInfo, status: DaemonStatus) -> None:
    """Say why a head that was put into service gets no tasks all the same."""
    if info.state == "stopped":
        say(f"head {info.head!r} is in service, but stopped {info.reason}; go on with: taskmaster reset {info.master}")
    elif info.state == "parked":
        say(f"head {info.head!r} is in service, but {info.reason}")
    elif any(one.name == info.master and one.state == "paused" for one in status.masters):
        say(f"head {info.head!r} is in service, but its Master is paused: taskmaster resume {info.master}")


@click.command("stop", cls=Command)
@click.argument("master", required=False)
@_reason
@address_option
@json_option
def stop(master: str | None, reason: str, address: str | None, as_json: bool) -> None:
    """Emergency stop: bring the heads of MASTER, or of all instruments, to their safe state at once.

    What they do is broken off, and nothing is evaluated until 'taskmaster reset', whatever is restarted meanwhile. The
    order is given at once; how many heads are known to be safe is said when all are, or after 3 s. This is no
    substitute for interlocks that are wired.
    """
    with connected(address) as lab:
        lab.stop(master, reason)
        infos = _await_safe(lab, master)
    unsafe = [info for info in infos if not info.safe]
    if as_json:
        heads = [{"master": info.master, "head": info.head, "safe": info.safe} for info in infos]
        print_json({"master": master, "stopped": True, "heads": heads})
    elif not infos:
        say("there are no instruments here: nothing was stopped")
        return
    else:
        again = "taskmaster reset" + ("" if master is None else f" {master}")
        safe = f"{len(infos) - len(unsafe)} of {count(len(infos), 'head')}"
        say(f"{_whose(master)} stopped; {safe} known to be safe; go on with: {again}")
    if unsafe:
        raise InstrumentTrouble(f"NOT KNOWN TO BE SAFE: {', '.join(map(_unsafe, unsafe))}")


def _await_safe(lab: Lab, master: str | None) -> Sequence[HeadInfo]:
    """How the heads are once all are safe, or when some have had their time."""
    deadline = time.monotonic() + SAFE_SECONDS
    while True:
        infos = lab.heads(master)
        if all(info.safe for info in infos) or time.monotonic() > deadline:
            return infos
        time.sleep(_LOOK_SECONDS)


def _unsafe(info: HeadInfo) -> str:
    """A head that is not known to be safe, and what is said of it."""
    name = f"{info.master}/{info.head}" if info.head else info.master
    why = f"its worker, process {info.pid}, has not said so yet" if info.pid else "no worker has it"
    return f"{name} ({why}; {' '.join(info.reason.split())})"


@click.command("reset", cls=Command)
@click.argument("master", required=False)
@_reason
@address_option
@json_option
def reset(master: str | None, reason: str, address: str | None, as_json: bool) -> None:
    """Let MASTER, or all instruments, go on after a stop.

    Heads that are out of service, in quarantine, or have a task in doubt stay as they are.
    """
    with connected(address) as lab:
        before = lab.heads(master)
        lab.reset(master, reason)
        masters = {info.master for info in before}
        paused = [one.name for one in lab.status().masters if one.state == "paused" and one.name in masters]
    stopped = any(info.state in ("stopped", "tripped") for info in before)
    if as_json:
        print_json({"master": master, "stopped": False})
    elif not before:
        say("there are no instruments here: nothing was to be reset")
    elif not stopped:
        whose = "no instrument is" if master is None else f"Master {master!r} is not"
        say(f"{whose} stopped: nothing was to be reset")
    else:
        say(f"{_whose(master)} released")
    for name in () if as_json else paused:
        say(f"Master {name!r} is paused all the same; go on with: taskmaster resume {name}")


def _whose(master: str | None) -> str:
    return "all instruments are" if master is None else f"Master {master!r} is"
