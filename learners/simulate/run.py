"""A run of a simulation: what a Loop needs of a run, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from taskmaster.bus import values
from taskmaster.bus.errors import CallerError, InvalidTask
from taskmaster.bus.messages import BY_HAND, Ask, Order
from taskmaster.bus.table import pack_values
from taskmaster.learners.arguments import rank
from taskmaster.learners.history import AskedBlock
from taskmaster.learners.results import Result
from taskmaster.learners.simulate.history import SimulatedHistory
from taskmaster.learners.simulate.result import SimulatedResult

if TYPE_CHECKING:
    from taskmaster.learners.simulate.master import SimulatedMaster

__all__ = ["SimulatedResults", "SimulatedRun", "SimulatedTasks"]


class SimulatedRun:
    """One learner's conversation with a simulated Master. Made by :meth:`SimulatedMaster.open`.

    What a :class:`~taskmaster.learners.target.TargetRun` is; in addition :attr:`events` and :attr:`asks` hold what a
    daemon's journal would. Opened again by its name it begins anew for the learner: its results come from the first.
    """

    def __init__(self, master: SimulatedMaster, name: str, seed: int, metadata: Mapping[str, str]) -> None:
        self.master = master
        self.name = name
        self.seed = seed
        self.metadata = metadata
        #: the index that the next task will get
        self.next_index = 0
        #: ``seq`` of the last event that was taken; -1 if there was none
        self.told = -1
        #: tasks that have ended, in the order in which they did
        self.events: list[SimulatedResult] = []
        #: tasks, in the order in which they were put
        self.puts: list[SimulatedResult] = []
        #: what the learner was asked: before which task, after which event, for how many points
        self.asks: list[Ask] = []
        #: where points are put
        self.tasks = SimulatedTasks(self)
        #: where results arrive
        self.results = SimulatedResults(self)
        self.is_closed = False
        #: nothing further of it is begun
        self.is_paused = False
        #: those of the highest go first
        self.priority = 0
        #: what a program has it by; None where it has not
        self.expression: str | None = "loop.run_"
        #: when it was made, by the simulation's time
        self.created = master.workers.now
        self._noted_at = -2
        #: the last ask is of an order over several runs, and whoever keeps that notes everything
        self._is_ordered = False
        self._unended: dict[int, SimulatedResult] = {}
        self._inbox: deque[SimulatedResult] = deque()

    @property
    def open_tasks(self) -> int:
        """Tasks whose result has not been taken."""
        return self.next_index - self.told - 1

    @property
    def acknowledged(self) -> int:
        """Tasks below this index are recorded: all that were put."""
        return self.next_index

    def clock(self) -> float:
        """The simulation's time, in seconds."""
        return self.master.clock()

    def time(self) -> float:
        """The same: where the simulation begins at a date, seconds since 1970."""
        return self.master.clock()

    @property
    def next_event(self) -> float:
        """When something happens next in the simulation; infinite where nothing will."""
        return self.master.workers.next_event

    def advance(self, to: float) -> None:
        """Let everything happen up to this time, which becomes the present."""
        self.master.workers.advance(to)

    def arrived(self) -> Result | None:
        """The next result, if it has arrived; time stands still."""
        return self.results.get_nowait()

    def cancel(self, indices: Iterable[int] | None = None, *, queued: bool = False) -> int:
        """Cancel tasks that have no outcome yet, all by default; returns how many. Their workers end what they do.

        ``queued``: only those that wait for a worker.
        """
        wanted = list(self._unended) if indices is None else [k for k in indices if k in self._unended]
        if queued:
            wanted = [index for index in wanted if self._unended[index].is_waiting]
        now = self.clock()
        for index in wanted:
            task = self._unended[index]
            task.cancel(now)
            self.on_end(task)
        return len(wanted)

    def pause(self) -> None:
        """Evaluate nothing further of this run for now."""
        self.is_paused = True
        self.master.on_switched()

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self.is_paused = False
        self.master.on_switched()

    def prioritise(self, priority: int) -> None:
        """Give the run another priority: the highest goes first, of equals what was put first."""
        self.priority = rank(priority)
        self.master.on_switched()

    def fork(self, name: str, at: int | None = None) -> SimulatedRun:
        """A run ``name`` that starts from the first ``at`` events of this one, by default all; nothing of it is closed.

        It has this run's seed and metadata (and ``forked_from`` and ``forked_at``), and the tasks that had been put by
        then. Those that ended later keep their outcomes; those that have none yet are evaluated, for the fork too.
        Raises Conflict if there is a run of this name, CallerError if there are not so many events.
        """
        return self.master.forked(self, name, at)

    def begin_as(self, source: SimulatedRun, at: int) -> None:
        """Be a fork of another run: new as yet."""
        later = [k for k, ask in enumerate(source.asks) if ask.after >= at]
        end = source.asks[later[0]].offset if later else source.next_index
        self.asks = source.asks[: later[0]] if later else list(source.asks)
        self.puts = [task.copied(self) for task in source.puts[:end]]
        self.next_index = end
        copies = [self.puts[task._index] for task in source.events if task._index < end]
        for task in copies:
            task.number(len(self.events))
            self.events.append(task)
        self._inbox = deque(self.events)
        waiting = [task for task in self.puts if not task._outcome]
        self._unended = {task._index: task for task in waiting}
        self.master.catch_up()
        self.master.workers.put_many(waiting)

    def flush(self, timeout: float | None = None) -> None:
        """Nothing is ever under way."""

    def close(self) -> None:
        """No further tasks. Open tasks are still evaluated; opening it again goes on with it."""
        self.is_closed = True

    def detach(self, timeout: float = 0.0) -> None:
        """Leave it as it is."""

    def reopen(self, since: str = "start") -> SimulatedRun:
        """Have its results come from the first, or those that arrive from now on."""
        self.is_closed = self._is_ordered = False
        self.told = -1 if since == "start" else len(self.events) - 1
        self._inbox = deque(self.events if since == "start" else ())
        return self

    def on_put(self, tasks: Sequence[SimulatedResult]) -> None:
        """So many tasks more, numbered from :attr:`next_index`."""
        if not self._is_ordered and (not self.asks or self.told != self._noted_at):
            self.new_ask(self.told, BY_HAND)
        for task in tasks:
            self._unended[task._index] = task
        self.puts += tasks
        self.next_index += len(tasks)
        self.master.workers.put_many(tasks)

    def on_end(self, task: SimulatedResult) -> None:
        """One of its tasks has ended."""
        events = self.events
        task.number(len(events))
        events.append(task)
        self._inbox.append(task)
        del self._unended[task._index]

    def new_ask(self, after: int | None, asked: int, order: Order | None = None) -> None:
        """What is put next belongs to another ask, see `taskmaster.bus.messages.Ask`."""
        self.asks.append(Ask(self.next_index, self.told if after is None else after, asked, order))
        self._noted_at = self.told
        self._is_ordered = order is not None

    def record(self) -> Iterator[AskedBlock]:
        """The tasks that it has, as they were put, and what its learner was asked for them."""
        points, schema = [task.input for task in self.puts], self.master.schema
        table = schema.pack_rows([schema.row(point) for point in points]) if schema.fields else pack_values(points)
        yield AskedBlock(0, table, tuple(self.asks))

    def history(self) -> SimulatedHistory:
        """What there is of it up to now, to be replayed, or compared with another."""
        return SimulatedHistory(self)

    def __enter__(self) -> SimulatedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()

    def __repr__(self) -> str:
        return (
            f"<SimulatedRun {self.name!r} of {self.master.name!r}: {self.next_index} tasks, {len(self.events)} ended>"
        )


