"""What a kill at each moment of some work would leave: a copy of a folder at each call that the work makes.

A process that is killed leaves the files as the calls it had made to the system left them. So instead of a process
that is killed a hundred times, one process is looked at a hundred times: Python reports each call of a function written
in C, and those that change files are among them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["at_each_moment"]

#: Functions that change files, of `os`, and of SQLite's connections and cursors.
_CALLS = frozenset(
    {"open", "write", "pwrite", "ftruncate", "fdatasync", "fsync", "replace", "mkdir", "unlink", "close"}
    | {"execute", "wal_checkpoint", "__exit__"}
)


def at_each_moment(folder: Path, into: Path, work: Callable[[], object]) -> list[Path]:
    """Do ``work``; returns copies of ``folder``, made in ``into``: before and after each call, in order."""
    copies: list[Path] = []

    def look(frame: FrameType, event: str, function: Any) -> None:
        if event in ("c_call", "c_return", "c_exception") and function.__name__ in _CALLS:
            copies.append(into / f"{len(copies)} {event} {function.__name__}")
            shutil.copytree(folder, copies[-1])

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return copies
