"""Bring heads to their safe state from a process of its own: ``python -m taskmaster.drivers.instruments.safe``.

Started by a guardian whose worker for a head, or for all heads of one controller, has died, or hangs: nothing of what
that had in memory is needed. The plan comes as msgpack on the standard input. Each head is tried for until it is safe;
what comes of every attempt is a line of JSON on the standard output. The status is 0 when all are safe.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from taskmaster.bus import messages as m
from taskmaster.drivers.functions import add_to_path
from taskmaster.drivers.instruments.head import Head
from taskmaster.drivers.instruments.making import HeadMaker
from taskmaster.drivers.instruments.sharing import Controller

__all__ = ["EXIT_UNUSABLE", "Attempt", "SafePlan", "main"]

#: There can be no such head: its class cannot be imported, say.
EXIT_UNUSABLE = 3
#: Whose guardian was killed tries for so long: the next one starts another for what is not safe.
ORPHANED_SECONDS = 30.0
#: Seconds between attempts.
_AGAIN_SECONDS = 1.0


class SafePlan(msgspec.Struct, frozen=True):
    """Which heads of which plan: one, or some of one controller."""

    plan: m.GuardianPlan
    heads: tuple[str, ...]


class Attempt(msgspec.Struct, frozen=True):
    """How far it is with one head; after ``trying`` nothing comes where it hangs."""

    head: str
    state: Literal["trying", "failed", "safe"]
    error: str = ""


def main() -> int:
    """Entry point; SIGTERM ends it between two attempts."""
    parent, give_up = os.getppid(), time.monotonic() + ORPHANED_SECONDS
    ending = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: ending.set())
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=SafePlan)
    add_to_path(order.plan.options.get("path", ()))
    say = _reporter()
    heads = _made(order, say)
    unsafe = dict(heads)
    try:
        while unsafe:
            for name in list(unsafe):
                if _made_safe(name, unsafe[name], say):
                    del unsafe[name]
            if unsafe and (ending.wait(_AGAIN_SECONDS) or (os.getppid() != parent and time.monotonic() > give_up)):
                return 1
    finally:
        for head in heads.values():
            head.close()
    return 0 if len(heads) == len(order.heads) else EXIT_UNUSABLE


def _reporter() -> Callable[[Attempt], object]:
    """What writes to the standard output; all that anybody else prints goes to the standard error from now on."""
    reports = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return lambda attempt: reports.write(msgspec.json.encode(attempt) + b"\n")


def _made(order: SafePlan, say: Callable[[Attempt], object]) -> dict[str, Head]:
    """The heads that there can be."""
    plan, heads = order.plan, {}
    maker = HeadMaker(plan.master, plan.driver, plan.options, plan.parameters, plan.outputs, Controller())
    for name in order.heads:
        try:
            heads[name] = maker.make(maker.context(name))
        except Exception as error:  # noqa: BLE001 - whatever the user's modules raise: without a head nothing can be done
            say(Attempt(name, "failed", f"{type(error).__name__}: {error}"))
    return heads


def _made_safe(name: str, head: Head, say: Callable[[Attempt], object]) -> bool:
    say(Attempt(name, "trying"))
    try:
        head.safe()
        head.disarm_watchdog()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and safety is tried for again
        say(Attempt(name, "failed", f"{type(error).__name__}: {error}"))
        head.close()
        return False
    say(Attempt(name, "safe"))
    return True


if __name__ == "__main__":
    sys.exit(main())
