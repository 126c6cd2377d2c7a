"""Large frames between processes of one machine: in memory that both have, and not through a socket.

Whoever has something large to send writes it into a file without a name (memfd_create(2)), seals it, so that nobody can
change it any more, and sends its own number of the descriptor. The receiver opens that by ``/proc/PID/fd/N``, and maps
it. So the kernel does what is hard: the memory is there as long as either has it, and gone when both have let go of it,
however they ended. There is no name that could be left behind, be taken by somebody else, or be swept away too early.

A descriptor is used again when it was closed: so the number of the file goes with it, which is not. Only processes of
one user can open each other's; whether two can (containers, namespaces) they find out by trying, with a file that
proves it (see :mod:`taskmaster.daemon.handover` and :mod:`taskmaster.drivers.sharing`).

Rejected: names in ``/dev/shm`` (POSIX shared memory, `multiprocessing.shared_memory`), which outlive a SIGKILL of both
sides; and passing descriptors by SCM_RIGHTS, which takes a socket of its own beside ZeroMQ's, to be kept in step.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from collections.abc import Iterable, Sequence
from itertools import count

from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import Buffer
from taskmaster.bus.wire import Segment

__all__ = ["SEGMENT_BYTES", "Segments", "take"]

#: Frames that have so many bytes together are worth a segment: to make, map and let go of one takes some 0.1 ms.
SEGMENT_BYTES = 1 << 20
#: Where a frame begins in a segment: numbers are read faster where they are aligned.
_ALIGNED = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
#: Buffers that one call writes.
_AT_ONCE = 512
_PADDING = bytes(_ALIGNED)


class Segments:
    """The segments that this process has made, until they are :meth:`released <release>`."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._descriptors)

    def __contains__(self, number: object) -> bool:
        return number in self._descriptors

    def put(self, frames: Sequence[Buffer]) -> Segment:
        """Have these in a segment. Raises OSError where there is no memory, or no descriptor, for it."""
        descriptor = os.memfd_create("taskmaster", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            _write(descriptor, frames)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            inode = os.fstat(descriptor).st_ino
        except BaseException:
            os.close(descriptor)
            raise
        number = next(self._numbers)
        self._descriptors[number] = descriptor
        return Segment(number, descriptor, inode, tuple(map(len, frames)))

    def release(self, numbers: Iterable[int]) -> None:
        """Let go of these: whoever has taken one has it still."""
        for number in numbers:
            descriptor = self._descriptors.pop(number, None)
            if descriptor is not None:
                os.close(descriptor)

    def close(self) -> None:
        """Let go of all."""
        self.release(list(self._descriptors))


def take(pid: int, segment: Segment) -> list[memoryview]:
    """The frames of a segment that the process ``pid`` has made; they hold the memory as long as they are there.

    Raises ProtocolError where it is not there (any more), or is not what a segment should be.
    """
    sizes, total = segment.sizes, sum(map(_padded, segment.sizes))
    try:
        descriptor = os.open(f"/proc/{pid}/fd/{segment.descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ProtocolError(f"segment {segment.number} of process {pid} cannot be had: {error.strerror}") from error
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode) or seen.st_ino != segment.inode or seen.st_size != total:
            raise ProtocolError(f"segment {segment.number} of process {pid} is another file by now")
        try:
            sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
            shared = mmap.mmap(descriptor, total, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ) if total else b""
        except (OSError, ValueError) as error:
            raise ProtocolError(f"segment {segment.number} of process {pid} cannot be read: {error}") from error
    finally:
        os.close(descriptor)
    if sealed & _SEALS != _SEALS:
        raise ProtocolError(f"segment {segment.number} of process {pid} could be changed while it is read")
    whole = memoryview(shared)
    frames, at = [], 0
    for size in sizes:
        frames.append(whole[at : at + size])
        at += _padded(size)
    return frames


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _write(descriptor: int, frames: Sequence[Buffer]) -> None:
    pieces: list[Buffer] = []
    for frame in frames:
        pieces += (frame, _PADDING[: _padded(len(frame)) - len(frame)])
    waiting = [memoryview(piece) for piece in pieces if len(piece)]
    while waiting:
        written = os.writev(descriptor, waiting[:_AT_ONCE])
        while waiting and written >= len(waiting[0]):
            written -= len(waiting.pop(0))
        if waiting:
            waiting[0] = waiting[0][written:]
