"""A driver that calls a test's function, and what the daemon would hear of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Schema
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Buffer, Table, pack_values
from taskmaster.drivers.base import Driver, DriverContext
from taskmaster.drivers.evaluation import Evaluator
from taskmaster.drivers.progress import STARTED
from taskmaster.drivers.protocol import Assignment, WorkerProtocol

__all__ = ["NOTHING", "Bench"]

#: What became of a task that was not evaluated.
NOTHING = object()


class _Calls(Driver):
    def __init__(self, context: DriverContext, function: Callable[[Any], Any]) -> None:
        super().__init__(context)
        self._function = function

    def open(self) -> None:
        pass

    def evaluate(self, point: Any) -> Any:
        return self._function(point)

    def evaluate_batch(self, columns: Any, n: int) -> Any:
        return self._function(columns)


class _CallsBatch(_Calls):
    batch = True


class Bench:
    """Evaluates tables of tasks with a function, and puts together what is reported, as it arrives over the wire."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        outputs: Schema | None = None,
        *,
        batch: bool = False,
        light: bool = False,
        may_yield: bool = True,
    ) -> None:
        none = Schema((), "m")
        context = DriverContext("m", {}, none, outputs if outputs is not None else Schema((), "m", "output"))
        driver = (_CallsBatch if batch else _Calls)(context, function)
        driver.may_yield = may_yield
        self.cells = memoryview(array("Q", [0] * 7))
        self.evaluator = Evaluator(driver, self.cells, self._report, self._between, self._tell)
        if light:
            self.evaluator._seconds = 0.0
        #: called between tasks, with the assignment
        self.between: Callable[[Assignment], None] = lambda assignment: None
        #: of the last table: what was said, in the order it was said
        self.outcomes: list[m.Outcome] = []
        #: what evaluations have told of their progress, ever
        self.told: list[m.Progress] = []
        self._protocol = WorkerProtocol("m", "m-1")
        self._lease = 0

    def run(self, rows: Sequence[Any] | Table, revoked: Sequence[tuple[int, int]] = (), hold: float = 0.0) -> list[Any]:
        """What became of each task: its output, its TaskError, or NOTHING."""
        table = rows if isinstance(rows, Table) else pack_values(rows)
        self._lease += 1
        self._assignment = Assignment((1, self._lease), 1, 0, table.n, table, hold=hold)
        for low, high in revoked:
            self._assignment.revoked.add(low, high)
        self.outcomes = []
        self.ended: list[Any] = [NOTHING] * table.n
        self.evaluator.run(self._assignment)
        assert [outcome.final for outcome in self.outcomes].index(True) == len(self.outcomes) - 1, "the last is final"
        return self.ended

    @property
    def started(self) -> int:
        """How many tasks have started, as whoever watches the worker reads it."""
        return self.cells[STARTED]

    def _tell(self, progress: m.Progress) -> None:
        assert progress.lease == self._assignment.lease
        self.told.append(progress)

    def _between(self) -> None:
        self.between(self._assignment)

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
        self._protocol.report(assignment, position, n, outputs, errors, started, finished, times, final=final, now=0.0)
        [[header, *frames]] = self._protocol.outbox
        self._protocol.outbox.clear()
        outcome = codec.worker_decoder().decode(header)
        assert isinstance(outcome, m.Outcome)
        self.outcomes.append(outcome)
        self._take_in(outcome, frames)

    def _take_in(self, outcome: m.Outcome, frames: Sequence[Buffer]) -> None:
        """As the daemon and a learner do."""
        n, errors = outcome.n, {error.position: error for error in outcome.errors}
        head = m.EventHead(0, n, "done", 0, len(frames), outcome.outputs, outcome.errors, timed=outcome.timed)
        table, times, _ = codec.event_tables(head, frames)
        rows = iter(table.rows() if table is not None else ())
        for k in range(n):
            assert self.ended[outcome.position + k] is NOTHING, "a task ends once"
            self.ended[outcome.position + k] = errors[k] if k in errors else next(rows)
        assert not [*rows]
        assert outcome.finished >= outcome.started
        if times is not None:
            ends = np.frombuffer(times)
            assert ends[0] >= 0
            assert (np.diff(ends) >= 0).all()
            assert ends[-1] <= outcome.finished - outcome.started + 1e-5
