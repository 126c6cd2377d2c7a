"""The worker process of a head, or of all heads of one controller: ``python -m taskmaster.drivers.instruments.worker``.

The socket's thread never waits for the hardware: it hears of an emergency stop whatever the head is doing. The head has
a thread of its own, see `attendant`; between the two go assignments and orders one way, and what became of them the
other. Several heads in one process have a pair of threads each, and what they share takes care of itself (`link`).

A worker is started by a guardian and outlives neither it nor, for longer than ``deadman``, the daemon: without either
it brings its head to the safe state. It ends by no signal from the kernel for that, but by itself: nobody else may be
left who could make the instrument safe.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import queue
import select
import signal
import socket as sockets_
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskmaster.bus import messages as m
from taskmaster.bus.text import format_duration
from taskmaster.drivers.children import free_children
from taskmaster.drivers.host import CANCELLED
from taskmaster.drivers.instruments.attendant import Attendant
from taskmaster.drivers.instruments.head import Head
from taskmaster.drivers.instruments.making import HeadMaker
from taskmaster.drivers.instruments.news import Ended, Found, Kept, Left, News, Said, Unusable
from taskmaster.drivers.instruments.notes import NOTES, HeadNotes, HeadState, TokenWriter
from taskmaster.drivers.instruments.sharing import Controller
from taskmaster.drivers.instruments.stretch import LATE
from taskmaster.drivers.instruments.watching import watched
from taskmaster.drivers.progress import STARTED, ProgressWriter
from taskmaster.drivers.protocol import Assignment, WorkerProtocol
from taskmaster.drivers.sharing import sharing_with
from taskmaster.drivers.worker import EXIT_GOODBYE, EXIT_UNUSABLE, Dismissed, Worker

__all__ = ["HeadWorker", "main"]

#: What a worker that is to leave at once has to say may take so long.
_FAREWELL_SECONDS = 1.0
#: It is looked so long after a task's time-out whether it has ended.
_LATE_SECONDS = 0.05


@dataclass(frozen=True)
class Seat:
    """Which head, by which token the daemon knows its worker, and where that notes its progress."""

    head: str
    token: str
    progress: Path


class HeadWorker(Worker):
    """One head's worker, from hello to goodbye. :meth:`leave` alone may be called from another thread."""

    def __init__(
        self, address: str, master: str, seat: Seat, path: Sequence[str] = (), controller: Controller | None = None
    ) -> None:
        """``controller`` is what it has in common with the other workers of this process."""
        protocol = WorkerProtocol(
            master,
            seat.token,
            pid=os.getpid(),
            host=sockets_.gethostname(),
            head=seat.head,
            sharing=sharing_with(address),
        )
        self._notes = HeadNotes(seat.progress.with_name(seat.progress.name + NOTES), seat.head)
        self._signalled, self._wake = sockets_.socketpair()
        self._signalled.setblocking(False)
        self._wake.setblocking(False)
        super().__init__(address, protocol, seat.progress, path)
        self._heard: queue.SimpleQueue[News | m.Checkpoint] = queue.SimpleQueue()
        self._tokens = TokenWriter(seat.progress)
        self._controller = controller
        self._attendant: Attendant | None = None
        self._left = False
        self._unusable_by: BaseException | None = None
        self._daemon_heard = time.monotonic()
        self._deadman = float("inf")
        self._told_to_leave = self._at_once = False

    def leave(self, *, at_once: bool) -> None:
        """Finish the task in hand, or break it off, and go."""
        self._told_to_leave = True
        self._at_once |= at_once
        self._awake()

    def _awake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is being woken
            self._wake.send(b"\0")

    def _heed_signals(self) -> None:
        self.poller.register(self._signalled.fileno(), select.POLLIN)

    # -- set up -------------------------------------------------------------------------------------------------------

    def _serve(self, welcome: m.Welcome) -> int:
        self._progress = ProgressWriter(self._progress_path, 1)
        self._agree()
        self._deadman = float(welcome.options.get("deadman") or self._deadman)
        attendant = self._attendant = self._make_attendant(welcome, self._progress)
        self.protocol.ready()
        attendant.thread.start()
        try:
            self._attend(attendant)
        except Dismissed as dismissed:
            attendant.leave(at_once=True)
            attendant.thread.join()
            return dismissed.status()
        if self._unusable_by is not None:
            self._unusable(self._unusable_by)
            return EXIT_UNUSABLE
        return EXIT_GOODBYE

    def _make_attendant(self, welcome: m.Welcome, progress: ProgressWriter) -> Attendant:
        maker = HeadMaker(
            welcome.master, welcome.driver, welcome.options, welcome.parameters, welcome.outputs, self._controller
        )
        name = self.protocol.head
        reconnect = maker.options(name).get("reconnect") or {}

        def make(attendant: Attendant) -> Head:
            context = maker.context(
                name, attendant.stopping, attendant.on_acting, attendant.on_checkpoint, attendant.on_between
            )
            return maker.make(context)

        def begin(assignment: Assignment) -> None:
            progress.begin(0, assignment.lease, assignment.run, assignment.first, assignment.attempt)

        def acts(position: int) -> None:
            progress.cells[0][STARTED] = position + 1

        def waits(is_waiting: bool) -> None:
            progress.wait(0, is_waiting)

        def tell(news: News) -> None:
            # (What is given back of leases behind the one in hand ends nothing.)
            if isinstance(news, Ended) and news.final and progress.is_in(0, news.assignment.lease):
                progress.end(0)
            self._heard.put(news)
            self._awake()

        def keep(kept: Kept) -> None:
            checkpoint = m.Checkpoint(kept.assignment.lease, kept.number, time.time(), kept.token, kept.position)
            self._heard.put(checkpoint)  # also where this disk has no room for it: the daemon's may have
            self._awake()
            self._tokens.keep(checkpoint)

        def note(state: HeadState) -> None:
            self._notes.state = state

        pauses = float(reconnect.get("first", 0.5)), float(reconnect.get("longest", 30.0))
        return Attendant(
            make,
            maker.outputs,
            who=f"{welcome.master}/{name}",
            tell=tell,
            begin=begin,
            acts=acts,
            waits=waits,
            note=note,
            keep=keep,
            pauses=pauses,
            watched=watched(maker.options(name), name),
        )

    # -- at work ------------------------------------------------------------------------------------------------------

    def handle(self, frames: list[bytes], now: float) -> None:
        self._daemon_heard = now
        super().handle(frames, now)

    def turn(self, *, wait: bool, until: float = math.inf) -> None:
        self._notes.turn()
        super().turn(wait=wait, until=until)
        if self._told_to_leave and not self.protocol.leaving:
            self._on_signal(0, None)
            self.flush()

    def _attend(self, attendant: Attendant) -> None:
        """Carry between the daemon and the head, until neither has anything more to say."""
        while not self._left:
            self.turn(wait=self._heard.empty())
            attendant.flush()
            self._hear()
            attendant.order(self.protocol.order)
            self._look_after(attendant)
            self._give(attendant)
            while self.protocol.questions:
                attendant.ask(self.protocol.questions.popleft())
            goodbye = self.protocol.goodbye
            if self.protocol.leaving or goodbye is not None:
                attendant.leave(at_once=self._at_once or (goodbye is not None and not goodbye.drain))
        farewell_until = time.monotonic() + _FAREWELL_SECONDS
        while not (self.done or self._unusable_by or (self._at_once and self._has_said_all(farewell_until))):
            if self._at_once:
                self._next_tick = min(self._next_tick, farewell_until)
            self.turn(wait=self._heard.empty())
            self._give(attendant)  # what was on its way comes back
            self._hear()

    def _give(self, attendant: Attendant) -> None:
        while (assignment := self.protocol.begin()) is not None:
            attendant.give(assignment)
        if attendant.reports_late:
            self._next_tick = min(self._next_tick, time.monotonic() + LATE)

    def _has_said_all(self, until: float) -> bool:
        return self.protocol.idle or time.monotonic() > until

    def _look_after(self, attendant: Attendant) -> None:
        """Mind the time: how long the daemon has been silent, and how long a task has taken."""
        now = time.monotonic()
        silence = now - self._daemon_heard
        if silence > self._deadman:
            attendant.hold(f"nothing was heard of the daemon for {format_duration(round(silence, 1))}")
            if self.protocol.idle and not self.protocol.leaving:
                self.leave(at_once=True)
        else:
            attendant.release()
        if attendant.doubted is not None and self.protocol.is_settled(attendant.doubted):
            attendant.on_doubt_heard()
        welcome, task = self.protocol.welcome, attendant.task
        while self.protocol.interrupts:
            unwanted = self.protocol.interrupts.popleft()
            if (
                task is not None
                and task.assignment.lease == unwanted.lease
                and unwanted.low <= task.position < unwanted.high
            ):
                attendant.break_off(task, CANCELLED, "it was cancelled")
        if welcome is None or welcome.timeout is None:
            return
        if task is None:
            self._next_tick = min(self._next_tick, now + welcome.timeout + _LATE_SECONDS)
            return
        if now - task.since > welcome.timeout:
            attendant.break_off(task, "TaskTimeout", f"no outcome after {format_duration(welcome.timeout)}")
        self._next_tick = min(self._next_tick, max(now, task.since + welcome.timeout) + _LATE_SECONDS)

    def _hear(self) -> None:
        while not self._heard.empty():
            news = self._heard.get()
            if isinstance(news, Said):
                self.protocol.report_head(m.HeadReport(news.state, news.identity, news.error, news.order))
            elif isinstance(news, Unusable):
                self._unusable_by = news.error
            elif isinstance(news, Left):
                self._left = True
            elif isinstance(news, m.Checkpoint):
                self.protocol.keep(news)
            elif isinstance(news, Found):
                self.protocol.answer(news.question, news.state, news.outputs, news.reason)
            elif isinstance(news, Ended):
                self._say(news)
            elif isinstance(news, m.Tripped):
                self.protocol.report_trip(news)
            else:
                self.protocol.mention(news)

    def _say(self, ended: Ended) -> None:
        if ended.doubt or not ended.n:
            # Of what is given back nothing has come about, not even an error: why, the head says of itself.
            errors = ended.errors if ended.doubt else ()
            self.protocol.report(
                ended.assignment, ended.position, ended.n, None, errors, ended.started, ended.finished, None,
                final=ended.final, now=time.monotonic(), doubt=ended.doubt,
            )  # fmt: skip
        else:
            self.report(
                ended.assignment, ended.position, ended.n, ended.outputs, ended.errors, ended.started, ended.finished,
                ended.times, final=ended.final,
            )  # fmt: skip


