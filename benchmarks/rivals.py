"""What users would otherwise use, each warmed up, with as many workers as we have, and asked in its own best way.

Pools are started with ``spawn``: no rival inherits this process's threads, and what is measured begins after that.
A rival that is not installed is left out; the table says so.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing.pool import Pool
from typing import Any

from benchmarks.evaluated.functions import square
from benchmarks.rig import WORKERS

__all__ = ["OneByOne", "dask_clusters", "executor", "joblib_pool", "pool", "ray_cluster"]

#: Gets a task for each number, one by one, and gives the sum of all their results.
OneByOne = Callable[[Sequence[float]], float]

#: Dask settings with which small tasks go through faster. What counts is the saturation: without a limit the scheduler
#: does not hold tasks back. The others only leave out work that has nothing to do with tasks.
_DASK_TUNED = {
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-saturation": float("inf"),
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.low-level-log-length": 0,
    "distributed.diagnostics.computations.max-history": 0,
}


@contextlib.contextmanager
def executor() -> Iterator[ProcessPoolExecutor]:
    """ProcessPoolExecutor."""
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as executor:
        list(executor.map(square, range(100)))
        yield executor


@contextlib.contextmanager
def pool() -> Iterator[Pool]:
    """multiprocessing.Pool."""
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.map(square, range(100), chunksize=1)
        yield pool


@contextlib.contextmanager
def joblib_pool() -> Iterator[dict[str, OneByOne]]:
    """joblib with its loky processes, one task at a time and with the batches it chooses itself."""
    if find_spec("joblib") is None:
        yield {}
        return
    import joblib

    with joblib.Parallel(WORKERS, batch_size=1) as single, joblib.Parallel(WORKERS) as automatic:

        def by(parallel: Any) -> OneByOne:
            return lambda xs: float(sum(parallel(joblib.delayed(square)(x) for x in xs)))

        yield {"joblib, batch_size=1": by(single), "joblib, automatic batches": by(automatic)}


@contextlib.contextmanager
def dask_clusters() -> Iterator[dict[str, OneByOne]]:
    """Dask: as it comes with ``submit``; and tuned, with ``map`` over the whole list and nothing else to do."""
    if find_spec("distributed") is None:
        yield {}
        return
    with _dask({}) as plain, _dask(_DASK_TUNED) as tuned:

        def by_submit(xs: Sequence[float]) -> float:
            return float(sum(plain.gather([plain.submit(square, x) for x in xs])))

        def by_map(xs: Sequence[float]) -> float:
            return float(sum(tuned.gather(tuned.map(square, xs, pure=False))))

        yield {"Dask, defaults": by_submit, "Dask, tuned": by_map}


@contextlib.contextmanager
def _dask(settings: dict[str, Any]) -> Iterator[Any]:
    import dask
    import distributed

    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.gather(client.map(square, range(100), pure=False))
        yield client


@contextlib.contextmanager
def ray_cluster() -> Iterator[dict[str, OneByOne]]:
    """Ray tasks."""
    if find_spec("ray") is None:
        yield {}
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    try:
        remote = ray.remote(square)

        def by_remote(xs: Sequence[float]) -> float:
            return float(sum(ray.get([remote.remote(x) for x in xs])))

        by_remote([float(x) for x in range(200)])
        yield {"Ray tasks": by_remote}
    finally:
        ray.shutdown()
