"""A run of a simulation: what a :class:`~taskmaster.learners.run.Run` is, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType

from taskmaster.bus.errors import Fenced, RunClosed
from taskmaster.bus.messages import BY_HAND, Ask, Order
from taskmaster.bus.status import RunInfo, WriterInfo
from taskmaster.learners.arguments import LARGEST, check_since, rank, wholes, words
from taskmaster.learners.history import AskedBlock
from taskmaster.learners.results import Result
from taskmaster.learners.simulate.absent import stands_for
from taskmaster.learners.simulate.channels import SimulatedResults, SimulatedTasks
from taskmaster.learners.simulate.forks import fork
from taskmaster.learners.simulate.history import SimulatedHistory
from taskmaster.learners.simulate.journal import RunJournal
from taskmaster.learners.simulate.result import SimulatedResult
from taskmaster.learners.views import ANSWER_SECONDS

__all__ = ["SimulatedResults", "SimulatedRun", "SimulatedTasks"]


@stands_for("Run")
class SimulatedRun:
    """One learner's conversation with a simulated Master. Made by :meth:`SimulatedMaster.open`, for reading by
    :meth:`SimulatedMaster.watch`.

    What a :class:`~taskmaster.learners.run.Run` is, whose methods do the same here; in addition :attr:`events` and
    :attr:`asks` hold what a daemon's journal would. Only that a run is closed and opened again is no event here.
    """

    def __init__(self, journal: RunJournal, *, write: bool, since: str = "start") -> None:
        check_since(since)
        self.master = journal.master
        #: what there is of it, whoever has it open
        self.journal = journal
        #: ``seq`` of the last event that was taken, or left out; -1 if there was none
        self.told = len(journal.events) - 1 if since == "now" else -1
        #: which writer this is; 0 where it is open for reading
        self.writer = journal.admit() if write else 0
        #: where points are put
        self.tasks = SimulatedTasks(self)
        #: where results arrive
        self.results = SimulatedResults(self)
        #: what a program has it by; None where it has not
        self.expression: str | None = "loop.run_"
        #: nothing further comes here: it was left, or somebody else has opened it for writing
        self.is_stopped = False
        self._is_left = False
        #: what had been told when the last ask was noted; None: what is put next needs a note of its own
        self._noted_at: int | None = None
        #: the last ask is of an order over several runs, and whoever keeps that notes everything
        self._is_ordered = False

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name; opening it again by that goes on with it."""
        return self.journal.name

    @property
    def number(self) -> int:
        """Its number in the simulation, from 1."""
        return self.journal.number

    @property
    def seed(self) -> int:
        """The seed recorded with it: whatever is random in its learner should come from there."""
        return self.journal.seed

    @property
    def metadata(self) -> Mapping[str, str]:
        """What was noted when it was created."""
        return self.journal.metadata

    @property
    def created(self) -> float:
        """When it was made, by the simulation's time."""
        return self.journal.created

    @property
    def events(self) -> list[SimulatedResult]:
        """Tasks that have ended, in the order in which they did."""
        return self.journal.events

    @property
    def puts(self) -> list[SimulatedResult]:
        """Tasks, in the order in which they were put."""
        return self.journal.puts

    @property
    def asks(self) -> list[Ask]:
        """What the learner was asked: before which task, after which event, for how many points."""
        return self.journal.asks

    @property
    def next_index(self) -> int:
        """The index that the next task will get."""
        return self.journal.next_index

    @property
    def open_tasks(self) -> int:
        """Tasks whose result has not been taken."""
        return self.journal.next_index - self.told - 1

    @property
    def acknowledged(self) -> int:
        """Tasks below this index are recorded: all that were put."""
        return self.journal.next_index

    @property
    def is_closed(self) -> bool:
        """Whether nothing further is put."""
        return self.journal.closed_at is not None

    @property
    def command_name(self) -> str | None:
        """What the command line knows it by: it does not."""
        return None

    # -- its time -----------------------------------------------------------------------------------------------------

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

    # -- what can be done with it -------------------------------------------------------------------------------------

    def cancel(self, indices: Iterable[int] | None = None, *, queued: bool = False) -> int:
        """Cancel tasks that have no outcome yet, all by default; returns how many. Their workers end what they do.

        ``queued``: those that are being evaluated are left alone.
        """
        unended = self.journal.unended
        if indices is None:
            wanted = list(unended)
        else:
            wanted = [k for k in sorted(set(wholes(indices, "the index of a task", 0, LARGEST - 1))) if k in unended]
        now = self.clock()  # while the learner has been thinking some may have ended
        tasks = [unended[k] for k in wanted if k in unended and (unended[k].is_waiting or not queued)]
        for task in tasks:
            task.cancel(now)
            self.journal.on_end(task)
        return len(tasks)

    def record(self) -> Iterator[AskedBlock]:
        """The tasks that it has, as they were put, and what its learner was asked for them."""
        return self.journal.record()

    def writers(self) -> list[WriterInfo]:
        """Who has opened it for writing, in that order, and what they said of themselves: :meth:`introduce`."""
        return list(self.journal.writers)

    def introduce(self, metadata: Mapping[str, str]) -> None:
        """Record who puts tasks from here on, in place of what was said before: a Loop does, of its learner.

        Raises Fenced where another one has opened it since, RunClosed where it was opened for reading.
        """
        self.require_writable()
        self.journal.introduce(words(metadata, "metadata"))

    def history(self) -> SimulatedHistory:
        """What there is of it up to now, to be replayed, or compared with another."""
        return SimulatedHistory(self.journal)

    def fork(self, name: str, at: int | None = None) -> RunInfo:
        """A run ``name`` that starts from the first ``at`` events of this one, by default all: results are kept.

        Tasks that had been put by then and ended later keep how they ended, behind those events; those without an
        outcome are evaluated in the fork, too. Go on with it by :meth:`SimulatedMaster.open`. Raises CallerError if
        there are not so many events, Conflict if the name is taken.
        """
        self.clock()
        return fork(self.master, self.journal, name, at).info()

    def pause(self) -> None:
        """Evaluate nothing further of this run for now; what is being evaluated goes on."""
        self.clock()  # what the learner's thinking has let happen by now did happen
        self.journal.paused = True
        self.master.workers.turns.strike(self.journal)

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self.clock()
        self.journal.paused = False
        self.master.workers.turns.list(self.journal)
        self.master.workers.serve()

    def prioritise(self, priority: int) -> None:
        """Give the run another priority: the highest goes first, equals share."""
        self.clock()
        self.journal.priority = rank(priority)

    def flush(self, timeout: float | None = ANSWER_SECONDS) -> None:
        """Nothing is ever under way. Raises what would keep it from being written to."""
        if self.writer:
            self.require_writable()

    def close(self) -> None:
        """No further tasks. Open tasks are still evaluated; opening it again goes on with it."""
        if self.writer and self.is_newest and not self._is_left and self.journal.closed_at is None:
            self.journal.closed_at = len(self.journal.events)
        self.detach()

    def detach(self, timeout: float = ANSWER_SECONDS) -> None:
        """Stop following it from here, leaving the run as it is."""
        self._is_left = self.is_stopped = True

    def __enter__(self) -> SimulatedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.detach()

    def __repr__(self) -> str:
        return (
            f"<SimulatedRun {self.name!r} of {self.master.name!r}: {self.next_index} tasks, {len(self.events)} ended>"
        )

    # -- for its channels ---------------------------------------------------------------------------------------------

    @property
    def is_newest(self) -> bool:
        """Whether nobody has opened it for writing since."""
        return self.writer == len(self.journal.writers)

    def require_writable(self) -> None:
        """Raise why nothing can be put, if that is so."""
        what = f"run {self.name!r} of the simulation"
        if self._is_left:
            raise RunClosed(f"{what} was closed here; open it by name to go on")
        if not self.writer:
            raise RunClosed(f"{what} was opened for reading; open() it to put tasks")
        if not self.is_newest:
            raise Fenced(
                f"{what} was opened again by another writer; only the newest one may submit: open it again to take over"
            )

    def require_more(self) -> None:
        """Raise why no further result can come here, if that is so. To be called when all that came was taken."""
        if self.is_stopped:
            self.require_writable()
        if self.journal.is_over:
            raise RunClosed(f"run {self.name!r} of the simulation is closed, and all its results were taken")

    def why_nothing(self) -> str:
        """Why no result would ever come, and what to do."""
        if not self.journal.unended:
            return "nothing is in flight, so no result would ever come; put a task, or close() the run"
        if self.master.workers.turns.paused:
            return "its Master is paused, so no result would ever come; resume() that"
        if self.journal.paused:
            return "it is paused, so no result would ever come; resume() it"
        return "there are no workers, so no result would ever come; set_workers() to one at least"

    def new_ask(self, after: int | None, asked: int, order: Order | None = None) -> None:
        """What is put next belongs to another ask, see `taskmaster.bus.messages.Ask`."""
        self.require_writable()
        told = self.told
        self.journal.asks.append(Ask(self.journal.next_index, told if after is None else after, asked, order))
        self._noted_at = told
        self._is_ordered = order is not None

    def note_by_hand(self) -> None:
        """What is put now was not asked for since something was told, unless that was noted."""
        if self.told != self._noted_at and not self._is_ordered:
            self.new_ask(None, BY_HAND)
