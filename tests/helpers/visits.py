"""Evaluations that a test takes part in: each begins by calling the test, and does what it is told."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from helpers.waiting import PATIENCE

__all__ = ["Visit", "Visits"]


class Visit:
    """An evaluation that has begun in a worker process and waits for its orders."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        message = json.loads(connection.makefile("r").readline())
        #: what is evaluated, and where
        self.point: Any = message["point"]
        self.pid: int = message["pid"]

    def say(self, order: str) -> None:
        """Tell it what to do: see `work/evaluations.py`."""
        self._connection.sendall(order.encode())
        self._connection.close()

    def go(self) -> None:
        """Let it return its point."""
        self.say("return")

    def kill_worker(self) -> None:
        """SIGKILL the process it is in; returns when that is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.await_end()

    def await_end(self) -> None:
        """Wait until its process has ended, or it has been broken off."""
        assert self._connection.recv(1) == b"", "an evaluation says nothing after its greeting"
        self._connection.close()

    def leave(self) -> None:
        """Hear no more of it; if it still waits, it returns its point."""
        self._connection.close()

    def last(self, seconds: float) -> None:
        """Have it take that long."""
        assert not select.select([self._connection], [], [], seconds)[0], "it ended by itself"


class Visits:
    """Takes the calls of the evaluations of `evaluations:visit`, whose Master needs ``env = visits.env``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "visits"
        self.env = {"VISITS": str(self.path)}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen(512)
        self._visits: list[Visit] = []

    def next(self, timeout: float = PATIENCE) -> Visit:
        """The next evaluation that begins. Raises TimeoutError if none does."""
        self._socket.settimeout(timeout)
        connection, _ = self._socket.accept()
        connection.settimeout(PATIENCE)
        self._visits.append(Visit(connection))
        return self._visits[-1]

    def none_waits(self) -> bool:
        """Whether no evaluation has begun that :meth:`next` has not returned yet."""
        self._socket.settimeout(0)
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return True
        connection.close()
        return False

    def close(self) -> None:
        """Take no more calls; evaluations that wait, or begin after this, return at once."""
        for visit in self._visits:
            visit.leave()
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Visits:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
