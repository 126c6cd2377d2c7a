"""What the daemon's process takes, and what there is."""

from __future__ import annotations

import os

__all__ = ["machine_bytes", "resident_bytes"]


def resident_bytes() -> int:
    """Bytes of memory that it has."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine_bytes() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
