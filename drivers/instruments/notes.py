"""What a head's worker notes for its guardian, in memory that outlives it: who it is, and how safe its head is.

Like the notes of progress (`drivers.progress`), it is a small mapped file that costs a store and is read by whoever
watches. It says nothing after a power cut, which leaves no processes to watch either.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import msgspec

from taskmaster.bus import messages as m
from taskmaster.drivers.progress import machine_start

__all__ = [
    "NOTES",
    "HeadNotes",
    "HeadState",
    "Noted",
    "forget",
    "read_notes",
    "read_token",
    "start_time",
    "write_token",
]

#: What the names of a worker's notes for its guardian end in; the rest is that of its progress.
NOTES = ".head"
_TOKEN = ".token"

#: the machine's start, process id and start time of the worker, when it last turned (monotonic ns), state, since (ns)
_WORDS = struct.Struct("<6Q")
_NAME = 256
_SIZE = _WORDS.size + _NAME


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
        with path.open("wb") as file:
            file.truncate(_SIZE)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
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


def write_token(progress: Path, checkpoint: m.Checkpoint) -> None:
    """Keep the last checkpoint of a worker, on disk when this returns."""
    path = progress.with_name(progress.name + _TOKEN)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.msgpack.encode(checkpoint))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_token(progress: Path) -> m.Checkpoint | None:
    """What was kept last; None if nothing was."""
    try:
        return msgspec.msgpack.decode(progress.with_name(progress.name + _TOKEN).read_bytes(), type=m.Checkpoint)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def forget(progress: Path) -> None:
    """Remove what a worker has noted for its guardian."""
    for ending in (NOTES, _TOKEN):
        progress.with_name(progress.name + ending).unlink(missing_ok=True)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since the machine did; 0 where there is none, or only its remains."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state == "Z" else int(fields[18])
