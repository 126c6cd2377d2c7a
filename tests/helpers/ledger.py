"""What a journal should hold, in plain Python: records are applied to it, and an open journal is read into one.

Two ledgers are equal if everything that a daemon would serve, or go on from, is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.bus.table import Table, pack_values
from taskmaster.daemon import effects as e
from taskmaster.daemon.blocks import Block
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.journal import Journal, sql
from taskmaster.daemon.journal.check import check_at_start, check_log
from taskmaster.daemon.journal.pages import read_inputs, read_page
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.run import Run

__all__ = ["Ledger", "block", "block_of", "created", "done", "event", "open_journal", "read_ledger"]


def created(run: int, name: str = "", master: str = "svm") -> e.RunCreated:
    """A new run."""
    return e.RunCreated(run, master, name or f"run {run}", 7 * run, 1e9 + run, "ada", {"note": f"of {run}"}, run % 3)


def block(run: int, first: int, rows: Sequence[Any]) -> e.BlockAppended:
    """Tasks of a run from ``first`` on, one for each of ``rows``."""
    return block_of(run, first, pack_values(rows))


def block_of(run: int, first: int, table: Table) -> e.BlockAppended:
    """The same, with a table of any layout."""
    return e.BlockAppended(run, first, table.n, (m.Ask(0, first - 1),), 1e9 + first, "ada", Block(first, table), table)


def event(run: int, seq: int, kind: str, first: int, n: int) -> e.EventAppended:
    """An event about some tasks that needs no more to be said."""
    return e.EventAppended(run, m.EventHead(seq, n, kind, first, worker="svm-1"), ())


def done(
    run: int, seq: int, first: int, outputs: Sequence[Any], failed: Sequence[int] = (), times: bytes = b""
) -> e.EventAppended:
    """Outcomes of the tasks from ``first`` on: those at the positions ``failed`` have an error, the others an output.

    ``times`` are the finish times as they go over the wire, eight bytes a task.
    """
    table = pack_values(outputs) if outputs else None
    frames = [*(table.frames if table is not None else ()), *([times] if times else ())]
    head = m.EventHead(
        seq,
        len(outputs) + len(failed),
        "done",
        first,
        len(frames),
        table.layout if table is not None else None,
        tuple(m.TaskError(at, "ValueError", f"no root at {at}", "Traceback …") for at in failed),
        "svm-1",
        2,
        1e9 + seq,
        1e9 + seq + 0.5,
        bool(times),
    )
    return e.EventAppended(run, head, tuple(frames))


@dataclass
class RunLedger:
    """One run. ``open`` and ``held`` follow from the events; the journal is asked for what it makes of them."""

    created: e.RunCreated
    #: closed, paused, priority
    switches: tuple[bool, bool, int]
    writers: dict[str, int] = field(default_factory=dict)
    writer: int = 0
    inputs: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    next_seq: int = 0
    open: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: dict[int, int] = field(default_factory=dict)

    def take(self, head: m.EventHead) -> None:
        """One more event."""
        self.next_seq = head.seq + head.n
        tasks = set(range(head.first, head.first + head.n))
        if head.kind in ("done", "cancelled"):
            self.open -= tasks
            self.held -= tasks
            self.cancelled += head.n if head.kind == "cancelled" else 0
            self.done += head.n - len(head.errors) if head.kind == "done" else 0
            self.failed += len(head.errors)
        elif head.kind == "held":
            self.held |= tasks
        elif head.kind == "released":
            self.held -= tasks


@dataclass
class Ledger:
    """Everything."""

    runs: dict[int, RunLedger] = field(default_factory=dict)
    leases: dict[m.LeaseId, tuple[Any, ...]] = field(default_factory=dict)
    masters: dict[str, bool] = field(default_factory=dict)
    #: the highest number that was ever given to a run
    last_run: int = 0

    def apply(self, record: e.Record) -> None:
        """Take in what the journal was told."""
        match record:
            case e.RunCreated():
                self.runs[record.run] = RunLedger(replace(record, priority=0), (False, False, record.priority))
                self.last_run = max(self.last_run, record.run)
            case e.RunDeleted():
                del self.runs[record.run]
                self.leases = {key: lease for key, lease in self.leases.items() if lease[0] != record.run}
            case e.RunChanged():
                self.runs[record.run].switches = (record.closed, record.paused, record.priority)
            case e.WriterChanged():
                self.runs[record.run].writer = record.writer
                self.runs[record.run].writers[record.claim] = record.writer
            case e.MasterChanged():
                self.masters[record.master] = record.paused
            case e.BlockAppended():
                run = self.runs[record.run]
                run.open |= set(range(record.first, record.first + record.n))
                run.inputs += record.table.rows()
            case e.EventAppended():
                self.runs[record.run].events.append(_as_told(record.head, record.frames))
                self.runs[record.run].take(record.head)
            case e.LeaseGranted():
                self.leases[record.lease] = (
                    record.run, record.first, record.n, record.attempt, record.worker, record.local, record.time,
                )  # fmt: skip
            case e.LeaseEnded():
                self.leases.pop(record.lease, None)
            case e.AttemptsCharged():
                tasks = range(record.first, record.last)
                self.runs[record.run].attempts.update(dict.fromkeys(tasks, record.attempts))

    def counted(self, run: int) -> e.RunCounted:
        """Where a run stands."""
        of = self.runs[run]
        return e.RunCounted(run, len(of.inputs), of.next_seq, of.done, of.failed, of.cancelled)


def _as_told(head: m.EventHead, frames: Sequence[Any]) -> Any:
    outputs, times, _ = codec.event_tables(head, frames)
    return head, outputs.rows() if outputs is not None else None, bytes(times) if times is not None else None


def open_journal(state: Path, durability: str = "power") -> Journal:
    """Open a journal as a daemon does, with all that is checked on the way."""
    before = check_log(state, durability)
    journal = Journal(state, durability)
    try:
        check_at_start(journal, before)
    except BaseException:
        journal.close(in_order=False)
        raise
    return journal


def read_ledger(journal: Journal) -> Ledger:
    """All that there is in a journal, as a daemon that starts on it takes it up and serves it."""
    core = Core(Identity("reader", 1), [], lambda: 1)
    restore(core, journal, {}, 0.0, e.Effects())
    for table in ("blocks", "events", "leases", "attempts", "writers"):
        owners = {run for (run,) in journal.query(f"SELECT DISTINCT run FROM {table}")}
        assert owners <= core.runs.keys(), f"{table} of runs that are not there"
    return Ledger(
        {run.id: _read_run(journal, run, row) for run, row in zip(core.runs.values(), journal.query(sql.SELECT_RUNS))},
        {(epoch, number): (*row[:5], bool(row[5]), row[6]) for epoch, number, *row in journal.query(sql.SELECT_LEASES)},
        {master: bool(paused) for master, paused in journal.query(sql.SELECT_MASTERS)},
        core.runs.next_number - 1,
    )


def _read_run(journal: Journal, run: Run, row: Sequence[Any]) -> RunLedger:
    origin = e.RunCreated(run.id, run.master, run.name, run.seed, run.created, row[5], run.metadata, 0)
    tables: list[Table] = []
    if run.next_index:
        tables.append(read_inputs(journal, journal.layouts(), run.id, 0, run.next_index))
    read = RunLedger(
        origin,
        (run.closed, run.paused, run.priority),
        dict(run.claims),
        run.writer,
        [row for table in tables for row in table.rows()],
        _read_events(journal, run),
        run.next_seq,
        {task for low, high in run.open for task in range(low, high)},
        {task for low, high in run.held for task in range(low, high)},
        run.done,
        run.failed,
        run.cancelled,
        dict(journal.query(sql.SELECT_ATTEMPTS, (run.id,))),
    )
    # What goes to the workers is the inputs of the open tasks as the daemon holds them in memory: the same, again.
    for low, high in run.open:
        served = [row for table in run.inputs(low, high) for row in table.rows()]
        assert served == read.inputs[low:high]
    return read


def _read_events(journal: Journal, run: Run) -> list[Any]:
    events = []
    since = 0
    while since < run.next_seq:
        page, frames = read_page(journal, run, m.Replay(1, run.id, since))
        at = 0
        for head in page.events:
            events.append(_as_told(head, frames[at : at + head.frames]))
            at += head.frames
            since = head.seq + head.n
    return events
