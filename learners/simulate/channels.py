"""``tasks`` and ``results`` of a simulated run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from taskmaster.bus import values
from taskmaster.bus.errors import CallerError, InvalidTask
from taskmaster.bus.messages import BY_HAND, Order
from taskmaster.bus.table import BARE, Layout, Table, pack_column
from taskmaster.learners.arguments import Where
from taskmaster.learners.results import Result
from taskmaster.learners.simulate.absent import stands_for
from taskmaster.learners.simulate.result import SimulatedResult

if TYPE_CHECKING:
    from taskmaster.learners.simulate.run import SimulatedRun

__all__ = ["SimulatedResults", "SimulatedTasks"]


class SimulatedTasks:
    """Where points are put."""

    def __init__(self, run: SimulatedRun) -> None:
        self._run = run
        self._schema = run.master.schema

    def put(self, point: Any, where: Where | None = None) -> int:
        """Put a point; returns its index. Raises InvalidTask. ``where`` is not looked at: all workers are alike."""
        return self._put([point])[0]

    def put_nowait(self, point: Any, where: Where | None = None) -> int:
        """The same: nothing is ever full."""
        return self._put([point])[0]

    def put_many(self, points: Any, where: Where | None = None) -> range:
        """Put points, all of them or none, in any of the forms that a Master takes; returns their indices.

        An ``(n, d)`` array in the parameters' order, a dict of columns, or a sequence of points. Raises InvalidTask.
        """
        if isinstance(points, np.ndarray) or (self._schema.fields and isinstance(points, Mapping)):
            points = self._unpacked(points)
        return self._put(points)

    def _put(self, points: Any) -> range:
        run = self._run
        journal = run.journal
        run.require_writable()
        first = journal.next_index
        fit = self._fit
        tasks = [SimulatedResult(journal, index, fit(point)) for index, point in enumerate(points, first)]
        run.master.catch_up()
        run.note_by_hand()
        journal.append(tasks)
        return range(first, first + len(tasks))

    def gather(self, on: bool = True) -> None:
        """Nothing is gathered: putting costs no message."""

    def send(self, *, listen: bool = True) -> None:
        """Nothing is gathered."""

    def new_ask(self, after: int | None = None, asked: int = BY_HAND, order: Order | None = None) -> None:
        """The learner was asked for ``asked`` points when event ``after`` was the last that it was told."""
        self._run.new_ask(after, asked, order)

    def _unpacked(self, points: Any) -> Any:
        """Columns, or an array, as the points that they are."""
        if self._schema.fields:
            return self._schema.pack_points(points).rows()
        if not points.ndim:
            return points
        try:
            part, frames = pack_column(BARE, points.copy())
        except TypeError as error:
            raise InvalidTask(f"Master {self._run.master.name!r}: {error}; none of the block was queued") from None
        return Table(Layout((part,)), len(points), frames).rows()

    def _fit(self, point: Any) -> Any:
        """The point as a worker would get it: checked, and a copy, as if it had travelled."""
        schema = self._schema
        if schema.fields:
            return dict(zip(schema.names, map(_arrived, schema.row(point))))
        try:
            return _arrived(values.keep(point))
        except TypeError as error:
            raise InvalidTask(f"Master {self._run.master.name!r}: {error}") from None


@stands_for("Results")
class SimulatedResults:
    """Where results arrive, in the order in which the tasks ended."""

    def __init__(self, run: SimulatedRun) -> None:
        self._run = run
        self._master = run.master
        self._journal = run.journal
        self._events = run.journal.events
        self._step = run.master.workers.step

    def __repr__(self) -> str:
        return f"<results of {self._run!r}>"

    def get(self, timeout: float | None = None) -> Result:
        """The next result; time jumps to when it arrives.

        Raises TimeoutError if that is not within ``timeout`` seconds of the simulation, RunClosed if the run is closed
        and all was taken, CallerError if nothing is in flight, so that none would ever come.
        """
        run, events, master = self._run, self._events, self._master
        master.catch_up()
        seq = run.told + 1
        if seq >= len(events):
            self._await(seq, timeout)
        run.told = seq
        master.on_taken()
        return events[seq]

    def take(self) -> SimulatedResult:
        """The same, where there is nobody who would have to think about it."""
        run = self._run
        seq = run.told + 1
        if seq >= len(self._events):
            self._await(seq, None)
        run.told = seq
        return self._events[seq]

    def _await(self, seq: int, timeout: float | None) -> None:
        if self._run.is_stopped or not self._journal.unended:
            self._run.require_more()
        events, step = self._events, self._step
        if timeout is None:
            while len(events) <= seq:
                if not step():
                    raise CallerError(f"run {self._run.name!r} of the simulation: {self._run.why_nothing()}")
            return
        workers = self._master.workers
        deadline = workers.now + timeout
        while len(events) <= seq:
            if workers.next_event > deadline:
                workers.advance(deadline)
                raise TimeoutError(f"run {self._run.name!r} of the simulation: no result within {timeout:g} s")
            step()

    def rouse(self, on: bool = True) -> None:
        """Nobody ever waits."""

    def get_nowait(self) -> Result | None:
        """The next result if one has arrived, else None; time stands still."""
        self._run.master.catch_up()
        return self.get() if self._run.told + 1 < len(self._events) else None

    def __iter__(self) -> Iterator[Result]:
        """Results until no task of this run is open."""
        run, journal = self._run, self._journal
        while journal.next_index - run.told > 1:
            yield self.get()

    def follow(self) -> Iterator[Result]:
        """Results until the run is closed and all its tasks have ended, whoever writes to it.

        Raises CallerError where it is open and nothing is in flight: nobody would put anything meanwhile.
        """
        run = self._run
        while run.open_tasks or not run.journal.is_over:
            yield self.get()


def _arrived(kept: Any) -> Any:
    """A value that was made fit to travel, at the other end."""
    return values.decode(kept) if type(kept) is msgspec.Raw else kept
