"""Libraries that hand their work to a Master instead of a pool: what they lose or gain by it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_least, compare, interleave
from benchmarks.evaluated.functions import square
from benchmarks.rig import WORKERS
from taskmaster.learners.workmaster import WorkMaster

__all__ = ["joblib_backend"]

LOKY = "joblib, loky"


def joblib_backend(bench: Bench) -> list[Row]:
    """Light tasks by joblib with the batches it chooses itself: with our backend, and with its own processes."""
    count = bench.size(10_000)
    with _backends() as backends:
        rounds = {name: _by(context, count) for name, context in backends.items()}
        contestants = bench.contestants(rounds.pop("ours"), **rounds)
        figures = interleave(contestants, bench.rounds)
    return compare("joblib, 10⁴ light tasks", "tasks/s", figures, {LOKY: (at_least(1.0), None)})


@contextlib.contextmanager
def _backends() -> Iterator[dict[str, Callable[[], Any]]]:
    import joblib

    from taskmaster.learners.joblib_backend import register

    register()
    with WorkMaster(None, workers=WORKERS) as master:
        yield {
            "ours": lambda: joblib.parallel_backend("taskmaster", master=master),
            LOKY: lambda: joblib.parallel_backend("loky"),
        }


def _by(backend: Callable[[], Any], count: int) -> Round:
    import joblib

    def run() -> float:
        with backend():
            began = time.perf_counter()
            total = sum(joblib.Parallel(WORKERS)(joblib.delayed(square)(x) for x in range(count)))
            seconds = time.perf_counter() - began
        if total != sum(x * x for x in range(count)):
            raise RuntimeError(f"the sum of {count} squares is {total}: nothing was measured")
        return count / seconds

    return run
