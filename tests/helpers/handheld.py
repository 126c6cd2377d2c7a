"""Heads in the hand of a test: a daemon that starts no workers, and workers that say what they are told to say.

python -m helpers.handheld CONFIGURATION
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from helpers.daemon import Daemon
from helpers.raw import RawPeer
from taskmaster.bus import messages as m
from taskmaster.bus.table import pack_values
from taskmaster.config.load import load
from taskmaster.daemon.guardians import Guardians
from taskmaster.daemon.plan import plan
from taskmaster.daemon.service import serve

__all__ = ["PROGRAM", "HandHead", "instrument"]

#: What :meth:`Daemon.launch` is to run.
PROGRAM = ("-m", "helpers.handheld")


def instrument(heads: int = 1, **monitor: Mapping[str, Any]) -> dict[str, Any]:
    """A Master of so many heads, ``tip-1`` …, with monitored values."""
    resources = [{"name": f"tip-{k + 1}", "resource": f"TCPIP0::127.0.0.1::{k + 1}::SOCKET"} for k in range(heads)]
    return {
        "driver": "visa",
        "heads": resources,
        "identify": "",
        "parameters": {"x": {"unit": "nm"}},
        "outputs": {"current": {"unit": "A"}},
        "commands": {"set": ["POS {x:.3f}"], "read": {"current": "CURR?"}, "safe": ["TIP:WITHDRAW"]},
        "deadman": "1 h",
        "monitor": {name: {"query": "TEMP?", **keys} for name, keys in monitor.items()},
    }


class HandHead:
    """The worker of one head, which is ready at once."""

    def __init__(self, daemon: Daemon, head: str = "tip-1", master: str = "stm") -> None:
        self.peer = RawPeer(f"ipc://{daemon.state}/workers")
        self.token = secrets.token_hex(8)
        self.head = head
        hello = m.WorkerHello(m.PROTOCOL_VERSION, master, self.token, 1, 1, 4711, "here", head=head)
        self.peer.say(hello)
        self.peer.say(m.Ready())
        order = self.peer.hear_of(m.HeadOrder)
        self.peer.say(m.HeadReport("ready", f"ACME,{head}", "", order.number))
        self._told = 0

    def task(self) -> m.Dispatch:
        """The next task."""
        self._told = 0
        return self.peer.hear_of(m.Dispatch)

    def tell(self, task: m.Dispatch, time_: float | None = None, **values: m.Scalar) -> None:
        """Say how far a task's evaluation has come."""
        self._told += 1
        now = time.time() if time_ is None else time_
        self.peer.say(m.Progress(task.lease, 0, self._told, now, values))

    def sample(self, time_: float | None = None, **values: m.Scalar) -> None:
        """Say what is monitored."""
        self.peer.say(m.Samples(time.time() if time_ is None else time_, values))

    def end(self, task: m.Dispatch, output: float | None = 1.0) -> None:
        """The outcome of a task; None: it fails."""
        now = time.time()
        if output is None:
            errors = (m.TaskError(0, "ValueError", "no"),)
            self.peer.say(m.Outcome(task.lease, 0, 1, None, errors, now - 1, now))
        else:
            table = pack_values([output])
            self.peer.say(m.Outcome(task.lease, 0, 1, table.layout, (), now - 1, now), table.frames)

    def doubt(self, task: m.Dispatch) -> None:
        """Nobody knows how a task has ended."""
        self.peer.say(m.Outcome(task.lease, 0, 1, None, (m.TaskError(0, "Unreachable", "unplugged"),), doubt=True))

    def close(self) -> None:
        """Go without a word."""
        self.peer.close()


def main() -> None:
    """Serve."""
    with patch.object(Guardians, "add", lambda guardians, master: None):  # which would start workers of the heads
        serve(plan(load(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
