"""Takes what can be kept of a damaged journal into a new one: for ``taskmaster check --journal … --salvage NEW``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import apsw
import msgspec

from taskmaster.bus.errors import JournalError
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.audit import KEYS, PENDING, by_hand, leave_entry, take_over_pending
from taskmaster.daemon.journal.checksums import connect
from taskmaster.daemon.journal.failures import journal_error, transaction
from taskmaster.daemon.journal.inspection import inspected
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.journal.payloads import Payloads
from taskmaster.daemon.journal.report import JournalReport, report
from taskmaster.daemon.journal.scan import Row, RunScan, Source

__all__ = ["salvage"]

_RUNS = """
SELECT run, master, name, seed, created, user, metadata, priority, closed, paused, writer FROM runs ORDER BY run
"""
_WRITERS = "SELECT run, writer, user, time, claim, first, metadata, forked FROM writers WHERE run = ?"
_ATTEMPTS = "SELECT run, task, attempts FROM attempts WHERE run = ? AND task < ?"
_LEASES = """
SELECT epoch, number, run, first, n, attempt, worker, local, time, name FROM leases WHERE run = ? AND first + n <= ?
"""
#: What is kept of series in time: each table, and how its rows are written again. Those of a run, and those of heads.
_PROGRESS = {
    "SELECT run, task, attempt, first, n, entry, start, stop, names, points FROM progress WHERE run = ?":
        sql.INSERT_PROGRESS,
    "SELECT entry, run, task, attempt, time, names, data FROM new_progress WHERE run = ?": sql.INSERT_NEW_PROGRESS,
}  # fmt: skip
_SAMPLES = {
    sql.SELECT_MONITORS: sql.SET_MONITOR,
    "SELECT master, head, name, first, n, entry, start, stop, points FROM samples": sql.INSERT_SAMPLES,
    sql.SELECT_NEW_SAMPLES: sql.INSERT_NEW_SAMPLE,
}
#: Rows of these in one transaction.
_ROWS = 1000
_APPROVALS = """
SELECT run, first, n, what, reason, user, time, layout, data FROM approvals WHERE run = ? AND first + n <= ?
ORDER BY entry
"""
_CLAIMS = "SELECT run, task, claim, who, since, until FROM claims WHERE run = ? AND task < ?"
_PLACES = "SELECT run, first, n, head, capability FROM places WHERE run = ? AND first + n <= ?"
_CHECKPOINTS = """
SELECT run, task, attempt, head, epoch, lease, number, time, token, lost FROM checkpoints WHERE run = ? AND task < ?
"""
#: Of instruments: which stop and which head stands as it was, what heads have done, and what was done to them.
_HEADS = {
    "SELECT master, stopped FROM masters WHERE stopped <> ''": sql.SET_STOPPED,
    "SELECT master, head, out, quarantined, tripped FROM heads": sql.SET_HEAD,
    "SELECT master, head, tasks, busy, error, error_time FROM head_counts": sql.SET_HEAD_COUNTS,
    "SELECT time, master, head, what, reason, user FROM head_log ORDER BY entry": sql.INSERT_HEAD_LOG,
}
#: Who has done what.
_AUDIT = {sql.SELECT_ALL_AUDIT: sql.INSERT_AUDIT}


def salvage(folder: Path, into: Path) -> JournalReport:
    """Write what can be kept of the journal in ``folder`` to a new state directory, and report on that.

    Its Masters are paused: tasks whose outcomes were lost would be evaluated again, and it is for an operator to say
    whether they may be. Raises JournalError where a daemon is at work, ``into`` is in use, or nothing can be read.
    """
    try:
        if into.exists() and any(into.iterdir()):
            raise JournalError(f"{into} is in use; name a new folder for what can be kept of the journal in {folder}")
        with inspected(folder) as found:
            if found.daemon:
                raise JournalError(f"a daemon (process {found.daemon}) is at work in {folder}; stop it first")
            if found.source is None:
                raise JournalError(f"nothing of the journal in {folder} can be read: {'; '.join(found.findings)}")
            into.mkdir(mode=0o700, parents=True, exist_ok=True)
            Journal(into).close()
            with contextlib.closing(connect(into / "journal.db", write=True)) as db:
                _Copy(found.source, db, Payloads(into / "payloads", sync=True)).everything()
            leave_entry(into, by_hand("salvage", {"of": str(folder.absolute())}))
    except (apsw.Error, OSError) as error:
        raise journal_error(
            error, f"what can be kept of the journal in {folder} cannot be written to {into}"
        ) from error
    return report(into)


class _Copy:
    def __init__(self, source: Source, db: apsw.Connection, payloads: Payloads) -> None:
        self._source = source
        self._db = db
        self._payloads = payloads

    def everything(self) -> None:
        with transaction(self._db):
            for number, layout in self._source.layouts.items():
                self._db.execute(sql.INSERT_LAYOUT, (number, msgspec.json.encode(layout).decode()))
            epoch = next(self._readable(sql.GET_META, ("epoch",)), (0,))[0]
            self._db.execute(sql.SET_META, ("epoch", epoch))
            for master, _ in self._readable(sql.SELECT_MASTERS):
                self._db.execute(sql.SET_MASTER, (master, True))
            self._db.execute(sql.SET_LAST_RUN, next(self._readable(sql.LAST_RUN), (0,)))
        for row in list(self._readable(_RUNS)):
            with transaction(self._db):
                self._run(row)
                self._payloads.sync()
        for select, insert in {**_HEADS, **_SAMPLES, **_AUDIT}.items():
            rows = self._readable(select)
            while some := list(islice(rows, _ROWS)):
                with transaction(self._db):
                    self._all(insert, some)
        self._end_of_audit()

    def _end_of_audit(self) -> None:
        """Entries get numbers behind all that were ever given, also where the last of them are lost."""
        with transaction(self._db):
            last = next(self._readable(sql.LAST_AUDIT), None)
            if last is not None:
                self._db.execute(sql.FORGET_LAST_AUDIT)
                self._db.execute(sql.SET_LAST_AUDIT, last)
            for key in (KEYS, PENDING):
                for (value,) in self._readable(sql.GET_META, (key,)):
                    self._db.execute(sql.SET_META, (key, value))
            take_over_pending(self._db)

    def _run(self, row: Row) -> None:
        run, master, *_, priority, closed, paused, writer = row
        execute = self._db.execute
        execute(sql.INSERT_RUN, row[:8])
        execute(sql.SET_RUN_SWITCHES, (closed, paused, priority, run))
        execute(sql.SET_WRITER, (writer, run))
        execute(sql.SET_MASTER, (master, True))
        scan = RunScan(self._source, run)
        for block in scan.block_rows():
            self._keep_file(block[-1])
            execute(sql.INSERT_BLOCK, (run, *block))
        for event in scan.event_rows():
            self._keep_file(event[-1])
            execute(sql.INSERT_EVENT, (run, *event))
        self._all(sql.INSERT_WRITER, self._readable(_WRITERS, (run,)))
        self._all(sql.SET_ATTEMPTS, self._readable(_ATTEMPTS, (run, scan.tasks)))
        self._all(sql.INSERT_LEASE, self._readable(_LEASES, (run, scan.tasks)))
        for select, insert in _PROGRESS.items():
            self._all(insert, self._readable(select, (run,)))
        self._all(sql.INSERT_APPROVAL, self._readable(_APPROVALS, (run, scan.tasks)))
        self._all(sql.SET_CLAIM, self._readable(_CLAIMS, (run, scan.tasks)))
        self._all(sql.INSERT_PLACE, self._readable(_PLACES, (run, scan.tasks)))
        self._all(sql.SET_CHECKPOINT, self._readable(_CHECKPOINTS, (run, scan.tasks)))

    def _keep_file(self, name: str | None) -> None:
        if name is not None:
            self._payloads.write([self._source.payloads.read(name)])

    def _all(self, statement: str, rows: Iterable[Row]) -> None:
        for row in rows:
            self._db.execute(statement, row)

    def _readable(self, statement: str, values: Row = ()) -> Iterator[Row]:
        """Rows up to the first that cannot be read."""
        with contextlib.suppress(apsw.Error):
            yield from self._source.db.execute(statement, values)
