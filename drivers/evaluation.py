"""One assignment through one driver: the loop that calls the user's function.

The loop has two gears. Tasks that take longer than :data:`LIGHT_SECONDS` are timed one by one and reported as they
come. Lighter ones run in pieces with nothing but the call, the note of progress and the result between them: what is
left of them is the cost of Python calling a function.

Whether a function yields (see `yielding`) is seen by its first task. One that did not is not looked at again, until it
returns a generator all the same, which is then found where outputs are packed: what does not yield pays nothing for it.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Protocol

from taskmaster.bus.errors import InvalidOutput, ProtocolError
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import BARE, Buffer, Table
from taskmaster.drivers import generators, yielding
from taskmaster.drivers.base import Driver
from taskmaster.drivers.outputs import OutputPacker, task_error
from taskmaster.drivers.progress import STARTED
from taskmaster.drivers.protocol import Assignment
from taskmaster.drivers.yielding import LOOK_SECONDS, Tell, Yielding

__all__ = ["Evaluator", "Report", "rows_of"]

#: Mean duration below which tasks are not timed one by one: their finish times then cost more than they tell.
LIGHT_SECONDS = 50e-6
#: Where a traceback begins, before it comes to the user's function.
_OURS = frozenset((__file__, generators.__file__, yielding.__file__))
#: What has to be driven to come to its output, or (``async``) to be told that it cannot.
STEPPED = frozenset((GeneratorType, CoroutineType, AsyncGeneratorType))
#: Tasks of a piece in the light gear: between pieces the worker looks at the clock and at its socket.
LIGHT_PIECE = 512


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
        /,
        *,
        final: bool,
    ) -> None: ...


class Evaluator:
    """Evaluates assignments in one slot, one after the other.

    ``between`` is called between tasks every few milliseconds, so that revocations are heard of in time; ``tell`` with
    what evaluations yield.
    """

    def __init__(
        self, driver: Driver, cells: memoryview, report: Report, between: Callable[[], None], tell: Tell
    ) -> None:
        self._driver = driver
        self._cell = cells
        self._report = report
        self._between = between
        self._packer = OutputPacker(driver.context.outputs)
        #: mean seconds of the latest tasks; the first ones are timed
        self._seconds = 1.0
        self._finished = False
        self._yielding = Yielding(f"Master {driver.context.master!r}", tell, between)
        #: what evaluates a row; the driver itself as soon as it is known not to yield
        self._evaluate = self._looking if driver.may_yield else driver.evaluate
        self._has_yielded = False
        self._assignment: Assignment

    def run(self, assignment: Assignment) -> None:
        """Evaluate every task that is not revoked, reporting as they end; the last report is final."""
        self._assignment = assignment
        try:
            self._run(assignment)
        finally:
            del self._assignment  # its inputs may be large, and who has nothing to do needs none

    def _run(self, assignment: Assignment) -> None:
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
            value = self._evaluate(assignment.table.rows()[0])
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises fails its task
            errors = (_failure(0, error),)
            self._require_unbroken()
        else:
            outputs, errors = self._packer.pack((0,), (value,))
            if errors and self._driver.may_yield and type(value) in STEPPED:
                outputs, errors = self._found(value)
        self._seconds = time.perf_counter() - began
        self._report(assignment, 0, 1, outputs, errors, started, started + self._seconds, None, final=True)

    # -- one by one ---------------------------------------------------------------------------------------------------

    def _run_tasks(self, assignment: Assignment) -> None:
        rows = rows_of(assignment.table)
        at = _skip(assignment.revoked, 0, assignment.n)
        while at < assignment.n:
            ended = _Ended(at, timed=self._has_yielded or self._seconds >= LIGHT_SECONDS)
            stop = _stop(assignment, at, assignment.n)
            while at < stop and (at == ended.at or ended.took < assignment.hold):
                if ended.times is not None:
                    at = self._timed_piece(ended, rows, at, stop)
                else:
                    at = self._light_piece(ended, rows, at, min(stop, at + LIGHT_PIECE))
                self._require_unbroken()
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
        evaluate, cell, clock, times = self._evaluate, self._cell, time.perf_counter, ended.times
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

    # -- what yields --------------------------------------------------------------------------------------------------

    def _looking(self, row: Any) -> Any:
        """The output of a row, of a function that yields, or of which that is not known yet."""
        value = self._driver.evaluate(row)
        if type(value) in STEPPED:
            self._has_yielded = True
            return self._yielding.drive(value, self._assignment, self._cell[STARTED] - 1)
        if not self._has_yielded:
            self._evaluate = self._driver.evaluate
        return value

    def _found(self, value: Any) -> tuple[Table | None, Sequence[TaskError]]:
        """What comes of a single task whose function had not yielded before, and does now."""
        self._has_yielded, self._evaluate = True, self._looking
        try:
            return self._packer.pack((0,), (self._yielding.drive(value, self._assignment, 0),))
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises fails its task
            self._require_unbroken()
            return None, (_failure(0, error),)

    def _require_unbroken(self) -> None:
        """Raise what is no exception of any task's: it came up while the worker listened between two steps of one."""
        if self._yielding.broken is not None:
            raise self._yielding.broken

    def _emit(self, assignment: Assignment, ended: _Ended, stop: int) -> None:
        n = stop - ended.at
        failed = {error.position for error in ended.errors}
        positions: Sequence[int] = range(n) if not failed else [k for k in range(n) if k not in failed]
        table, more = self._packer.pack(positions, ended.values)
        if more and self._driver.may_yield and not STEPPED.isdisjoint(map(type, ended.values)):
            ended.drive(lambda value, k: self._yielding.drive(value, assignment, ended.at + k))
            self._require_unbroken()
            self._has_yielded, self._evaluate = True, self._looking
            self._emit(assignment, ended, stop)
            return
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
            if type(result) in STEPPED:
                raise InvalidOutput("a function of batches returns the columns of its outputs, and cannot yield")
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

    def drive(self, drive: Callable[[Any, int], Any]) -> None:
        """Drive what has turned out to be generators, each with its position; what they raise fails their tasks."""
        failed = {error.position for error in self.errors}
        values, self.values = self.values, []
        positions = (k for k in range(len(values) + len(failed)) if k not in failed)
        for k, value in zip(positions, values):
            try:
                self.values.append(drive(value, k) if type(value) in STEPPED else value)
            except BaseException as error:  # noqa: BLE001 - whatever the user's function raises fails its task
                self.errors.append(_failure(k, error))
        self.took, self.times = time.perf_counter() - self.began, None


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
    skip, frames = 0, error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in _OURS:
        skip, frames = skip + 1, frames.tb_next
    return task_error(position, error, skip)


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
