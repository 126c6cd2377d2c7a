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
from collections.abc import Sequence
from multiprocessing.pool import Pool

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_most, compare, interleave
from benchmarks.machine import conditions
from benchmarks.rig import WORKERS, MasterTable
from benchmarks.rivals import pool
from benchmarks.work.functions import spin, spin_all
from taskmaster.learners.client import Master

__all__ = ["uneven"]

SPIN = MasterTable("spin", "spin")
SEED = 2


def uneven(bench: Bench) -> list[Row]:
    """The four workloads, each about a second for two workers."""
    n = bench.size(2000)
    generator = random.Random(SEED)
    workloads: dict[str, tuple[list[float], float]] = {
        "equal light, 0.1 ms": ([1e-4] * bench.size(20_000), 0.5),
        "equal heavy, 10 ms": ([1e-2] * bench.size(200), 0.5),
        "growing with the index, 0–2 ms": ([2e-3 * k / n for k in range(n)], math.sqrt(0.5)),
        "uniformly random, 0–2 ms": ([generator.uniform(0, 2e-3) for _ in range(n)], 0.5),
    }
    rows = []
    with contextlib.ExitStack() as stack:
        processes = None if bench.profile else stack.enter_context(pool())
        rig, lab = stack.enter_context(bench.daemon(SPIN))
        for name, (durations, cut) in workloads.items():
            before = conditions()
            rivals: dict[str, Round] = {}
            if processes is not None:
                rivals["static"] = _time(lambda d=durations, c=cut: _static(processes, d, c))
                rivals["dynamic"] = _time(lambda d=durations: _dynamic(processes, d))
            ours = _time(lambda d=durations: _ours(rig.master(lab), d))
            figures = interleave(bench.contestants(ours, **rivals), bench.rounds)
            rows += compare(f"uneven: {name}", "s", figures, _limits(figures), before)
    return rows


def _limits(figures) -> dict:
    """The better rival's row has the limits."""
