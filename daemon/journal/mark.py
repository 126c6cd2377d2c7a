"""The high-water mark: how far the journal had come, in a small file of its own that is never synced.

SQLite drops, without a word, what lies in its log behind a frame that does not check, and begins a new log where there
is none: a damaged journal looks like a shorter history. The mark says how far the log had come and what was recorded
last, so that a journal that comes back shorter is found out (see `check`).

It is written after each commit, so it may lag behind the journal but never leads it, not even after a power cut, if
every commit was synced. If commits were not, a power cut may take the end of the log and leave the mark; so that it is
not taken for proof then, it notes which start of the machine it was written in, and whether commits were synced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskmaster.daemon.effects import BlockAppended, EventAppended, Record, RunDeleted
from taskmaster.daemon.journal.wal import GENERATION, GENERATION_AT, Generation
from taskmaster.drivers.progress import machine_start

__all__ = ["MARK", "Last", "Mark", "MarkFile", "read_mark"]

#: The file's name.
MARK = "mark"

#: Format and flags; the machine's start; checkpoints, salts and frames of the log; run and number recorded last.
_FORMAT = struct.Struct("<4sIQ4IQQ")
_CHECKSUM = struct.Struct("<I")
_BYTES = _FORMAT.size + _CHECKSUM.size
_NAME = b"TMm1"
_SYNCED, _SETTLING, _LAST_IS_EVENT, _LAST_IS_ALL = 1, 2, 4, 8


@dataclass(frozen=True)
class Last:
    """What was recorded last: the run had ``number`` of ``what``, ``"events"`` or ``"tasks"``."""

    run: int
    what: str
    number: int


@dataclass(frozen=True)
class Mark:
    """So far the journal had come."""

    #: the machine's start, see :func:`~taskmaster.drivers.progress.machine_start`
    boot: int
    #: every commit was synced
    synced: bool
    #: the log was about to be moved into the database as a whole, and to be deleted
    settling: bool
    generation: Generation
    #: frames that had been committed to the log of this generation
    frames: int
    last: Last | None
    #: nothing was committed after ``last``
    last_is_all: bool


def read_mark(folder: Path) -> Mark | None:
    """The mark in a state directory, None where there is none. Raises ValueError where it cannot be trusted."""
    try:
        data = (folder / MARK).read_bytes()
    except FileNotFoundError:
        return None
    if not any(data):
        return None
    if len(data) != _BYTES or _CHECKSUM.unpack_from(data, _FORMAT.size)[0] != zlib.crc32(data[: _FORMAT.size]):
        raise ValueError("it has changed since it was written")
    name, flags, boot, checkpoints, salt1, salt2, frames, run, number = _FORMAT.unpack_from(data)
    if name != _NAME:
        raise ValueError("it was written by another release")
    return Mark(
        boot=boot,
        synced=bool(flags & _SYNCED),
        settling=bool(flags & _SETTLING),
        generation=Generation(checkpoints, (salt1, salt2)),
        frames=frames,
        last=Last(run, "events" if flags & _LAST_IS_EVENT else "tasks", number) if run else None,
        last_is_all=bool(flags & _LAST_IS_ALL),
    )


class MarkFile:
    """The mark of a state directory, for the one who writes its journal; ``synced``: every commit is."""

    def __init__(self, folder: Path, *, synced: bool = False) -> None:
        self._path = folder / MARK
        self._log_path = f"{folder / 'journal.db'}-wal"
        self._log = -1
        self._boot = machine_start()
        self._synced = _SYNCED if synced else 0
        self._generation = (0, 0, 0)
        self._frames = 0
        self._run = self._number = self._is_event = 0
        self._take_up(folder)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._descriptor).st_size != _BYTES:  # take the room now: a full disk must not stop it later
            os.ftruncate(self._descriptor, 0)
            with _no_room_tolerated():
                os.pwrite(self._descriptor, bytes(_BYTES), 0)

    def _take_up(self, folder: Path) -> None:
        """Go on from what was marked in this start of the machine; a mark from before it may be ahead by now."""
        with contextlib.suppress(ValueError):
            mark = read_mark(folder)
            if mark is not None and mark.boot == self._boot and mark.last is not None:
                self._run, self._number = mark.last.run, mark.last.number
                self._is_event = _LAST_IS_EVENT if mark.last.what == "events" else 0

    def committed(self, frames: int, records: Sequence[Record] = ()) -> None:
        """A commit of ``records`` has brought the log to ``frames`` frames."""
        if self._log < 0:
            self._log = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
        # SQLite does not say when it begins a new generation, and looking costs a microsecond.
        self._generation = GENERATION.unpack(os.pread(self._log, GENERATION.size, GENERATION_AT))
        self._frames = frames
        with _no_room_tolerated():
            self._write(_LAST_IS_ALL if self._note_last(records) else 0)

    def settling(self) -> None:
        """The log is about to be emptied into the database and deleted."""
        try:
            self._write(_SETTLING)
        except OSError:
            self._path.unlink(missing_ok=True)  # better no mark than one that asks for a log that is gone

    def close(self) -> None:
        """Leave it as it is."""
        os.close(self._descriptor)
        if self._log >= 0:
            os.close(self._log)

    def _write(self, flags: int) -> None:
        data = _FORMAT.pack(
            _NAME,
            flags | self._synced | self._is_event,
            self._boot,
            *self._generation,
            self._frames,
            self._run,
            self._number,
        )
        os.pwrite(self._descriptor, data + _CHECKSUM.pack(zlib.crc32(data)), 0)

    def _note_last(self, records: Sequence[Record]) -> bool:
        """Keep the last block or event; False if there is none among ``records``."""
        deleted: tuple[int, ...] = ()
        for record in reversed(records):
            if type(record) is EventAppended:
                if record.run not in deleted:
                    self._run, self._number = record.run, record.head.seq + record.head.n
                    self._is_event = _LAST_IS_EVENT
                    return True
            elif type(record) is BlockAppended:
                if record.run not in deleted:
                    self._run, self._number, self._is_event = record.run, record.first + record.n, 0
                    return True
            elif type(record) is RunDeleted:
                deleted += (record.run,)
                if record.run == self._run:
                    self._run = self._number = self._is_event = 0
        return False


@contextlib.contextmanager
def _no_room_tolerated() -> Iterator[None]:
    """Where the disk is full the mark stays behind, as it may."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
