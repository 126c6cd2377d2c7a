"""Opens a journal of which it is not known whether it is whole, without changing or disturbing anything.

Where no daemon is at work, database and log are copied and the copy is read, mended as far as that helps to read it;
payload files are read where they lie. Where there is one, its journal is read beside it as any reader may; its log it
has looked at itself when it started.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import apsw

from taskmaster.bus.errors import DiskFull, JournalDamaged, JournalError
from taskmaster.daemon.journal.checksums import CHECKSUM_BYTES, connect
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.guards import BEGINNING, Verdict, judge, mend_checksum, sound_pages
from taskmaster.daemon.journal.journal import PAGE_BYTES
from taskmaster.daemon.journal.mark import MARK, Last, read_mark
from taskmaster.daemon.journal.payloads import Payloads
from taskmaster.daemon.journal.scan import Source
from taskmaster.daemon.journal.schema import read_as_newest, require_known
from taskmaster.daemon.journal.wal import read_log, taken_pages
from taskmaster.drivers.progress import machine_start

__all__ = ["Inspected", "add_checksums", "daemon_kept_away", "inspected"]

#: Pages of the database looked at at a time.
_PAGES_AT_ONCE = 4096
#: Where the first page says how many there are; and a number that none of ours has.
_PAGES_AT = 28
_MOST_PAGES = 1 << 28


@dataclass
class Inspected:
    """A journal opened by :func:`inspected`, and what that has shown."""

    #: None where its database cannot be read at all
    source: Source | None = None
    size: int = 0
    daemon: int = 0
    findings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    #: what the mark says was recorded last, and what follows from that
    last: Last | None = None
    verdict: Verdict = field(default_factory=Verdict)


@contextlib.contextmanager
def inspected(folder: Path) -> Iterator[Inspected]:
    """Open a journal for looking at it, whatever its condition. Raises JournalError where there is none."""
    path = folder / "journal.db"
    found = Inspected()
    try:
        if not path.exists() and not (folder / MARK).exists():
            raise JournalError(f"there is no journal in {folder}; name the state directory of a daemon")
        found.size = sum(part.stat().st_size for part in (path, _log_of(path)) if part.exists())
        with contextlib.ExitStack() as stack:
            found.daemon = stack.enter_context(daemon_kept_away(folder))
            if not found.daemon:
                scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskmaster-check-")))
                _judge_log(folder, found)
                path = _copied(path, scratch)
                _mend(path, found)
            found.source = _opened(path, folder, found, stack)
            yield found
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room for a copy of the journal in {tempfile.gettempdir()}; set TMPDIR") from error
        raise journal_error(error, f"the journal in {folder} cannot be read") from error


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


@contextlib.contextmanager
def daemon_kept_away(folder: Path) -> Iterator[int]:
    """The process of the daemon that works on ``folder``; 0 if none does, and then none can start meanwhile."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield 0  # a copy of a journal, which no daemon has ever worked on
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            yield int(text) if text.isdigit() else -1
        else:
            yield 0
    finally:
        os.close(descriptor)


def _judge_log(folder: Path, found: Inspected) -> None:
    try:
        mark = read_mark(folder)
    except ValueError as error:
        mark = None
        found.remarks.append(f"the mark {folder / MARK} is of no use, {error}")
    verdict = judge(read_log(_log_of(folder / "journal.db")), mark, machine_start(), synced=True)
    found.last = mark.last if mark is not None else None
    found.verdict = verdict
    if verdict.lost:
        found.findings.append(verdict.lost)
    if verdict.remark:
        found.remarks.append(verdict.remark)


def _copied(path: Path, scratch: Path) -> Path:
    copy = scratch / path.name
    for part, to in ((path, copy), (_log_of(path), _log_of(copy))):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(part, to)
    return copy


