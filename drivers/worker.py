"""The worker process: hosts one driver and speaks the worker protocol.

One thread owns the socket and, with one slot, evaluates too: a dispatch is evaluated by the thread that received it,
with no hand-over in between. With several slots the socket thread feeds a queue that as many threads take from.

Started as ``python -m taskmaster.drivers.worker``, by the daemon or by ``taskmaster worker``; whoever started it
watches it (see `host`), and it dies with that parent.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import math
import os
import queue
import signal
import socket as sockets_
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from taskmaster.bus import messages as m, sockets
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.fields import Schema
from taskmaster.bus.keys import credentials_for
from taskmaster.bus.messages import TaskError
from taskmaster.bus.redialling import Redial
from taskmaster.bus.sections import mark_process
from taskmaster.bus.table import Buffer, Table
from taskmaster.bus.text import shortened
from taskmaster.bus.wire import LONGEST_NAME
from taskmaster.drivers.base import DeviceBroken, Driver, DriverContext
from taskmaster.drivers.children import free_children
from taskmaster.drivers.evaluation import Evaluator
from taskmaster.drivers.functions import add_to_path
from taskmaster.drivers.outputs import Portion, portions, task_error, time_of
from taskmaster.drivers.progress import ProgressWriter, Terms, leave_last_words
from taskmaster.drivers.protocol import Assignment, WorkerProtocol
from taskmaster.drivers.registry import driver_class
from taskmaster.drivers.sharing import sharing_with

if TYPE_CHECKING:
    from taskmaster.drivers.gpu.engine import Engine

__all__ = [
    "EXIT_BROKEN",
    "EXIT_DISMISSED",
    "EXIT_GOODBYE",
    "EXIT_REFUSED",
    "EXIT_UNUSABLE",
    "Dismissed",
    "Worker",
    "main",
]

#: The worker left as agreed; its host may start another at once.
EXIT_GOODBYE = 0
#: The driver could not be set up; the daemon has been told why.
EXIT_UNUSABLE = 3
#: The daemon does not want this worker (another protocol version, an unknown Master).
EXIT_REFUSED = 4
#: The daemon could not take something that this worker said; what it had in hand is lost.
EXIT_DISMISSED = 5
#: What it evaluates on is of no use to this process any more; another may go on. Its last words say why.
EXIT_BROKEN = 6

_TICK_SECONDS = 1.0
#: A worker that was told to leave waits so long for the daemon's goodbye, in case that is not there.
_GOODBYE_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1
#: What is said before it ends may take so long to be sent.
_LINGER_MS = 2000


class Worker:
    """One worker process's work, from hello to goodbye."""

    def __init__(self, address: str, protocol: WorkerProtocol, progress: Path, path: Sequence[str] = ()) -> None:
        self._protocol = protocol
        self._path = path
        self._progress_path = progress
        self._progress: ProgressWriter | None = None
        self._context = zmq.Context()
        credentials = credentials_for(address)
        self._socket = sockets.dealer(self._context, credentials)
        self._redials = Redial.of(credentials, (self._socket, address))
        self._socket.connect(address)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._next_tick = 0.0
        self._ended = 0
        self._recycle_after = 0
        self._max_message = sockets.MAX_MESSAGE
        #: when to go, if the daemon does not say goodbye before
        self._leave_by = math.inf
        self.dropped = 0

    def run(self) -> int:
        """Work until told to go; returns the process's exit status."""
        self._heed_signals()
        self._protocol.hello(time.monotonic())
        while self._protocol.welcome is None:
            self._turn(wait=True)
            if self._protocol.refused is not None:
                sys.stderr.write(f"{self._protocol.refused}\n")
                return EXIT_REFUSED
            if self._done:
                return EXIT_GOODBYE
        welcome = self._protocol.welcome
        self._recycle_after = int(welcome.options.get("recycle_after") or 0)
        self._max_message = welcome.max_message or sockets.MAX_MESSAGE
        # What this worker's host says comes before what the daemon says, whose folders may be another machine's.
        add_to_path((*self._path, *welcome.options.get("path", ())))
        return self._serve(welcome)

    def _serve(self, welcome: m.Welcome) -> int:
        """Set up what evaluates, and evaluate; returns the exit status."""
        driver = _make_driver(welcome)
        try:
            driver.open()
        except BaseException as error:  # noqa: BLE001 - whatever the user's modules raise is told, and ends this worker
            self._unusable(error)
            driver.close()
            return EXIT_UNUSABLE
        close = driver.close
        try:
            self._work(driver)
        except Dismissed as dismissed:
            return dismissed.status()
        except DeviceBroken as broken:
            close = _leave_as_it_is
            return self._on_broken(broken)
        finally:
            close()
        return EXIT_GOODBYE

    def _on_broken(self, broken: DeviceBroken) -> int:
        """Leave word of why with the host, and see that the daemon has what was said before."""
        sys.stderr.write(f"worker {os.getpid()}: {broken}\n")
        leave_last_words(self._progress_path, "DeviceFailed", str(broken))
        self._flush()
        self._hang_up()
        return EXIT_BROKEN

    def _work(self, driver: Driver) -> None:
        self._protocol.slots = driver.slots
        progress = self._progress = ProgressWriter(self._progress_path, driver.slots)
        self._agree()
        gathering = _Gathering(self, driver, progress)
        if driver.slots > 1 or gathering.engine is not None:
            self._protocol.hello(time.monotonic())  # now that the number of slots is known
        self._protocol.ready()
        if gathering.engine is not None:
            gathering.work(gathering.engine)
        elif driver.slots == 1:
            self._work_here(driver, progress)
        else:
            _Threads(self, driver, progress).work()

    def _work_here(self, driver: Driver, progress: ProgressWriter) -> None:
        evaluator = Evaluator(driver, progress.cells[0], self.report, self.between, self.tell)
        while True:
            self._turn(wait=not self._protocol.queue)
            assignment = self._protocol.begin()
            if assignment is not None:
                progress.begin(0, assignment.lease, assignment.run, assignment.first, assignment.attempt)
                evaluator.run(assignment)
                progress.end(0)
                del assignment  # with its inputs, which may be large
            elif self._done:
                return

    # -- towards the daemon -------------------------------------------------------------------------------------------

    def report(
        self,
        assignment: Assignment,
        position: int,
        n: int,
        outputs: Table | None,
        errors: Sequence[TaskError],
        started: float,
        finished: float,
        times: Buffer | None,
        *,
        final: bool,
    ) -> None:
        """Send an outcome, and leave when this worker has done its share.

        That it leaves it says first: the daemon answers an outcome by a further lease.
        """
        now = time.monotonic()
        self._ended += n
        if self._recycle_after and self._ended >= self._recycle_after and not self._protocol.leaving:
            self._protocol.leave()
        if errors or (outputs is not None and outputs.nbytes > self._max_message // 2):
            whole = Portion(position, position + n, outputs, times, tuple(errors))
            for part in portions(whole, self._max_message):
                begin, end, part_times = time_of(part, whole, finished - started)
                self._protocol.report(
                    assignment,
                    part.low,
                    part.high - part.low,
                    part.outputs,
                    part.errors,
                    started + begin,
                    started + end,
                    part_times,
                    final=final and part.high == whole.high,
                    now=now,
                )
        else:
            self._protocol.report(
                assignment, position, n, outputs, errors, started, finished, times, final=final, now=now
            )
        self._flush()

    def tell(self, progress: m.Progress) -> None:
        """Send what an evaluation has yielded, or leave it out where it would have to wait."""
        self._protocol.mention(progress)
        self._flush()

    def between(self) -> None:
        """Hear what the daemon has to say, without waiting."""
        self._turn(wait=False)

    def _turn(self, *, wait: bool, until: float = math.inf) -> None:
        self._flush()
        if wait:
            until = min(until, self._next_tick)
            for source, _ in self._poller.poll(max(0, math.ceil((until - time.monotonic()) * 1e3))):
                if source == self._signalled.fileno():
                    self._signalled.recv(64)
        now = time.monotonic()
        while (frames := sockets.receive(self._socket)) is not None:
            self.handle(frames, now)
        if self._protocol.refused is not None and self._progress is not None:
            raise Dismissed(
                f"worker {os.getpid()}: the daemon refuses it: {self._protocol.refused}"
            ) from self._protocol.refused
        if now >= self._next_tick:
            welcome = self._protocol.welcome
            self._next_tick = now + (_TICK_SECONDS if welcome is None else min(_TICK_SECONDS, welcome.heartbeat))
            for redial in self._redials:
                redial.look(now)
            self._protocol.tick(now)
            self._agree()
        self._flush()

    def _agree(self) -> None:
        """Note what the daemon asks of this worker's host: that changes when it starts with another configuration."""
        welcome = self._protocol.welcome
        if welcome is not None and self._progress is not None:
            self._progress.agree(Terms(welcome.timeout, welcome.heartbeat))

    def handle(self, frames: list[bytes], now: float) -> None:
        """One message of the daemon's."""
        try:
            self._protocol.on_frames(frames, now)
        except ProtocolError as error:
            self.dropped += 1
            sys.stderr.write(f"worker {os.getpid()}: dropped a message: {error}\n")

    def _flush(self) -> None:
        outbox = self._protocol.outbox
        while outbox and sockets.send(self._socket, outbox[0]):
            del outbox[0]

    def _hang_up(self) -> None:
        for redial in self._redials:
            redial.close()
        self._socket.close(linger=_LINGER_MS)
        self._context.term()

    def _unusable(self, error: BaseException) -> None:
        told = task_error(0, error, skip=0)
        sys.stderr.write("".join(traceback.format_exception(error)))
        self._protocol.failed(shortened(type(error).__qualname__, LONGEST_NAME), told.message, told.traceback)
        self._flush()
        self._hang_up()

    @property
    def _done(self) -> bool:
        protocol = self._protocol
        if protocol.goodbye is not None:
            return not protocol.goodbye.drain or protocol.idle
        return protocol.idle and time.monotonic() > self._leave_by

    def _heed_signals(self) -> None:
        """Have SIGTERM wake the loop: finish what is in hand, then go. A second, harder signal bounds how long."""
        self._signalled, writer = sockets_.socketpair()
        writer.setblocking(False)
        self._poller.register(self._signalled.fileno(), zmq.POLLIN)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)

    def _on_signal(self, number: int, frame: object) -> None:
        self._leave_by = min(self._leave_by, time.monotonic() + _GOODBYE_SECONDS)
        if not self._protocol.leaving:
            self._protocol.leave()


