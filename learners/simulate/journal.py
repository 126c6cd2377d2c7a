"""What there is of a simulated run, whoever has it open: what a daemon and its journal have of a real one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from taskmaster.bus.messages import Ask
from taskmaster.bus.status import RunInfo, WriterInfo
from taskmaster.bus.table import pack_values
from taskmaster.learners.history import AskedBlock

if TYPE_CHECKING:
    from taskmaster.learners.simulate.master import SimulatedMaster
    from taskmaster.learners.simulate.result import SimulatedResult
    from taskmaster.learners.simulate.run import SimulatedRun

__all__ = ["RunJournal"]

#: By whom runs are made and written to: there is nobody else.
_USER = "local"


class RunJournal:
    """A run of a simulation: its tasks, how they ended, what its learner was asked, and its switches."""

    def __init__(
        self, master: SimulatedMaster, number: int, name: str, seed: int, metadata: Mapping[str, str], priority: int = 0
    ) -> None:
        self.master = master
        self.number = number
        self.name = name
        self.seed = seed
        self.metadata = dict(metadata)
        #: when it was made, by the simulation's time
        self.created = master.workers.now
        self.priority = priority
        self.paused = False
        #: how many events it had when it was closed; None where it is open
        self.closed_at: int | None = None
        #: the index that the next task will get
        self.next_index = 0
        #: tasks, in the order in which they were put
        self.puts: list[SimulatedResult] = []
        #: tasks that have ended, in the order in which they did
        self.events: list[SimulatedResult] = []
        #: what the learner was asked: before which task, after which event, for how many points
        self.asks: list[Ask] = []
        self.unended: dict[int, SimulatedResult] = {}
        #: who has opened it for writing; the last may write
        self.writers: list[WriterInfo] = []
        #: the last one's
        self.opened: SimulatedRun | None = None
        #: tasks that wait for a worker, seconds of evaluation so far, and whether it may have turns: see `turns`
        self.queue: deque[SimulatedResult] = deque()
        self.virtual_time = 0.0
        self.is_listed = False

    @property
    def is_over(self) -> bool:
        """Whether it is closed, and all its tasks have ended."""
        return self.closed_at is not None and not self.unended

    def append(self, tasks: Sequence[SimulatedResult]) -> None:
        """So many tasks more, numbered from :attr:`next_index`, which are evaluated as their turns come."""
        unended = self.unended
        for task in tasks:
            unended[task._index] = task
        self.puts += tasks
        self.next_index += len(tasks)
        self.master.workers.put_many(self, tasks)

    def on_end(self, task: SimulatedResult) -> None:
        """One of its tasks has ended."""
        events = self.events
        task._seq = len(events)
        events.append(task)
        del self.unended[task._index]

    def admit(self) -> int:
        """Somebody opens it for writing; returns which writer that is."""
        self.closed_at = None
        if self.opened is not None:
            self.opened.is_stopped = True
        number = len(self.writers) + 1
        self.writers.append(WriterInfo(number, self.next_index, _USER, self.master.workers.now))
        return number

    def introduce(self, metadata: Mapping[str, str]) -> None:
        """Its writer says of himself what he is."""
        self.writers[-1] = replace(self.writers[-1], metadata=dict(metadata))

    def record(self) -> Iterator[AskedBlock]:
        """The tasks that it has, as they were put, and what its learner was asked for them."""
        points, schema = [task.input for task in self.puts], self.master.schema
        table = schema.pack_rows([schema.row(point) for point in points]) if schema.fields else pack_values(points)
        yield AskedBlock(0, table, tuple(self.asks))

    def info(self) -> RunInfo:
        """What a daemon tells of a run."""
        outcomes = [task.outcome for task in self.events]
        return RunInfo(
            run=self.number,
            master=self.master.name,
            name=self.name,
            created=self.created,
            tasks=self.next_index,
            done=outcomes.count("done"),
            failed=outcomes.count("failed"),
            cancelled=outcomes.count("cancelled"),
            events=len(self.events),
            closed=self.closed_at is not None,
            paused=self.paused,
            priority=self.priority,
            seed=self.seed,
            metadata=self.metadata,
            user=_USER,
        )
