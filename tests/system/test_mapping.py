"""Libraries that take a map, a pool or a backend get a Master: equal results, and their user's errors."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import apsw
import numpy as np
import pytest
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, TaskFailed
from taskmaster.learners import WorkMaster
from taskmaster.learners.executor import MasterExecutor
from taskmaster.learners.joblib_backend import register
from taskmaster.learners.mappers import (
    DynamicParallelMapper,
    GuidedMapper,
    Mapper,
    SerialMapper,
    StaticParallelMapper,
    mapper as program_mapper,
)
from taskmaster.learners.mapping import MasterMap

joblib = pytest.importorskip("joblib")
emcee = pytest.importorskip("emcee")
optimize = pytest.importorskip("scipy.optimize")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def master() -> Iterator[WorkMaster]:
    with WorkMaster(None, workers=2) as master:
        yield master


# -- a map ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def workers(master: WorkMaster) -> Iterator[MasterMap]:
    with MasterMap(master) as workers:
        yield workers


def rosenbrock(x: Any, a: float = 1.0) -> float:
    return float((a - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)


def test_a_map_gives_a_list_in_order(master: WorkMaster, workers: MasterMap) -> None:
    assert workers(abs, range(-5, 5)) == workers.map(abs, range(-5, 5)) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    assert workers(abs, ()) == []
    with MasterExecutor(master) as executor:
        with MasterMap(executor, chunksize=3) as chunked:
            assert chunked(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
        assert executor.submit(abs, -1).result(PATIENCE) == 1, "what was given stays open"


def test_scipy_minimises_with_equal_results(workers: MasterMap) -> None:
    settings = {"bounds": [(-2, 2)] * 2, "args": (1.5,), "updating": "deferred", "rng": 1, "maxiter": 15}
    there = optimize.differential_evolution(rosenbrock, workers=workers, **settings)
    here = optimize.differential_evolution(rosenbrock, **settings)
    assert (there.x == here.x).all()
    assert there.nfev == here.nfev


@pytest.mark.parametrize("kind", [ValueError, TypeError, KeyError, ArithmeticError])
def test_scipy_reports_what_the_function_raised(workers: MasterMap, kind: type[Exception]) -> None:
    def flawed(x: Any) -> float:
        raise kind("what the user has to know")

    with pytest.raises(TaskFailed, match="what the user has to know") as raised:
        optimize.differential_evolution(flawed, [(0, 1)], workers=workers, updating="deferred")
    assert type(raised.value.__cause__) is kind
    assert "in flawed" in raised.value.traceback


def test_what_cannot_travel_is_not_taken_for_a_wrong_map() -> None:
    with WorkMaster(abs, workers=1) as master, MasterMap(master) as workers:
        with pytest.raises(CallerError, match=r"builtins\.set cannot travel") as raised:
            workers(workers.evaluate, [{1}])
        assert not isinstance(raised.value, ValueError)


def test_a_master_with_a_function_of_its_own_is_minimised() -> None:
    parameters = {"x": (-2, 2), "y": (-2, 2)}
    with (
        WorkMaster(lambda p: (p["x"] - 1) ** 2 + p["y"] ** 2, workers=2, parameters=parameters) as master,
        MasterMap(master) as workers,
    ):
        found = optimize.differential_evolution(
            workers.evaluate, [(-2, 2)] * 2, workers=workers, updating="deferred", rng=1, maxiter=8, polish=False
        )
    assert found.x == pytest.approx([1, 0], abs=0.2)


def log_probability(x: Any, width: float) -> float:
    return -0.5 * float(x @ x) / width


def walk(pool: MasterMap | None, function: Callable[..., float] = log_probability) -> Any:
    sampler = emcee.EnsembleSampler(8, 2, function, args=[2.0], pool=pool)
    sampler.random_state = np.random.RandomState(3).get_state()
    sampler.run_mcmc(np.random.RandomState(4).randn(8, 2), 15)
    return sampler.get_chain()


def test_emcee_walks_the_same_way(workers: MasterMap) -> None:
    assert (walk(workers) == walk(None)).all()


def test_emcee_reports_what_the_function_raised(workers: MasterMap) -> None:
    def flawed(x: Any, width: float) -> float:
        raise ValueError("a bad model")

    with pytest.raises(TaskFailed, match="ValueError: a bad model"):
        walk(workers, flawed)


# -- joblib -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def backend(master: WorkMaster) -> Iterator[None]:
    register()
    with joblib.parallel_backend("taskmaster", master=master):
        yield


@pytest.mark.usefixtures("backend")
def test_joblib_fans_out_in_order() -> None:
    calls = [joblib.delayed(pow)(x, 2) for x in range(200)]
    assert joblib.Parallel()(calls) == [x * x for x in range(200)]
    assert joblib.Parallel(n_jobs=1)(calls) == [x * x for x in range(200)], "alone"
    assert joblib.Parallel(n_jobs=2, batch_size=7)(calls) == [x * x for x in range(200)]
    assert list(joblib.Parallel(return_as="generator")(calls)) == [x * x for x in range(200)]
    assert joblib.effective_n_jobs(-1) == 2
    assert joblib.effective_n_jobs(-2) == 1
    pids = set(joblib.Parallel(batch_size=1)(joblib.delayed(os.getpid)() for _ in range(20)))
    assert os.getpid() not in pids


@pytest.mark.usefixtures("backend")
def test_joblib_puts_the_rest_of_a_call_together(master: WorkMaster) -> None:
    """What it cuts into ten batches for each worker is one message, not one by one as others end."""
    lab = master.master.lab
    journal = lab.status().journal.path

    def put_at_once() -> int:
        assert joblib.Parallel()(joblib.delayed(pow)(x, 2) for x in range(3000)) == [x * x for x in range(3000)]
        latest = max(lab.runs(master.master.name), key=lambda info: info.run)
        with contextlib.closing(apsw.Connection(journal, flags=apsw.SQLITE_OPEN_READONLY)) as db:
            return int(db.execute("SELECT max(n) FROM blocks WHERE run = ?", (latest.run,)).get)

    # Calls that take long, as on a machine that is busy otherwise, are put one by one.
    eventually(lambda: put_at_once() >= 20, "a call to be cut into batches")


@pytest.mark.usefixtures("backend")
def test_joblib_gives_generators_beside_other_calls() -> None:
    squares = joblib.Parallel(return_as="generator", batch_size=3)(joblib.delayed(pow)(x, 2) for x in range(50))
    first = next(squares)
    assert joblib.Parallel()(joblib.delayed(abs)(-x) for x in range(50)) == [*range(50)]
    assert [first, *squares] == [x * x for x in range(50)]
    disordered = joblib.Parallel(return_as="generator_unordered")(joblib.delayed(pow)(x, 2) for x in range(50))
    assert sorted(disordered) == [x * x for x in range(50)]


@pytest.mark.usefixtures("backend")
def test_joblib_waits_for_no_other_call_when_one_has_raised() -> None:
    calls = [joblib.delayed(time.sleep)(60), *(joblib.delayed(math.sqrt)(x) for x in (1, 4, -1))]
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        joblib.Parallel(batch_size=1)(calls)
    assert time.monotonic() - began < 30
    with joblib.Parallel(n_jobs=2, batch_size=1) as parallel:  # kept for several calls
        with pytest.raises(ValueError, match=r"math domain|nonnegative"):
            parallel(calls)
        assert parallel(joblib.delayed(abs)(-x) for x in range(9)) == [*range(9)]


@pytest.mark.usefixtures("backend")
def test_joblib_raises_what_a_call_raised_and_goes_on() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        joblib.Parallel()(joblib.delayed(lambda x: 1 / (50 - x))(x) for x in range(100))
    assert isinstance(raised.value.__cause__, TaskFailed)
    assert joblib.Parallel()([joblib.delayed(abs)(-1)]) == [1]
    with pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(timeout=0.1)(joblib.delayed(time.sleep)(0.5) for _ in range(3))
    with pytest.raises(ValueError, match="n_jobs == 0"):
        joblib.Parallel(n_jobs=0)([])


@pytest.mark.usefixtures("backend")
def test_calls_within_calls_stay_in_their_worker() -> None:
    def inner(k: int) -> tuple[int, int]:
        return k, os.getpid()

    def outer(i: int) -> tuple[int, list[tuple[int, int]]]:
        deeper = joblib.delayed(lambda k: joblib.Parallel(n_jobs=2)([joblib.delayed(inner)(k)])[0])
        return os.getpid(), joblib.Parallel(n_jobs=2)(deeper(i * k) for k in range(4))

    for i, (pid, found) in enumerate(joblib.Parallel(n_jobs=2)(joblib.delayed(outer)(i) for i in range(6))):
        assert found == [(i * k, pid) for k in range(4)]


@pytest.mark.usefixtures("backend")
def test_a_grid_search_has_equal_results() -> None:
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    X, y = load_iris(return_X_y=True)
    grid = {"C": [0.1, 1, 10], "gamma": [0.01, 0.1]}
    there = GridSearchCV(SVC(), grid, cv=3).fit(X, y)
    with joblib.parallel_backend("sequential"):
        here = GridSearchCV(SVC(), grid, cv=3).fit(X, y)
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        assert (there.cv_results_[key] == here.cv_results_[key]).all()
    assert there.best_params_ == here.best_params_
    assert (there.predict(X) == here.predict(X)).all()

    forest = GridSearchCV(RandomForestClassifier(5, random_state=1, n_jobs=2), {"max_depth": [1, 3]}, cv=3)
    assert forest.fit(X, y).best_params_ == {"max_depth": 3}, "n_jobs within n_jobs"
    trees = RandomForestClassifier(6, random_state=1, n_jobs=2).fit(X, y)
    alone = RandomForestClassifier(6, random_state=1).fit(X, y)
    assert (trees.predict_proba(X) == alone.predict_proba(X)).all(), "fitted models come back, too"


# -- mappers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [StaticParallelMapper, DynamicParallelMapper, GuidedMapper])
def test_mappers_map_over_a_master(master: WorkMaster, kind: Callable[..., Mapper]) -> None:
    scale = 3
    with kind(master) as mapper:
        assert mapper.workers == 2
        assert mapper(lambda x, y: scale * x + y, range(500), range(500)) == [4 * x for x in range(500)]
        assert mapper(lambda x: {x}, [1, 2]) == [{1}, {2}]
        with pytest.raises(ZeroDivisionError):
            mapper(lambda x: 1 / x, [2, 1, 0])
        assert mapper(abs, [-1]) == [1]


def test_a_mapper_has_processes_of_its_own() -> None:
    with GuidedMapper(workers=2) as mapper:
        assert mapper.workers == 2
        assert os.getpid() not in mapper(lambda _: os.getpid(), range(10))


def test_a_mapper_over_a_master_with_a_function_of_its_own() -> None:
    with (
        WorkMaster(lambda x: x + 1, workers=1) as master,
        MasterExecutor(master) as executor,
        GuidedMapper(executor) as mapper,
    ):
        assert mapper(executor.evaluate, range(50)) == list(range(1, 51))
        assert mapper(executor.evaluate, []) == []


def test_the_programs_mapper_is_a_loop_in_a_worker(master: WorkMaster) -> None:
    def nested(x: int) -> tuple[bool, list[int]]:
        serial = isinstance(program_mapper.current, SerialMapper)
        program_mapper.choose(GuidedMapper.__new__(GuidedMapper))  # as a program would that is imported there
        return serial and isinstance(program_mapper.current, SerialMapper), program_mapper(abs, [x, -x])

    with program_mapper.using(GuidedMapper(master)):
        assert program_mapper(nested, [1, 2]) == [(True, [1, 1]), (True, [2, 2])]
    with MasterExecutor(master) as executor:
        assert executor.submit(nested, 3).result(PATIENCE) == (True, [3, 3]), "whoever has sent it there"
