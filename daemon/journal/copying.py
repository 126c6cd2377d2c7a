"""A copy of a journal that is whole, made beside the daemon that works on it: for backups, and to look at elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import apsw

from taskmaster.bus.errors import JournalDamaged, JournalError
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.audit import by_hand, leave_entry
from taskmaster.daemon.journal.checksums import connect, create
from taskmaster.daemon.journal.failures import journal_error, transaction
from taskmaster.daemon.journal.inspection import add_checksums
from taskmaster.daemon.journal.payloads import Payloads
from taskmaster.daemon.journal.report import JournalReport, report
from taskmaster.daemon.journal.schema import require_known

__all__ = ["copy", "gather", "pause_all", "sync"]

#: A run that is deleted meanwhile takes payload files along that the copy of the database names: then once more.
_ATTEMPTS = 5

T = TypeVar("T")


def copy(folder: Path, into: Path) -> JournalReport:
    """Copy the journal in ``folder``, as it is at one moment, to a new state directory, and report on that.

    A daemon at work on it is not disturbed. In the copy every Master is paused: what was evaluated after it was made
    would be evaluated again. Raises JournalError where ``into`` is in use, or anything cannot be read or written.
    """
    try:
        if into.exists() and any(into.iterdir()):
            raise JournalError(f"{into} is in use; name a new folder for the copy of the journal in {folder}")
        require_journal(folder)
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        gather(folder, into, lambda db: None)
        pause_all(into)
        leave_entry(into, by_hand("copy", {"of": str(folder.absolute())}))
    except (apsw.Error, OSError) as error:
        raise journal_error(error, f"the journal in {folder} cannot be copied to {into}") from error
    return report(into)


def require_journal(folder: Path) -> None:
    """Raise JournalError where there is none, or only a newer release knows how to read it."""
    path = folder / "journal.db"
    if not path.exists():
        raise JournalError(f"there is no journal in {folder}; name the state directory of a daemon")
    with contextlib.closing(connect(path, write=False)) as db:
        require_known(db, path)


class _Gone(Exception):
    """A payload file was there when the database was read."""


def gather(folder: Path, into: Path, look: Callable[[apsw.Connection], T], *, link: bool = False) -> T:
    """Copy database and payload files to the folder ``into``, which is there, and sync them.

    Returns what ``look`` finds in the source as it is copied: it is given a connection for which nothing changes while
    it reads. ``link``: payload files, which nobody ever writes to again, are not copied but linked, where that can be.
    Raises OSError, apsw.Error, JournalError.
    """
    source, to = Payloads(folder / "payloads", sync=False), Payloads(into / "payloads", sync=True)
    create(into / "journal.db")
    there: set[str] = set()
    # Most files before the database, which takes a while: so few are left to be deleted behind the moment it is of.
    with contextlib.suppress(_Gone), contextlib.closing(connect(folder / "journal.db", write=False)) as db:
        _bring(source, to, [name for (name,) in db.execute(sql.FILES)], there, link=link)
    for attempt in range(_ATTEMPTS):
        with _one_moment(folder / "journal.db") as db:
            _copy_database(db, into / "journal.db")
            seen = look(db)
            names = [name for (name,) in db.execute(sql.FILES)]
        try:
            _bring(source, to, names, there, link=link)
            break
        except _Gone as gone:
            if attempt == _ATTEMPTS - 1:
                raise JournalDamaged(f"payload file {gone} is missing") from None
    to.remove(there.difference(names))
    to.sync()
    sync(into / "journal.db")
    sync(into)
    return seen


@contextlib.contextmanager
def _one_moment(path: Path) -> Iterator[apsw.Connection]:
    """The database as it is now, whatever is committed meanwhile; as long as it is read, its log cannot begin anew."""
    with contextlib.closing(connect(path, write=False)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018 - it begins when it is first read
        yield db


def _copy_database(source: apsw.Connection, to: Path) -> None:
    # All pages in one step, of which the daemon's commits meanwhile change nothing. Each has been checked when it was
    # read, as part of the database or of its log; the checksums of those in the log have to be made.
    with contextlib.closing(apsw.Connection(str(to))) as copied, copied.backup("main", source, "main") as pages:
        pages.step()
    add_checksums(to)


def _bring(source: Payloads, to: Payloads, names: Iterable[str], there: set[str], *, link: bool) -> None:
    for name in names:
        if name in there:
            continue
        try:
            if not (link and _linked(source.path(name), to.path(name))):
                to.write([source.read(name)])
        except (FileNotFoundError, JournalDamaged):
            if source.path(name).exists():
                raise
            raise _Gone(source.path(name)) from None
        there.add(name)


def _linked(path: Path, to: Path) -> bool:
    """Give a file a second name; False where the file system does not."""
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.link(path, to)
    except FileExistsError:
        return True
    except FileNotFoundError:
        raise
    except OSError:
        return False
    sync(to.parent)
    return True


def pause_all(folder: Path) -> None:
    """Have every Master of a journal that nobody works on paused. Raises apsw.Error."""
    with contextlib.closing(connect(folder / "journal.db", write=True)) as db, transaction(db):
        masters = {name for (name,) in db.execute("SELECT master FROM runs UNION SELECT master FROM masters")}
        for master in sorted(masters):
            db.execute(sql.SET_MASTER, (master, True))


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
