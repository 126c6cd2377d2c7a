"""One task in flight: from its put to its result, as a learner that can only ask for one thing at a time waits."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool
from pathlib import Path

import apsw

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_most, compare, interleave
from benchmarks.evaluated.functions import square
from benchmarks.rig import MasterTable
from benchmarks.rivals import executor, pool
from taskmaster.learners.client import Run

__all__ = ["round_trip"]

SQUARE = MasterTable("square", "square_point", ("x",))
#: Round trips of one contestant before the next one's turn, and how many turns make one repeat.
TRIPS, TURNS = 200, 4


def round_trip(bench: Bench) -> list[Row]:
    """Both durabilities beside ProcessPoolExecutor, and beside what its syncs cost on this disk."""
    with contextlib.ExitStack() as stack:
        rivals: dict[str, Round] = {}
        trips = bench.size(TRIPS)
        if not bench.profile:
            rivals["ProcessPoolExecutor"] = _by_executor(stack.enter_context(executor()), trips)
            rivals["Pool.apply"] = _by_pool(stack.enter_context(pool()), trips)
            rivals["commit"] = _by_commit(stack.enter_context(_database(bench.folder)), trips)
            rivals["crash"] = _by_run(stack, bench, "crash", trips)
        contestants = bench.contestants(_by_run(stack, bench, "power", trips), **rivals)
        figures = interleave(contestants, bench.rounds * (1 if bench.quick else TURNS))
    return _rows(figures) if rivals else []


def _rows(figures: dict[str, list[float]]) -> list[Row]:
    theirs, commits = figures["ProcessPoolExecutor"], figures["commit"]
    bound = f"1.5 × ProcessPoolExecutor + 3 commits of {statistics.median(commits):.2f} ms"
    figures[bound] = [1.5 * trip + 3 * commit for trip, commit in zip(theirs, commits)]
    crash = {"ours": figures["crash"], **{name: figures[name] for name in ("ProcessPoolExecutor", "Pool.apply")}}
    return [
        *compare(
            "round trip p50, crash",
            "ms",
            crash,
            {"ProcessPoolExecutor": (at_most(1.5), at_most(1.0)), "Pool.apply": (None, None)},
        ),
        *compare(
            "round trip p50, power",
            "ms",
            figures,
            {bound: (at_most(1.0), None), "ProcessPoolExecutor": (None, at_most(1.0))},
        ),
    ]


def _median_of(trip: Callable[[], object], trips: int) -> float:
    """Median milliseconds of a round trip."""
    times = []
    for _ in range(trips):
        began = time.perf_counter()
        trip()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _by_run(stack: contextlib.ExitStack, bench: Bench, durability: str, trips: int) -> Round:
    rig, lab = stack.enter_context(bench.daemon(SQUARE, durability=durability))
    run: Run = stack.enter_context(rig.master(lab).open())

    def trip() -> None:
        run.tasks.put({"x": 3.0})
        if run.results.get().output != 9.0:
            raise RuntimeError("3 · 3 is 9: nothing was measured")

    return lambda: _median_of(trip, trips)


def _by_executor(executor: ProcessPoolExecutor, trips: int) -> Round:
    return lambda: _median_of(lambda: executor.submit(square, 3.0).result(), trips)


def _by_pool(pool: Pool, trips: int) -> Round:
    return lambda: _median_of(lambda: pool.apply(square, (3.0,)), trips)


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[apsw.Connection]:
    path = folder / "commits.sqlite"
    connection = apsw.Connection(str(path))
    try:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute("CREATE TABLE row (n INTEGER PRIMARY KEY, x REAL) STRICT")
        yield connection
    finally:
        connection.close()
        path.unlink()


def _by_commit(connection: apsw.Connection, trips: int) -> Round:
    """One SQLite transaction of one row, synced: what durability costs on this disk, whoever writes it."""
    return lambda: _median_of(lambda: connection.execute("INSERT INTO row (x) VALUES (1.5)"), trips)
