"""The worker process: hosts one driver and speaks the worker protocol.

One thread owns the socket and, with one slot, evaluates too: a dispatch is evaluated by the thread that received it,
with no hand-over in between. With several slots the socket thread feeds a queue that as many threads take from.

Started as ``python -m taskmaster.drivers.worker``, by the daemon or by ``taskmaster worker``; whoever started it
watches it (see `host`), and it dies with that parent.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import signal
import socket as sockets_
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from taskmaster.drivers.gathering import Gathering
from taskmaster.drivers.outputs import Portion, portions, task_error, time_of
from taskmaster.drivers.progress import ProgressWriter, Terms, leave_last_words
from taskmaster.drivers.protocol import Assignment, WorkerProtocol
from taskmaster.drivers.registry import driver_class
from taskmaster.drivers.sharing import sharing_with
from taskmaster.drivers.threads import Threads

if TYPE_CHECKING:
    pass

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
        self.protocol = protocol
        self._path = path
        self._progress_path = progress
        self._progress: ProgressWriter | None = None
        self._context = zmq.Context()
        credentials = credentials_for(address)
        self._socket = sockets.dealer(self._context, credentials)
        self._redials = Redial.of(credentials, (self._socket, address))
        self._socket.connect(address)
        #: what a turn waits for
        self.poller = zmq.Poller()
        self.poller.register(self._socket, zmq.POLLIN)
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
        self.protocol.hello(time.monotonic())
        while self.protocol.welcome is None:
            self.turn(wait=True)
            if self.protocol.refused is not None:
                sys.stderr.write(f"{self.protocol.refused}\n")
                return EXIT_REFUSED
            if self.done:
                return EXIT_GOODBYE
        welcome = self.protocol.welcome
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
        self.flush()
        self._hang_up()
        return EXIT_BROKEN

    def _work(self, driver: Driver) -> None:
        self.protocol.slots = driver.slots
        progress = self._progress = ProgressWriter(self._progress_path, driver.slots)
        self._agree()
        gathering = Gathering(self, driver, progress)
        if driver.slots > 1 or gathering.engine is not None:
            self.protocol.hello(time.monotonic())  # now that the number of slots is known
        self.protocol.ready()
        if gathering.engine is not None:
            gathering.work(gathering.engine)
        elif driver.slots == 1:
            self._work_here(driver, progress)
        else:
            Threads(self, driver, progress).work()

    def _work_here(self, driver: Driver, progress: ProgressWriter) -> None:
        evaluator = Evaluator(driver, progress.cells[0], self.report, self.between, self.tell)
        while True:
            self.turn(wait=not self.protocol.queue)
            assignment = self.protocol.begin()
            if assignment is not None:
                progress.begin(0, assignment.lease, assignment.run, assignment.first, assignment.attempt)
                evaluator.run(assignment)
                progress.end(0)
                del assignment  # with its inputs, which may be large
            elif self.done:
                return

    # -- towards the daemon -------------------------------------------------------------------------------------------

    def report(self, *outcome: Any, final: bool) -> None:
        """Send an outcome at once, see :meth:`note`."""
        self.note(*outcome, final=final)
        self.flush()

    def note(
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
        """Have an outcome sent, with others that are noted, by the next flush.

        When this worker has done its share it leaves, and says that first: the daemon answers an outcome by a lease.
        """
        now = time.monotonic()
        self._ended += n
        if self._recycle_after and self._ended >= self._recycle_after and not self.protocol.leaving:
            self.protocol.leave()
        if errors or (outputs is not None and outputs.nbytes > self._max_message // 2):
            whole = Portion(position, position + n, outputs, times, tuple(errors))
            for part in portions(whole, self._max_message):
                begin, end, part_times = time_of(part, whole, finished - started)
                self.protocol.report(
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
            self.protocol.report(
                assignment, position, n, outputs, errors, started, finished, times, final=final, now=now
            )

    def tell(self, progress: m.Progress) -> None:
        """Send what an evaluation has yielded, or leave it out where it would have to wait."""
        self.protocol.mention(progress)
        self.flush()

    def between(self) -> None:
        """Hear what the daemon has to say, without waiting."""
        self.turn(wait=False)

    def turn(self, *, wait: bool, until: float = math.inf) -> None:
        """Send what is to be sent, and hear what the daemon says; where that is to be waited for, ``until`` then."""
        self.flush()
        if wait:
            until = min(until, self._next_tick)
            for source, _ in self.poller.poll(max(0, math.ceil((until - time.monotonic()) * 1e3))):
                if source == self._signalled.fileno():
                    self._signalled.recv(64)
        now = time.monotonic()
        while (frames := sockets.receive(self._socket)) is not None:
            self.handle(frames, now)
        if self.protocol.refused is not None and self._progress is not None:
            raise Dismissed(
                f"worker {os.getpid()}: the daemon refuses it: {self.protocol.refused}"
            ) from self.protocol.refused
        if now >= self._next_tick:
            welcome = self.protocol.welcome
            self._next_tick = now + (_TICK_SECONDS if welcome is None else min(_TICK_SECONDS, welcome.heartbeat))
            for redial in self._redials:
                redial.look(now)
            self.protocol.tick(now)
            self._agree()
        self.flush()

    def _agree(self) -> None:
        """Note what the daemon asks of this worker's host: that changes when it starts with another configuration."""
        welcome = self.protocol.welcome
        if welcome is not None and self._progress is not None:
            self._progress.agree(Terms(welcome.timeout, welcome.heartbeat))

    def handle(self, frames: list[bytes], now: float) -> None:
        """One message of the daemon's."""
        try:
            self.protocol.on_frames(frames, now)
        except ProtocolError as error:
            self.dropped += 1
            sys.stderr.write(f"worker {os.getpid()}: dropped a message: {error}\n")

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        outbox = self.protocol.outbox
        while outbox:
            count, frames = self.protocol.next_out()
            if not sockets.send(self._socket, frames):
                return
            del outbox[:count]

    def _hang_up(self) -> None:
        for redial in self._redials:
            redial.close()
        self._socket.close(linger=_LINGER_MS)
        self._context.term()

    def _unusable(self, error: BaseException) -> None:
        told = task_error(0, error, skip=0)
        sys.stderr.write("".join(traceback.format_exception(error)))
        self.protocol.failed(shortened(type(error).__qualname__, LONGEST_NAME), told.message, told.traceback)
        self.flush()
        self._hang_up()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do here."""
        protocol = self.protocol
        if protocol.goodbye is not None:
            return not protocol.goodbye.drain or protocol.idle
        return protocol.idle and time.monotonic() > self._leave_by

    def _heed_signals(self) -> None:
        """Have SIGTERM wake the loop: finish what is in hand, then go. A second, harder signal bounds how long."""
        self._signalled, writer = sockets_.socketpair()
        writer.setblocking(False)
        self.poller.register(self._signalled.fileno(), zmq.POLLIN)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)

    def _on_signal(self, number: int, frame: object) -> None:
        self._leave_by = min(self._leave_by, time.monotonic() + _GOODBYE_SECONDS)
        if not self.protocol.leaving:
            self.protocol.leave()


class Dismissed(Exception):
    """The daemon does not want this worker any more, or something that it said: there is nothing left to do here."""

    def status(self) -> int:
        """Say so; the exit status that tells it to the worker's host."""
        sys.stderr.write(f"{self}\n")
        return EXIT_DISMISSED if isinstance(self.__cause__, ProtocolError) else EXIT_REFUSED


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
