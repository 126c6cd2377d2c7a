"""Room on the disk, kept back for results.

A file of the size that is kept back lies in the state directory, really allocated: another program that fills the disk
cannot take it. Submissions are refused while less than a margin is free besides, so what fills the disk in the end are
results, or others. When a commit finds no room, the reserve is given up for it and results go on into its place; when
there is room again it is laid down anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from taskmaster.bus.errors import DiskFull
from taskmaster.bus.text import format_size
from taskmaster.daemon.diskshares import DiskShares

__all__ = ["Space"]

log = logging.getLogger("taskmaster.daemon")

#: The part of what is kept back that must be free besides it for submissions to be taken, and the least of it: the log
#: takes up to 16 MB, and as much of the database, whatever is submitted.
_MARGIN_SHARE = 8
_MARGIN_BYTES = 1 << 20
#: About what a row of the journal takes besides payload.
_ROW_BYTES = 128


class Space:
    """The reserve of one state directory: ``keep`` bytes are kept back."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self._path = folder / "reserve"
        #: bytes that were free, beside what is kept back, at the last look
        self.free = 0
        self._keep = keep
        self._margin = max(keep // _MARGIN_SHARE, _MARGIN_BYTES)
        self._laid = self._allocated() >= keep
        #: bytes that submissions may still take before the next look
        self._left = 0
        #: whether there is room, as far as people were told
        self._told = True
        self.shares = DiskShares()
        if self._laid and self._path.exists():
            os.truncate(self._path, keep)  # it may have been more before
        if self._laid and self._free() < _MARGIN_BYTES:
            self.use_reserve()  # the journal could not even be opened
        self.look()

    @property
    def room(self) -> bool:
        """Whether submissions are taken."""
        return self._left > 0

    def lacks(self, size: int) -> bool:
        """Whether there is no room for so many bytes, as is seen now. A limit that only this user has counts, too."""
        if self._free() < size:
            return True
        probe = self.folder / "probe"
        try:
            with open(probe, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            return True
        finally:
            probe.unlink(missing_ok=True)
        return False

    def look(self) -> None:
        """See how much room there is, and lay the reserve down (again) if there is enough. Called once a second."""
        had_room = self.room
        free = self._free()
        if not self._laid and free >= 2 * self._keep:
            self._laid = self._lay()
            free = self._free()
        self.free = free
        enough = self._margin if had_room else 2 * self._margin
        self._left = free - self._margin if self._laid and free > enough else 0
        if self.room and not self._told:
            log.info("the disk of %s has room again; tasks are taken", self.folder)
        elif self._told and not self.room:
            log.error("%s", self.error())
        self._told = self.room
        self.shares.look(time.monotonic(), self._left)

    def admits(self, size: int, user: str = "") -> bool:
        """Whether a submission of ``size`` bytes may be taken now, of a key's owner (of nobody's: "")."""
        return size + _ROW_BYTES < self._left and self.bears(size, user)

    def bears(self, size: int, user: str) -> bool:
        """Whether a key's owner may have the journal grow by so much; of nobody's, nothing is held against them."""
        return not user or self.shares.admits(user, size, self._left)

    def take(self, size: int, rows: int, user: str = "") -> None:
        """So many bytes, in so many rows, have been taken from a key's owner."""
        size += rows * _ROW_BYTES
        self._left -= size
        if user:
            self.shares.take(user, size)

    def use_reserve(self) -> bool:
        """Give the reserve up for what has to be written now; False if there is none (left)."""
        had_reserve = self._laid and self._keep > 0
        self._laid = False
        self._left = 0
        self._path.unlink(missing_ok=True)
        if had_reserve:
            self._told = False
            log.error("%s; what was kept back is in use now", self.error())
        return had_reserve

    def error(self, user: str = "") -> DiskFull:
        """What a submission is told meanwhile, of a key's owner."""
        if self.room and user in self.shares.refused:
            return DiskFull(
                f"the disk of {self.folder}: {self.shares.reason(user)}; have runs deleted, or more room made"
            )
        return DiskFull(
            f"the disk of {self.folder} has too little room: no further tasks are taken until more is free; "
            f"{format_size(self._keep)} are kept back for results, which are taken still"
        )

    def _free(self) -> int:
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize

    def _allocated(self) -> int:
        try:
            return self._path.stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def _lay(self) -> bool:
        if not self._keep:
            return True
        try:
            with open(self._path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._keep)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            return False
        return True
