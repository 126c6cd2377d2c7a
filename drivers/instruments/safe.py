"""Bring one head to its safe state from a process of its own: ``python -m taskmaster.drivers.instruments.safe``.

Started by a guardian whose worker for the head has died, or hangs: nothing of what that had in memory is needed. The
plan comes as msgpack on the standard input. It is tried until it succeeds (status 0); every failure is a line on the
standard error.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import msgspec

from taskmaster.bus import messages as m
from taskmaster.drivers.functions import add_to_path
from taskmaster.drivers.instruments.making import HeadMaker

__all__ = ["EXIT_UNUSABLE", "SafePlan", "main"]

#: There can be no head: its class cannot be imported, say.
EXIT_UNUSABLE = 3
#: Whose guardian was killed tries for so long: the next one starts another for what is not safe.
ORPHANED_SECONDS = 30.0
#: Seconds between attempts.
_AGAIN_SECONDS = 1.0


class SafePlan(msgspec.Struct, frozen=True):
    """Which head of which plan."""

    plan: m.GuardianPlan
    head: str


def main() -> int:
    """Entry point; SIGTERM ends it between two attempts."""
    parent, give_up = os.getppid(), time.monotonic() + ORPHANED_SECONDS
    ending = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: ending.set())
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=SafePlan)
    plan = order.plan
    add_to_path(plan.options.get("path", ()))
    maker = HeadMaker(plan.master, plan.driver, plan.options, plan.parameters, plan.outputs)
    try:
        head = maker.make(maker.context(order.head))
    except Exception as error:  # noqa: BLE001 - whatever the user's modules raise: without a head nothing can be done
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return EXIT_UNUSABLE
    try:
        while True:
            try:
                head.safe()
                head.disarm_watchdog()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and safety is tried for again
                sys.stderr.write(f"{type(error).__name__}: {error}\n".replace("\n", " ").strip() + "\n")
                sys.stderr.flush()
                head.close()
            else:
                return 0
            if ending.wait(_AGAIN_SECONDS) or (os.getppid() != parent and time.monotonic() > give_up):
                return 1
    finally:
        head.close()


if __name__ == "__main__":
    sys.exit(main())
