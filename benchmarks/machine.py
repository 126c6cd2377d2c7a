"""The machine under the figures: what it is, how busy it is, and in which mood its scheduler is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

__all__ = ["conditions", "describe", "is_memory", "wakeup"]

_PACKAGES = ("pyzmq", "msgspec", "numpy", "apsw", "joblib", "dask", "distributed", "ray")
_PINGS = 1000


def describe(folder: Path) -> dict[str, str]:
    """What a reader must know to compare: processors, kernel, file system under ``folder``, versions."""
    facts = {
        "processors": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} × {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(folder),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    virtual = " (virtual)" if "hypervisor" in cpuinfo else ""
    return (names[0] if names else platform.machine()) + virtual


def _file_system(folder: Path) -> str:
    """The type of the mount that ``folder`` lies on: the last of the longest matching mount points."""
    path, found, kind = str(folder.resolve()), "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        mount, mounted = line.split()[1:3]
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(found):
            found, kind = mount, mounted
    return kind


def is_memory(folder: Path) -> bool:
    """Whether a sync of files in ``folder`` costs nothing, so that durable figures would flatter."""
    return _file_system(folder) in ("tmpfs", "ramfs")


def conditions() -> dict[str, float]:
    """The load average of the last minute, and :func:`wakeup` in microseconds."""
    return {"load": round(os.getloadavg()[0], 2), "wakeup_us": round(wakeup() * 1e6, 1)}


def wakeup() -> float:
    """Median seconds for one process to wake another and be woken by it, through pipes.

    Virtual machines flip between regimes in which this differs threefold, within minutes: the figures of two runs
    compare only where this is alike.
    """
    times = []
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        for _ in range(_PINGS):
            began = time.perf_counter()
            echo.stdin.write(b"x")
            echo.stdout.read(1)
            times.append(time.perf_counter() - began)
        echo.stdin.close()
    return statistics.median(times)
