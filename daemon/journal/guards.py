"""Before the journal is opened: whether its log and its first page can be trusted.

The log is looked at before SQLite opens it: whole transactions behind a frame that does not check mean that SQLite
would drop them without a word (see `wal`). And the mark says how far the log had come and what was recorded last, so
that a missing end shows (see `mark`).

A daemon that was killed leaves a log that ends in the middle of a transaction: that is no damage. A power cut may leave
one whose last transaction lies on disk in part; and where commits are not synced (``durability = "crash"``) one that
has lost its end: that is what "crash" means, and is remarked, not refused.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import JournalDamaged
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.journal import PAGE_BYTES
from taskmaster.daemon.journal.mark import MARK, Last, Mark, read_mark
from taskmaster.daemon.journal.wal import Log, Words, checksums, lost_header, read_log, taken_pages
from taskmaster.drivers.progress import machine_start

__all__ = ["BEGINNING", "LogCheck", "Verdict", "check_log", "damaged", "judge", "mend_checksum", "sound_pages"]

#: A database of ours begins so: SQLite's name, pages of 4096 bytes, log mode, eight bytes kept for each checksum.
BEGINNING = b"SQLite format 3\0" + PAGE_BYTES.to_bytes(2, "big") + b"\x02\x02\x08"

#: Where the first page of a database says how many there are.
_PAGE_COUNT = slice(28, 32)


@dataclass(frozen=True)
class Verdict:
    """What the log and the mark say of each other."""

    #: what was acknowledged and is gone; empty if nothing
    lost: str = ""
    #: what an operator should be told although it is no damage
    remark: str = ""
    #: the log cannot vouch for the end of the journal: this has to be in the database
    expected: Last | None = None
    #: … unless its run may have been deleted meanwhile
    or_deleted: bool = False


@dataclass(frozen=True)
class LogCheck:
    """What :func:`check_log` found, for the log and for :func:`check_at_start`."""

    remarks: tuple[str, ...] = ()
    expected: Last | None = None
    or_deleted: bool = False


def check_log(folder: Path, durability: str) -> LogCheck:
    """Look at the journal in a state directory before it is opened: to open it writes over what SQLite does not take.

    Raises JournalDamaged where it has lost what was acknowledged, JournalError where its files cannot be read. Takes
    about 0.1 s for a log of 64 MB. Nothing is changed but the header of a log that does not check and can be told from
    the rest.
    """
    remarks = []
    mark = None
    try:
        mark = read_mark(folder)
    except ValueError as error:
        remarks.append(f"{folder / MARK} is of no use, {error}: if the end of the journal is missing it will not show")
    except OSError as error:
        raise journal_error(error, f"{folder / MARK} cannot be read") from error
    try:
        log = read_log(folder / "journal.db-wal")
        if log.bad_header and _mend_header(folder / "journal.db-wal", mark):
            remarks.append(
                f"the journal in {folder}: the header of its log did not check, as after a power cut; all that lies "
                "behind it does, so the header was put back"
            )
            log = read_log(folder / "journal.db-wal")
        flaw = _database_flaw(folder, log, known=mark is not None)
    except OSError as error:
        raise journal_error(error, f"the journal in {folder} cannot be read") from error
    verdict = judge(log, mark, machine_start(), synced=durability == "power")
    if flaw or verdict.lost:
        by_mark = mark is not None and not (flaw or log.bad_header or log.stranded)
        raise damaged(folder, flaw or verdict.lost, by_mark=by_mark)
    if verdict.remark:
        remarks.append(f"the journal in {folder}: {verdict.remark}")
    return LogCheck(tuple(remarks), verdict.expected, verdict.or_deleted)


def _mend_header(path: Path, mark: Mark | None) -> bool:
    header = lost_header(path, mark.generation.checkpoints if mark is not None else 0)
    if header is None:
        return False
    with open(path, "r+b") as file:
        file.write(header)
        file.flush()
        os.fsync(file.fileno())
    return True


def judge(log: Log, mark: Mark | None, boot: int, *, synced: bool) -> Verdict:
    """Whether a log holds what was committed to it.

    ``boot`` is the machine's present start; ``synced`` says whether commits are, if there is no mark to say so.
    """
    power_cut = mark is None or not boot or mark.boot != boot
    synced = synced if mark is None else mark.synced
    proven = synced or not power_cut
    if log.bad_header:
        return _loss("the header of its log does not check, so nothing of the log can be read", proven)
    verdict = Verdict()
    if mark is not None and mark.frames:
        verdict = _judge_by_mark(log, mark, proven=proven, power_cut=power_cut)
    if log.stranded:
        # A power cut may leave the last transaction with its end on disk and its beginning not; but not two of them.
        proven = bool(verdict.lost) or not power_cut or (synced and log.stranded > 1)
        transactions = "a whole transaction lies" if log.stranded == 1 else f"{log.stranded} whole transactions lie"
        return _loss(f"frame {log.bad_frame} of its log does not check, and {transactions} behind it", proven)
    return verdict


def _judge_by_mark(log: Log, mark: Mark, *, proven: bool, power_cut: bool) -> Verdict:
    steps = log.generation.steps_since(mark.generation) if log.generation is not None else None
    if steps is not None:
        if steps < 0:
            return _loss("its log is an older one than was in use last", proven)
        if steps == 0 and log.frames < mark.frames:
            return _loss(f"the last {mark.frames - log.frames} of {mark.frames} frames of its log are missing", proven)
        return Verdict()  # where steps > 0 the marked one was moved into the database, and the log begun anew
    if mark.settling:
        return Verdict()
    what = f"its log is gone, to which {mark.frames} frames had been written"
    if power_cut:  # it may have been deleted in order, and the mark of that not have reached the disk
        return Verdict(expected=mark.last if proven else None, or_deleted=True)
    if mark.last is not None and mark.last_is_all:
        return Verdict(remark=what, expected=mark.last)
    return Verdict(lost=what)


def _loss(what: str, proven: bool) -> Verdict:
    if proven:
        return Verdict(lost=what)
    return Verdict(remark=f"{what}. So it may be after the machine was cut off; nothing that was synced is lost")


def damaged(folder: Path, what: str, *, by_mark: bool = False) -> JournalDamaged:
    """The error that says so, and what to do; ``by_mark``: all that it holds is whole, and less than it was."""
    older = f" (if this is an older copy, put there on purpose, delete {folder / MARK})" if by_mark else ""
    shows = f"'taskmaster check --journal {folder}' shows what can be kept"
    return JournalDamaged(f"the journal in {folder} is damaged: {what}; {shows}{older}")


def _database_flaw(folder: Path, log: Log, *, known: bool) -> str:
    """What is wrong with the first page of the database, or its length; else SQLite looks at the pages itself.

    ``known``: there was a journal before. If not, its making may have been cut short at any point.
    """
    if not known and not log.frames:
        return ""
    path = folder / "journal.db"
    size = 0
    page = b""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        page = file.read(PAGE_BYTES)
        size = os.fstat(file.fileno()).st_size
    if not page:
        return f"its database {path} is gone or empty"
    if len(page) < PAGE_BYTES or not page.startswith(BEGINNING):
        return f"its database {path} does not begin like one"
    if not log.frames and not sound_pages(page).all():  # else the page may lie in the log
        return f"the first page of its database {path} does not check"
    # What SQLite does not find behind a file's end it takes for zeros, and does not ask for their checksum.
    needed, there = log.pages or int.from_bytes(page[_PAGE_COUNT], "big"), size // PAGE_BYTES
    if there < needed and not taken_pages(folder / "journal.db-wal", log).issuperset(range(there + 1, needed + 1)):
        return f"its database {path} was cut short: it has {there} of its {needed} pages"
    return ""


def sound_pages(content: bytes) -> NDArray[np.bool_]:
    """For each page of a database whether it checks: its last eight bytes are SQLite's checksum of the others."""
    words, due = _page_checksums(content)
    return np.asarray((due == words[:, -2:]).all(axis=1))


def mend_checksum(page: bytes) -> bytes:
    """The page with the checksum of what is in it."""
    return page[:-8] + _page_checksums(page)[1].astype("<u4").tobytes()


def _page_checksums(content: bytes) -> tuple[Words, Words]:
    words = np.frombuffer(content, "<u4").reshape(-1, PAGE_BYTES // 4)
    return words, checksums(words, np.zeros((1, 2), np.uint32), skipped=(words.shape[1] - 2, words.shape[1]))
