"""Backups: a journal as it was at one moment, in a folder of its own that says what has to be in it; and back again.

A backup is made beside the daemon that works on the journal. What says that it is whole was not read from the copy but
from the original, at the very moment of which the copy is: the number of rows of every table, and the SHA-256 of all
that is in them. Payload files are named by the SHA-256 of their content. So whether a backup still holds what it was
made of can be told from it alone, also years later, and is each time it is made or used.

Restoring writes into a state directory without a journal, and there everything is compared again. What was evaluated
after the backup was made would be evaluated once more: every Master is paused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import apsw
import msgspec

from taskmaster import __version__
from taskmaster.bus.errors import DiskFull, JournalDamaged, JournalError, JournalTooNew, StateLocked
from taskmaster.bus.text import format_size
from taskmaster.daemon.journal import migrations, sql
from taskmaster.daemon.journal.audit import by_hand, leave_entry
from taskmaster.daemon.journal.check import check_end
from taskmaster.daemon.journal.checksums import connect, create
from taskmaster.daemon.journal.copying import gather, pause_all, require_journal, sync
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.guards import LogCheck, check_log
from taskmaster.daemon.journal.inspection import daemon_kept_away
from taskmaster.daemon.journal.payloads import Payloads, size_of
from taskmaster.daemon.journal.schema import BEFORE, schema_version, too_new
from taskmaster.daemon.lock import LOCK, locked

__all__ = [
    "MANIFEST",
    "RESTORING",
    "Manifest",
    "TableSum",
    "back_up",
    "keep_before_migration",
    "read_manifest",
    "require_state",
    "restore",
    "verify",
]

#: The file in a backup that says what is in it.
MANIFEST = "backup.json"
#: The file in a state directory into which a backup is being restored.
RESTORING = "restoring"
#: What is in a folder that is as good as empty.
_NOTHING = frozenset({LOCK, "lost+found"})
#: Rows of a table at a time. Their number is part of what is summed.
_ROWS = 256
#: Room that is left on the disk of a backup, at least.
_MARGIN = 16 << 20
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_stat%' ORDER BY name"
_COUNTS = """
SELECT (SELECT count(*) FROM runs), coalesce((SELECT sum(n) FROM blocks), 0), coalesce((SELECT sum(n) FROM events), 0)
"""


class TableSum(msgspec.Struct, frozen=True):
    """What is in a table."""

    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What is in a backup."""

    #: of this file
    format: int
    #: the release that made it
    version: str
    #: of the tables
    schema: int
    #: when it was begun, seconds since 1970
    made: float
    #: the state directory that it is of, and the machine
    state: str
    host: str
    runs: int
    tasks: int
    events: int
    tables: dict[str, TableSum]
    #: payload files and their bytes
    files: int
    bytes: int
    #: bytes of the database
    database: int = 0


# -- making one -------------------------------------------------------------------------------------------------------


def back_up(state: Path, into: Path, made: float, *, link: bool = False) -> Manifest:
    """Back the journal in ``state`` up to a new folder, at ``made`` seconds since 1970; compare, and say what is in it.

    A daemon at work on it is not disturbed. The folder is there under its name when all of it is on disk and was found
    to be whole, and not before. ``link``: payload files are shared with the original, for a backup on the same disk.
    Raises DiskFull where there is no room for it, JournalDamaged where the journal is not whole, JournalTooNew,
    JournalError where ``into`` is there already, or anything cannot be read or written.
    """
    into = into.absolute()
    partial = into.with_name(f".{into.name}.partial")
    try:
        _require_new(into)
        if not link and into.resolve().is_relative_to(state.resolve()):
            raise JournalError(f"{into} is in the folder that is backed up, {state}; name one elsewhere")
        require_journal(state)
        with daemon_kept_away(state) as daemon:
            # A daemon has looked at its log when it started; who only reads is told nothing of what is missing there.
            before = LogCheck() if daemon else check_log(state, "power")
        with _alone(partial):
            _require_room(state, partial, link=link)
            manifest = _made(state, partial, made, before, link=link)
            verify(partial)
            sync(partial)
            partial.rename(into)
            sync(into.parent)
    except (apsw.Error, OSError) as error:
        found = journal_error(error, f"the journal in {state} cannot be backed up to {into}")
        if isinstance(found, DiskFull):
            raise DiskFull(_no_room(state, into)) from error
        raise found from error
    return manifest


def _no_room(state: Path, into: Path) -> str:
    return (
        f"no room for the backup {into} of the journal in {state}, of which nothing is left there; choose another disk"
    )


