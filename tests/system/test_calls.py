"""Masters whose tasks are calls, by name or as code; and libraries that go on where their daemon is killed."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.daemon import EVALUATIONS, Daemon
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, InvalidTask, NotAllowed, TaskFailed
from taskmaster.learners.client import Lab
from taskmaster.learners.executor import MasterExecutor
from taskmaster.learners.joblib_backend import register
from taskmaster.learners.mappers import GuidedMapper
from taskmaster.learners.mapping import MasterMap

NAMED = {"driver": "process", "workers": 1, "calls": ["math:*", "numpy.*", "os.path:join", "evaluations:*"]}
CODE = {"driver": "process", "workers": 2, "code": True}


@pytest.fixture(scope="module")
def lab(start_shared_daemon: StartDaemon) -> Iterator[Lab]:
    named = {**NAMED, "path": [str(EVALUATIONS)]}
    daemon = start_shared_daemon({"named": named, "code": CODE, "thread": {"driver": "thread", "code": True}})
    with daemon.connect() as lab:
        yield lab


# -- by name ----------------------------------------------------------------------------------------------------------


def test_functions_are_called_by_their_names(lab: Lab) -> None:
    with MasterExecutor(lab["named"]) as executor:
        assert executor.submit(math.hypot, 3, 4).result(PATIENCE) == 5
        assert executor.submit(np.linalg.norm, np.array([3.0, 4.0]), ord=1).result(PATIENCE) == 7
        assert executor.submit(partial(math.pow, 2), 5).result(PATIENCE) == 32
        assert executor.submit(np.sin, 0.0).result(PATIENCE) == 0, "a ufunc does not know its module"
        assert executor.submit(os.path.join, "a", "b").result(PATIENCE) == "a/b", "another name for posixpath.join"
        assert list(executor.map(math.sqrt, [1, 4, 9], chunksize=2)) == [1, 2, 3]
        with pytest.raises(ValueError, match=r"math domain error|expected a nonnegative"):
            executor.submit(math.sqrt, -1).result(PATIENCE)


def test_tasks_may_name_them_too(lab: Lab) -> None:
    with lab["named"].open() as run:
        run.tasks.put(("math:hypot", (3, 4)))
        run.tasks.put_many([("math:floor", (2.5,), {}), (math.ceil, [2.5])])
        assert sorted(result.output for result in run.results) == [2, 3, 5]
        wrongs: list[Any] = [3, ("math:sqrt", 4), (math.sqrt, (4,), {}, {})]
        for wrong in wrongs:
            with pytest.raises(InvalidTask, match=r"takes \(function, args, kwargs\) as tasks"):
                run.tasks.put(wrong)


def test_what_is_not_allowed_or_has_no_name_is_refused_before_it_is_put(lab: Lab) -> None:
    def local() -> None: ...

    with MasterExecutor(lab["named"]) as executor:
        refused: list[tuple[Callable[..., Any], str]] = [
            (eval, r"does not allow 'builtins:eval'; its calls = \['math:\*', .*\] say what may be called"),
            (os.system, "does not allow 'posix:system'"),
            (lambda: 1, "takes functions by name, and .*<lambda> has no name to import it by: move it to a module"),
            (local, "has no name to import it by"),
            ([].append, "has no name|is not"),
        ]
        for function, message in refused:
            with pytest.raises(NotAllowed, match=message):
                executor.submit(function)
        with pytest.raises(InvalidTask, match=r"builtins\.set cannot travel"):
            executor.submit(math.fsum, {1, 2})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "does not allow 'os:system'"),
        ("math:_private", "does not allow"),
        ("numpy:ctypeslib.ctypes.CDLL", "name the function by its own module"),
        ("numpy.linalg:nrom", "there is no 'nrom'; did you mean 'norm'"),
        ("numpy.nowhere:norm", "its workers find no module 'numpy.nowhere'"),
        ("math:pi", "'pi' is a float"),
        ("evaluations:Path", "has it from 'pathlib"),
    ],
)
def test_the_worker_looks_for_itself(lab: Lab, name: str, message: str) -> None:
    """A client that does not check gets no further."""
    with lab["named"].open() as run:
        run._core._calls = ()
        run.tasks.put((name, (), {}))
        result = run.results.get(PATIENCE)
        assert result.outcome == "failed"
        assert message in str(result.error)


def test_a_task_that_is_no_call_fails(lab: Lab) -> None:
    with lab["named"].open() as run:
        run._core._calls = ()
        run.tasks.put_many([3, ("math:sqrt",), (3, (), {})])
        assert {result.error.kind for result in run.results if isinstance(result.error, TaskFailed)} == {
            "taskmaster.bus.errors.InvalidTask"
        }


def _raise(error: Exception) -> None:
    raise error


# -- as code ----------------------------------------------------------------------------------------------------------


def test_code_travels_where_the_configuration_says_so(lab: Lab) -> None:
    offset = 3
    for name in ("code", "thread"):
        with MasterExecutor(lab[name]) as executor:
            assert list(executor.map(lambda x: x + offset, range(5))) == [3, 4, 5, 6, 7]
            with pytest.raises(
                TypeError, match=r"builtins\.set cannot travel.*; or .* by unpickle=True of the MasterEx"
            ):
                executor.submit(lambda: {1}).result(PATIENCE)
            with pytest.raises(TypeError, match=r"^a set cannot travel$"):
                executor.submit(_raise, TypeError("a set cannot travel")).result(PATIENCE)
        with MasterExecutor(lab[name], unpickle=True) as executor:
            assert executor.submit(lambda: {1}).result(PATIENCE) == {1}


def test_joblib_says_what_it_lacks(lab: Lab) -> None:
    joblib = pytest.importorskip("joblib")
    register()
    with pytest.raises(CallerError, match=r"\('named'\) none takes any; .* with code = true"):
        joblib.parallel_backend("taskmaster", address=lab.address, master="named")
    with pytest.raises(CallerError, match="several Masters take code: 'code', 'thread'; say which"):
        joblib.parallel_backend("taskmaster", address=lab.address)
    with pytest.raises(CallerError, match="has no setting 'adress'; did you mean 'address'"):
        joblib.parallel_backend("taskmaster", adress="x")
    with pytest.raises(CallerError, match="has no setting 'timeout'; it has 'address', 'master', 'unpickle'"):
        joblib.parallel_config("taskmaster", address=lab.address, master="code", timeout=3)
    with pytest.raises(CallerError, match="a joblib backend is over a Master of a daemon, not over 3"):
        joblib.parallel_backend("taskmaster", master=3)
    with pytest.raises(CallerError, match=r"takes a Master, <Master .*, or the address of one's daemon, not both"):
        joblib.parallel_backend("taskmaster", address=lab.address, master=lab["code"])
    with (
        joblib.parallel_backend("taskmaster", address=lab.address, master="code"),
        pytest.raises(TypeError, match=r'builtins\.set cannot travel.*; or .* parallel_backend\("taskmaster", …\), if'),
    ):
        joblib.Parallel()(joblib.delayed(set)([k]) for k in range(20))
    with joblib.parallel_backend("taskmaster", address=lab.address, master="code", unpickle=True):
        assert joblib.Parallel()(joblib.delayed(set)([k]) for k in range(20)) == [{k} for k in range(20)]
    with joblib.parallel_config(
        "taskmaster", address=lab.address, master="code", n_jobs=2, verbose=0, prefer="threads"
    ):
        assert joblib.Parallel()(joblib.delayed(abs)(-k) for k in range(20)) == [*range(20)]


def test_a_forest_of_scikit_learn_needs_pickled_results_and_is_told_so(lab: Lab) -> None:
    joblib = pytest.importorskip("joblib")
    ensemble = pytest.importorskip("sklearn.ensemble")
    register()
    x, y = np.arange(40.0)[:, None], np.arange(40) // 20
    with (
        joblib.parallel_backend("taskmaster", address=lab.address, master="code"),
        pytest.raises(TypeError, match=r"sklearn\..*DecisionTreeClassifier cannot travel; .* by unpickle=True"),
    ):
        ensemble.RandomForestClassifier(4, n_jobs=-1, random_state=1).fit(x, y)
    with joblib.parallel_backend("taskmaster", address=lab.address, master="code", unpickle=True):
        forest = ensemble.RandomForestClassifier(4, n_jobs=-1, random_state=1).fit(x, y)
    assert forest.score(x, y) > 0.9


# -- a daemon that is killed ------------------------------------------------------------------------------------------


class Square:
    """Squares numbers, a few of them; then it waits until the daemon has been killed, whatever evaluates it where."""

    def __init__(self, folder: Path) -> None:
        self._begun = folder / "begun"
        self._killed = folder / "killed"
        self._begun.touch()

    @property
    def is_waiting(self) -> bool:
        return self._begun.stat().st_size > 20 and not self._killed.exists()

    def go_on(self) -> None:
        self._killed.touch()

    def __call__(self, x: float) -> float:
        with self._begun.open("ab") as file:
            file.write(b".")
        while self.is_waiting:
            time.sleep(0.001)
        return x * x


@pytest.fixture
def square(tmp_path: Path) -> Square:
    return Square(tmp_path)


@contextmanager
def killed_in_the_middle(daemon: Daemon, square: Square) -> Iterator[None]:
    """Kill the daemon once some calls have been evaluated, and start it again."""

    def kill() -> None:
        eventually(lambda: square.is_waiting, "some calls to be evaluated")
        daemon.kill()
        square.go_on()
        daemon.start()

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


@pytest.fixture(scope="module")
def victim(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"code": CODE}, name="victim")


def test_an_executor_loses_nothing(victim: Daemon, square: Square) -> None:
    with victim.connect() as lab, MasterExecutor(lab["code"]) as executor:
        with killed_in_the_middle(victim, square):
            results = list(executor.map(square, range(500)))
        assert results == pytest.approx([x * x for x in range(500)])
        cancelled = executor.submit(square, 3)
        cancelled.cancel()
        assert executor.submit(square, 2).result(PATIENCE) == pytest.approx(4)


def test_a_runner_of_adaptive_goes_on(victim: Daemon, square: Square) -> None:
    adaptive = pytest.importorskip("adaptive")
    with victim.connect() as lab, MasterExecutor(lab["code"]) as executor:
        learner = adaptive.Learner1D(square, bounds=(-1, 1))
        with killed_in_the_middle(victim, square):
            adaptive.BlockingRunner(learner, npoints_goal=250, executor=executor)
        assert len(learner.data) >= 250
        assert not learner.pending_points or len(learner.pending_points) <= 2


def test_joblib_goes_on(victim: Daemon, square: Square) -> None:
    joblib = pytest.importorskip("joblib")
    register()
    with victim.connect() as lab, joblib.parallel_backend("taskmaster", master=lab["code"]):
        with killed_in_the_middle(victim, square):
            results = joblib.Parallel(batch_size=1)(joblib.delayed(square)(x) for x in range(300))
        assert results == pytest.approx([x * x for x in range(300)])


def test_a_grid_search_goes_on_with_equal_results(victim: Daemon, square: Square) -> None:
    joblib = pytest.importorskip("joblib")
    sklearn = pytest.importorskip("sklearn.datasets")
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    register()
    X, y = sklearn.load_iris(return_X_y=True)
    grid = {"C": np.logspace(-2, 2, 10), "gamma": [0.01, 0.1, 1.0]}

    def score(model: Any, X: Any, y: Any) -> float:
        return float(model.score(X, y)) + 0 * square(1.0)

    with victim.connect() as lab, joblib.parallel_backend("taskmaster", master=lab["code"]):
        with killed_in_the_middle(victim, square):
            there = GridSearchCV(SVC(), grid, cv=3, scoring=score).fit(X, y)
        with joblib.parallel_backend("sequential"):
            here = GridSearchCV(SVC(), grid, cv=3, scoring=score).fit(X, y)
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        assert (there.cv_results_[key] == here.cv_results_[key]).all()
    assert there.best_params_ == here.best_params_


def test_asyncio_goes_on(victim: Daemon, square: Square) -> None:
    async def use(executor: MasterExecutor) -> list[float]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, square, x) for x in range(300)))

    with victim.connect() as lab, MasterExecutor(lab["code"]) as executor:
        with killed_in_the_middle(victim, square):
            results = asyncio.run(use(executor))
        assert results == pytest.approx([x * x for x in range(300)])


def test_scipy_goes_on(victim: Daemon, square: Square) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    settings = {"bounds": [(-2, 3)], "updating": "deferred", "rng": 5, "maxiter": 15, "tol": 0, "polish": False}

    def cost(x: Any) -> float:
        return square(float(x[0]) - 1)

    with victim.connect() as lab, MasterMap(lab["code"]) as workers:
        with killed_in_the_middle(victim, square):
            found = optimize.differential_evolution(cost, workers=workers, **settings)
        assert found.x == pytest.approx(optimize.differential_evolution(cost, **settings).x, abs=0)


def test_emcee_goes_on(victim: Daemon, square: Square) -> None:
    emcee = pytest.importorskip("emcee")
    start = np.random.RandomState(1).randn(8, 2)

    def log_probability(x: Any) -> float:
        return -square(float(x[0])) - square(float(x[1]))

    def chain(pool: MasterMap | None) -> Any:
        sampler = emcee.EnsembleSampler(8, 2, log_probability, pool=pool)
        sampler.random_state = np.random.RandomState(2).get_state()
        sampler.run_mcmc(start, 8)
        return sampler.get_chain()

    with victim.connect() as lab, MasterMap(lab["code"]) as pool:
        with killed_in_the_middle(victim, square):
            walked = chain(pool)
        assert (walked == chain(None)).all()


def test_a_mapper_goes_on(victim: Daemon, square: Square) -> None:
    with victim.connect() as lab, GuidedMapper(lab["code"]) as mapper:
        with killed_in_the_middle(victim, square):
            results = mapper(square, range(1000))
        assert results == pytest.approx([x * x for x in range(1000)])
