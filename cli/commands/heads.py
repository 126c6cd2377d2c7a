"""``taskmaster heads``, ``taskmaster stop`` and ``taskmaster reset``: the heads of instruments."""

from __future__ import annotations

import time

import click

from taskmaster.bus.status import HeadInfo
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.heads_view import heads_table, units_of
from taskmaster.cli.output import in_red, print_json, print_table, record, say
from taskmaster.learners.client import Lab

__all__ = ["heads", "reset", "stop"]

#: How long heads are waited for that were told to stop, and how often they are looked at meanwhile.
_SAFE_SECONDS = 3.0
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
    if as_json:
        print_json([record(info) for info in infos])
    elif not infos:
        say("there are no instruments here" if master is None else f"Master {master!r} has no heads")
    else:
        print_table(heads_table(infos, units))


@click.command("stop", cls=Command)
@click.argument("master", required=False)
@_reason
@address_option
@json_option
def stop(master: str | None, reason: str, address: str | None, as_json: bool) -> None:
    """Emergency stop: bring the heads of MASTER, or of all instruments, to their safe state at once.

    What they do is broken off, and nothing is evaluated until 'taskmaster reset', whatever is restarted meanwhile. This
    is no substitute for interlocks that are wired. Heads that are not known to be safe after three seconds are named,
    and the exit code is 1.
    """
    with connected(address) as lab:
        lab.stop(master, reason)
        unsafe = _not_safe(lab, master)
    if as_json:
        print_json({"master": master, "stopped": True, "not_known_to_be_safe": [record(info) for info in unsafe]})
    else:
        again = "taskmaster reset" + ("" if master is None else f" {master}")
        known = "" if unsafe else "; every head is known to be safe"
        say(f"{_whose(master)} stopped{known}; see 'taskmaster heads'; go on with: {again}")
        for info in unsafe:
            where = f"Master {info.master!r}, head {info.head!r}" if info.head else f"Master {info.master!r}"
            why = f"its worker (process {info.pid}) has not said so yet" if info.pid else "no worker has it"
            say(in_red(f"NOT KNOWN TO BE SAFE: {where}: {why}; {info.reason}"))
    if unsafe:
        click.get_current_context().exit(1)


def _not_safe(lab: Lab, master: str | None) -> list[HeadInfo]:
    """The heads that are not known to be in their safe state soon after a stop."""
    deadline = time.monotonic() + _SAFE_SECONDS
    while True:
        unsafe = [info for info in lab.heads(master) if not info.safe]
        if not unsafe or time.monotonic() > deadline:
            return unsafe
        time.sleep(_LOOK_SECONDS)


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
        lab.reset(master, reason)
    if as_json:
        print_json({"master": master, "stopped": False})
    else:
        say(f"{_whose(master)} released")


def _whose(master: str | None) -> str:
    return "all instruments are" if master is None else f"Master {master!r} is"
