"""Large frames between processes of one machine: in memory that both have, and not through a socket.

Whoever has something large to send writes it into a file without a name (memfd_create(2)) that nobody but itself can
write to (F_SEAL_FUTURE_WRITE) nor make shorter, and sends its own number of the descriptor. The receiver opens that by
``/proc/PID/fd/N``, and maps it. So the kernel does what is hard: the memory is there as long as either has it, and gone
when both have let go of it, however they ended. There is no name that could be left behind, be taken by somebody else,
or be swept away too early.

A segment is used again when its receiver has said that nobody there reads it any more (:class:`Taken`): to find and
clear new pages takes twice as long as to fill those that are there. What was sent twice, or to somebody who is gone,
never is.

A descriptor is used again when it was closed: so the number of the file goes with it. Only files of one's own user are
taken; whether two processes can (containers, namespaces) they find out by trying, with a file that proves it (see
:mod:`taskmaster.daemon.handover` and :mod:`taskmaster.drivers.sharing`).

Who has made a segment can write to it still, by the map that it had before it was sealed: to use it again takes that.
So the sender is trusted to leave it alone until it is returned. A process of the same user that is not to be trusted
could as well change the daemon's files.

Rejected: names in ``/dev/shm`` (POSIX shared memory, `multiprocessing.shared_memory`), which outlive a SIGKILL of both
sides; and passing descriptors by SCM_RIGHTS, which takes a socket of its own beside ZeroMQ's, to be kept in step.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import Buffer
from taskmaster.bus.wire import Segment

__all__ = ["MOST_SEGMENTS", "SEGMENT_BYTES", "Segments", "Taken"]

#: Frames that have so many bytes together are worth a segment: to make, map and let go of one takes some 0.1 ms.
SEGMENT_BYTES = 1 << 20
#: One process has so many of another at most, and as many are kept to be used again: each takes a descriptor or two at
#: either end, of which a process may have no more than 1024, and evaluations want some.
MOST_SEGMENTS = 64
#: Where a frame begins in a segment: numbers are read faster where they are aligned.
_ALIGNED = 64
#: Linux 5.1; `fcntl` has no name for it.
_F_SEAL_FUTURE_WRITE = 0x10
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL
#: Sizes of segments are multiples of a page, and so many to a power of two.
_PAGE, _STEPS = 4096, 4
#: Bytes of segments that are kept to be used again, and for how long without being.
_KEPT_BYTES = 1 << 30
_KEPT_SECONDS = 10.0


@dataclass(slots=True)
class _Memory:
    """A file without a name, and where it is written to."""

    descriptor: int
    inode: int
    mapped: mmap.mmap
    #: when it was last in use (monotonic)
    used: float = 0.0

    @property
    def size(self) -> int:
        return len(self.mapped)

    def close(self) -> None:
        """Let go of it; what is mapped stays as long as somebody here reads it."""
        os.close(self.descriptor)


class Segments:
    """The segments that this process has made."""

    def __init__(self) -> None:
        self._lent: dict[int, _Memory] = {}
        #: those that nobody has, the one used last at the end
        self._free: list[_Memory] = []
        self._numbers = count(1)

    def __len__(self) -> int:
        """How many are in use."""
        return len(self._lent)

    def __contains__(self, number: object) -> bool:
        return number in self._lent

    @property
    def kept_bytes(self) -> int:
        """Of those that are kept to be used again."""
        return sum(memory.size for memory in self._free)

    def put(self, frames: Sequence[Buffer]) -> Segment:
        """Have these in a segment. Raises OSError where there is no memory, or no descriptor, for it."""
        total = sum(_padded(len(frame)) for frame in frames)
        memory = self._fitting(total) or _made(_rounded(total))
        at = 0
        try:
            for frame in frames:
                memory.mapped[at : at + len(frame)] = frame
                at += _padded(len(frame))
        except BaseException:
            memory.close()
            raise
        number = next(self._numbers)
        self._lent[number] = memory
        return Segment(number, memory.descriptor, memory.inode, tuple(map(len, frames)))

    def _fitting(self, total: int) -> _Memory | None:
        """One to be used again, of about the size that a new one would have."""
        for k in range(len(self._free) - 1, -1, -1):
            if total <= self._free[k].size <= 2 * _rounded(total):
                return self._free.pop(k)
        return None

    def frames(self, segment: Segment) -> list[memoryview]:
        """What is in one that is in use."""
        return _frames(memoryview(self._lent[segment.number].mapped), segment.sizes)

    def reuse(self, numbers: Iterable[int]) -> None:
        """Nobody reads these any more."""
        for number in numbers:
            memory = self._lent.pop(number, None)
            if memory is not None:
                memory.used = time.monotonic()
                self._free.append(memory)
        while len(self._free) > MOST_SEGMENTS or self.kept_bytes > _KEPT_BYTES:
            self._free.pop(0).close()

    def release(self, numbers: Iterable[int]) -> None:
        """Let go of these: whoever has taken one has it still."""
        for number in numbers:
            memory = self._lent.pop(number, None)
            if memory is not None:
                memory.close()

    def tidy(self, now: float) -> None:
        """Once in a while (monotonic): let go of what was not used for long."""
        while self._free and now > self._free[0].used + _KEPT_SECONDS:
            self._free.pop(0).close()

    def close(self) -> None:
        """Let go of all."""
        self.release(list(self._lent))
        while self._free:
            self._free.pop().close()


class Taken:
    """The segments of another process that are read here; which are not any more, is to be told to it."""

    def __init__(self) -> None:
        # Written by whichever thread lets go of the last frame, perhaps while rubbish is collected.
        self._ended: deque[tuple[bytes, int]] = deque()

    def take(self, pid: int, segment: Segment, whose: bytes = b"", most: int | None = None) -> list[memoryview]:
        """The frames of a segment that the process ``pid`` has made; they hold the memory as long as they are there.

        ``whose`` it is, is said when it has ended. Raises ProtocolError where it is not there (any more), is not what a
        segment should be, or has more than ``most`` bytes: to map it is to have them all.
        """
        if most is not None and sum(segment.sizes) > most:
            raise ProtocolError(f"segment {segment.number} of process {pid} has more than {most} bytes")
        mapped = _mapped(pid, segment)
        if mapped is None:
            self._ended.append((whose, segment.number))
            return [memoryview(b"") for _ in segment.sizes]
        weakref.finalize(mapped, self._ended.append, (whose, segment.number)).atexit = False
        return _frames(memoryview(mapped), segment.sizes)

    def ended(self) -> list[tuple[bytes, int]]:
        """Which nobody reads any more, since this was last asked: whose, and their numbers."""
        ended = []
        with contextlib.suppress(IndexError):
            while True:
                ended.append(self._ended.popleft())
        return ended


def _made(size: int) -> _Memory:
    descriptor = os.memfd_create("taskmaster", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # Allocated, not only promised: else a machine without memory would end this process where it writes.
        os.posix_fallocate(descriptor, 0, size)
        mapped = mmap.mmap(descriptor, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return _Memory(descriptor, os.fstat(descriptor).st_ino, mapped)
    except BaseException:
        os.close(descriptor)
        raise


def _mapped(pid: int, segment: Segment) -> mmap.mmap | None:
    total = sum(map(_padded, segment.sizes))
    try:
        descriptor = os.open(f"/proc/{pid}/fd/{segment.descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ProtocolError(f"segment {segment.number} of process {pid} cannot be had: {error.strerror}") from error
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode) or seen.st_ino != segment.inode or seen.st_size < total:
            raise ProtocolError(f"segment {segment.number} of process {pid} is another file by now")
        if seen.st_uid != os.geteuid():  # root could take anybody's
            raise ProtocolError(f"segment {segment.number} of process {pid} is another user's")
        try:
            sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
            shared = (
                mmap.mmap(descriptor, total, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ) if total else None
            )
        except (OSError, ValueError) as error:
            raise ProtocolError(f"segment {segment.number} of process {pid} cannot be read: {error}") from error
    finally:
        os.close(descriptor)
    if sealed & _SEALS != _SEALS:
        raise ProtocolError(f"segment {segment.number} of process {pid} could be cut while it is read")
    return shared


def _frames(whole: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    frames, at = [], 0
    for size in sizes:
        frames.append(whole[at : at + size])
        at += _padded(size)
    return frames


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _rounded(size: int) -> int:
    """The size of the segment for so many bytes."""
    step = max(_PAGE, (1 << max(0, size - 1).bit_length()) // 2 // _STEPS)
    return max(1, -(-size // step)) * step
