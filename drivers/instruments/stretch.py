"""What a head does of one lease: which of its tasks are next, and what has ended and is yet to be reported.

Most leases have one task. Where tasks are so quick that a message for each would cost more than they do, a lease has
some, and those that end within ``hold`` seconds are reported together. Where a quick one is followed by one that is
not, or by something else that the head has to do, :meth:`Stretch.flush` is called from another thread meanwhile.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Table
from taskmaster.drivers.evaluation import rows_of
from taskmaster.drivers.instruments.news import Ended
from taskmaster.drivers.outputs import OutputPacker
from taskmaster.drivers.protocol import Assignment

__all__ = ["LATE", "Stretch"]

#: Seconds after which what has ended is reported by whoever comes by.
LATE = 0.1


class Stretch:
    """The tasks of an assignment, from the first to the last. ``tell`` is told what has become of them."""

    def __init__(self, assignment: Assignment, packer: OutputPacker, tell: Callable[[Ended], None]) -> None:
        self.assignment = assignment
        #: position of the next task, or of the one that is being evaluated
        self.at = 0
        #: nothing more will be said of this assignment
        self.is_over = False
        #: position behind the last task that is wanted
        self._end = assignment.n
        self._packer = packer
        self._tell = tell
        self._rows: Any = None
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._from = self.at
        self._values: list[Any] = []
        self._errors: list[TaskError] = []
        self._times = array("d")
        self._took = 0.0

    def next(self) -> Any:
        """The input of the next task, which begins now. Raises ProtocolError if it cannot be read."""
        self._latest = time.perf_counter()
        if not self._times:
            self._started, self._began = time.time(), self._latest
        if self._rows is None:
            self._rows = rows_of(self.assignment.table)
        return self._rows[self.at]

    def done(self, value: Any) -> None:
        """It has ended with this output."""
        with self._lock:
            self._values.append(value)
            self._end_task()

    def failed(self, error: TaskError) -> None:
        """It has ended with an error."""
        with self._lock:
            self._errors.append(replace(error, position=self.at - self._from))
            self._end_task()

    def _end_task(self) -> None:
        self._took = time.perf_counter() - self._began
        self._times.append(self._took)
        self.at += 1
        is_last = self.at >= self._end
        if is_last or self._took >= self.assignment.hold:
            self._report(final=is_last)

    def lost(self, error: TaskError, *, doubt: bool) -> None:
        """The head was lost in the task, which may have acted (``doubt``) or has not; the rest is given back."""
        with self._lock:
            started, finished = self._started + self._took, time.time()
            self._report(final=False)
            self._finish(Ended(self.assignment, self.at, int(doubt), None, (error,), started, finished, doubt=doubt))

    def give_back(self, errors: tuple[TaskError, ...] = ()) -> None:
        """The rest has not begun, and will not be begun here."""
        with self._lock:
            self._report(final=False)
            self._finish(Ended(self.assignment, self.at, 0, None, errors))

    def cut(self) -> None:
        """Give back, at once, what has not begun: of the task in hand that is not known. From any thread."""
        with self._lock:
            if self.at + 1 < self._end and not self.is_over:
                self._end = self.at + 1
                self._tell(Ended(self.assignment, self._end, 0, final=False))

    def flush(self, now: float) -> None:
        """Report what has waited for long, at ``now`` seconds of :func:`time.perf_counter`. From any thread."""
        if self._times:
            with self._lock:
                if self._times and now - self._began - self._times[-1] > LATE:
                    self._report(final=False)
                    self._started += self._latest - self._began  # of the task in hand, if there is one
                    self._began = self._latest

    def _finish(self, ended: Ended) -> None:
        if not self.is_over:
            self.is_over = True
            self._tell(ended)

    def _report(self, *, final: bool) -> None:
        """What has ended since the last report. ``final``: with the last task."""
        n = len(self._times)
        if not n:
            return
        outputs: Table | None
        failed = {error.position for error in self._errors}
        outputs, wrong = self._packer.pack([k for k in range(n) if k not in failed], self._values)
        errors = sorted((*self._errors, *wrong), key=lambda error: error.position)
        times = memoryview(self._times).cast("B") if n > 1 else None
        finished = self._started + self._took
        at = self._from
        ended = Ended(self.assignment, at, n, outputs, tuple(errors), self._started, finished, times=times, final=final)
        # Not cleared but made anew: what was told of is still to be sent.
        self._reset()
        if final:
            self._finish(ended)
        else:
            self._tell(ended)
