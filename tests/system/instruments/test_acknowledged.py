"""An instrument that answers what it is told: an answer that comes late is not taken for that of a safe command."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from taskmaster.drivers.instruments import CommandHead, HeadContext
from taskmaster.drivers.instruments.errors import DeviceError, Stopped

COMMANDS = {
    "set": [{"command": "GO {x:d}", "answer": "OK"}],
    "read": {"x": "X?"},
    "safe": [{"command": "HALT", "answer": "OK"}],
}


class Stage:
    """Carries out one command after the other, in its own time, and says what it has received by which connection."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []
        self.busy = threading.Event()
        self.free = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.resource = "TCPIP0::{}::{}::SOCKET".format(*self._server.getsockname())
        self._threads: list[threading.Thread] = []

    def serve(self, connections: int) -> None:
        for number in range(connections):
            client, _ = self._server.accept()
            self._threads.append(threading.Thread(target=self._talk, args=(number, client)))
            self._threads[-1].start()

    def _talk(self, number: int, client: socket.socket) -> None:
        # Where it was told elsewhere to halt, nobody waits for its answer here any more.
        with contextlib.suppress(ConnectionError), client, client.makefile("r") as lines:
            for line in map(str.strip, lines):
                self.heard.append((number, line))
                if line == "GO 9":
                    self.busy.set()
                    self.free.wait(10)
                client.sendall({"*IDN?": b"STAGE\n", "X?": b"1\n", "GO 8": b"ERROR\n"}.get(line, b"OK\n"))

    def close(self) -> None:
        self._server.close()
        for thread in self._threads:
            thread.join()


@contextmanager
def stage(connections: int) -> Iterator[tuple[Stage, CommandHead]]:
    device = Stage()
    serving = threading.Thread(target=device.serve, args=(connections,))
    serving.start()
    head = CommandHead(HeadContext(options={"resource": device.resource, "identity": "STAGE", "commands": COMMANDS}))
    try:
        head.open()
        yield device, head
    finally:
        device.free.set()
        head.close()
        serving.join()
        device.close()


def test_told_and_answered() -> None:
    with stage(1) as (device, head):
        assert head.evaluate({"x": 3}) == {"x": 1.0}
        with pytest.raises(DeviceError, match="'GO 8' is answered with 'ERROR', not with 'OK'"):
            head.evaluate({"x": 8})
        assert head.acting, "it may have gone all the same"
        assert head.evaluate({"x": 4}) == {"x": 1.0}
        head.safe()
    assert [line for _, line in device.heard] == ["*IDN?", "GO 3", "X?", "GO 8", "GO 4", "X?", "HALT", "*IDN?"]


def test_it_is_halted_over_another_connection_where_an_answer_is_still_to_come() -> None:
    """The first `OK` is that of the way on which it was stopped: it says nothing of the halt."""
    with stage(2) as (device, head):

        def stop() -> None:
            device.busy.wait(10)
            head.stopping.set()

        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(Stopped):
            head.evaluate({"x": 9})
        stopper.join()
        assert head.acting
        head.safe()
        assert (1, "HALT") in device.heard, "told anew, to be answered"
        device.free.set()
    assert device.heard[: device.heard.index((1, "HALT"))].count((0, "HALT")) <= 1
