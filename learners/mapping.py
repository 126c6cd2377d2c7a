"""MasterMap: a ``map`` over a Master, for libraries that take a map-like callable or a pool.

SciPy's ``workers=`` calls it, emcee's ``pool=`` and others' ask for its ``map``::

    with WorkMaster(None, workers=4) as master, MasterMap(master) as workers:
        scipy.optimize.differential_evolution(cost, bounds, workers=workers, updating="deferred")
        emcee.EnsembleSampler(32, 5, log_probability, pool=workers)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

from taskmaster.bus.errors import CallerError, TaskFailed, TaskMasterError
from taskmaster.learners.client import Master
from taskmaster.learners.executor import MasterExecutor, require_master
from taskmaster.learners.workmaster import WorkMaster

__all__ = ["MasterMap"]

T = TypeVar("T")


class MasterMap:
    """The builtin ``map`` for one iterable, evaluated by a Master (see :class:`MasterExecutor`), as a list.

    What the function raised arrives as TaskFailed, with the exception itself as its cause: SciPy takes a TypeError or
    ValueError of a map-like callable for a sign that it was called wrongly, and says that instead.

    ``chunksize`` calls make one task, see :meth:`MasterExecutor.map`.

    Raises CallerError for what is no Master of a daemon.
    """

    def __init__(self, master: Master | WorkMaster | MasterExecutor, *, chunksize: int = 1) -> None:
        if not isinstance(master, MasterExecutor):
            require_master(master, "a MasterMap")
        self._own = not isinstance(master, MasterExecutor)
        self.executor = master if isinstance(master, MasterExecutor) else MasterExecutor(master)
        self._chunksize = chunksize

    def __call__(self, function: Callable[[Any], T], points: Iterable[Any], /) -> list[T]:
        """``[function(point) for point in points]``.

        Raises TaskFailed for the first that failed, cancelling the rest.
        """
        try:
            return list(self.executor.map(function, points, chunksize=self._chunksize))
        except TaskMasterError as error:
            if isinstance(error, (TypeError, ValueError)):
                raise CallerError(str(error)) from error
            raise
        except Exception as error:
            failed = error.__cause__
            if not isinstance(failed, TaskFailed):
                raise
            error.__cause__ = None  # the other way round, as it is the failure that is raised here
            raise failed from error

    def map(self, function: Callable[[Any], T], points: Iterable[Any], /) -> list[T]:
        """The same, by the name that pools have."""
        return self(function, points)

    @property
    def evaluate(self) -> Callable[[Any], Any]:
        """The function to map where the Master evaluates points by itself, see :meth:`MasterExecutor.evaluate`."""
        return self.executor.evaluate

    def close(self) -> None:
        """Close the run. An executor that was given stays open."""
        if self._own:
            self.executor.shutdown()

    def __enter__(self) -> MasterMap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own and error is None:
            self.executor.shutdown()
        elif self._own:
            self.executor.abandon()
