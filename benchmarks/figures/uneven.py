"""Work of uneven length: what a user would choose by hand, once and for all or one by one, and what we choose.

*Static* is the split that who knows the law of the durations chooses: halves of equal work for equal and for growing
ones, halves of equal number for random ones. It costs two messages. *Dynamic* hands out one task at a time and so never
leaves a worker idle, for a message a task.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import Pool

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_most, compare, interleave
from benchmarks.evaluated.functions import spin, spin_all
from benchmarks.rig import WORKERS, MasterTable
from benchmarks.rivals import pool
from taskmaster.learners.client import Master

__all__ = ["Workload", "uneven", "workloads"]

SPIN = MasterTable("spin", "spin")
SEED = 2
STATIC, DYNAMIC = "static, chosen by hand", "dynamic, one by one"


@dataclass(frozen=True)
class Workload:
    """Durations in seconds, in the order in which they are put."""

    name: str
    durations: Sequence[float]
    #: share of the tasks, from the front, that the static split gives to the first of two workers
    cut: float = 0.5


def uneven(bench: Bench) -> list[Row]:
    """Each workload takes two workers about a second."""
    rows = []
    with contextlib.ExitStack() as stack:
        processes = None if bench.profile else stack.enter_context(pool())
        rig, lab = stack.enter_context(bench.daemon(SPIN))
        for workload in workloads(bench.size):
            rivals: dict[str, Round] = {}
            if processes is not None:
                rivals = {STATIC: _by_static(processes, workload), DYNAMIC: _by_dynamic(processes, workload)}
            contestants = bench.contestants(_by_master(rig.master(lab), workload), **rivals)
            figures = interleave(contestants, bench.rounds)
            limits = (at_most(1.1), at_most(1.0))
            rows += compare(f"uneven: {workload.name}", "s", figures, {STATIC: limits, DYNAMIC: limits})
    return rows


def workloads(size: Callable[[int], int]) -> list[Workload]:
    """Four laws of durations; ``size`` says how many tasks are wanted, given how many take two workers a second."""
    n = size(2000)
    generator = random.Random(SEED)
    return [
        Workload("equal light, 0.1 ms", [1e-4] * size(20_000)),
        Workload("equal heavy, 10 ms", [1e-2] * size(200)),
        # The sum over the first of k tasks grows with k², so half the work lies below 1/√2.
        Workload("growing, 0–2 ms", [2e-3 * k / n for k in range(n)], cut=math.sqrt(0.5)),
        Workload("random, 0–2 ms", [generator.uniform(0, 2e-3) for _ in range(n)]),
    ]


def _timed(workload: Workload, work: Callable[[Sequence[float]], float]) -> Round:
    """Seconds for all of it. Raises RuntimeError if something was left out."""

    def run() -> float:
        began = time.perf_counter()
        total = work(workload.durations)
        seconds = time.perf_counter() - began
        if not math.isclose(total, sum(workload.durations)):
            raise RuntimeError(f"work of {total:g} s was done, not of {sum(workload.durations):g} s")
        return seconds

    return run


def _by_master(master: Master, workload: Workload) -> Round:
    return _timed(workload, lambda durations: sum(master.map(durations)))


def _by_static(pool: Pool, workload: Workload) -> Round:
    def static(durations: Sequence[float]) -> float:
        cut = round(workload.cut * len(durations))
        return sum(map(sum, pool.map(spin_all, [durations[:cut], durations[cut:]], chunksize=1)))

    assert WORKERS == 2, "the static split is for two workers"
    return _timed(workload, static)


def _by_dynamic(pool: Pool, workload: Workload) -> Round:
    return _timed(workload, lambda durations: sum(pool.imap_unordered(spin, durations, chunksize=1)))