class Dismissed(Exception):
    """The daemon does not want this worker any more, or something that it said: there is nothing left to do here."""

    def status(self) -> int:
        """Say so; the exit status that tells it to the worker's host."""
        sys.stderr.write(f"{self}\n")
        return EXIT_DISMISSED if isinstance(self.__cause__, ProtocolError) else EXIT_REFUSED


class _Threads:
    """Several slots: threads take assignments from a queue and hand their outcomes back to the socket's thread."""

    def __init__(self, worker: Worker, driver: Driver, progress: ProgressWriter) -> None:
        self._worker = worker
        self._driver = driver
        self._progress = progress
        self._assignments: queue.SimpleQueue[Assignment | None] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[tuple[object, ...]] = queue.SimpleQueue()
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
        worker._poller.register(self._wake_read, zmq.POLLIN)
        while True:
            worker._turn(wait=self._reports.empty())
            self._drain()
            if self._broken is not None:
                raise self._broken
            while (assignment := worker._protocol.begin()) is not None:
                self._assignments.put(assignment)
            if worker._done:
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
            *arguments, final = self._reports.get()
            self._worker.report(*arguments, final=final)  # type: ignore[arg-type]

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

    def _report(
        self,
        assignment: Assignment,
        position: int,
        n: int,
        outputs: Table | None,
        errors: Sequence[TaskError],
        started: float,
        finished: float,
        times: Buffer | None,
        *,
        final: bool,
    ) -> None:
        self._reports.put((assignment, position, n, outputs, errors, started, finished, times, final))
        self._wake_write.send(b"\0")


