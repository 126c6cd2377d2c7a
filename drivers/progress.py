"""How far a worker has come, in memory that outlives it.

A worker notes the lease it is in and the tasks it has started in a small mapped file, at the cost of one store a task.
Whoever watches the worker reads there which task was being evaluated when it died or hung: only that one, and what had
started before without being reported, has used up an attempt. A started task is never taken for one that was not: the
note is made before the first byte goes out.

The file is not synced. After a power cut it may say anything, so it carries the identity of the machine's start it was
written in, and counts for nothing in another.

The worker also notes there what the daemon asks of its host: a host elsewhere hears nothing of that itself.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from taskmaster.bus.messages import LeaseId

__all__ = ["STARTED", "Position", "ProgressReader", "ProgressWriter", "Terms", "leave_last_words", "machine_start"]

#: boot identity, slots, seconds of the time-out (0: none) and between signs of life; then for each slot: epoch and
#: number of its lease, run and first task of that, how many of its tasks have started, whether it is in one of them,
#: which attempt at them it is
_HEAD = 4
_CELL = 7
#: where in a cell the count of started tasks lies
STARTED = 4
_BUSY = 5
_ATTEMPT = 6
_WORD = 8
#: it is being entered: what its cell says is of two leases; whoever is busy has an odd number there
_CHANGING = 2
#: where in the file the terms lie
_TERMS = 2 * _WORD
#: Length of the file of a worker that found no room for it: where it is nobody knows.
_NOT_KEPT = 1


@dataclass(frozen=True, slots=True)
class Position:
    """Where one slot was: in a lease of tasks ``first …`` of a run, of which ``started`` had started.

    ``attempt`` counts the evaluations of these tasks, from 1, as the lease does. ``busy``: it had not come to the end
    of the lease. ``beat`` changes where something of what has started has ended.
    """

    lease: LeaseId
    run: int
    first: int
    started: int
    attempt: int
    busy: bool = True
    beat: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What the daemon asks of a worker's host."""

    #: longest time in seconds that one evaluation may take; None: any
    timeout: float | None
    #: seconds between two signs of life
    heartbeat: float


def leave_last_words(progress: Path, kind: str, reason: str) -> None:
    """Note beside its progress why a worker ends by itself, for its host to tell."""
    with contextlib.suppress(OSError):  # then its host says that it has ended, and not why
        _last_words(progress).write_text(json.dumps([kind, reason]), encoding="utf-8")


def _last_words(progress: Path) -> Path:
    return progress.with_name(f".{progress.name}.last")


def machine_start() -> int:
    """What tells one start of this machine from another."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return 0
    return int(text.replace("-", "")[:16], 16)


class ProgressWriter:
    """The worker's end. ``cells[slot]`` is written by that slot alone."""

    def __init__(self, path: Path, slots: int) -> None:
        size = (_HEAD + _CELL * slots) * _WORD
        # For this user alone, however the evaluations want their files.
        with open(path, "w+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            try:  # to be killed (SIGBUS) is what comes of writing through a map where the disk has no room
                os.posix_fallocate(file.fileno(), 0, size)
                self._map = mmap.mmap(file.fileno(), 0)
            except OSError:
                file.truncate(_NOT_KEPT)
                self._map = mmap.mmap(-1, size)
        words = memoryview(self._map).cast("Q")
        words[0], words[1] = machine_start(), slots
        self.cells = [words[_HEAD + _CELL * k : _HEAD + _CELL * (k + 1)] for k in range(slots)]

    def agree(self, terms: Terms) -> None:
        """Note what the daemon asks of the host from now on."""
        struct.pack_into("<2d", self._map, _TERMS, terms.timeout or 0.0, terms.heartbeat)

    def begin(self, slot: int, lease: LeaseId, run: int, first: int, attempt: int) -> None:
        """Enter a lease."""
        cell = self.cells[slot]
        # The outcome of the former lease may still be on its way: killed amid this, a worker must not seem to have
        # begun less of it than it did.
        cell[_BUSY] = _CHANGING
        cell[STARTED] = 0
        cell[2], cell[3], cell[_ATTEMPT] = run, first, attempt
        cell[0], cell[1] = lease
        cell[_BUSY] = 1

    def wait(self, slot: int, is_waiting: bool) -> None:
        """In the lease that it is in, nothing is being evaluated: it is waiting for its turn; or has it."""
        self.cells[slot][_BUSY] = 0 if is_waiting else 1

    def beat(self, slot: int) -> None:
        """Something of the lease that it is in has ended, and what else has started of it is being evaluated still."""
        self.cells[slot][_BUSY] += 2

    def end(self, slot: int) -> None:
        """Leave it: nothing is being evaluated until the next begins."""
        self.cells[slot][_BUSY] = 0

    def is_in(self, slot: int, lease: LeaseId) -> bool:
        """Whether this is the lease that was entered last."""
        cell = self.cells[slot]
        return (cell[0], cell[1]) == lease


class ProgressReader:
    """The watcher's end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def positions(self) -> list[Position] | None:
        """Where each slot was that has begun a lease; None where that cannot be known.

        It cannot where there is no such file, or one that does not bear this start of the machine: a worker makes it
        before it is given any task, but nothing of it is synced, so after a power cut it may be empty, or full of
        zeros, whatever had been begun.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        if len(data) < _HEAD * _WORD:
            return None
        boot, slots = struct.unpack_from("<QQ", data)
        if not boot or boot != machine_start() or len(data) != (_HEAD + _CELL * slots) * _WORD:
            return None
        cells = [struct.unpack_from(f"<{_CELL}Q", data, (_HEAD + _CELL * k) * _WORD) for k in range(slots)]
        if any(cell[_BUSY] == _CHANGING for cell in cells):
            return None
        return [
            Position((epoch, number), run, first, started, attempt, bool(busy), busy >> 1)
            for epoch, number, run, first, started, busy, attempt in cells
            if number
        ]

    def terms(self) -> Terms | None:
        """What the daemon asks of the host; None as long as the worker has not said, or cannot."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        if len(data) < _HEAD * _WORD:
            return None
        timeout, heartbeat = struct.unpack_from("<2d", data, _TERMS)
        return Terms(timeout or None, heartbeat) if heartbeat > 0 else None

    def last_words(self) -> tuple[str, str] | None:
        """Of what kind its end was and why, if it has said so."""
        try:
            kind, reason = json.loads(_last_words(self._path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return str(kind), str(reason)

    def remove(self) -> None:
        """Forget the worker."""
        for path in (self._path, _last_words(self._path)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
