"""The machine under the figures: what it is, who else wants it, and in which mood its scheduler is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["QUIET", "Conditions", "Watch", "await_quiet", "describe", "is_memory", "wakeup"]

_PACKAGES = (
    "pyzmq",
    "msgspec",
    "numpy",
    "apsw",
    "scipy",
    "adaptive",
    "optuna",
    "cma",
    "joblib",
    "dask",
    "distributed",
    "ray",
)
_PINGS = 1000

#: Share of the processors that neighbours may have in a figure that counts as undisturbed.
QUIET = 0.05
_QUIET_SECONDS = 2.0


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


@dataclass(frozen=True)
class Conditions:
    """What may have disturbed a figure."""

    #: seconds of :func:`wakeup` before it was begun
    wakeup: float
    #: share of the processors, 0 to 1, that went to others (also to other virtual machines) while it was measured
    neighbours: float
    #: load average of the last minute when it was begun, which has what came before it, too
    load: float


def await_quiet(limit: float) -> bool:
    """Wait until nobody else wants the processors, at most ``limit`` seconds; whether that has come."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        watch = Watch()
        time.sleep(_QUIET_SECONDS)
        if watch.conditions().neighbours <= QUIET:
            return True
    return False


class Watch:
    """Looks on from when it is made until :meth:`conditions` is asked for."""

    def __init__(self) -> None:
        self._wakeup = wakeup()
        self._load = os.getloadavg()[0]
        self._began = time.perf_counter()
        self._others = _busy() - _own()

    def conditions(self) -> Conditions:
        """What the machine was like. Every process that was started since must have ended."""
        offered = (time.perf_counter() - self._began) * len(os.sched_getaffinity(0))
        others = _busy() - _own() - self._others
        return Conditions(self._wakeup, round(max(0.0, others / offered), 3), self._load)


def _busy() -> float:
    """Seconds that our processors have spent on anything, or were kept from spending, since the machine started."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *counts = line.split()
        if name in ours:
            user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, counts[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Seconds that this process and all its descendants that have ended have spent."""
    return sum(os.times()[:4])


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
