"""A worker of which the daemon cannot take something, or that it does not want any more, ends and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from helpers.waiting import PATIENCE

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.table import pack_values
from taskmaster.drivers.worker import EXIT_DISMISSED, EXIT_REFUSED

WORK = str(Path(__file__).parents[1] / "helpers" / "work")


class FakeDaemon:
    """The daemon's end of the workers socket, by hand, and a worker at the other."""

    def __init__(self, place: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = sockets.router(self._context)
        self._decoder = codec.worker_decoder()
        self._peer = b""
        address = sockets.bind(self._socket, f"ipc://{place}/workers", "the test's socket")
        command = [
            sys.executable, "-m", "taskmaster.drivers.worker", "--address", address, "--master", "echo",
            "--token", "one", "--progress", str(place / "one"), "--parent", str(os.getpid()),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def hear(self, kind: type[Any]) -> Any:
        """The next message of this kind."""
        while True:
            assert self._socket.poll(int(PATIENCE * 1e3)), f"no {kind.__name__}"
            frames = sockets.receive(self._socket)
            assert frames is not None
            self._peer = frames[0]
            message = self._decoder.decode(frames[1])
            if isinstance(message, kind):
                return message

    def say(self, message: m.ToWorker, *frames: Any) -> None:
        assert sockets.send(self._socket, [self._peer, codec.encode(message), *frames])

    def welcome(self) -> None:
        hello = self.hear(m.WorkerHello)
        self.say(m.Welcome(1, hello.session, "echo", "process", {"function": "evaluations:echo", "path": [WORK]}))
        self.hear(m.Ready)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._socket.close(linger=0)
        self._context.term()


@pytest.fixture
def daemon(place: Path) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(place)
    yield daemon
    daemon.close()


@pytest.mark.parametrize(("code", "status"), [("protocol", EXIT_DISMISSED), ("unknown_master", EXIT_REFUSED)])
def test_a_worker_that_is_refused_at_work_ends(daemon: FakeDaemon, code: str, status: int) -> None:
    daemon.welcome()
    table = pack_values(["a point"])
    daemon.say(m.Dispatch((1, 1), 1, 0, 1, table.layout), *table.frames)
    assert daemon.hear(m.Outcome).n == 1
    daemon.say(m.Refused(code, "nobody can read that"))
    _, printed = daemon.process.communicate(timeout=PATIENCE)
    assert daemon.process.returncode == status
    assert "the daemon refuses it: nobody can read that" in printed
