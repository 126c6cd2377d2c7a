"""The high-water mark: how far the write-ahead log had come, in a file of its own that is never synced.

SQLite drops, without a word, everything in its log behind a frame that fails its checksum: a damaged journal looks
like a shorter history. The mark says how many frames had been committed under which salts (the log's generation), so a
log that comes back shorter is found out. It is written after each commit and not synced: it can lag, never lead, except
after a power cut, which the machine's start noted in it tells.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mark", "MarkFile", "machine_start"]

_FORMAT = struct.Struct("<QIIQ")
_WAL_HEADER = 32


def machine_start() -> int:
    """What tells one start of this machine from another; 0 where that is not known."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return 0
    return int(text.replace("-", "")[:16], 16)


@dataclass(frozen=True)
class Mark:
    """``frames`` frames were committed to the log of this generation (``salts``) in this start of the machine.

    ``frames`` 0: the log was about to be moved into the database as a whole, nothing is known of it.
    """

    boot: int
    salts: tuple[int, int]
    frames: int


class MarkFile:
    """The file ``mark`` of a state directory."""

    def __init__(self, folder: Path) -> None:
        self._wal = f"{folder / 'journal.db'}-wal"
        self._boot = machine_start()
        self._descriptor = os.open(folder / "mark", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._salts = (0, 0)
        self._frames = 0

    def read(self) -> Mark | None:
        """What was written last; None where nothing was."""
        data = os.pread(self._descriptor, _FORMAT.size, 0)
        if len(data) < _FORMAT.size:
            return None
        boot, salt1, salt2, frames = _FORMAT.unpack(data)
        return Mark(boot, (salt1, salt2), frames)

    def committed(self, frames: int) -> None:
        """A commit has brought the log to ``frames`` frames."""
        if frames <= self._frames or self._frames == 0:
            self._salts = self._read_salts()  # a new generation begins with its first commit
        self._frames = frames
        os.pwrite(self._descriptor, _FORMAT.pack(self._boot, *self._salts, frames), 0)

    def settling(self) -> None:
        """The log is about to be emptied into the database."""
        self._frames = 0
        os.pwrite(self._descriptor, _FORMAT.pack(self._boot, 0, 0, 0), 0)

    def close(self) -> None:
        os.close(self._descriptor)

    def _read_salts(self) -> tuple[int, int]:
        with open(self._wal, "rb") as file:
            header = file.read(_WAL_HEADER)
        salt1, salt2 = struct.unpack_from(">II", header, 16)
        return salt1, salt2