def _mend(path: Path, found: Inspected) -> None:
    """Bring a copy to where as much of it as possible can be read: its first page trusted, its log moved into it."""
    if not path.exists() or not path.stat().st_size:
        found.findings.append("its database is gone, or empty")
        return
    with open(path, "r+b") as file:
        pages, missing, in_log = _missing_pages(file, _log_of(path))
        _mend_first_page(file, found, in_log=in_log)
        if missing:
            found.findings.append(f"{missing} of {pages} pages of its database are missing")
            file.truncate(max(pages * PAGE_BYTES, path.stat().st_size))  # of one too short SQLite reads nothing
    try:
        with contextlib.closing(connect(path, write=True)) as db:
            db.execute("PRAGMA journal_mode").get  # noqa: B018 - it looks for its log when it is first used
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.Error as error:
        found.findings.append(f"its log cannot be moved into its database: {error}")
    bad = _unsound_pages(path)
    if bad:
        numbers = ", ".join(map(str, bad[:10])) + (", …" if len(bad) > 10 else "")
        found.findings.append(f"{len(bad)} pages of its database do not check: {numbers}")
    if bad and found.verdict.expected is not None:  # and here is why: read them all the same
        found.findings.append("… as another program has moved its log into it; whether they are whole is not known")
        _mend_pages(path, bad)
    elif bad and _never_summed(path, bad):
        found.findings.append(
            "… as another program has made this copy of it (SQLite's own backup, say); --salvage makes it one of ours"
        )
        _mend_pages(path, bad)


def _never_summed(path: Path, numbers: Sequence[int]) -> bool:
    """Whether none of these pages ever had a checksum, but for the first one, in which a copy counts as a change.

    Pages get theirs on the way from the log to the database; a copy that was read through the log lacks them.
    """
    with open(path, "rb") as file:
        return all(
            number == 1 or not any(os.pread(file.fileno(), CHECKSUM_BYTES, number * PAGE_BYTES - CHECKSUM_BYTES))
            for number in numbers
        )


def add_checksums(path: Path) -> None:
    """Give the pages of a database the checksums that they lack."""
    _mend_pages(path, _unsound_pages(path))


def _mend_pages(path: Path, numbers: Sequence[int]) -> None:
    with open(path, "r+b") as file:
        for number in numbers:
            page = os.pread(file.fileno(), PAGE_BYTES, (number - 1) * PAGE_BYTES)
            os.pwrite(file.fileno(), mend_checksum(page), (number - 1) * PAGE_BYTES)


def _mend_first_page(file: BinaryIO, found: Inspected, *, in_log: bool) -> None:
    """Without it nothing could be read; and what it leads to is checked when it is read."""
    file.seek(0)
    page = file.read(PAGE_BYTES)
    if not page.startswith(BEGINNING):
        found.findings.append("its database does not begin like one")
        page = BEGINNING + page[len(BEGINNING) :]
    if not in_log and len(page) == PAGE_BYTES and not sound_pages(page).all():
        found.findings.append("the first page of its database does not check")
        page = mend_checksum(page)
    file.seek(0)
    file.write(page)


def _missing_pages(file: BinaryIO, log_path: Path) -> tuple[int, int, bool]:
    """How many pages a database has, how many are neither in its ``file`` nor in its log, and whether the first one is
    in its log."""
    have = os.fstat(file.fileno()).st_size // PAGE_BYTES
    file.seek(_PAGES_AT)
    log = read_log(log_path)
    in_log = taken_pages(log_path, log)
    pages = log.pages or int.from_bytes(file.read(4), "big")
    if pages > _MOST_PAGES:  # so this number is damaged itself
        pages = have
    return pages, sum(page not in in_log for page in range(have + 1, pages + 1)), 1 in in_log


def _unsound_pages(path: Path) -> list[int]:
    bad: list[int] = []
    first = 1
    with open(path, "rb") as file:
        while content := file.read(_PAGES_AT_ONCE * PAGE_BYTES):
            content = content[: len(content) // PAGE_BYTES * PAGE_BYTES]
            if not content:
                break
            sound = sound_pages(content)
            bad += [first + int(k) for k in (~sound).nonzero()[0]]
            first += len(sound)
    return bad


def _opened(path: Path, folder: Path, found: Inspected, stack: contextlib.ExitStack) -> Source | None:
    """The database at ``path`` with the payload files in ``folder``; None, and a finding, where it cannot be read."""
    if not path.exists():
        return None
    try:
        db = connect(path, write=False)
        stack.callback(db.close)
        require_known(db, folder / "journal.db")
        read_as_newest(db)
        return Source(db, Payloads(folder / "payloads", sync=False))
    except (apsw.Error, JournalDamaged) as error:
        found.findings.append(f"its database cannot be read: {error}")
        return None