class _Gathering:
    """Tasks of several leases together: the socket's thread turns an engine, which another thread may wake."""

    def __init__(self, worker: Worker, driver: Driver, progress: ProgressWriter) -> None:
        self._worker = worker
        self._wake_read, self._wake_write = sockets_.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.engine = driver.engine(worker.report, progress, self._wake)
        if self.engine is not None:
            worker._protocol.batch, worker._protocol.shares = self.engine.sizing.rows, self.engine.depth
            worker._protocol.device = self.engine.status

    def work(self, engine: Engine) -> None:
        """Until the worker is done. Raises what ends the worker."""
        worker = self._worker
        worker._poller.register(self._wake_read, zmq.POLLIN)
        try:
            while True:
                due = engine.due
                worker._turn(wait=due is None or due > time.monotonic(), until=math.inf if due is None else due)
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4096)
                while (assignment := worker._protocol.begin()) is not None:
                    engine.take(assignment)
                engine.turn()
                if worker._done:
                    return
        finally:
            engine.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been woken often enough
            self._wake_write.send(b"\0")


def _leave_as_it_is() -> None:
    """What would be closed is broken: its teardown could do nothing but fail."""


def _make_driver(welcome: m.Welcome) -> Driver:
    owner = welcome.master
    context = DriverContext(
        owner, welcome.options, Schema(welcome.parameters, owner), Schema(welcome.outputs, owner, "output")
    )
    return driver_class(welcome.driver, welcome.options)(context)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, also if that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of a worker process."""
    parser = argparse.ArgumentParser(prog="python -m taskmaster.drivers.worker", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--master", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--progress", required=True, type=Path)
    parser.add_argument("--parent", required=True, type=int)
    parser.add_argument("--path", action="append", default=[])
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    free_children()
    mark_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers in order
    protocol = WorkerProtocol(
        options.master,
        options.token,
        pid=os.getpid(),
        host=sockets_.gethostname(),
        sharing=sharing_with(options.address),
    )
    status = Worker(options.address, protocol, options.progress, options.path).run()
    if status == EXIT_BROKEN:  # nor could what is destroyed when the interpreter ends
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
