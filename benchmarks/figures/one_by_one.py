"""Tasks put one by one, all results collected.

Our points are dicts, checked against the Master's declared limits and made durable before they are acknowledged; the
rivals get bare numbers, which is less to pickle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool

from benchmarks.bench import Bench, timed
from benchmarks.contest import Limits, Row, at_least, compare, interleave
from benchmarks.evaluated.functions import square
from benchmarks.rig import MasterTable
from benchmarks.rivals import OneByOne, dask_clusters, executor, joblib_pool, pool, ray_cluster
from taskmaster.learners.client import Master

__all__ = ["dask", "put", "ray"]

SQUARE = MasterTable("square", "square_point", ("x",))
#: Tasks of a round, each about a second's worth.
OURS, POOL, EXECUTOR, JOBLIB, RAY, DASK = 300_000, 50_000, 10_000, 8_000, 2_000, 1_500


def put(bench: Bench) -> list[Row]:
    """Beside what Python and joblib offer."""
    with contextlib.ExitStack() as stack:
        rivals: dict[str, tuple[OneByOne, int]] = {}
        if not bench.profile:
            rivals["ProcessPoolExecutor.submit"] = (_by_submit(stack.enter_context(executor())), EXECUTOR)
            processes = stack.enter_context(pool())
            rivals["Pool.imap_unordered(chunksize=1)"] = (_by_imap(processes), POOL)
            rivals["Pool.apply_async"] = (_by_apply(processes), POOL)
            rivals |= {name: (by, JOBLIB) for name, by in stack.enter_context(joblib_pool()).items()}
        return _contest(
            bench,
            rivals,
            {
                "ProcessPoolExecutor.submit": (at_least(15), at_least(40)),
                "Pool.imap_unordered(chunksize=1)": (at_least(2), None),
                "Pool.apply_async": (at_least(2), None),
                "joblib, batch_size=1": (None, None),
                "joblib, automatic batches": (None, None),
            },
        )


def dask(bench: Bench) -> list[Row]:
    """Beside Dask."""
    with _none() if bench.profile else dask_clusters() as clusters:
        return _contest(
            bench,
            {name: (by, DASK) for name, by in clusters.items()},
            {"Dask, defaults": (at_least(250), None), "Dask, tuned": (at_least(50), None)},
        )


def ray(bench: Bench) -> list[Row]:
    """Beside Ray."""
    with _none() if bench.profile else ray_cluster() as cluster:
        return _contest(bench, {name: (by, RAY) for name, by in cluster.items()}, {"Ray tasks": (at_least(80), None)})


def _contest(bench: Bench, rivals: dict[str, tuple[OneByOne, int]], limits: Mapping[str, Limits]) -> list[Row]:
    with bench.daemon(SQUARE) as (rig, lab):
        contestants = bench.contestants(
            timed(_by_put(rig.master(lab)), bench.size(OURS)),
            **{name: timed(by, bench.size(count)) for name, (by, count) in rivals.items()},
        )
        figures = interleave(contestants, bench.rounds)
        return compare("put one by one, power", "tasks/s", figures, limits)


def _none() -> contextlib.AbstractContextManager[dict[str, OneByOne]]:
    return contextlib.nullcontext({})


def _by_put(master: Master) -> OneByOne:
    def by_put(xs: Sequence[float]) -> float:
        with master.open() as run:
            put = run.tasks.put
            for x in xs:
                put({"x": x})
            return float(sum(y for _, y in run.results))

    return by_put


def _by_submit(executor: ProcessPoolExecutor) -> OneByOne:
    return lambda xs: sum(future.result() for future in [executor.submit(square, x) for x in xs])


def _by_imap(pool: Pool) -> OneByOne:
    return lambda xs: sum(pool.imap_unordered(square, xs, chunksize=1))


def _by_apply(pool: Pool) -> OneByOne:
    return lambda xs: sum(result.get() for result in [pool.apply_async(square, (x,)) for x in xs])
