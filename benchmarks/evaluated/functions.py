"""The functions that our workers and the rivals' evaluate, and the switch that profiles a worker from within."""

from __future__ import annotations

import atexit
import cProfile
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Folder for a worker's profile; set by the suite where one is asked for.
PROFILE_FOLDER = "TASKMASTER_BENCHMARK_PROFILE"

_profile = cProfile.Profile()


def square(x: float) -> float:
    """The task of most figures: as good as no work, so that what is measured is what it takes to get it done."""
    return x * x


def square_point(point: Mapping[str, float]) -> float:
    """The same for a point with a name."""
    x = point["x"]
    return x * x


def square_rows(columns: Mapping[str, Any]) -> Any:
    """``x · x`` of many rows at once, given as columns of doubles."""
    return sum(column * column for column in columns.values())


def square_array(rows: Any) -> Any:
    """``x · x`` of many rows at once, given as an ``(n, d)`` array."""
    return (rows * rows).sum(axis=1)


def spin(seconds: float) -> float:
    """Work that takes so much of a processor's time, however many others want that processor."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return seconds


def spin_all(durations: Sequence[float]) -> list[float]:
    """One part of a static split."""
    return [spin(seconds) for seconds in durations]


def start_profile() -> None:
    """A worker's ``setup``: profile everything from here on, until the process goes."""
    folder = Path(os.environ[PROFILE_FOLDER])
    _profile.enable()
    atexit.register(_profile.dump_stats, folder / f"worker-{os.getpid()}")
