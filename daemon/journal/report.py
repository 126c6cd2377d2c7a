"""What there is in a journal, and what of it can be kept: for ``taskmaster check --journal``.

What can be kept of a run is what is whole from its start: its tasks, and the events about those, up to the first gap.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from taskmaster.bus.text import format_size
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.inspection import Inspected, inspected
from taskmaster.daemon.journal.scan import RunScan, Source

__all__ = ["JournalReport", "RunReport", "report"]

_RUNS = "SELECT run, master, name, next_index, next_seq FROM runs ORDER BY run"
#: Runs of which there are rows although the table of runs does not have them.
_ORPHANS = """
SELECT run FROM blocks UNION SELECT run FROM events EXCEPT SELECT run FROM runs EXCEPT SELECT run FROM going
ORDER BY run
"""
_SMALL_TABLES = ("meta", "masters", "writers", "leases", "attempts")


@dataclass(frozen=True)
class RunReport:
    """One run: what the journal is known to have had of it, and what can be kept."""

    run: int
    master: str
    name: str
    tasks: int
    events: int
    tasks_kept: int
    events_kept: int
    #: what stands in the way of keeping all
    troubles: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """All of it is whole."""
        return not self.troubles and self.tasks_kept == self.tasks and self.events_kept == self.events

    def line(self) -> str:
        """This run for people."""
        what = f"run {self.run} {self.master}/{self.name}: "
        if self.ok:
            return f"{what}whole, {self.tasks} tasks and {self.events} events"
        reasons = "; ".join(self.troubles) or "its end is missing"
        kept = f"{self.tasks_kept} of {self.tasks} tasks and {self.events_kept} of {self.events} events"
        return f"{what}{kept} can be kept: {reasons}"


@dataclass(frozen=True)
class JournalReport:
    """A journal as ``taskmaster check --journal`` shows it."""

    folder: Path
    #: bytes of database and log
    size: int
    #: process of the daemon that is at work on it; 0 if none is
    daemon: int
    #: what is wrong with the journal as a whole; what is wrong with single runs they say themselves
    findings: tuple[str, ...]
    #: what is no damage, but good to know
    remarks: tuple[str, ...]
    runs: tuple[RunReport, ...]

    @property
    def ok(self) -> bool:
        """Everything that was acknowledged is here, as far as can be known."""
        return not self.findings and all(run.ok for run in self.runs)

    def lines(self) -> list[str]:
        """The report as plain text."""
        tasks, events = sum(run.tasks_kept for run in self.runs), sum(run.events_kept for run in self.runs)
        lines = [
            f"journal in {self.folder}: {format_size(self.size)}, {len(self.runs)} runs, {tasks} tasks, {events} events"
        ]
        if self.daemon:
            lines.append(f"a daemon (process {self.daemon}) is at work on it, and has looked at its log itself")
        lines += [f"note: {remark}" for remark in self.remarks]
        if self.ok:
            return [*lines, "It is whole."]
        lines += ["It is DAMAGED.", *(f"  {finding}" for finding in self.findings)]
        lines += ["What can be kept:", *(f"  {run.line()}" for run in self.runs)]
        if not self.runs:
            lines.append("  nothing, as far as can be seen")
        return [*lines, *self._remedies()]

    def _remedies(self) -> list[str]:
        lines = ["What to do: stop the daemon, keep a copy of the folder as it is, then"]
        if any("payload file" in trouble for run in self.runs for trouble in run.troubles):
            lines.append("  - put payload files that are missing or changed back from a backup; or")
        lines.append("  - make a new folder of a backup: taskmaster restore BACKUP NEW; or")
        lines.append(
            f"  - write what can be kept to a new folder: taskmaster check --journal {self.folder} --salvage NEW"
        )
        return lines


def report(folder: Path) -> JournalReport:
    """Look at everything in the journal of a state directory. Raises JournalError where there is none to look at.

    Reads all that was ever recorded: about 10 s for 1 GB. Not to be called in a process that has the journal open.
    """
    with inspected(folder) as found:
        runs = list(_scan_runs(found)) if found.source is not None else []
        if found.source is not None and not found.daemon:
            _look_at_leftovers(found, found.source)
        if found.source is not None:
            _look_at_audit(found, found.source)
    return JournalReport(folder, found.size, found.daemon, tuple(found.findings), tuple(found.remarks), tuple(runs))


def _scan_runs(found: Inspected) -> Iterator[RunReport]:
    source = found.source
    assert source is not None
    for table in _SMALL_TABLES:
        try:
            list(source.db.execute(f"SELECT * FROM {table}"))
        except apsw.Error as error:
            found.findings.append(f"its table of {table} cannot be read: {error}")
    runs = []
    try:
        for row in source.db.execute(_RUNS):
            runs.append(row)  # noqa: PERF402 - those before the first that cannot be read
    except apsw.Error as error:
        found.findings.append(f"its table of runs cannot be read to its end: {error}")
    with contextlib.suppress(apsw.Error):  # tables that cannot be read show below, run by run
        for (run,) in source.db.execute(_ORPHANS):
            found.findings.append(f"there are tasks or events of a run {run}, but not what run that was")
    for row in runs:
        yield from _scan_run(found, source, *row)
    expected = found.verdict.expected
    if expected is not None and not found.verdict.or_deleted and expected.run not in [row[0] for row in runs]:
        found.findings.append(f"run {expected.run} had {expected.number} {expected.what}, and is not there")


def _scan_run(
    found: Inspected, source: Source, run: int, master: str, name: str, next_index: int, next_seq: int
) -> Iterator[RunReport]:
    scan = RunScan(source, run)
    with _one_moment(source.db):
        if found.daemon:
            source.read_layouts()  # there may be new ones since it was opened
        for _ in scan.block_rows():
            pass
        for _ in scan.event_rows():
            pass
        tasks = max(next_index, scan.tasks, _last(source.db, sql.LAST_INDEX, run))
        events = max(next_seq, scan.events, _last(source.db, sql.LAST_SEQ, run))
    if found.last is not None and found.last.run == run and (found.verdict.lost or found.verdict.expected):
        tasks = max(tasks, found.last.number if found.last.what == "tasks" else 0)
        events = max(events, found.last.number if found.last.what == "events" else 0)
    shown = RunReport(run, master, name, tasks, events, scan.tasks, scan.events, tuple(scan.troubles))
    if found.daemon and not shown.ok and source.db.execute("SELECT 1 FROM runs WHERE run = ?", (run,)).get is None:
        return  # it was deleted meanwhile, and its payload files with it
    yield shown


@contextlib.contextmanager
def _one_moment(db: apsw.Connection) -> Iterator[None]:
    """Read all of a run as of one moment; no longer, for what is read the log must keep."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        with contextlib.suppress(apsw.Error):
            db.execute("ROLLBACK")


def _last(db: apsw.Connection, statement: str, run: int) -> int:
    try:
        return int(db.execute(statement, (run,)).get or 0)
    except apsw.Error:
        return 0


def _look_at_audit(found: Inspected, source: Source) -> None:
    """Say where entries are missing: what cannot be read shows elsewhere, or somebody has deleted them."""
    with contextlib.suppress(apsw.Error):
        [(there, first, last, given)] = source.db.execute(sql.COUNT_AUDIT)
        missing = (given or 0) - (first or 1) + 1 - there
        if missing > 0:
            found.remarks.append(
                f"the record of who has done what (taskmaster audit) lacks {missing} of its entries {first or 1} to "
                f"{given}: {'its end' if last != given else 'some in between'}"
            )


def _look_at_leftovers(found: Inspected, source: Source) -> None:
    try:
        named = [name for (name,) in source.db.execute(sql.FILES)]
    except apsw.Error:
        return
    sizes = [path.stat().st_size for path in source.payloads.leftovers(named)]
    if sizes:
        found.remarks.append(f"{len(sizes)} payload files, {format_size(sum(sizes))}, are not needed by any run")
