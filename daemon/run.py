"""A run inside the daemon: its blocks of inputs, the state of its tasks as intervals, and its numbered events.

Pure state: no clock, no sockets, no journal. The states of a task and what moves it between them are
:data:`TASK_STATES`; `docs/architecture.md` prints the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from taskmaster.bus import messages as m
from taskmaster.bus.errors import Fenced, RunClosed, UnknownTask
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import EventHead, TaskError, Where
from taskmaster.bus.table import Buffer, Table
from taskmaster.daemon.attempts import Attempts
from taskmaster.daemon.blocks import Block, Blocks
from taskmaster.daemon.effects import (
    AttemptsCharged,
    BlockAppended,
    CheckpointDropped,
    Checkpointed,
    Effects,
    EventAppended,
    Publication,
    RunChanged,
    RunCounted,
    TasksPlaced,
)
from taskmaster.daemon.held import Doubt, Held
from taskmaster.daemon.places import ANYWHERE, PlacedQueue, Places
from taskmaster.daemon.scheduling import Estimate, retry_size

__all__ = ["CLAIMS", "TASK_STATES", "Edited", "Run", "by_hand"]

#: state → what may happen → next state. `done`, `failed` and `cancelled` are outcomes: nothing leaves them.
TASK_STATES: dict[str, dict[str, str]] = {
    "proposed": {"approve": "queued", "reject": "failed", "cancel": "cancelled"},
    "queued": {"grant": "leased", "cancel": "cancelled", "late outcome": "done", "late error": "failed"},
    "leased": {
        "lost, checkpoint": "queued",
        "outcome": "done",
        "error": "failed",
        "lost, not started": "queued",
        "lost, retry": "queued",
        "lost, attempts used up": "failed",
        "lost, fail": "failed",
        "lost, hold": "held",
        "cancel, repeatable": "cancelled",
    },
    "held": {
        "resolve done": "done",
        "resolve retry": "queued",
        "resolve resume": "queued",
        "resolve fail": "failed",
        "late outcome": "done",
        "found done": "done",
        "found not begun": "queued",
    },
    "done": {},
    "failed": {},
    "cancelled": {},
}


class Edited(NamedTuple):
    """How often a task's input was replaced, and by whom last."""

    times: int = 0
    who: str = ""


#: Wishes to write that are remembered, so that one whose answer was lost is known when it is repeated.
CLAIMS = 64


def by_hand(who: str) -> str:
    """A person as the worker of an event."""
    return f"human:{who}"