# -- the process -------------------------------------------------------------------------------------------------------


class _Process:
    """The main thread: hears of signals and of the parent's death, and passes it on to the workers."""

    def __init__(self, address: str, master: str, seats: Sequence[Seat], parent: int, path: Sequence[str]) -> None:
        self._parent = _watched(parent)
        self._signalled, self._wake = sockets_.socketpair()
        self._signalled.setblocking(False)
        self._wake.setblocking(False)
        self._statuses: list[int] = []
        self._at_once = False
        controller = Controller()
        self.workers = [HeadWorker(address, master, seat, path, controller) for seat in seats]
        self._threads = [
            threading.Thread(target=self._run, args=(worker,), name="taskmaster-worker") for worker in self.workers
        ]

    def _run(self, worker: HeadWorker) -> None:
        status = EXIT_UNUSABLE
        try:
            status = worker.run()
        finally:
            self._statuses.append(status)
            self._wake.send(b"\0")

    def run(self) -> int:
        """Until every head's worker has ended; the exit status is the worst of theirs."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started the daemon, which ends its workers
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        signal.signal(signal.SIGUSR1, self._hurry)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for thread in self._threads:
            thread.start()
        watching = select.poll()
        watching.register(self._signalled, select.POLLIN)
        watching.register(self._parent, select.POLLIN)
        while len(self._statuses) < len(self._threads):
            ready = [descriptor for descriptor, _ in watching.poll()]
            if self._parent in ready:
                watching.unregister(self._parent)
                self._at_once = True
            signals = self._signalled.recv(64) if self._signalled.fileno() in ready else b""
            if self._at_once or signal.SIGTERM in signals:
                for worker in self.workers:
                    worker.leave(at_once=self._at_once)
        return max(self._statuses)

    def _hurry(self, number: int, frame: object) -> None:
        self._at_once = True


def _watched(parent: int) -> int:
    """A descriptor that becomes readable when the parent process has ended. Ends this one if that is so already."""
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)
    if os.getppid() != parent:
        os._exit(1)
    return descriptor


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of a worker process: SIGTERM finishes what is in hand, SIGUSR1 breaks it off; then it goes."""
    parser = argparse.ArgumentParser(prog="python -m taskmaster.drivers.instruments.worker", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--master", required=True)
    parser.add_argument("--parent", required=True, type=int)
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("--seat", required=True, action="append", nargs=3, metavar=("HEAD", "TOKEN", "PROGRESS"))
    options = parser.parse_args(arguments)
    free_children()
    seats = [Seat(head, token, Path(progress)) for head, token, progress in options.seat]
    return _Process(options.address, options.master, seats, options.parent, options.path).run()


if __name__ == "__main__":
    sys.exit(main())
