"""Leases in, batches through the device, outcomes out.

One thread, the worker's own, does everything but wait for the device: it takes leases, begins batches (which returns
at once on a real device, where copies and kernels are only put into streams), and says what came of those that have
ended, in the order in which they were begun. A second thread waits for the batch that was begun first, and wakes the
first one: so that is there for the daemon while the device works, and never polls.

What goes wrong with a batch:

- *out of memory*: its rows go back, to be tried by halves, and no batch is as large again;
- *its function raises*: it is tried by halves, alone, until just the rows that raise have failed;
- *the device is broken* (an illegal address leaves a CUDA context of no use): :class:`DeviceBroken` ends the worker.
  The leases under way are noted as begun in the worker's progress, where its host finds them; the daemon tries their
  tasks again in smaller leases, which are evaluated alone (see `batching`);
- *it does not end*: the worker's host sees that its progress stands still, and kills it after the Master's time-out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskmaster.bus.messages import LeaseId, TaskError
from taskmaster.bus.status import DeviceStatus
from taskmaster.drivers.evaluation import Report
from taskmaster.drivers.gpu.batching import Batch, Sizing, Waiting
from taskmaster.drivers.gpu.device import Device, DeviceBroken, Flight, OutOfMemory
from taskmaster.drivers.gpu.rows import Ended, Inputs, Outputs
from taskmaster.drivers.outputs import task_error
from taskmaster.drivers.progress import STARTED, ProgressWriter
from taskmaster.drivers.protocol import Assignment

__all__ = ["Engine"]


_FOLDER = str(Path(__file__).parent)


@dataclass(slots=True)
class _Under:
    """A batch that is under way."""

    batch: Batch
    flight: Flight
    began: float


class _Tally:
    """What the device has done since this was last told."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.batches = self.rows = 0
        self.copying = self.busy = 0.0

    def add(self, rows: int, copying: float, busy: float) -> None:
        self.batches += 1
        self.rows += rows
        self.copying += copying
        self.busy += busy


