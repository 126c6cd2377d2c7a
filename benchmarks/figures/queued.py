"""A million queued tasks: what they take in the daemon's memory, and how long a start takes that finds them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from benchmarks.bench import Bench
from benchmarks.contest import Row, at_most, single
from benchmarks.rig import MasterTable, Rig
from taskmaster.learners.client import Master, Run

__all__ = ["queued", "restart"]

SQUARE = MasterTable("square", "square_point", ("x",))
VECTOR = MasterTable("vector", "square_rows", ("x",), batch=True)
MILLION = 1_000_000
#: One double each.
PAYLOAD = 8

#: Puts so many tasks into a run.
Put: TypeAlias = Callable[[Run, int], None]


def queued(bench: Bench) -> list[Row]:
    """Put as one block, and one by one."""
    return [*_queue(bench, "put_many", _put_many), *_queue(bench, "single puts", _put_each)]


def _put_many(run: Run, count: int) -> None:
    run.tasks.put_many(np.arange(count, dtype=np.float64).reshape(-1, 1))


def _put_each(run: Run, count: int) -> None:
    for x in range(count):
        run.tasks.put({"x": float(x)})


def _queue(bench: Bench, how: str, put: Put) -> list[Row]:
    count = bench.size(MILLION)
    over, restored, restarts = [], [], []
    for _ in range(min(3, bench.rounds)):
        with bench.rig(SQUARE) as rig:
            rig.start()
            over.append(_fill(rig, put, count))
            rig.stop(signal.SIGKILL)
            empty = _empty_memory(bench)
            restarts.append(rig.start())
            restored.append((rig.memory() - empty) / count - PAYLOAD)
            rig.stop(signal.SIGKILL)
    return [
        single(f"10⁶ queued by {how}: memory over payload", "B/task", over, at_most(64)),
        single(f"10⁶ queued by {how}: the same after a restart", "B/task", restored, at_most(64)),
        single(f"10⁶ queued by {how}: restart until ready", "s", restarts, at_most(2)),
    ]


def restart(bench: Bench) -> list[Row]:
    """A daemon killed with a million tasks queued and a million results in its journal: until it has a task evaluated.

    It comes up paused; what is measured ends with the first result after it was told to resume, as soon as it answers.
    """
    array = np.arange(bench.size(MILLION), dtype=np.float64).reshape(-1, 1)
    seconds = []
    with bench.rig(VECTOR) as rig:
        rig.start()
        with rig.connect() as lab, rig.master(lab).open("done") as run:
            run.tasks.put_many(array)
            for _ in run.results:
                pass
        for k in range(min(3, bench.rounds)):
            with rig.connect() as lab:
                master: Master = rig.master(lab)
                master.pause()
                queue = master.open(f"queued {k}")
                queue.tasks.put_many(array)
                queue.flush(timeout=60)
                rig.stop(signal.SIGKILL)
            began = time.perf_counter()
            rig.start()
            with rig.connect() as lab:
                master = rig.master(lab)
                master.resume()
                next(iter(master.watch(f"queued {k}").results))
                seconds.append(time.perf_counter() - began)
        rig.stop(signal.SIGKILL)
    return [single("10⁶ queued, 10⁶ results: SIGKILL until one more result", "s", seconds, at_most(2))]


def _fill(rig: Rig, put: Put, count: int) -> float:
    """Bytes a task over its payload, by which the daemon grows."""
    with rig.connect() as lab:
        master: Master = rig.master(lab)
        master.map([{"x": float(x)} for x in range(1000)])  # what any first task costs is not counted
        master.pause()
        before = rig.memory()
        run = master.open()
        put(run, count)
        run.flush(timeout=60)
        grown = rig.memory() - before
        if master.statistics().queued != count:
            raise RuntimeError(f"{master.statistics().queued} tasks are queued, not {count}: nothing was measured")
        return grown / count - PAYLOAD


def _empty_memory(bench: Bench) -> int:
    """Of a daemon that has just started, on nothing."""
    with bench.rig(SQUARE) as rig, rig:
        return rig.memory()
