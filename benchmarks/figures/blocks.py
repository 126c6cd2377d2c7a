"""A million tasks put at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from benchmarks.bench import Bench, timed
from benchmarks.contest import Round, Row, at_least, compare, interleave, single
from benchmarks.evaluated.functions import square, square_array
from benchmarks.rig import MasterTable
from benchmarks.rivals import executor, pool
from taskmaster.learners.client import Master

__all__ = ["rows", "scalars"]

MILLION = 1_000_000
COLUMNS = 8
#: Rows that ProcessPoolExecutor gets at a time.
ROWS = 1000
VECTORS = MasterTable("vectors", "square_rows", tuple(f"x{k}" for k in range(COLUMNS)), batch=True)
NUMBERS = MasterTable("numbers", "square")


def rows(bench: Bench) -> list[Row]:
    """Rows of doubles and a vectorised function."""
    array = np.random.default_rng(0).uniform(size=(bench.size(MILLION), COLUMNS))
    with contextlib.ExitStack() as stack:
        rivals: dict[str, Round] = {}
        if not bench.profile:
            rivals["ProcessPoolExecutor.map, 1000 rows each"] = _rate(
                _rows_by_executor(stack.enter_context(executor())), array
            )
        rig, lab = stack.enter_context(bench.daemon(VECTORS))
        contestants = bench.contestants(_rate(_rows_by_put_many(rig.master(lab)), array), **rivals)
        figures = interleave(contestants, bench.rounds)
    name = "put_many 10⁶ × 8 doubles, vectorised, power"
    return [
        single(name, "rows/s", figures["ours"], at_least(1e6), at_least(2e6)),
        *compare(name, "rows/s", figures, dict.fromkeys(rivals, (None, None))),
    ]


def scalars(bench: Bench) -> list[Row]:
    """Numbers and a plain function, outputs in the order of the inputs."""
    with contextlib.ExitStack() as stack:
        rivals: dict[str, Round] = {}
        count = bench.size(MILLION)
        if not bench.profile:
            processes = stack.enter_context(executor())
            rivals["ProcessPoolExecutor.map(chunksize=100)"] = timed(
                lambda xs: sum(processes.map(square, xs, chunksize=100)), count
            )
            forked = stack.enter_context(pool())
            rivals["Pool.map(chunksize=100)"] = timed(lambda xs: sum(forked.map(square, xs, chunksize=100)), count)
        rig, lab = stack.enter_context(bench.daemon(NUMBERS))
        master = rig.master(lab)
        contestants = bench.contestants(timed(lambda xs: sum(master.map(xs)), count), **rivals)
        figures = interleave(contestants, bench.rounds)
    return compare(
        "put_many 10⁶ scalars, plain function, power",
        "tasks/s",
        figures,
        {
            "ProcessPoolExecutor.map(chunksize=100)": (at_least(0.5), at_least(1.0)),
            "Pool.map(chunksize=100)": (None, None),
        },
    )


def _rate(work: Callable[[Any], float], array: Any) -> Round:
    expected = float((array * array).sum())

    def run() -> float:
        began = time.perf_counter()
        total = work(array)
        seconds = time.perf_counter() - began
        if abs(total - expected) > 1e-6 * expected:
            raise RuntimeError(f"the sum over all rows is {total:g}, not {expected:g}: nothing was measured")
        return len(array) / seconds

    return run


def _rows_by_put_many(master: Master) -> Callable[[Any], float]:
    return lambda array: sum(master.map(array))


def _rows_by_executor(executor: ProcessPoolExecutor) -> Callable[[Any], float]:
    def run(array: Any) -> float:
        parts = np.array_split(array, max(1, len(array) // ROWS))
        return sum(float(part.sum()) for part in executor.map(square_array, parts))

    return run
