"""A copy of a journal that is whole, made beside the daemon that works on it: for backups, and to look at elsewhere."""

from __future__ import annotations

import contextlib
from pathlib import Path

import apsw

from taskmaster.bus.errors import JournalError
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.checksums import connect
from taskmaster.daemon.journal.failures import journal_error, transaction
from taskmaster.daemon.journal.inspection import add_checksums
from taskmaster.daemon.journal.payloads import Payloads
from taskmaster.daemon.journal.report import JournalReport, report

__all__ = ["copy"]

#: A run that is deleted meanwhile takes payload files along that the copy of the database names: then once more.
_ATTEMPTS = 5


def copy(folder: Path, into: Path) -> JournalReport:
    """Copy the journal in ``folder``, as it is at one moment, to a new state directory, and report on that.

    A daemon at work on it is not disturbed. In the copy every Master is paused: what was evaluated after it was made
    would be evaluated again. Raises JournalError where ``into`` is in use, or anything cannot be read or written.
    """
    try:
        if into.exists() and any(into.iterdir()):
            raise JournalError(f"{into} is in use; name a new folder for the copy of the journal in {folder}")
        if not (folder / "journal.db").exists():
            raise JournalError(f"there is no journal in {folder}; name the state directory of a daemon")
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = Payloads(folder / "payloads", sync=False)
        for attempt in range(_ATTEMPTS):
            names = _copy_database(folder / "journal.db", into / "journal.db")
            try:
                _copy_payloads(source, Payloads(into / "payloads", sync=True), names)
                break
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise
    except (apsw.Error, OSError) as error:
        raise journal_error(error, f"the journal in {folder} cannot be copied to {into}") from error
    return report(into)


def _copy_database(path: Path, to: Path) -> list[str]:
    """Returns the names of the payload files that the copy needs."""
    # All pages in one step, of which the daemon's commits meanwhile change nothing. Each has been checked when it was
    # read, as part of the database or of its log; the checksums of those in the log have to be made.
    with (
        contextlib.closing(apsw.Connection(str(to))) as copied,
        contextlib.closing(connect(path, write=False)) as source,
        copied.backup("main", source, "main") as pages,
    ):
        pages.step()
    add_checksums(to)
    with contextlib.closing(connect(to, write=True)) as db:
        _pause(db)
        return [name for (name,) in db.execute(sql.FILES)]


def _pause(db: apsw.Connection) -> None:
    with transaction(db):
        masters = {name for (name,) in db.execute("SELECT master FROM runs UNION SELECT master FROM masters")}
        for master in sorted(masters):
            db.execute(sql.SET_MASTER, (master, True))


def _copy_payloads(source: Payloads, to: Payloads, names: list[str]) -> None:
    for name in names:
        to.write([source.read(name)])
    to.sync()
