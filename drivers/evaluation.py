"""One assignment through one driver: the loop that calls the user's function.

The loop has two gears. Tasks that take longer than :data:`LIGHT_SECONDS` are timed one by one and reported as they
come. Lighter ones run in pieces with nothing but the call, the note of progress and the result between them: what is
left of them is the cost of Python calling a function.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import BARE, Buffer, Table
from taskmaster.drivers.base import Driver
from taskmaster.drivers.outputs import OutputPacker, task_error
from taskmaster.drivers.progress import STARTED
from taskmaster.drivers.protocol import Assignment

__all__ = ["Evaluator", "Report", "rows_of"]

#: Mean duration below which tasks are not timed one by one: their finish times then cost more than they tell.
LIGHT_SECONDS = 50e-6
#: Tasks of a piece in the light gear: between pieces the worker looks at the clock and at its socket.
LIGHT_PIECE = 512
#: A worker looks at the clock and its socket at least this often, as far as the tasks let it.
LOOK_SECONDS = 0.0025


class Report(Protocol):
    """Takes the outcome of tasks ``position … position + n - 1`` of an assignment."""

    def __call__(
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
    ) -> None: ...


class Evaluator:
    """Evaluates assignments in one slot, one after the other.

    ``between`` is called between tasks every few milliseconds, so that revocations are heard of in time.
    """

    def __init__(self, driver: Driver, cells: memoryview, report: Report, between: Callable[[], None]) -> None:
        self._driver = driver
        self._cell = cells
        self._report = report
        self._between = between
        self._packer = OutputPacker(driver.context.outputs)
        #: mean seconds of the latest tasks; the first ones are timed
        self._seconds = 1.0
        self._finished = False

    def run(self, assignment: Assignment) -> None:
        """Evaluate every task that is not revoked, reporting as they end; the last report is final."""
        began = time.perf_counter()
        self._finished = False
        if assignment.n == 1 and not self._driver.batch:
            self._run_one(assignment, began)
            return
        if self._driver.batch:
            self._run_batch(assignment)
        else:
            self._run_tasks(assignment)
        if not self._finished:
            self._report(assignment, assignment.n, 0, None, (), 0.0, 0.0, None, final=True)
        self._seconds = (time.perf_counter() - began) / assignment.n

    def _is_last(self, assignment: Assignment, position: int) -> bool:
        """Whether nothing is wanted from ``position`` on; then that is what the daemon is told."""
        self._finished = position >= assignment.n or _skip(assignment.revoked, position, assignment.n) == assignment.n
        return self._finished

    def _run_one(self, assignment: Assignment, began: float) -> None:
        """A single task: what a learner with one point in flight waits for, so nothing is done twice here."""
        if assignment.revoked:
            self._report(assignment, 1, 0, None, (), 0.0, 0.0, None, final=True)
            return
        started = time.time()
        self._cell[STARTED] = 1
        outputs: Table | None = None
        errors: Sequence[TaskError] = ()
        try:
            value = self._driver.evaluate(assignment.table.rows()[0])
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises fails its task
            errors = (_failure(0, error),)
        else:
            outputs, errors = self._packer.pack((0,), (value,))
        self._seconds = time.perf_counter() - began
        self._report(assignment, 0, 1, outputs, errors, started, started + self._seconds, None, final=True)

    # -- one by one ---------------------------------------------------------------------------------------------------

    def _run_tasks(self, assignment: Assignment) -> None:
        rows = rows_of(assignment.table)
        at = _skip(assignment.revoked, 0, assignment.n)
        while at < assignment.n:
            ended = _Ended(at, timed=self._seconds >= LIGHT_SECONDS)
            stop = _stop(assignment, at, assignment.n)
            while at < stop and (at == ended.at or ended.took < assignment.hold):
                if ended.times is not None:
                    at = self._timed_piece(ended, rows, at, stop)
                else:
                    at = self._light_piece(ended, rows, at, min(stop, at + LIGHT_PIECE))
                self._between()
                stop = _stop(assignment, at, assignment.n)
            self._seconds = ended.took / (at - ended.at)
            self._emit(assignment, ended, at)
            at = _skip(assignment.revoked, at, assignment.n)

    def _light_piece(self, ended: _Ended, rows: Sequence[Any], at: int, stop: int) -> int:
        evaluate, cell, append = self._driver.evaluate, self._cell, ended.values.append
        position = at
        while position < stop:
            try:
                for position in range(position, stop):  # noqa: B020 - goes on behind a task that raised
                    cell[STARTED] = position + 1
                    append(evaluate(rows[position]))
            except BaseException as error:  # noqa: BLE001 - whatever the user's function raises fails its task
                ended.errors.append(_failure(position - ended.at, error))
            position += 1
        ended.took = time.perf_counter() - ended.began
        return stop

    def _timed_piece(self, ended: _Ended, rows: Sequence[Any], at: int, stop: int) -> int:
        """Tasks from ``at`` until it is time to look around; returns where it stopped."""
        evaluate, cell, clock, times = self._driver.evaluate, self._cell, time.perf_counter, ended.times
        assert times is not None
        took = ended.took
        until = took + LOOK_SECONDS
        position = at
        while position < stop and took < until:
            cell[STARTED] = position + 1
            try:
                ended.values.append(evaluate(rows[position]))
            except BaseException as error:  # noqa: BLE001 - whatever the user's function raises fails its task
                ended.errors.append(_failure(position - ended.at, error))
            took = clock() - ended.began
            times.append(took)
            position += 1
        ended.took = took
        return position

    def _emit(self, assignment: Assignment, ended: _Ended, stop: int) -> None:
        n = stop - ended.at
        failed = {error.position for error in ended.errors}
        positions: Sequence[int] = range(n) if not failed else [k for k in range(n) if k not in failed]
        table, more = self._packer.pack(positions, ended.values)
        errors = sorted((*ended.errors, *more), key=_position)
        raw = memoryview(ended.times).cast("B") if ended.times is not None and n > 1 else None
        self._report(
            assignment,
            ended.at,
            n,
            table,
            errors,
            ended.started,
            ended.started + ended.took,
            raw,
            final=self._is_last(assignment, stop),
        )

    # -- in batches ---------------------------------------------------------------------------------------------------

    def _run_batch(self, assignment: Assignment) -> None:
        self._cell[STARTED] = max((high for _, high in assignment.revoked.gaps(0, assignment.n)), default=0)
        at = _skip(assignment.revoked, 0, assignment.n)
        while at < assignment.n:
            stop = _stop(assignment, at, assignment.n)
            self._batch(assignment, at, stop)
            self._between()
            at = _skip(assignment.revoked, stop, assignment.n)

    def _batch(self, assignment: Assignment, at: int, stop: int) -> None:
        """Evaluate rows ``at:stop`` in one call; where it raises, halve, until just the rows that raise have failed."""
        n = stop - at
        started = time.time()
        began = time.perf_counter()
        table = assignment.table.slice(at, stop)
        outputs: Table | None = None
        errors: tuple[TaskError, ...] = ()
        try:
            columns = table.columns()
            result = self._driver.evaluate_batch(columns[BARE] if table.layout.bare else columns, n)
            outputs = self._packer.pack_batch(result, n)
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises fails its task
            if n > 1:
                self._batch(assignment, at, at + n // 2)
                if not self._finished:  # all the rest may have been revoked meanwhile
                    self._batch(assignment, at + n // 2, stop)
                return
            errors = (_failure(0, error),)
        finished = started + time.perf_counter() - began
        self._report(assignment, at, n, outputs, errors, started, finished, None, final=self._is_last(assignment, stop))


class _Ended:
    """Tasks from ``at`` on that have ended and wait to be reported."""

    __slots__ = ("at", "began", "errors", "started", "times", "took", "values")

    def __init__(self, at: int, *, timed: bool) -> None:
        self.at = at
        self.values: list[Any] = []
        self.errors: list[TaskError] = []
        self.times: array[float] | None = array("d") if timed else None
        self.started = time.time()
        self.began = time.perf_counter()
        self.took = 0.0


class _OneByOne(Sequence[Any]):
    """Rows of a table that are decoded when they are asked for, so that one that cannot be fails alone."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.n

    def __getitem__(self, k: Any) -> Any:
        return self._table.slice(k, k + 1).rows()[0]


def rows_of(table: Table) -> Sequence[Any]:
    """The inputs of tasks. One that cannot be read raises ProtocolError when it is asked for."""
    try:
        return table.rows()
    except ProtocolError:
        return _OneByOne(table)


def _failure(position: int, error: BaseException) -> TaskError:
    if isinstance(error, KeyboardInterrupt):
        raise error
    return task_error(position, error)


def _position(error: TaskError) -> int:
    return error.position


def _skip(revoked: IntervalSet, at: int, n: int) -> int:
    """The first position from ``at`` on that is not revoked."""
    gaps: Iterable[tuple[int, int]] = revoked.gaps(at, n)
    return next(iter(gaps), (n, n))[0]


def _stop(assignment: Assignment, at: int, stop: int) -> int:
    """Where the first revoked position from ``at`` on lies, or ``stop``."""
    if not assignment.revoked:
        return stop
    low, high = next(iter(assignment.revoked.gaps(at, stop)), (stop, stop))
    return high if low == at else at
