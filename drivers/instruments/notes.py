"""What a head's worker notes for its guardian, in memory that outlives it: who it is, and how safe its head is.

Like the notes of progress (`drivers.progress`), it is a small mapped file that costs a store and is read by whoever
watches. It says nothing after a power cut, which leaves no processes to watch either.

Beside it lies the last checkpoint of its task, which is synced and outlives a power cut. Room for both is had when the
worker starts: neither needs any when the disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import time
import zlib
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import msgspec

from taskmaster.bus import messages as m
from taskmaster.drivers.progress import machine_start

__all__ = [
    "NOTES",
    "TOKEN",
    "HeadNotes",
    "HeadState",
    "Noted",
    "TokenWriter",
    "are_missing",
    "forget",
    "read_notes",
    "read_token",
    "start_time",
]

#: What the names of a worker's notes for its guardian end in; the rest is that of its progress.
NOTES = ".head"
#: … and those of its last checkpoint.
TOKEN = ".token"

#: the machine's start, process id and start time of the worker, when it last turned (monotonic ns), state, since (ns)
_WORDS = struct.Struct("<6Q")
_NAME = 256
_SIZE = _WORDS.size + _NAME
#: Length of the file of a worker that found no room for it: how safe its head is nobody knows.
_NOT_KEPT = 1

#: Before each checkpoint: its checksum, that of what follows; which one it is, from 1; its length.
_RECORD = struct.Struct("<IQI")
#: Bytes that are had for one of the two in advance. Larger ones need a larger file.
_ROOM = 16 << 10


class HeadState(IntEnum):
    """How safe a head is, as far as its worker knows."""

    #: nothing has been sent to it
    UNTOUCHED = 0
    #: it may be anything
    WORKING = 1
    #: it is being brought to its safe state
    SECURING = 2
    SAFE = 3


@dataclass(frozen=True)
class Noted:
    """What a worker has noted."""

    head: str
    pid: int
    #: when its process started, to tell it from another with the same number
    started: int
    #: when it was last seen to turn, and since when the state is what it is; seconds, monotonic
    alive: float
    state: HeadState
    since: float

    @property
    def runs(self) -> bool:
        """Whether that process still runs."""
        return start_time(self.pid) == self.started


class HeadNotes:
    """The worker's end."""

    def __init__(self, path: Path, head: str) -> None:
        name = head.encode()[: _NAME - 1]
        with path.open("w+b") as file:
            try:  # to be killed (SIGBUS) is what comes of writing through a map where the disk has no room
                os.posix_fallocate(file.fileno(), 0, _SIZE)
                self._map = mmap.mmap(file.fileno(), _SIZE)
            except OSError:
                file.truncate(_NOT_KEPT)
                self._map = mmap.mmap(-1, _SIZE)
        self._map[_WORDS.size : _WORDS.size + len(name)] = name
        self._words = memoryview(self._map)[: _WORDS.size].cast("Q")
        pid = os.getpid()
        self._words[1], self._words[2] = pid, start_time(pid)
        self.turn()
        self._words[0] = machine_start()  # last: only now does the rest count

    def turn(self) -> None:
        """It is alive."""
        self._words[3] = time.monotonic_ns()

    @property
    def state(self) -> HeadState:
        return HeadState(self._words[4])

    @state.setter
    def state(self, state: HeadState) -> None:
        if state != self._words[4]:
            self._words[5] = time.monotonic_ns()
            self._words[4] = state


def read_notes(path: Path) -> Noted | None:
    """What was noted in a file; None where there is nothing that counts."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) != _SIZE:
        return None
    boot, pid, started, alive, state, since = _WORDS.unpack_from(data)
    if not boot or boot != machine_start() or state not in set(HeadState):
        return None
    head = data[_WORDS.size :].rstrip(b"\0").decode(errors="replace")
    return Noted(head, pid, started, alive / 1e9, HeadState(state), since / 1e9)


def are_missing(path: Path) -> bool:
    """Whether a worker found no room to note anything."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size == _NOT_KEPT
    return False


class TokenWriter:
    """Keeps the last checkpoint of a worker on disk.

    There are two places in the file, written to by turns: one that was not written to its end is noticed, and the one
    before it is still there.
    """

    def __init__(self, progress: Path) -> None:
        """``progress`` is where the worker notes that."""
        self._path = progress.with_name(progress.name + TOKEN)
        self._descriptor = -1
        #: bytes in each of the places
        self._room = 0
        self._kept = 0
        with contextlib.suppress(OSError):  # tried again, and said, when there is something to keep
            self._make(_ROOM)

    def keep(self, checkpoint: m.Checkpoint) -> None:
        """On disk when this returns. Raises OSError where it cannot be kept; the one before is then."""
        data = msgspec.msgpack.encode(checkpoint)
        numbered = _RECORD.pack(0, self._kept + 1, len(data))[4:] + data
        record = zlib.crc32(numbered).to_bytes(4, "little") + numbered
        if len(record) > self._room:
            self._make(max(_ROOM, 1 << len(record).bit_length()), record)
        else:
            self._write(self._descriptor, record)
            os.fdatasync(self._descriptor)
        self._kept += 1

    def _make(self, room: int, record: bytes = b"") -> None:
        """A file with two places of so many bytes each, in the stead of the one that there was."""
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        before = self._descriptor, self._room
        try:
            os.posix_fallocate(descriptor, 0, 2 * room)
            self._room = room
            self._write(descriptor, record)
            os.fsync(descriptor)
            fresh.replace(self._path)
            _sync(self._path.parent)
        except OSError:
            self._room = before[1]
            os.close(descriptor)
            fresh.unlink(missing_ok=True)
            raise
        self._descriptor = descriptor
        if before[0] >= 0:
            os.close(before[0])

    def _write(self, descriptor: int, record: bytes) -> None:
        written = os.pwrite(descriptor, record, (self._kept + 1) % 2 * self._room)
        if written < len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_token(progress: Path) -> m.Checkpoint | None:
    """The last checkpoint that a worker has kept; None if there is none."""
    try:
        data = progress.with_name(progress.name + TOKEN).read_bytes()
    except FileNotFoundError:
        return None
    room = len(data) // 2
    records = [record for start in (0, room) if (record := _record(data[start : start + room])) is not None]
    try:
        return msgspec.msgpack.decode(max(records)[1], type=m.Checkpoint) if records else None
    except msgspec.DecodeError:
        return None


def _record(data: bytes) -> tuple[int, bytes] | None:
    """Which one is in a place, and the checkpoint; None where none was written to its end."""
    if len(data) < _RECORD.size:
        return None
    checksum, number, length = _RECORD.unpack_from(data)
    end = _RECORD.size + length
    if not number or end > len(data) or zlib.crc32(data[4:end]) != checksum:
        return None
    return number, data[_RECORD.size : end]


def forget(progress: Path) -> None:
    """Remove what a worker has noted for its guardian."""
    for ending in (NOTES, TOKEN):
        progress.with_name(progress.name + ending).unlink(missing_ok=True)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since the machine did; 0 where there is none, or only its remains."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state == "Z" else int(fields[18])
