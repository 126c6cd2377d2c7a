"""A worker of several slots: threads take assignments from a queue, the one with the socket reports for them."""

from __future__ import annotations

import queue
import socket as sockets_
import threading
from typing import TYPE_CHECKING, Any

import zmq

from taskmaster.bus import messages as m
from taskmaster.drivers.base import Driver
from taskmaster.drivers.evaluation import Evaluator
from taskmaster.drivers.progress import ProgressWriter
from taskmaster.drivers.protocol import Assignment

if TYPE_CHECKING:
    from taskmaster.drivers.worker import Worker

__all__ = ["Threads"]


class Threads:
    """Several slots: threads take assignments from a queue and hand their outcomes back to the socket's thread."""

    def __init__(self, worker: Worker, driver: Driver, progress: ProgressWriter) -> None:
        self._worker = worker
        self._driver = driver
        self._progress = progress
        self._assignments: queue.SimpleQueue[Assignment | None] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._progresses: queue.SimpleQueue[m.Progress] = queue.SimpleQueue()
        self._wake_read, self._wake_write = sockets_.socketpair()
        self._wake_read.setblocking(False)
        self._order = threading.Lock()
        #: what a slot has ended of: no task's exception, those are caught
        self._broken: BaseException | None = None

    def work(self) -> None:
        """Until the worker is done. Raises what a slot has ended of: its lease would stay open for ever."""
        threads = [threading.Thread(target=self._slot, args=(k,), daemon=True) for k in range(self._driver.slots)]
        for thread in threads:
            thread.start()
        worker = self._worker
        worker.poller.register(self._wake_read, zmq.POLLIN)
        while True:
            worker.turn(wait=self._reports.empty())
            self._drain()
            if self._broken is not None:
                raise self._broken
            while (assignment := worker.protocol.begin()) is not None:
                self._assignments.put(assignment)
            if worker.done:
                break
        for _ in threads:
            self._assignments.put(None)

    def _drain(self) -> None:
        try:
            self._wake_read.recv(4096)
        except BlockingIOError:
            return
        while not self._progresses.empty():
            self._worker.tell(self._progresses.get())
        while not self._reports.empty():
            *outcome, final = self._reports.get()
            self._worker.note(*outcome, final=final)
        self._worker.flush()

    def _slot(self, k: int) -> None:
        try:
            self._serve(k)
        except BaseException as error:  # noqa: BLE001 - raised again by the socket's thread
            self._broken = error
            self._wake_write.send(b"\0")

    def _serve(self, k: int) -> None:
        evaluator = Evaluator(self._driver, self._progress.cells[k], self._report, lambda: None, self._tell)
        while True:
            # Taken and noted under one lock, so that leases are begun in the order of their numbers.
            with self._order:
                assignment = self._assignments.get()
                if assignment is None:
                    return
                self._progress.begin(k, assignment.lease, assignment.run, assignment.first, assignment.attempt)
            evaluator.run(assignment)
            self._progress.end(k)
            del assignment  # with its inputs, which may be large

    def _tell(self, progress: m.Progress) -> None:
        self._progresses.put(progress)
        self._wake_write.send(b"\0")

    def _report(self, *outcome: Any, final: bool) -> None:
        self._reports.put((*outcome, final))
        self._wake_write.send(b"\0")
