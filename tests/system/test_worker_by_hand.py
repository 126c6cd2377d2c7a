"""Workers and a daemon that is played by hand: what they are refused, and what crosses with their leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import zmq
from helpers.waiting import PATIENCE

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.table import pack_values
from taskmaster.drivers.worker import EXIT_DISMISSED, EXIT_REFUSED

WORK = str(Path(__file__).parents[1] / "helpers" / "work")


class FakeDaemon:
    """The daemon's end of the workers socket, by hand, and a worker at the other."""

    OPTIONS: ClassVar[dict[str, Any]] = {"function": "evaluations:echo", "path": [WORK]}
    DRIVER = "process"

    def command(self, address: str, place: Path) -> list[str]:
        """What starts the worker."""
        return ["taskmaster.drivers.worker", "--address", address, "--token", "one", "--progress", str(place / "one")]

    def __init__(self, place: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = sockets.router(self._context)
        self._decoder = codec.worker_decoder()
        self._peer = b""
        address = sockets.bind(self._socket, f"ipc://{place}/workers", "the test's socket")
        command = [*self.command(address, place), "--master", "echo", "--parent", str(os.getpid())]
        self.process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True)

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
        self.say(m.Welcome(1, hello.session, "echo", self.DRIVER, self.OPTIONS))
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


class HeadsDaemon(FakeDaemon):
    """The same, of a head's worker."""

    OPTIONS: ClassVar[dict[str, Any]] = {"class": "growing:Nothing", "path": [WORK]}
    DRIVER = "instrument"

    def command(self, address: str, place: Path) -> list[str]:
        seat = ["--seat", "", "one", str(place / "one")]
        return ["taskmaster.drivers.instruments.worker", "--address", address, *seat]


def test_tasks_that_cross_with_the_leave_of_a_head_come_back(place: Path) -> None:
    daemon = HeadsDaemon(place)
    try:
        daemon.welcome()
        daemon.say(m.HeadOrder((1, 1), "work"))
        while daemon.hear(m.HeadReport).state != "ready":
            pass
        daemon.process.send_signal(signal.SIGTERM)
        daemon.hear(m.Leave)
        table = pack_values(["a point"])
        for number in range(1, 100):  # some on the way to its thread, some when that has ended
            daemon.say(m.Dispatch((1, number), 1, 0, 1, table.layout), *table.frames)
            outcome = daemon.hear(m.Outcome)
            assert (outcome.lease, outcome.n, outcome.final) == ((1, number), 0, True)
            daemon.say(m.Settled(((1, number),)))
        daemon.say(m.Goodbye(drain=True))
        assert daemon.process.wait(PATIENCE) == 0
    finally:
        daemon.close()
