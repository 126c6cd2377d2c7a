"""A worker that evaluates tasks of several leases together: its thread turns an engine, which another one may wake."""

from __future__ import annotations

import contextlib
import math
import socket as sockets_
import time
from typing import TYPE_CHECKING

import zmq

from taskmaster.drivers.base import Driver
from taskmaster.drivers.progress import ProgressWriter

if TYPE_CHECKING:
    from taskmaster.drivers.gpu.engine import Engine
    from taskmaster.drivers.worker import Worker

__all__ = ["Gathering"]


class Gathering:
    """Tasks of several leases together: the socket's thread turns an engine, which another thread may wake."""

    def __init__(self, worker: Worker, driver: Driver, progress: ProgressWriter) -> None:
        self._worker = worker
        self._wake_read, self._wake_write = sockets_.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.engine = driver.engine(worker.note, progress, self._wake, worker.flush)
        if self.engine is not None:
            worker.protocol.batch, worker.protocol.shares = self.engine.sizing.rows, self.engine.depth
            worker.protocol.device = self.engine.status

    def work(self, engine: Engine) -> None:
        """Until the worker is done. Raises what ends the worker."""
        worker = self._worker
        worker.poller.register(self._wake_read, zmq.POLLIN)
        try:
            while True:
                due = engine.due
                worker.turn(wait=due is None or due > time.monotonic(), until=math.inf if due is None else due)
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4096)
                while (assignment := worker.protocol.begin()) is not None:
                    engine.take(assignment)
                engine.turn()
                if worker.done:
                    return
        finally:
            engine.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been woken often enough
            self._wake_write.send(b"\0")
