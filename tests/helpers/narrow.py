"""A narrow stretch of wire: forwards connections to a daemon's socket, so many bytes a second each way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

__all__ = ["NarrowWire"]

_PIECE = 8192


class NarrowWire:
    """Listens on ``address`` and forwards to ``target``, both ``tcp://HOST:PORT``; a thread for each direction.

    ``up`` and ``down`` count the bytes that went to the daemon and came from it.
    """

    def __init__(self, target: str, rate: float) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._rate = rate
        self.up = self.down = 0
        self._closing = threading.Event()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        # What the two ends' kernels take before anything has gone through would not be seen to wait.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
                far.connect(self._target)
            except OSError:
                return  # closed
            self._ends += (near, far)
            self._start(self._forward, near, far, "up")
            self._start(self._forward, far, near, "down")

    def _forward(self, source: socket.socket, to: socket.socket, direction: str) -> None:
        due = time.monotonic()
        with contextlib.suppress(OSError):  # the other end is gone, or this is closed
            while data := source.recv(_PIECE):
                to.sendall(data)
                setattr(self, direction, getattr(self, direction) + len(data))
                due = max(due, time.monotonic() - 0.05) + len(data) / self._rate
                if self._closing.wait(max(0.0, due - time.monotonic())):
                    return
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Break all connections."""
        self._closing.set()
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()
