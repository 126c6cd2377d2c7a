"""The journal's writer: one connection, one transaction a turn.

SQLite in WAL mode. ``durability = "power"`` syncs the log at every commit (``synchronous = FULL``), ``"crash"`` leaves
that to the system: what was acknowledged then survives the death of any program, but not that of the machine.

A turn of the daemon with one task in it is the unit that counts most here: its round trip waits for two commits. So a
commit writes what cannot be had otherwise, and nothing else: what a run counts is written when the daemon has a moment
(`remember_counts`), and the high-water mark lies in a file of its own (see `mark`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from taskmaster.bus.errors import JournalError
from taskmaster.bus.status import JournalStatus
from taskmaster.bus.table import Buffer, Layout, Table
from taskmaster.daemon.effects import (
    AsksNoted,
    AttemptsCharged,
    Audited,
    AuditPruned,
    BlockAppended,
    CheckpointDropped,
    Checkpointed,
    ClaimEnded,
    Decided,
    EventAppended,
    HeadChanged,
    HeadCounted,
    KeysNoted,
    LeaseEnded,
    LeaseGranted,
    MasterChanged,
    MasterStopped,
    Record,
    RequestClaimed,
    RowsCleared,
    RunChanged,
    RunCounted,
    RunCreated,
    RunDeleted,
    RunForked,
    TasksPlaced,
    WriterChanged,
    WriterNoted,
)
from taskmaster.daemon.journal import migrations, sql
from taskmaster.daemon.journal.audit import KEYS, row_of
from taskmaster.daemon.journal.checksums import connect, create
from taskmaster.daemon.journal.clearing import clear_some, delete_run, still_named
from taskmaster.daemon.journal.failures import journal_error, transaction
from taskmaster.daemon.journal.forks import Fork
from taskmaster.daemon.journal.mark import MarkFile
from taskmaster.daemon.journal.payloads import Payloads
from taskmaster.daemon.journal.schema import bring_up_to_date, require_known
from taskmaster.daemon.journal.series import writers
from taskmaster.daemon.journal.stored import FiledTable, decode_asks, encode_asks, split_frames, with_noted

__all__ = ["INLINE_BYTES", "Journal"]

#: Larger payloads go to files: through SQLite they would be written twice (log and database) at a third of the speed.
INLINE_BYTES = 64 << 10
#: Bytes of write-ahead log after which the daemon moves it into the database when it has nothing else to do …
CHECKPOINT_IDLE = 1 << 20
#: … and after which it does so at once, which takes some ten milliseconds.
CHECKPOINT_BUSY = 16 << 20
#: Bytes the log is given before it is used. Where it grows, each commit also syncs its new length, which on ext4 takes
#: several times as long as the data; from the first checkpoint on it is written over and over.
LOG_BYTES = 8 << 20

#: SQLite's default page.
PAGE_BYTES = 4096

_json = msgspec.json.Encoder().encode


class Journal:
    """The durable record in one state directory. Raises JournalError for whatever SQLite or the disk cannot do."""

    def __init__(self, folder: Path, durability: str = "power", *, migrate: bool = True) -> None:
        """``migrate``: one of an older release is brought up to date; else JournalError is raised for one."""
        self.folder = folder
        self.path = folder / "journal.db"
        self.durability = durability
        self.commits = 0
        #: the version of the tables as they were found, where that was an older one; else 0
        self.brought_up_from = 0
        #: frames in the write-ahead log, and how many of them are in the database, too
        self._frames = self._moved = 0
        self._file: str | None = None
        self._removed: set[str] = set()
        #: runs that were deleted, whose rows are still being let go; and whether that may have changed
        self.going: set[int] = set()
        self._goes = False
        self._times: deque[float] = deque(maxlen=1024)
        #: that all commits took
        self._seconds = 0.0
        self._layouts: dict[Layout, int] = {}
        try:
            self.payloads = Payloads(folder / "payloads", sync=durability == "power")
            has_log = self.log_size > 0
            create(self.path)
            self._db = connect(self.path, write=True)
            with contextlib.ExitStack() as undone:
                undone.callback(self._db.close)
                # A log that lies there stays where it is, unless the mark is told, see `close`. Of a journal that is
                # refused SQLite also takes an empty one away again.
                self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log)
                version = self._schema_version()
                if not migrate and version != migrations.SCHEMA_VERSION:
                    raise JournalError(
                        f"the journal {self.path} is of an older release (schema {version}); start the daemon on it, "
                        "which brings it up to date, and stop it again"
                    )
                self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                self._set_up(version)
                undone.pop_all()
        except (apsw.Error, OSError) as error:
            raise journal_error(error, f"the journal {self.path} cannot be opened") from error
        self._db.set_wal_hook(self._on_wal)
        self._cursor = self._db.cursor()
        self._execute = self._cursor.execute
        self._write = {
            RunCreated: self._run_created,
            WriterChanged: self._writer_changed,
            RunChanged: lambda r: self._execute(sql.SET_RUN_SWITCHES, (r.closed, r.paused, r.priority, r.run)),
            RunDeleted: self._run_deleted,
            RowsCleared: self._rows_cleared,
            RunForked: self._run_forked,
            MasterChanged: lambda r: self._execute(sql.SET_MASTER, (r.master, r.paused)),
            BlockAppended: self._block_appended,
            EventAppended: self._event_appended,
            AsksNoted: self._asks_noted,
            WriterNoted: lambda r: self._execute(
                sql.SET_WRITER_METADATA, (_json(r.metadata).decode(), r.run, r.writer)
            ),
            LeaseGranted: lambda r: self._execute(
                sql.INSERT_LEASE, (*r.lease, r.run, r.first, r.n, r.attempt, r.worker, r.local, r.time, r.name)
            ),
            LeaseEnded: lambda r: self._execute(sql.DELETE_LEASE, r.lease),
            AttemptsCharged: self._attempts_charged,
            MasterStopped: self._master_stopped,
            HeadChanged: self._head_changed,
            HeadCounted: self._head_counted,
            Decided: self._decided,
            RequestClaimed: lambda r: self._execute(sql.SET_CLAIM, (r.run, r.task, r.claim, r.who, r.since, r.until)),
            ClaimEnded: lambda r: self._execute(sql.DELETE_CLAIM, (r.run, r.task)),
            TasksPlaced: lambda r: self._execute(
                sql.INSERT_PLACE, (r.run, r.first, r.n, r.where.head, r.where.capability)
            ),
            Checkpointed: lambda r: self._execute(
                sql.SET_CHECKPOINT, (r.run, r.index, r.attempt, r.head, *r.lease, r.number, r.time, r.token, r.lost)
            ),
            CheckpointDropped: lambda r: self._execute(sql.DELETE_CHECKPOINT, (r.run, r.index)),
            RunCounted: lambda r: self._execute(
                sql.SET_RUN_COUNTS, (r.next_index, r.next_seq, r.done, r.failed, r.cancelled, r.run)
            ),
            Audited: lambda r: self._execute(sql.INSERT_AUDIT, row_of(r)),
            AuditPruned: lambda r: self._execute(sql.DELETE_AUDIT, (r.last,)),
            KeysNoted: lambda r: self._execute(sql.SET_META, (KEYS, r.keys)),
            **writers(self._cursor),
        }

    def _schema_version(self) -> int:
        """The version of the tables, 0 where there are none; JournalError where they are not for this release."""
        version = require_known(self._db, self.path)
        if not version and self._db.execute("SELECT count(*) FROM sqlite_schema").get:
            raise JournalError(
                f"{self.path} is a database, but no journal; move it away, or use another state directory"
            )
        return version

    def _set_up(self, version: int) -> None:
        synced = self.durability == "power"
        list(self._db.execute(f"{sql.PRAGMAS} PRAGMA synchronous = {'FULL' if synced else 'NORMAL'};"))
        bring_up_to_date(self._db, version)
        self.brought_up_from = version if version < migrations.SCHEMA_VERSION else 0
        for number, text in self._db.execute(sql.SELECT_LAYOUTS):
            self._layouts[msgspec.json.decode(text, type=Layout)] = number
        self._note_going()
        self.mark = MarkFile(self.folder, synced=synced)

    # -- writing ------------------------------------------------------------------------------------------------------

    def commit(self, records: Sequence[Record]) -> dict[int, str]:
        """Make records durable, all or none; returns the payload files that records (by position) were given.

        Raises DiskFull where there is no room: nothing was written, and the same call may succeed later. Any other
        failure raises JournalError, after which the journal must be opened anew: what is on disk is not known.
        """
        began = time.perf_counter()
        removed: set[str] = set()
        execute = self._execute
        new_layouts = len(self._layouts)
        try:
            files = self._write_payloads(records)
            self._removed = removed
            if len(records) == 1 and not files and self._is_one_statement(records[0]):
                self._file = None
                self._write[type(records[0])](records[0])  # type: ignore[operator]
            else:
                execute("BEGIN IMMEDIATE")
                try:
                    for position, record in enumerate(records):
                        self._file = files.get(position) if files else None
                        self._write[type(record)](record)  # type: ignore[operator]
                    execute("COMMIT")
                except BaseException:
                    self._roll_back(new_layouts)
                    raise
            self.mark.committed(self._frames, records)
        except (apsw.Error, OSError) as error:
            raise journal_error(error, f"the journal {self.path} could not be written") from error
        if removed:
            self._remove_files(removed)
        if self._goes:
            self._note_going()
        self.commits += 1
        took = time.perf_counter() - began
        self._times.append(took)
        self._seconds += took
        return files

    def _is_one_statement(self, record: Record) -> bool:
        """Whether writing it takes one statement, which is a transaction by itself: the most common turn there is."""
        if type(record) is EventAppended:
            layout = record.head.outputs
            return layout is None or layout in self._layouts
        return type(record) is BlockAppended and record.table.layout in self._layouts

    def _roll_back(self, layouts: int) -> None:
        self._layouts = dict(list(self._layouts.items())[:layouts])
        if not self._db.get_autocommit():
            self._db.execute("ROLLBACK")

    def _on_wal(self, connection: apsw.Connection, database: str, frames: int) -> int:
        if frames <= self._frames:  # it was begun anew
            self._moved = 0
        self._frames = frames
        return apsw.SQLITE_OK

    def _write_payloads(self, records: Sequence[Record]) -> dict[int, str]:
        """Store the large payloads of all records; the names of their files by the records' positions."""
        names = {}
        for position, record in enumerate(records):
            kind = type(record)
            if kind is EventAppended:
                frames: Sequence[Buffer] = record.frames  # type: ignore[union-attr]
            elif kind is BlockAppended:
                frames = record.table.frames  # type: ignore[union-attr]
            else:
                continue
            size = 0
            for frame in frames:
                size += len(frame)  # of bytes: every frame is flat
            if size > INLINE_BYTES:
                names[position] = self.payloads.write(frames)
        if names:
            self.payloads.sync()
        return names

    def _run_created(self, r: RunCreated) -> None:
        metadata = _json(r.metadata).decode()
        self._execute(sql.INSERT_RUN, (r.run, r.master, r.name, r.seed, r.created, r.user, metadata, r.priority))

    def _writer_changed(self, r: WriterChanged) -> None:
        self._execute(sql.INSERT_WRITER, (r.run, r.writer, r.user, r.time, r.claim, r.first, "{}", False))
        self._execute(sql.SET_WRITER, (r.writer, r.run))

    def _run_deleted(self, r: RunDeleted) -> None:
        self._removed |= delete_run(self._cursor, r.run)
        self._goes = True

    def _rows_cleared(self, r: RowsCleared) -> None:
        self._removed |= clear_some(self._cursor, r.run)
        self._goes = True

    def _run_forked(self, r: RunForked) -> None:
        self._run_created(RunCreated(r.run, r.master, r.name, r.seed, r.created, r.user, r.metadata, r.priority))
        closed = Fork(self, r).write(self._block_appended, self._event_appended)
        self._execute(sql.SET_RUN_SWITCHES, (closed, r.paused, r.priority, r.run))

    def _block_appended(self, r: BlockAppended) -> None:
        table = r.table
        file = self._file
        data = None if file is not None else b"".join(table.frames)
        content = bytes.fromhex(file.partition("-")[0]) if file is not None else None
        self._execute(
            sql.INSERT_BLOCK,
            (
                r.run,
                r.first,
                r.n,
                self._layout(table.layout),
                encode_asks(r.asks),
                table.digest(content),
                r.time,
                r.user,
                data,
                file,
            ),
        )

    def _asks_noted(self, r: AsksNoted) -> None:
        for first, n, text in list(self._db.execute(sql.BLOCK_BEFORE, (r.run, r.first))):
            if first + n == r.first:
                asks = with_noted(decode_asks(text), n, r.at, r.asks)
                self._execute(sql.SET_ASKS, (encode_asks(asks), r.run, first))

    def _event_appended(self, r: EventAppended) -> None:
        head = r.head
        data = b"".join(r.frames) if r.frames and self._file is None else None
        layout = self._layout(head.outputs) if head.outputs is not None else None
        errors = _json(head.errors).decode() if head.errors else None
        self._execute(
            sql.INSERT_EVENT,
            (
                r.run,
                head.seq,
                head.n,
                head.kind,
                head.first,
                layout,
                errors,
                head.timed,
                head.worker,
                head.attempt,
                head.started,
                head.finished,
                data,
                self._file,
            ),
        )

    def _master_stopped(self, r: MasterStopped) -> None:
        self._execute(sql.SET_STOPPED, (r.master, r.by))
        what, reason = ("stopped", r.by) if r.by else ("reset", r.reason)
        self._execute(sql.INSERT_HEAD_LOG, (r.time, r.master, "", what, reason, r.user))

    def _head_changed(self, r: HeadChanged) -> None:
        self._execute(sql.SET_HEAD, (r.master, r.head, r.out, r.quarantined, r.tripped))
        self._execute(sql.INSERT_HEAD_LOG, (r.time, r.master, r.head, r.what, r.reason, r.user))

    def _head_counted(self, r: HeadCounted) -> None:
        self._execute(sql.SET_HEAD_COUNTS, (r.master, r.head, r.tasks, r.busy, r.error, r.error_time))

    def _attempts_charged(self, r: AttemptsCharged) -> None:
        for task in range(r.first, r.last):
            self._execute(sql.SET_ATTEMPTS, (r.run, task, r.attempts))

    def _decided(self, r: Decided) -> None:
        table = r.table
        layout = None if table is None else self._layout(table.layout)
        data = None if table is None else b"".join(table.frames)
        self._execute(
            sql.INSERT_APPROVAL, (r.run, r.first, r.last - r.first, r.what, r.reason, r.user, r.time, layout, data)
        )

    def _layout(self, layout: Layout) -> int:
        number = self._layouts.get(layout)
        if number is None:
            number = len(self._layouts) + 1
            self._execute(sql.INSERT_LAYOUT, (number, _json(layout).decode()))
            self._layouts[layout] = number
        return number

    def _remove_files(self, names: set[str]) -> None:
        self.payloads.remove(names - still_named(self._cursor, names))

    def _note_going(self) -> None:
        self.going = {run for (run,) in self._db.execute(sql.SELECT_GOING)}
        self._goes = False

    # -- keeping ------------------------------------------------------------------------------------------------------

    def checkpoint(self, *, idle: bool) -> None:
        """Move the log into the database if it has grown enough for this occasion."""
        if self._unmoved > (CHECKPOINT_IDLE if idle else CHECKPOINT_BUSY):
            try:  # what a reader still needs is left for later
                _, self._moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except (apsw.BusyError, apsw.FullError):
                return  # another program is at it, or there is no room: later
            except apsw.Error as error:
                raise journal_error(error, f"the journal {self.path} could not be checkpointed") from error

    @property
    def _unmoved(self) -> int:
        """Bytes of the log that are not in the database yet."""
        return max(0, self._frames - self._moved) * PAGE_BYTES

    @property
    def log_size(self) -> int:
        """Bytes of the write-ahead log."""
        try:
            return os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return 0

    def meta(self, key: str) -> Any:
        """A value of the journal's own bookkeeping, or None."""
        return self._db.execute(sql.GET_META, (key,)).get

    def begin_epoch(self, now: float) -> int:
        """Number one more start of the daemon, at ``now`` seconds since 1970; returns its epoch, durable from here on.

        An epoch is higher than any before it, even where an older copy of the journal was put in its place: what
        clients and workers hold from after that copy must not pass for this daemon's. So the clock counts, too, in
        milliseconds: two starts take longer. Payload files that commits of former epochs did not come to name go.
        """
        try:
            self.payloads.sweep(name for (name,) in self._db.execute(sql.FILES))
            epoch = max(int(self.meta("epoch") or 0) + 1, int(now * 1e3))
            with transaction(self._db):
                self._db.execute(sql.SET_META, ("epoch", epoch))
            self.mark.committed(self._frames)
        except (apsw.Error, OSError) as error:
            raise journal_error(error, f"the journal {self.path} could not be written") from error
        self._lay_out_log()
        return epoch

    def _lay_out_log(self) -> None:
        """Give the log its size; for SQLite it ends where a frame has not its salts, so zeros behind it are nothing."""
        missing = LOG_BYTES - self.log_size
        disk = os.statvfs(self.folder)
        if 0 < missing < disk.f_bavail * disk.f_frsize / 4:
            with open(f"{self.path}-wal", "ab") as file, contextlib.suppress(OSError):  # no room for comfort
                file.write(bytes(missing))
                file.flush()
                os.fsync(file.fileno())

    def query(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        """Rows of a statement of `sql`; read them before the next commit."""
        try:
            return self._db.execute(statement, values)
        except apsw.Error as error:
            raise journal_error(error, f"the journal {self.path} could not be read") from error

    def layouts(self) -> dict[int, Layout]:
        """Every layout by its number."""
        return {number: layout for layout, number in self._layouts.items()}

    def stored_table(self, layout: Layout, n: int, data: bytes | None, file: str | None) -> Table:
        """The table in a row; one in a file stays there until its buffers are asked for."""
        if file is not None:
            return FiledTable(self.payloads, file, layout, n)
        return Table(layout, n, split_frames(layout, n, data or b""))

    def statistics(self, *, full: bool = False) -> JournalStatus:
        """For ``status`` and metrics."""
        times = sorted(self._times)
        disk = os.statvfs(self.folder)
        return JournalStatus(
            path=str(self.path),
            durability=self.durability,
            state="full" if full else "ok",
            size=os.stat(self.path).st_size + self._unmoved,
            free=disk.f_bavail * disk.f_frsize,
            commits=self.commits,
            commit_p50=times[len(times) // 2] if times else 0.0,
            commit_p99=times[len(times) * 99 // 100] if times else 0.0,
            commit_seconds=self._seconds,
            unused=self._db.execute("PRAGMA freelist_count").get * PAGE_BYTES,
        )

    def vacuum(self) -> None:
        """Write the database anew, without pages that hold nothing; it has shrunk when the journal is closed."""
        try:
            self._db.execute("VACUUM")
            self.mark.committed(self._frames)
        except (apsw.Error, OSError) as error:
            raise journal_error(error, f"the journal {self.path} could not be written anew") from error

    def close(self, *, in_order: bool = True) -> None:
        """Checkpoint and close. What was committed is safe without it.

        Where something has gone wrong (not ``in_order``) log and mark are left as they are, for the next start to
        check.
        """
        if in_order:
            self.mark.settling()
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        self._db.close()
        self.mark.close()