class Engine:
    """Evaluates leases of any runs together. To be turned by the thread that takes them."""

    def __init__(
        self,
        device: Device,
        inputs: Inputs,
        outputs: Outputs,
        sizing: Sizing,
        report: Report,
        progress: ProgressWriter,
        *,
        linger: float = 0.0,
        wake: Callable[[], None] = lambda: None,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        """``wake`` is called by another thread when there may be something to do; ``flush`` after a batch's reports."""
        self._device = device
        self._inputs = inputs
        self._outputs = outputs
        self.sizing = sizing
        self._report = report
        self._progress = progress
        self._flush = flush
        self._linger = linger
        self._waiting = Waiting()
        #: to be tried again, before anything else
        self._again: deque[Batch] = deque()
        self._under: deque[_Under] = deque()
        #: slots of the progress that are free; and those of leases that are entered
        self._cells = list(range(len(progress.cells)))
        self._cell_of: dict[LeaseId, int] = {}
        #: rows of leases that are in batches, and whose outcome has not been said
        self._open: dict[LeaseId, int] = {}
        self._landed_at = 0.0
        #: rows of the largest batch that has ended
        self._largest = 0
        self._tally = _Tally(time.monotonic())
        self._waiter = _Waiter(wake) if device.is_asynchronous else None

    @property
    def depth(self) -> int:
        """How many batches are under way at a time."""
        return self._device.depth

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._waiter is not None:
            self._waiter.close()

    # -- what there is to do ------------------------------------------------------------------------------------------

    def take(self, assignment: Assignment) -> None:
        """A lease has come."""
        self._waiting.add(assignment, time.monotonic())

    @property
    def due(self) -> float | None:
        """When to turn it though nothing has come and nobody has woken it: 0 at once, None: not at all."""
        if self._under:
            return 0.0 if self._under[0].flight.is_done or self._next_is_worth_it() else None
        if self._again:
            return 0.0
        return self._waiting.due(self.sizing.rows, self._linger)

    def turn(self) -> None:
        """Say what has ended, and begin what can be. Raises DeviceBroken, and KeyboardInterrupt."""
        self._land()
        self._flush()
        while len(self._under) < self._device.depth and self._may_begin():
            if self._again:
                batch = self._again.popleft()
            else:
                batch = self._waiting.take(self.sizing.rows, self._room)
                self._enter(batch)
            self._begin(batch)
            if not self._device.is_asynchronous:
                break  # the socket is to be looked at between two batches
        self._land()
        self._flush()

    def _may_begin(self) -> bool:
        if self._under:
            return self._next_is_worth_it()
        if self._again:
            return True
        due = self._waiting.due(self.sizing.rows, self._linger)
        return due is not None and due <= time.monotonic() and self._room > 0

    @property
    def _room(self) -> int:
        """How many leases the next batch may be of: each that is begun has a slot of the progress."""
        first = self._waiting.first
        return len(self._cells) + (first is not None and first.lease in self._cell_of)

    def _next_is_worth_it(self) -> bool:
        """Whether to begin a batch beside those that are under way."""
        if len(self._under) >= self._device.depth or self._under[-1].batch.alone or not self._room:
            return False
        if self._again or not len(self._waiting) or self._waiting.is_alone:
            return False
        return self._waiting.rows >= min(self.sizing.rows, self._under[-1].batch.rows // 2)

    # -- one batch ----------------------------------------------------------------------------------------------------

    def _enter(self, batch: Batch) -> None:
        """Note that rows of leases are being evaluated: before they are."""
        for piece in batch.pieces:
            assignment = piece.assignment
            if not piece.n:
                continue
            cell = self._cell_of.get(assignment.lease)
            if cell is None:
                cell = self._cell_of[assignment.lease] = self._cells.pop()
                self._progress.begin(cell, assignment.lease, assignment.run, assignment.first, assignment.attempt)
            self._progress.cells[cell][STARTED] = piece.high
            self._open[assignment.lease] = self._open.get(assignment.lease, 0) + piece.n

    def _begin(self, batch: Batch) -> None:
        n = batch.rows
        if not n:  # all of it is revoked
            for piece in batch.pieces:
                self._tell(Ended(piece, None, ()), 0.0, 0.0)
            return
        flight = self._device.begin(lambda into: self._inputs.fill(batch, into), n)
        self._under.append(_Under(batch, flight, time.monotonic()))
        if self._waiter is not None:
            self._waiter.watch(flight)

    def _land(self) -> None:
        while self._under and self._under[0].flight.is_done:
            under = self._under.popleft()
            try:
                self._settle(under)
            except DeviceBroken:
                self._under.appendleft(under)
                raise
            # The time-out is that of one launch: those behind it, and what is tried again, have theirs from here on.
            cell = next(iter(self._cell_of.values()), None)
            if cell is not None:
                self._progress.beat(cell)

    def _settle(self, under: _Under) -> None:
        batch, n = under.batch, under.batch.rows
        try:
            outputs = under.flight.outputs()
            ended = self._outputs.pack(outputs, batch)
        except (DeviceBroken, KeyboardInterrupt):
            raise
        except OutOfMemory as error:
            self._on_out_of_memory(batch, error)
            return
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises fails its rows
            self._on_error(batch, error)
            return
        now = time.monotonic()
        # What it took of the device: it may have waited there for the one before.
        seconds = max(1e-9, now - max(under.began, self._landed_at))
        self._landed_at = now
        self.sizing.landed(n, seconds)
        if n > self._largest:  # to ask for the memory takes a while
            self._largest = n
            self.sizing.needs(self._device.row_bytes(), self._available())
        spans = under.flight.spans()
        self._tally.add(n, spans.copy_in + spans.copy_out, spans.kernel)
        finished = time.time()
        for each in ended:
            # Each lease has its share: what a batch took in all is no measure of a task.
            self._tell(each, finished, seconds * each.piece.n / n)

    def _on_out_of_memory(self, batch: Batch, error: OutOfMemory) -> None:
        self._device.trim()
        if batch.rows == 1:
            if batch.alone:
                self._fail(batch, error)
            else:  # what is under way beside it has memory, too: that says nothing of how many rows there may be
                self._again.append(Batch(batch.pieces, alone=True))
            return
        rows = self.sizing.out_of_memory(batch.rows)
        while batch.rows > rows:
            first, batch = batch.cut(rows)
            self._again.append(first)
        self._again.append(batch)

    def _on_error(self, batch: Batch, error: BaseException) -> None:
        self.sizing.failed()
        if batch.rows == 1:
            self._fail(batch, error)
            return
        first, second = batch.cut(batch.rows // 2)
        self._again.extendleft((Batch(second.pieces, alone=True), Batch(first.pieces, alone=True)))

    def _fail(self, batch: Batch, error: BaseException) -> None:
        told = _told(error)
        now = time.time()
        for piece in batch.pieces:
            self._tell(Ended(piece, None, (told,) if piece.n else ()), now, 0.0)

    def _available(self) -> int:
        return self._device.memory().free if self._device.row_bytes() else 0

    def _tell(self, ended: Ended, finished: float, seconds: float) -> None:
        piece, assignment = ended.piece, ended.piece.assignment
        lease = assignment.lease
        left = self._open.pop(lease, 0) - piece.n
        final = not left and lease not in self._waiting
        if left:
            self._open[lease] = left
        if not (piece.n or final):
            return  # what is under way of it says so when it ends
        self._report(
            assignment, piece.low, piece.n, ended.outputs, ended.errors, finished - seconds, finished, None, final=final
        )
        if final and lease in self._cell_of:
            cell = self._cell_of.pop(lease)
            self._progress.end(cell)
            self._cells.append(cell)

    # -- what is told of the device -----------------------------------------------------------------------------------

    def status(self) -> DeviceStatus:
        """What it has done since this was last asked."""
        now, tally = time.monotonic(), self._tally
        self._tally = _Tally(now)
        span = max(now - tally.since, 1e-9)
        memory = self._device.memory()
        # What takes longer than this is asked for is told of when it has ended.
        is_busy = bool(self._under) and self._under[0].began <= tally.since
        return DeviceStatus(
            name=self._device.name,
            utilisation=1.0 if is_busy else min(1.0, tally.busy / span),
            batch=self.sizing.rows,
            batches=tally.batches,
            rows=tally.rows,
            copying=tally.copying,
            kernel=tally.busy,
            memory=memory.total,
            free=memory.free,
        )


class _Waiter:
    """Waits for flights, one after the other, in a thread of its own, and wakes the engine's."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._flights: queue.SimpleQueue[Flight | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="waiter", daemon=True).start()

    def watch(self, flight: Flight) -> None:
        """Wake when this has ended, and all before it."""
        self._flights.put(flight)

    def close(self) -> None:
        """End, when what is under way has ended."""
        self._flights.put(None)

    def _run(self) -> None:
        while (flight := self._flights.get()) is not None:
            flight.wait()
            self._wake()


def _told(error: BaseException) -> TaskError:
    """What a learner is told of an exception, from where the user's function begins."""
    skip, frames = 0, error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_FOLDER):
        skip, frames = skip + 1, frames.tb_next
    return task_error(0, error, skip)