def _require_new(into: Path) -> None:
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise JournalError(f"{into} is there already; name a new folder for the backup")
    if not into.parent.is_dir():
        raise JournalError(f"there is no folder {into.parent} for the backup {into.name}; make it first")


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Have the folder, empty, for this backup alone; it is gone afterwards unless it has got its name."""
    partial.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JournalError(f"another process is making this very backup, in {partial}; wait for it") from None
        for path in partial.iterdir():  # what one has left that was killed
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            yield
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def _require_room(state: Path, into: Path, *, link: bool) -> None:
    with contextlib.closing(connect(state / "journal.db", write=False)) as db:
        needed = db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").get
        if not link:
            needed += sum(size_of(name) for (name,) in db.execute(sql.FILES))
    free = _free(into)
    if free < needed + _MARGIN:
        raise DiskFull(
            f"no room for a backup in {into.parent}: it takes {format_size(needed)}, {format_size(free)} are free; "
            "choose another disk"
        )


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _made(state: Path, into: Path, made: float, before: LogCheck, *, link: bool) -> Manifest:
    def look(db: apsw.Connection) -> Manifest:
        check_end(db.execute, state, before)
        names = [name for (name,) in db.execute(sql.FILES)]
        runs, tasks, events = next(iter(db.execute(_COUNTS)))
        size = sum(map(size_of, names))
        where = str(state.absolute()), socket.gethostname()
        sums = _table_sums(db)
        return Manifest(1, __version__, schema_version(db), made, *where, runs, tasks, events, sums, len(names), size)

    manifest = gather(state, into, look, link=link)
    manifest = msgspec.structs.replace(manifest, database=(into / "journal.db").stat().st_size)
    create(into / MANIFEST)  # for this user alone, as all of it
    (into / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    sync(into / MANIFEST)
    return manifest


def _table_sums(db: apsw.Connection) -> dict[str, TableSum]:
    """Every table, in the order of its keys."""
    sums = {}
    encode = msgspec.msgpack.Encoder().encode
    for (table,) in list(db.execute(_TABLES)):
        rows, content = 0, hashlib.sha256()
        cursor = iter(db.execute(f'SELECT * FROM "{table}"'))
        while some := list(islice(cursor, _ROWS)):
            rows += len(some)
            content.update(encode(some))
        sums[table] = TableSum(rows, content.hexdigest())
    return sums


def keep_before_migration(state: Path, now: float) -> Path | None:
    """Back a journal up that is about to get other tables; None where it is not. To be called with the lock held.

    Nothing that is large is copied twice: payload files are shared. Raises what :func:`back_up` does.
    """
    path = state / "journal.db"
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        with contextlib.closing(connect(path, write=False)) as db:
            version = schema_version(db)
    except apsw.Error:
        return None  # what is wrong with it is said when it is opened
    if not 0 < version < migrations.SCHEMA_VERSION:
        return None
    name = f"{BEFORE}{migrations.SCHEMA_VERSION}"
    into = next(path for k in count() if not (path := state / (f"{name}-{k + 1}" if k else name)).exists())
    back_up(state, into, now, link=True)
    return into


# -- looking at one ---------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest:
    """What a backup says is in it. Raises JournalError where the folder is none, JournalTooNew, JournalDamaged."""
    try:
        content = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise JournalError(
            f"{folder} is no backup: there is no {MANIFEST} in it; name a folder that 'taskmaster backup' has made"
        ) from None
    except OSError as error:
        raise journal_error(error, f"the backup in {folder} cannot be read") from error
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise JournalDamaged(f"the backup in {folder} is damaged: {MANIFEST} cannot be understood: {error}") from error
    if manifest.format > 1 or manifest.schema > migrations.SCHEMA_VERSION:
        raise JournalTooNew(too_new(f"the backup in {folder}", manifest.schema))
    return manifest


def verify(folder: Path, manifest: Manifest | None = None) -> Manifest:
    """Read all of a backup, and compare it with what was backed up. Raises JournalDamaged where it is not that.

    With a ``manifest``, the folder is compared with that one instead of its own.
    """
    expected = manifest or read_manifest(folder)
    what = f"the backup in {folder}" if manifest is None else f"what was restored in {folder}"
    path = folder / "journal.db"
    try:
        _forget_cached(path)
        with contextlib.closing(connect(path, write=False, immutable=True)) as db:
            verdict = db.execute("PRAGMA quick_check(1)").get
            found = _table_sums(db) if verdict == "ok" else {}
            names = [name for (name,) in db.execute(sql.FILES)]
    except apsw.Error as error:
        raise JournalDamaged(f"{what} is damaged: its database cannot be read: {error}; use another one") from error
    if verdict != "ok":
        raise JournalDamaged(f"{what} is damaged: {verdict}; use another one")
    other = sorted(
        name for name in found.keys() | expected.tables.keys() if found.get(name) != expected.tables.get(name)
    )
    if other:
        raise JournalDamaged(f"{what} is damaged: not what was backed up is in its table {other[0]}; use another one")
    if (len(names), sum(map(size_of, names))) != (expected.files, expected.bytes):
        raise JournalDamaged(f"{what} is damaged: it names other payload files than were backed up; use another one")
    payloads = Payloads(folder / "payloads", sync=False)
    for name in names:
        _forget_cached(payloads.path(name))
        payloads.read(name)
    return expected


def _forget_cached(path: Path) -> None:
    """Have it read from the disk, not from memory, as far as the system lets us."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


