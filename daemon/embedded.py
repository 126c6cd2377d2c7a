"""``python -m taskmaster.daemon.embedded``: the daemon of one program, see `learners/workmaster.py`.

Its plan comes on standard input, in msgpack behind its length; where it listens, or why it does not, goes back on a
pipe. It ends when standard input does, or its program, however that ends (children that the program has forked may hold
the other end of standard input for longer), and then removes its state if that was only for the time being.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.places import control_address
from taskmaster.daemon.core import Identity
from taskmaster.daemon.service import DaemonPlan, MasterPlan, serve
from taskmaster.daemon.spec import MasterSpec

__all__ = ["SMALL_KEEP_FREE", "EmbeddedPlan", "end_with", "main"]

#: Room kept back for results; a notebook's folder is small, and usually in memory.
SMALL_KEEP_FREE = 4_000_000


class EmbeddedPlan(msgspec.Struct):
    """What a program wants of its own daemon."""

    name: str
    state: str
    temporary: bool
    #: process id of the program
    parent: int
    durability: str
    driver: str
    workers: int
    options: dict[str, Any]
    timeout: float | None = None
    parameters: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    on_lost: str = "retry"
    max_attempts: int = 3


def _daemon_plan(plan: EmbeddedPlan) -> DaemonPlan:
    state = Path(plan.state)
    spec = MasterSpec(
        name=plan.name,
        driver=plan.driver,
        parameters=Schema(plan.parameters, plan.name),
        outputs=Schema(plan.outputs, plan.name, "output"),
        on_lost=plan.on_lost,
        max_attempts=plan.max_attempts,
        timeout=plan.timeout,
        code=plan.options.get("call") == "task",
        options=plan.options,
    )
    return DaemonPlan(
        name=f"{plan.name} (embedded)",
        state=state,
        control=control_address(state),
        results=f"ipc://{state}/results",
        workers=f"ipc://{state}/workers",
        masters=(MasterPlan(spec, plan.workers),),
        durability=plan.durability,
        keep_free=SMALL_KEEP_FREE,
        grace=0.0,
    )


def end_with(parent: int, *streams: BinaryIO) -> None:
    """Stop this process in order when its parent has ended, or has closed its end of one of the streams."""
    try:
        pidfd = os.pidfd_open(parent)
    except ProcessLookupError:
        pidfd = -1
    if pidfd >= 0 and os.getppid() == parent:  # else its number may be another's by now
        select.select([pidfd, *(stream.fileno() for stream in streams)], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Entry point; the argument is the file descriptor to report on."""
    logging.basicConfig(level=logging.WARNING, format="taskmaster: %(message)s")
    stream = sys.stdin.buffer
    (size,) = struct.unpack("<Q", stream.read(8))
    plan = msgspec.msgpack.decode(stream.read(size), type=EmbeddedPlan)
    threading.Thread(target=end_with, args=(plan.parent, stream), daemon=True).start()
    with open(int(arguments[0]), "w", encoding="utf-8") as report:

        def on_ready(identity: Identity, address: str) -> None:
            report.write(f"ready {address}\n")
            report.close()

        try:
            serve(_daemon_plan(plan), on_ready)
        except TaskMasterError as error:
            if report.closed:
                raise
            report.write(f"failed {error.code} {error}\n")
            return 1
        finally:
            if plan.temporary:
                shutil.rmtree(plan.state, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