class Run:
    """One run of a Master. Methods append what they decide to an :class:`Effects`."""

    def __init__(self, run: int, master: str, name: str, seed: int, created: float, user: str = "") -> None:
        self.id = run
        self.master = master
        self.name = name
        self.seed = seed
        self.created = created
        self.user = user
        self.metadata: dict[str, str] = {}
        self.priority = 0
        self.paused = False
        self.closed = False
        self.writer = 0
        #: which wish to write became which writer, of the latest ones
        self.claims: dict[str, int] = {}
        self.next_index = 0
        self.next_seq = 0
        #: the inputs of open tasks
        self.blocks = Blocks()
        self.queued = IntervalSet()
        #: which heads tasks ask for, and which they are for: that of its checkpoint, for one that has left one
        self.asked = Places()
        self.places = Places()
        #: from where evaluations can go on, of open tasks that have said so
        self.checkpoints: dict[int, Checkpointed] = {}
        #: tasks in doubt, until somebody resolves them
        self.held = Held()
        #: tasks that wait for approval, see `approval`
        self.proposed = IntervalSet()
        #: of the open tasks, those that have another input than they were put with
        self.edited: dict[int, Edited] = {}
        #: every task without an outcome: proposed, queued, leased or held; or taken by somebody, see `requests`
        self.open = IntervalSet()
        #: evaluations used up by tasks that lost a worker and are still open
        self.attempts = Attempts()
        self.done = self.failed = self.cancelled = 0
        self.estimate = Estimate()
        #: seconds of evaluation granted so far, see `scheduling`
        self.virtual_time = 0.0

    # -- submitting ---------------------------------------------------------------------------------------------------

    def append(self, submit: m.Submit, table: Table, user: str, out: Effects) -> None:
        """Queue a block that starts just where the run ends."""
        block = Block(submit.first, table, out.turn)
        out.records.append(BlockAppended(self.id, submit.first, submit.n, submit.asks, out.wall, user, block, table))
        self.next_index = block.end
        if submit.where not in (None, ANYWHERE):
            out.records.append(TasksPlaced(self.id, submit.first, submit.n, submit.where))
            self.ask_for(block.first, block.end, submit.where)
        self.queued.add(block.first, block.end)
        self.open.add(block.first, block.end)
        out.touched[self.id] = self
        self.blocks.add(block)

    @property
    def input_bytes(self) -> int:
        """Bytes of inputs kept."""
        return self.blocks.nbytes

    def inputs(self, low: int, high: int) -> tuple[Table, ...]:
        """The inputs of tasks ``low ≤ i < high``, whose blocks are still kept, in as many tables as blocks."""
        return self.blocks.tables(low, high)

    def submitted_in(self, low: int, high: int, turn: int) -> bool:
        """Whether all these tasks were submitted in ``turn``."""
        return self.blocks.are_of(turn, low, high)

    # -- leasing ------------------------------------------------------------------------------------------------------

    def take(self, n: int, max_attempts: int) -> tuple[int, int]:
        """Take up to ``n`` contiguous tasks off the queue, oldest first: the interval to lease.

        The tasks of one lease share one layout, and have the same number of evaluations behind them. Those that have
        lost a worker go in small parts, at last alone, so that one that kills its worker takes no others with it (see
        :func:`~taskmaster.daemon.scheduling.retry_size`).
        """
        low, end = self.queued.first
        high = min(end, low + n)
        if self.attempts:
            end, used = self.attempts.alike(low, end)
            if used:
                n = min(n, retry_size(end - low, max_attempts - used))
            high = min(end, low + n)
        high = next(self.blocks.alike(low, high))[1]
        self.queued.remove(low, high)
        return low, high

    def ask_for(self, low: int, high: int, where: Where) -> None:
        """These tasks, which are not queued, ask for the heads that ``where`` says."""
        self.asked.set(low, high, where)
        self.place(low, high, where)

    def waiting_for(self) -> Iterable[tuple[Where, int]]:
        """How many of its queued tasks ask for which heads, of those that do."""
        return self.queued.counts() if isinstance(self.queued, PlacedQueue) else ()

    def place(self, low: int, high: int, where: Where) -> None:
        """These tasks, which are not queued, are for the heads that ``where`` says."""
        self.places.set(low, high, where)
        if not isinstance(self.queued, PlacedQueue):
            self.queued = PlacedQueue(self.queued, self.places)

    def first_for(self, fits: Callable[[Where], bool]) -> tuple[int, int] | None:
        """The first queued tasks that may be evaluated at a head, as ``fits`` says; None if there are none."""
        if isinstance(self.queued, PlacedQueue):
            return self.queued.first_for(fits)
        return self.queued.first if self.queued else None

    def take_among(self, low: int, end: int, n: int) -> tuple[int, int]:
        """Take up to ``n`` of these queued tasks off the queue, from ``low`` on: the interval to lease to a head.

        They share one layout. One that was begun before, or is to go on from a checkpoint, is alone.
        """
        high = min(end, low + n)
        if n > 1:
            high, used = self.attempts.alike(low, high)
            high = low + 1 if used else min([high, *(index for index in self.checkpoints if low < index < high)])
            high = next(self.blocks.alike(low, high))[1]
        self.queued.remove(low, high)
        return low, high

    def attempt(self, index: int) -> int:
        """The number of the next evaluation of a task, from 1."""
        return self.attempts[index] + 1

    def charge(self, low: int, high: int, out: Effects) -> None:
        """These tasks have used up one evaluation without an outcome."""
        for first, end, used in self.attempts.pieces(low, high):
            self.attempts.set(first, end, used + 1)
            out.records.append(AttemptsCharged(self.id, first, end, used + 1))

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def keep(self, checkpoint: Checkpointed, out: Effects) -> None:
        """From here the evaluation of an open task can go on."""
        self.checkpoints[checkpoint.index] = checkpoint
        out.records.append(checkpoint)

    def suspend(self, index: int, lost: float, out: Effects) -> None:
        """The evaluation of a task was interrupted, at this time; it waits to go on at the same head."""
        checkpoint = replace(self.checkpoints[index], lost=lost)
        self.keep(checkpoint, out)
        self.place(index, index + 1, Where(head=checkpoint.head))
        self.queued.add(index, index + 1)
        out.touched[self.id] = self

    def drop_checkpoints(self, low: int, high: int, out: Effects) -> None:
        """The evaluations of these tasks will not go on."""
        for index in [index for index in self.checkpoints if low <= index < high]:
            del self.checkpoints[index]
            queued = self.queued.remove(index, index + 1)
            self.place(index, index + 1, self.asked[index])
            self.queued.add(index, index + queued)
            out.records.append(CheckpointDropped(self.id, index))

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def finish(self, head: EventHead, frames: tuple[Buffer, ...], out: Effects) -> None:
        """Record the outcome of open tasks, as `head` (its seq is set here) with the frames of outputs and times."""
        low, high = head.first, head.first + head.n
        inputs = self.blocks.tables(low, high)
        self.open.remove(low, high)
        if self.queued:
            self.queued.remove(low, high)
        if self.proposed:
            self.proposed.remove(low, high)
        if self.held:
            self.held.remove(low, high)
        if self.attempts:
            self.attempts.forget(low, high)
        if self.checkpoints:
            self.drop_checkpoints(low, high, out)
        if self.places:
            self.places.forget(low, high)
            self.asked.forget(low, high)
        self.failed += len(head.errors)
        self.done += head.n - len(head.errors)
        self._emit(head, frames, inputs, out)
        self.blocks.drop(low, high, self.open)

    def fail(self, low: int, high: int, kind: str, message: str, worker: str, attempt: int, out: Effects) -> None:
        """Tasks that end without their evaluation having said so."""
        errors = tuple(TaskError(k, kind, message) for k in range(high - low))
        head = EventHead(
            0,
            high - low,
            "done",
            low,
            errors=errors,
            worker=worker,
            attempt=attempt,
            started=out.wall,
            finished=out.wall,
        )
        self.finish(head, (), out)

    def hold(self, low: int, high: int, reason: str, worker: str, attempt: int, out: Effects) -> None:
        """Tasks in doubt: they stay open until somebody resolves them."""
        self.held.add(Doubt(low, high, attempt, worker, out.wall, reason))
        errors = tuple(TaskError(k, "in doubt", reason) for k in range(high - low))
        head = EventHead(
            0,
            high - low,
            "held",
            low,
            errors=errors,
            worker=worker,
            attempt=attempt,
            started=out.wall,
            finished=out.wall,
        )
        self._emit(head, (), self.blocks.tables(low, high), out)
        which = f"task {low}" if high == low + 1 else f"tasks {low} to {high - 1}"
        cure = f"taskmaster resolve {self.id} {low} done|retry|fail"
        out.remarks.append((True, f"{which} of run {self.name!r} of Master {self.master!r} in doubt: {reason}; {cure}"))

    def cancel(self, intervals: Sequence[tuple[int, int]], out: Effects) -> None:
        """Open tasks that nobody wants any more, as disjoint intervals in order; any number of them at a time."""
        gone = IntervalSet(intervals)
        self.open.remove_all(gone)
        self.queued.remove_all(gone)
        self.proposed.remove_all(gone)
        self.attempts.forget_all(gone)
        for low, high in intervals:
            self.drop_checkpoints(low, high, out)
            self.places.forget(low, high)
            self.asked.forget(low, high)
            for first, end in self.blocks.alike(low, high):
                head = EventHead(0, end - first, "cancelled", first, started=out.wall, finished=out.wall)
                self._emit(head, (), self.blocks.tables(first, end), out)
        if gone:
            self.cancelled += len(gone)
            self.blocks.drop(gone.first[0], gone.end, self.open)

    def resolve(self, request: m.Resolve, output: Table | None, user: str, out: Effects) -> None:
        """Carry out an operator's word on a held task. Raises UnknownTask if it is not held, or the word is unknown."""
        index = request.index
        if index not in self.held:
            raise UnknownTask(
                f"run {self.name!r}: task {index} is not in doubt; 'taskmaster held' lists those that are"
            )
        if request.attempt not in (0, self.attempts[index]):
            raise UnknownTask(f"run {self.name!r}: task {index} was resolved, and is in doubt again since")
        if request.action == "done":
            if output is None or output.n != 1:
                raise UnknownTask(f"run {self.name!r}: resolving task {index} as done needs its output")
            self.found_done(index, output, user, out)
        elif request.action == "fail":
            self.fail(
                index,
                index + 1,
                "Resolved",
                request.reason or "an operator declared it failed",
                user,
                self.attempts[index],
                out,
            )
        elif request.action == "retry":
            self.release(index, user, out)
        elif request.action == "resume":
            if index not in self.checkpoints:
                raise UnknownTask(
                    f"run {self.name!r}: task {index} has left no checkpoint to go on from; resolve it by 'done', "
                    "'retry' or 'fail'"
                )
            self.held.remove(index, index + 1)
            self.suspend(index, out.wall, out)
            self._say_released(index, user, out)
        else:
            raise UnknownTask(f"a held task is resolved by 'done', 'retry', 'resume' or 'fail', not {request.action!r}")

    def found_done(self, index: int, output: Table, worker: str, out: Effects) -> None:
        """A task that was in doubt has been done, and this is its output."""
        head = EventHead(
            0,
            1,
            "done",
            index,
            frames=len(output.frames),
            outputs=output.layout,
            worker=worker,
            attempt=self.attempts[index],
            started=out.wall,
            finished=out.wall,
        )
        self.finish(head, tuple(output.frames), out)

    def release(self, index: int, worker: str, out: Effects) -> None:
        """A task that was in doubt has not begun."""
        self.held.remove(index, index + 1)
        self.drop_checkpoints(index, index + 1, out)
        self.queued.add(index, index + 1)
        self._say_released(index, worker, out)

    def _say_released(self, index: int, worker: str, out: Effects) -> None:
        head = EventHead(0, 1, "released", index, worker=worker, started=out.wall, finished=out.wall)
        self._emit(head, (), self.blocks.tables(index, index + 1), out)

    # -- switches -----------------------------------------------------------------------------------------------------

    def admit(self, claim: str) -> int:
        """The number of a further writer, who makes the former ones former; ``claim`` names the wish, if not empty."""
        self.writer += 1
        if claim:
            self.claims[claim] = self.writer
            if len(self.claims) > CLAIMS:
                del self.claims[next(iter(self.claims))]
        return self.writer

    def require_writer(self, writer: int) -> None:
        """Raise Fenced unless this is the newest writer."""
        if writer != self.writer:
            raise Fenced(
                f"run {self.name!r} of Master {self.master!r} was opened again by another writer; "
                "only the newest one may submit: open it again to take over"
            )

    def close(self, out: Effects) -> None:
        """No further tasks until it is opened again."""
        if not self.closed:
            self.closed = True
            self.changed(out)
            self._emit(EventHead(0, 1, "closed", started=out.wall, finished=out.wall), (), (), out)

    def reopen(self, out: Effects) -> None:
        """Undo close."""
        if self.closed:
            self.closed = False
            self.changed(out)
            self._emit(EventHead(0, 1, "reopened", started=out.wall, finished=out.wall), (), (), out)

    def changed(self, out: Effects) -> None:
        """Record the run's switches."""
        out.records.append(RunChanged(self.id, self.closed, self.paused, self.priority))

    def require_open(self) -> None:
        """Raise RunClosed if it takes no tasks."""
        if self.closed:
            raise RunClosed(f"run {self.name!r} of Master {self.master!r} is closed; open it again to go on")

    def counted(self) -> RunCounted:
        """Where the run stands, for the journal."""
        return RunCounted(self.id, self.next_index, self.next_seq, self.done, self.failed, self.cancelled)

    def _emit(self, head: EventHead, frames: tuple[Buffer, ...], inputs: tuple[Table, ...], out: Effects) -> None:
        head = replace(head, seq=self.next_seq, edited=self._edited(head) if self.edited else ())
        self.next_seq += head.n
        out.touched[self.id] = self
        out.records.append(EventAppended(self.id, head, frames))
        out.publications.append(Publication(self.master, self.id, head, frames, inputs))

    def _edited(self, head: EventHead) -> tuple[int, ...]:
        """The positions in an event of the tasks that have been edited; they are forgotten where these have ended."""
        if head.kind in ("closed", "reopened"):
            return ()
        found = sorted(index for index in self.edited if head.first <= index < head.first + head.n)
        if head.kind in ("done", "cancelled"):
            for index in found:
                del self.edited[index]
        return tuple(index - head.first for index in found)
