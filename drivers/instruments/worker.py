"""A worker process of one head: ``python -m taskmaster.drivers.instruments.worker``.

The socket's thread never waits for the hardware: it hears of an emergency stop whatever the head is doing. The head has
a thread of its own, see `attendant`; between the two go assignments and orders one way, and what became of them the
other.
"""

from __future__ import annotations

import queue
import socket as sockets_
import sys
import time

import zmq

from taskmaster.bus import messages as m
from taskmaster.bus.errors import ConfigError
from taskmaster.bus.fields import Schema
from taskmaster.config.heads import heads_of
from taskmaster.drivers.instruments.attendant import Attendant, Ended, News, Said
from taskmaster.drivers.instruments.classes import make_head
from taskmaster.drivers.instruments.commandhead import CommandHead
from taskmaster.drivers.instruments.head import Head, HeadContext
from taskmaster.drivers.instruments.watching import watched
from taskmaster.drivers.progress import STARTED, ProgressWriter
from taskmaster.drivers.protocol import Assignment
from taskmaster.drivers.worker import EXIT_GOODBYE, Worker, main

__all__ = ["HeadWorker"]


class HeadWorker(Worker):
    """One head's worker process, from hello to goodbye."""

    def _serve(self, welcome: m.Welcome) -> int:
        self._heard: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._wake_read, self._wake_write = sockets_.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._poller.register(self._wake_read, zmq.POLLIN)
        progress = self._progress = ProgressWriter(self._progress_path, 1)
        self._agree()
        attendant = self._make_attendant(welcome, progress)
        self._protocol.ready()
        attendant.thread.start()
        self._attend(attendant)
        return EXIT_GOODBYE

    def _make_attendant(self, welcome: m.Welcome, progress: ProgressWriter) -> Attendant:
        outputs = Schema(welcome.outputs, welcome.master, "output")
        parameters = Schema(welcome.parameters, welcome.master)
        declared = {str(head["name"]): head for head in heads_of(welcome.options)}
        options = {"driver": welcome.driver, **declared[self._protocol.head]}

        def make(attendant: Attendant) -> Head:
            context = HeadContext(
                self._protocol.head,
                welcome.master,
                options,
                parameters,
                outputs,
                attendant.stopping,
                attendant.on_acting,
                on_between=attendant.on_between,
            )
            return head_of(welcome.driver, context)

        def begin(assignment: Assignment) -> None:
            progress.begin(0, assignment.lease, assignment.run, assignment.first, assignment.attempt)

        def acts() -> None:
            progress.cells[0][STARTED] = 1

        def tell(news: News) -> None:
            if isinstance(news, Ended):
                progress.end(0)
            self._heard.put(news)
            try:
                self._wake_write.send(b"\0")
            except BlockingIOError:  # it is being woken
                pass

        reconnect = options.get("reconnect") or {}
        pauses = float(reconnect.get("first", 0.5)), float(reconnect.get("longest", 30.0))
        who = f"{welcome.master}/{self._protocol.head}"
        polled = watched(options, self._protocol.head)
        return Attendant(make, outputs, who=who, tell=tell, begin=begin, acts=acts, pauses=pauses, watched=polled)

    def _attend(self, attendant: Attendant) -> None:
        """Carry between the daemon and the head, until neither has anything more to say."""
        while attendant.thread.is_alive():
            self._turn(wait=self._heard.empty())
            attendant.yields.flush()
            self._hear()
            attendant.order(self._protocol.order)
            while (assignment := self._protocol.begin()) is not None:
                attendant.give(assignment)
            if self._protocol.leaving or self._protocol.goodbye is not None:
                goodbye = self._protocol.goodbye
                attendant.leave(at_once=goodbye is not None and not goodbye.drain)
        self._hear()
        while not self._done:
            self._turn(wait=True)

    def _hear(self) -> None:
        try:
            self._wake_read.recv(4096)
        except BlockingIOError:
            pass
        while not self._heard.empty():
            news = self._heard.get()
            if isinstance(news, Said):
                self._protocol.report_head(m.HeadReport(news.state, news.identity, news.error, news.order))
            elif isinstance(news, Ended):
                self._say(news)
            elif isinstance(news, m.Tripped):
                self._protocol.report_trip(news)
            else:
                self._protocol.mention(news)

    def _say(self, ended: Ended) -> None:
        if ended.given_back or ended.doubt:
            self._protocol.report(
                ended.assignment, 0, int(ended.doubt), None, ended.errors, ended.started, ended.finished, None,
                final=True, now=time.monotonic(), doubt=ended.doubt,
            )  # fmt: skip
        else:
            self.report(
                ended.assignment, 0, 1, ended.outputs, ended.errors, ended.started, ended.finished, None, final=True
            )


def head_of(driver: str, context: HeadContext) -> Head:
    """The head that a Master's driver and options describe. Raises ConfigError where they do not."""
    if driver in ("visa", "serial"):
        return CommandHead(context)
    if driver == "instrument":
        return make_head(context)
    raise ConfigError(f"driver {driver!r} is none of an instrument's")


if __name__ == "__main__":
    sys.exit(main(kind=HeadWorker))