# -- restoring one ----------------------------------------------------------------------------------------------------


def restore(backup: Path, state: Path, *, resume: bool = False) -> Manifest:
    """Write a backup into a state directory that has no journal, compare it with what was backed up, pause all Masters.

    ``resume``: they are left as they were, because nothing was evaluated after the backup was made. Interrupted, it
    leaves a directory that no daemon serves, and can be done again. Raises StateLocked where a daemon is at work there,
    JournalError where there is anything already, JournalDamaged, JournalTooNew, DiskFull, StateUnwritable.
    """
    backup, state = backup.absolute(), state.absolute()
    manifest = verify(backup)
    try:
        with _for_restoring(state, backup):
            _require_room_to_restore(manifest, state)
            create(state / RESTORING)
            (state / RESTORING).write_text(f"{backup}\n")
            sync(state)
            _copy_back(backup, state)
            verify(state, manifest)
            if not resume:
                pause_all(state)
            leave_entry(state, by_hand("restore", {"of": str(backup), "made": manifest.made, "resume": resume}))
            _give_to_owner(state)
            sync(state / "journal.db")
            (state / RESTORING).unlink()
            sync(state)
    except (apsw.Error, OSError) as error:
        found = journal_error(error, f"the backup in {backup} cannot be restored to {state}")
        if isinstance(found, DiskFull):
            raise DiskFull(f"no room in {state} for the backup {backup}; free some, and restore it again") from error
        raise found from error
    return manifest


@contextlib.contextmanager
def _for_restoring(state: Path, backup: Path) -> Iterator[None]:
    """Hold a state directory in which there is nothing but what an interrupted restoring has left."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(state))
        except StateLocked as error:
            raise StateLocked(
                f"a daemon is at work in {state}; stop it, move {state} away, and restore again"
            ) from error
        found = sorted(path.name for path in state.iterdir() if path.name not in _NOTHING)
        if found and RESTORING not in found:
            some = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
            raise JournalError(
                f"{state} is not empty ({some}), and nothing in it is written over; move it away first: "
                f"mv {state} {state}.before && taskmaster restore {backup} {state}"
            )
        for path in (state / name for name in found if name != RESTORING):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield


def _require_room_to_restore(manifest: Manifest, state: Path) -> None:
    needed, free = manifest.database + manifest.bytes, _free(state)
    if free < needed + _MARGIN:
        raise DiskFull(
            f"no room in {state}: the backup takes {format_size(needed)}, {format_size(free)} are free; free some, and "
            "restore it again"
        )


def _copy_back(backup: Path, state: Path) -> None:
    source, to = Payloads(backup / "payloads", sync=False), Payloads(state / "payloads", sync=True)
    create(state / "journal.db")
    with open(backup / "journal.db", "rb") as database, open(state / "journal.db", "wb") as copied:
        shutil.copyfileobj(database, copied, 1 << 20)
        copied.flush()
        os.fsync(copied.fileno())
    with contextlib.closing(connect(state / "journal.db", write=False, immutable=True)) as db:
        names = [name for (name,) in db.execute(sql.FILES)]
    for name in names:
        to.write([source.read(name)])
    to.sync()


def _give_to_owner(state: Path) -> None:
    """What root restores belongs to who has the directory."""
    if os.geteuid() == 0:
        owner = state.stat()
        for path in state.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def require_state(state: Path) -> None:
    """Raise JournalError where a daemon is not to work in this folder: it is a backup, or half of one."""
    if (state / RESTORING).exists():
        source = (state / RESTORING).read_text().strip()
        raise JournalError(
            f"a backup was being restored to {state}, which was interrupted; finish that first: taskmaster restore "
            f"{source} {state}"
        )
    if (state / MANIFEST).exists():
        raise JournalError(
            f"{state} is a backup, which would be none any more; restore it to another folder: taskmaster restore "
            f"{state} NEW-STATE"
        )
