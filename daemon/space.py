"""Room on the disk, kept back for results.

A file of the size that is kept back lies in the state directory, really allocated: another program that fills the disk
cannot take it. When a commit finds no room the file is given up, results go on into its place, and submissions are
refused until there is room to lay it down again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from taskmaster.bus.errors import DiskFull
from taskmaster.bus.text import format_size

__all__ = ["Space"]

log = logging.getLogger("taskmaster.daemon")


class Space:
    """The reserve of one state directory; ``keep`` bytes are kept back."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._path = folder / "reserve"
        self._keep = keep
        self.room = False
        self.look()

    def look(self) -> None:
        """Lay the reserve down (again) if it is not there and there is room for it twice over."""
        if self.room:
            return
        disk = os.statvfs(self._folder)
        have = self._path.stat().st_blocks * 512 if self._path.exists() else 0
        if have < self._keep:
            if disk.f_bavail * disk.f_frsize < 2 * self._keep:
                return
            try:
                with open(self._path, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self._keep)
            except OSError:
                self._path.unlink(missing_ok=True)
                return
        self.room = True
        log.info("room for results kept back: %s", format_size(self._keep))

    def use_reserve(self) -> bool:
        """Give the reserve up for what has to be written now; False if that has been done already."""
        if not self.room:
            return False
        self.room = False
        self._path.unlink(missing_ok=True)
        log.error(
            "the disk of %s is full: submissions are refused until there is room, results are still taken", self._folder
        )
        return True

    def error(self) -> DiskFull:
        """What a submission is told meanwhile."""
        return DiskFull(
            f"the disk of {self._folder} is full: no further tasks are taken until there is room for "
            f"{format_size(2 * self._keep)}; free some, then submit again"
        )
