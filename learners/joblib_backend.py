"""A joblib backend: ``Parallel`` calls, and so scikit-learn's ``n_jobs``, fan out over a Master.

::

    from taskmaster.learners.joblib_backend import register

    register()
    with joblib.parallel_backend("taskmaster", address="ipc:///run/taskmaster/control", master="any"):
        GridSearchCV(model, grid).fit(X, y)

joblib sends code and gets objects, so the Master is one that takes code: a WorkMaster without a function, or one with
``code = true``. Batches of calls are tasks, sized by joblib as for its own processes; each ``Parallel`` call is a run.

Calls within calls stay where they are: those of the first level have threads in their worker, further ones are loops.
Were they to come back to the Master, all its workers could come to wait for tasks that none is left to evaluate.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from functools import partial
from inspect import signature
from multiprocessing import TimeoutError  # joblib's own
from typing import Any

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.learners.client import Master, connect
from taskmaster.learners.executor import MasterExecutor, require_master
from taskmaster.learners.workmaster import WorkMaster

try:
    from joblib import register_parallel_backend
    from joblib._parallel_backends import (  # where other distributions' backends take them from, too
        AutoBatchingMixin,
        FallbackToBackend,
        ParallelBackendBase,
        SequentialBackend,
    )
except ImportError as error:
    raise CallerError(lacking("the joblib backend needs", "joblib", "joblib", error)) from error

__all__ = ["TaskMasterBackend", "register"]


#: A batch may be so many times as large as the one before it, where joblib's own backends double it: a task costs more
#: than a message between processes, as it is written to disk, so small batches are to be left behind sooner.
_GROWTH = 256


class TaskMasterBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Evaluates batches of calls by a Master.

    ``master`` is a Master, a WorkMaster, or the name of one of the daemon at ``address`` (by default the local one);
    it may be left out where the daemon has one Master only that takes code. ``unpickle`` is that of
    :class:`MasterExecutor`: without, results are what can travel (numbers, texts, lists, dicts, arrays), which is what
    searches and cross-validations give, though not fitted models.

    Raises CallerError for a setting that there is not, and where no Master, or more than one, takes code;
    UnknownMaster, DaemonUnreachable.
    """

    supports_retrieve_callback = True
    supports_timeout = supports_return_generator = True
    uses_threads = False
    supports_sharedmem = False
    default_n_jobs = -1
    _effective_batch_size: int
    _smoothed_batch_duration: float

    def __init__(
        self,
        address: str | None = None,
        master: str | Master | WorkMaster | None = None,
        unpickle: bool | None = None,
        **settings: Any,
    ) -> None:
        _require_known(settings)
        super().__init__(**settings)
        if master is not None and not isinstance(master, str):
            require_master(master, "a joblib backend")
            if address is not None:
                raise CallerError(
                    f"a joblib backend takes a Master, {master!r}, or the address of one's daemon, not both"
                )
        self._master = master if isinstance(master, (Master, WorkMaster)) else _find(address, master)
        self._unpickle = unpickle
        self._executor: MasterExecutor | None = None
        #: Parallel calls that have begun and not ended
        self._calls = 0
        #: what the first call raised of those that did: nobody is to wait for the others
        self._failure: Future[Any] = Future()
        #: of the last batches of a call, what has joblib give the next; and whether somebody is at these
        self._further: deque[tuple[Callable[[Any], Any], Future[Any]]] = deque()
        self._is_asking = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls are evaluated at a time: as many as are wanted, of -1 as many as the Master does."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs > 0:
            return n_jobs or 1
        return max(1, self._needed().await_workers() + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **settings: Any) -> int:
        """Open a run for one Parallel call; returns how many calls are evaluated at a time."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            if not self._calls:
                self._close()
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._begin(is_generator=parallel is None or parallel.return_generator)
        self.parallel = parallel
        self._needed()
        return n_jobs

    def _begin(self, *, is_generator: bool) -> None:
        """A call begins; others may have begun that are generators, of which not all has been taken.

        What callbacks retrieve joblib looks for every 10 ms. Generators need that. For a list it can wait instead.
        """
        if not self._calls:
            self.supports_retrieve_callback = is_generator
            self._failure = Future()
        elif not self.supports_retrieve_callback:
            raise CallerError(
                "this joblib backend is amid another Parallel call; give each thread a backend of its own"
            )
        self._calls += 1

    def compute_batch_size(self) -> int:
        """How many calls the next batch has: growing until one takes long enough to be worth its task."""
        former, seconds = self._effective_batch_size, self._smoothed_batch_duration
        size: int = super().compute_batch_size()
        if size == 2 * former and seconds > 0:
            enough = 2 * former * self.MIN_IDEAL_BATCH_DURATION / seconds
            size = self._effective_batch_size = int(min(_GROWTH * former, enough))
        return size

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Have a batch of calls evaluated. Whoever calls this has joblib's lock."""
        executor = self._needed()
        future = executor.submit(func)
        future.add_done_callback(partial(_pass_failure, self._failure))
        if callback is None:
            return future
        if self.supports_retrieve_callback or len(func) >= self._effective_batch_size:
            future.add_done_callback(callback)
            return future
        self._further.append((callback, future))
        if not self._is_asking:
            self._ask_for_all(executor)
        return future

    def _ask_for_all(self, executor: MasterExecutor) -> None:
        """Have joblib give all that it has cut the rest of a call into: small batches, ten for each worker.

        It gives a batch whenever one has ended, and each would cost two messages and a commit by itself. They are there
        already, so nothing is gained by that; together they are one message, and the Master shares them out evenly.
        """
        self._is_asking = True
        try:
            with executor.gathering():
                while self._further:
                    callback, future = self._further.popleft()
                    callback(future)
        finally:
            self._is_asking = False
            self._further.clear()

    def retrieve_result(self, out: Future[Any], timeout: float | None = None) -> Any:
        """The results of a batch, as soon as they are there; or what a call has raised, of whichever batch."""
        done, _ = wait([out, self._failure], timeout, FIRST_COMPLETED)
        if not done:
            raise TimeoutError(f"no result of a batch of calls within {timeout:g} s")
        return (out if out in done else self._failure).result()

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The results of a batch, or what one of its calls raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what has no result: one has raised, or nobody waits any more."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.abandon(wait=False)
        if ensure_ready:
            self._calls -= 1
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def terminate(self) -> None:
        """Close the run, if no other call needs it."""
        self._calls = max(0, self._calls - 1)
        if not self._calls:
            self._close()

    def _close(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
        self.reset_batch_stats()

    def _needed(self) -> MasterExecutor:
        if self._executor is None:
            self._executor = MasterExecutor(self._master, unpickle=self._unpickle)
            if not self._executor.takes_code:
                self._close()
                raise CallerError(_no_code([self._master]))
        return self._executor


def register(name: str = "taskmaster", *, make_default: bool = False) -> None:
    """Make the backend known to joblib. Once in a program is enough."""
    register_parallel_backend(name, TaskMasterBackend, make_default=make_default)


def _require_known(settings: Collection[str]) -> None:
    """Raise CallerError for what is neither a setting of ours nor one that joblib gives each of its backends."""
    parameters = [
        *signature(TaskMasterBackend).parameters.values(),
        *signature(ParallelBackendBase).parameters.values(),
    ]
    known = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    for name in settings:
        if name not in known:
            own = [*signature(TaskMasterBackend).parameters][:-1]
            raise CallerError(f"the joblib backend has no setting {name!r}{did_you_mean_or(name, own, 'it has')}")


def _pass_failure(failure: Future[Any], future: Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        with contextlib.suppress(InvalidStateError):  # another one was the first
            failure.set_exception(error)


def _find(address: str | None, name: str | None) -> Master:
    lab = connect(address)
    masters = [lab[other] for other in lab] if name is None else [lab[name]]
    fitting = [master for master in masters if master._info.code]
    if not fitting:
        raise CallerError(_no_code(masters))
    if len(fitting) > 1:
        raise CallerError(f"several Masters take code: {_names(fitting)}; say which: master=…")
    return fitting[0]


def _no_code(masters: list[Any]) -> str:
    return (
        f"joblib sends code, and of the daemon's Masters ({_names(masters)}) none takes any; take a WorkMaster(None), "
        "or a Master with code = true"
    )


def _names(masters: list[Any]) -> str:
    return ", ".join(repr(getattr(master, "name", "work")) for master in masters)