class SimulatedTasks:
    """Where points are put."""

    def __init__(self, run: SimulatedRun) -> None:
        self._run = run
        self._schema = run.master.schema

    def put(self, point: Any, where: Mapping[str, str] | None = None) -> int:
        """Put a point; returns its index. Raises InvalidTask. ``where`` is not looked at: all workers are alike."""
        return self.put_many((point,))[0]

    def put_nowait(self, point: Any, where: Mapping[str, str] | None = None) -> int:
        """The same as :meth:`put`: there is always room."""
        return self.put(point, where)

    def put_many(self, points: Any, where: Mapping[str, str] | None = None) -> range:
        """Put points, or a dict of columns: all of them or none; returns their indices. Raises InvalidTask."""
        run = self._run
        if isinstance(points, Mapping):
            points = self._rows(points)
        if run.is_closed:
            raise CallerError(f"run {run.name!r} of the simulation is closed; open() it again to put tasks")
        first = run.next_index
        fit = self._fit
        tasks = [SimulatedResult(run, index, fit(point)) for index, point in enumerate(points, first)]
        run.master.catch_up()
        run.on_put(tasks)
        return range(first, first + len(tasks))

    def _rows(self, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidTask(f"Master {self._run.master.name!r}: columns of different lengths: {lengths}")
        return [dict(zip(columns, row)) for row in zip(*columns.values())]

    def gather(self, on: bool = True) -> None:
        """Nothing is gathered: putting costs no message."""

    def send(self, *, listen: bool = True) -> None:
        """Nothing is gathered."""

    def new_ask(self, after: int | None = None, asked: int = BY_HAND, order: Order | None = None) -> None:
        """The learner was asked for ``asked`` points when event ``after`` was the last that it was told."""
        self._run.new_ask(after, asked, order)

    def _fit(self, point: Any) -> Any:
        """The point as a worker would get it: checked, and a copy, as if it had travelled."""
        schema = self._schema
        if schema.fields:
            return dict(zip(schema.names, map(_arrived, schema.row(point))))
        try:
            return _arrived(values.keep(point))
        except TypeError as error:
            raise InvalidTask(f"Master {self._run.master.name!r}: {error}") from None


class SimulatedResults:
    """Where results arrive, in the order in which the tasks ended."""

    def __init__(self, run: SimulatedRun) -> None:
        self._run = run

    def get(self, timeout: float | None = None) -> Result:
        """The next result; time jumps to when it arrives.

        Raises TimeoutError if that is not within ``timeout`` seconds of the simulation, CallerError if it is never.
        """
        run = self._run
        master = run.master
        master.catch_up()
        if not run._inbox:
            self._await(timeout)
        result = run._inbox.popleft()
        run.told = result._seq
        master.on_taken()
        return result

    def _await(self, timeout: float | None) -> None:
        run, workers = self._run, self._run.master.workers
        inbox, step = run._inbox, workers.step
        if timeout is None:
            while not inbox:
                if not step():
                    raise CallerError(
                        f"run {run.name!r} of the simulation: {self._why_none()}, so no result would ever come"
                    )
            return
        deadline = workers.now + timeout
        while not inbox:
            if workers.next_event > deadline:
                workers.advance(deadline)
                raise TimeoutError(f"run {run.name!r} of the simulation: no result within {timeout:g} s")
            step()

    def _why_none(self) -> str:
        run, master = self._run, self._run.master
        if not run._unended:
            return "nothing is in flight"
        if master.workers.paused:
            return "its Master is paused (resume())"
        if run.is_paused:
            return "it is paused (resume())"
        return "there are no workers (set_workers())"

    def rouse(self, on: bool = True) -> None:
        """Nobody ever waits."""

    def get_nowait(self) -> Result | None:
        """The next result if one has arrived, else None; time stands still."""
        run = self._run
        run.master.catch_up()
        return self.get() if run._inbox else None

    def __iter__(self) -> Iterator[Result]:
        """Results until no task of this run is open."""
        run = self._run
        while run.open_tasks:
            yield self.get()

    def follow(self) -> Iterator[Result]:
        """The same: nobody else would put tasks."""
        return iter(self)


def _arrived(kept: Any) -> Any:
    """A value that was made fit to travel, at the other end."""
    return values.decode(kept) if type(kept) is msgspec.Raw else kept
