"""What the daemon's process takes, and what there is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath

__all__ = ["machine_bytes", "resident_bytes"]


def resident_bytes() -> int:
    """Bytes of memory that it has."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine_bytes(groups: Path = Path("/sys/fs/cgroup"), ours: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory that the machine has, or that the process may have of it where it is given less (cgroup v2).

    A service is by ``MemoryMax=`` or ``MemoryHigh=`` of its unit, or of a slice that it is in.
    """
    least = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in _groups(ours):
        for name in ("memory.max", "memory.high"):
            with contextlib.suppress(OSError, ValueError):  # none for the root, or "max"
                least = min(least, int((groups / group / name).read_text()))
    return least


def _groups(ours: Path) -> list[PurePosixPath]:
    """The control groups that the process is in, from the innermost on, as folders of their file system."""
    try:
        lines = ours.read_text().splitlines()
    except OSError:
        return []
    inner = [PurePosixPath(line.removeprefix("0::/")) for line in lines if line.startswith("0::/")]
    return [group for path in inner for group in (path, *path.parents)]
