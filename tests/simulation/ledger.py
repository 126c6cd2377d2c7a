"""What the journal was told, kept a second time and simply: a dict here, a list there, one entry a task.

It accepts each committed transaction and objects to what no transaction may do. It knows nothing of intervals, leases
that expire, or how a decision came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simulation.tasks import number
from taskmaster.bus import codec
from taskmaster.bus.messages import EventHead, LeaseId
from taskmaster.bus.table import Buffer
from taskmaster.daemon import effects as e

__all__ = ["Book", "Event", "Ledger", "Violation"]


class Violation(AssertionError):
    """The system has done what it promises never to do."""


def require(condition: bool, text: str, *details: object) -> None:
    """Raise Violation unless ``condition``."""
    if not condition:
        raise Violation(text.format(*details))


@dataclass(frozen=True)
class Event:
    """One numbered event of a run, about one task (-1: none)."""

    kind: str
    index: int
    output: Any = None
    error: str = ""
    worker: str = ""
    attempt: int = 0


@dataclass
class Book:
    """One run."""

    run: int
    master: str
    name: str
    writer: int = 0
    #: number of the task at each index, and what has become of it: open, held, done, failed, cancelled
    tasks: list[int] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    #: the same numbers as they were put: a task that was edited has another one since
    put: list[int] = field(default_factory=list)
    #: open tasks that nobody has approved
    proposed: set[int] = field(default_factory=set)
    #: who has taken which request
    claims: dict[int, str] = field(default_factory=dict)
    #: of all tasks, those that were proposed and rejected
    rejected: set[int] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    attempts: dict[int, int] = field(default_factory=dict)
    closed: bool = False
    paused: bool = False
    priority: int = 0

    @property
    def open_tasks(self) -> int:
        return self.states.count("open") + self.states.count("held")


class Ledger:
    """All runs, leases and switches that are on disk."""

    def __init__(self) -> None:
        self.books: dict[int, Book] = {}
        self.leases: dict[LeaseId, e.LeaseGranted] = {}
        self.paused: dict[str, bool] = {}
        #: runs that were deleted
        self.deleted: list[Book] = []

    def by_name(self, master: str, name: str) -> Book | None:
        """The run of this name."""
        return next((b for b in self.books.values() if (b.master, b.name) == (master, name)), None)

    def apply(self, records: Sequence[e.Record]) -> list[tuple[Book, Event]]:
        """Take in a transaction; returns the events in it."""
        events: list[tuple[Book, Event]] = []
        for record in records:
            match record:
                case e.RunCreated():
                    self._create(record)
                case e.WriterChanged():
                    book = self.books[record.run]
                    require(
                        record.writer == book.writer + 1,
                        "writer {} of run {} follows {}",
                        record.writer,
                        book.run,
                        book.writer,
                    )
                    book.writer = record.writer
                case e.RunChanged():
                    book = self.books[record.run]
                    book.closed, book.paused, book.priority = record.closed, record.paused, record.priority
                case e.RunDeleted():
                    book = self.books.pop(record.run)
                    require(not book.open_tasks, "run {} was deleted with open tasks", book.run)
                    self.deleted.append(book)
                case e.MasterChanged():
                    self.paused[record.master] = record.paused
                case e.BlockAppended():
                    self._append(record)
                case e.EventAppended():
                    events += self._event(record.run, record.head, record.frames)
                case e.LeaseGranted():
                    there = len(self.books[record.run].tasks)
                    require(record.first + record.n <= there, "{} grants tasks that are not on disk", record)
                    former = self.leases.setdefault(record.lease, record)
                    require(
                        (former.run, former.first) == (record.run, record.first),
                        "{} and {} share a number",
                        former,
                        record,
                    )
                case e.LeaseEnded():
                    self.leases.pop(record.lease, None)
                case e.AttemptsCharged():
                    self._charge(record)
                case e.Decided():
                    self._decide(record)
                case e.RequestClaimed():
                    self._claim(record)
                case e.ClaimEnded():
                    require(record.task in self.books[record.run].claims, "{} is not claimed", record)
                    del self.books[record.run].claims[record.task]
                case e.RunCounted():
                    self._count(record)
        return events

    def _create(self, record: e.RunCreated) -> None:
        known = [*self.books.values(), *self.deleted]
        require(all(record.run != book.run for book in known), "the number {} of a run is given twice", record.run)
        require(self.by_name(record.master, record.name) is None, "two runs of the name {}", record.name)
        self.books[record.run] = Book(record.run, record.master, record.name, priority=record.priority)

    def _append(self, record: e.BlockAppended) -> None:
        book = self.books[record.run]
        require(not book.closed, "run {} is closed and took task {}", book.run, record.first)
        require(
            record.first == len(book.tasks),
            "run {} has {} tasks, the next block starts at {}",
            book.run,
            len(book.tasks),
            record.first,
        )
        require(record.n == record.table.n > 0, "a block of {} tasks has {} rows", record.n, record.table.n)
        book.put += map(number, record.table.rows())
        book.tasks += book.put[record.first :]
        book.states += ["open"] * record.n

    def _event(self, run: int, head: EventHead, frames: Sequence[Buffer]) -> list[tuple[Book, Event]]:
        book = self.books[run]
        require(
            head.seq == len(book.events),
            "run {} has {} events, the next one is number {}",
            run,
            len(book.events),
            head.seq,
        )
        require(head.n > 0 and head.frames == len(frames), "an event of {} tasks and {} frames", head.n, head.frames)
        events = expand(head, frames)
        for event in events:
            if event.index >= 0:
                self._move(book, event)
        book.events += events
        return [(book, event) for event in events]

    def _move(self, book: Book, event: Event) -> None:
        require(
            event.index < len(book.tasks), "run {}: an event about task {}, which does not exist", book.run, event.index
        )
        state = book.states[event.index]
        allowed = {
            "done": ("open", "held"),
            "failed": ("open", "held"),
            "cancelled": ("open",),
            "held": ("open",),
            "released": ("held",),
        }[event.kind]
        require(state in allowed, "run {}: task {} is {} and becomes {}", book.run, event.index, state, event.kind)
        require(
            event.index not in book.proposed or event.kind == "cancelled",
            "run {}: task {} becomes {}, and nobody has approved it",
            book.run,
            event.index,
            event.kind,
        )
        book.proposed.discard(event.index)
        taken = book.claims.get(event.index)
        require(taken is None, "run {}: task {} has ended, and is still taken by {}", book.run, event.index, taken)
        book.states[event.index] = "open" if event.kind == "released" else event.kind

    def _decide(self, record: e.Decided) -> None:
        book = self.books[record.run]
        tasks = set(range(record.first, record.last))
        require(max(tasks) < len(book.tasks), "{} is about tasks that are not on disk", record)
        if record.what == "proposed":
            book.proposed |= tasks
            return
        require(
            tasks <= book.proposed, "run {}: {} are {}, proposed are {}", book.run, tasks, record.what, book.proposed
        )
        if record.what == "edited":
            assert record.table is not None
            (book.tasks[record.first],) = map(number, record.table.rows())
            return
        book.proposed -= tasks
        if record.what == "rejected":
            book.rejected |= tasks

    def _claim(self, record: e.RequestClaimed) -> None:
        book = self.books[record.run]
        is_free = book.claims.get(record.task, record.who) == record.who
        require(is_free, "{} has been taken by {}", record, book.claims.get(record.task))
        waits = book.states[record.task] == "open" and record.task not in book.proposed
        require(waits, "{} is {} and taken", record, book.states[record.task])
        book.claims[record.task] = record.who

    def _charge(self, record: e.AttemptsCharged) -> None:
        book = self.books[record.run]
        for index in range(record.first, record.last):
            require(
                book.attempts.get(index, 0) + 1 == record.attempts,
                "run {}: task {} has used {} attempts, then {}",
                book.run,
                index,
                book.attempts.get(index, 0),
                record.attempts,
            )
            book.attempts[index] = record.attempts

    def _count(self, record: e.RunCounted) -> None:
        book = self.books[record.run]
        counted = (record.next_index, record.next_seq, record.done, record.failed, record.cancelled)
        count = book.states.count
        kept = (len(book.tasks), len(book.events), count("done"), count("failed"), count("cancelled"))
        require(counted == kept, "run {}: counts are {}, and are written as {}", book.run, kept, counted)


def expand(head: EventHead, frames: Sequence[Buffer]) -> list[Event]:
    """The events of a row, one a task."""
    if head.kind in ("closed", "reopened"):
        return [Event(head.kind, -1)]
    if head.kind != "done":
        return [Event(head.kind, head.first + k, worker=head.worker, attempt=head.attempt) for k in range(head.n)]
    table, _, _ = codec.event_tables(head, frames)
    outputs = iter(table.rows() if table is not None else ())
    errors = {error.position: error.kind for error in head.errors}
    require(len(errors) == len(head.errors), "an event names a failure twice: {}", head)
    require((table.n if table is not None else 0) == head.n - len(errors), "outputs and errors do not make {}", head.n)
    return [
        Event("failed", head.first + k, None, errors[k], head.worker, head.attempt)
        if k in errors
        else Event("done", head.first + k, _plain(next(outputs)), "", head.worker, head.attempt)
        for k in range(head.n)
    ]


def _plain(value: Any) -> Any:
    """An output as a result shows it: the only named output is its value."""
    return next(iter(value.values())) if isinstance(value, dict) and set(value) == {"z"} else value
