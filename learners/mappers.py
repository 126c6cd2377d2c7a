"""Mappers: four ways to hand out the calls of one ``map``, behind one interface.

=======================  ================================================================  =========================
mapper                   what a worker gets                                                 good for
=======================  ================================================================  =========================
`SerialMapper`           everything, here, one after the other                              debugging, short lists
`StaticParallelMapper`   an equal part of all, up front                                     calls of equal length
`DynamicParallelMapper`  the next call, whenever it is free                                 few long uneven calls
`GuidedMapper`           a share of what remains, whenever it is free; in the end one call  everything: the default
=======================  ================================================================  =========================

Static balancing costs a message for each worker and waits for the one with the heaviest part; dynamic balancing waits
for nobody and costs a message for each call. *Guided self-scheduling* (C. D. Polychronopoulos and D. J. Kuck, IEEE
Trans. Computers C-36, 1425, 1987) hands out chunks that shrink as the work does, from ``1/(2 × workers)`` of what
remains to one call: as even as the second, for about ``2 × workers × log(n)`` messages.

A program chooses its mapper in one place, by the :data:`mapper` of this module, and maps with that everywhere. Inside a
parallel section, in a function that is being mapped, it falls back to a plain loop: whatever it calls may map, too.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from types import TracebackType
from typing import Any, Literal, TypeAlias

from taskmaster.bus.calls import each
from taskmaster.bus.errors import CallerError
from taskmaster.bus.sections import is_parallel
from taskmaster.learners.arguments import whole
from taskmaster.learners.client import Master
from taskmaster.learners.executor import MasterExecutor, require_master
from taskmaster.learners.views import MOST_WORKERS
from taskmaster.learners.workmaster import WorkMaster

__all__ = [
    "DynamicParallelMapper",
    "GuidedMapper",
    "Mapper",
    "MapperInstance",
    "SerialMapper",
    "StaticParallelMapper",
    "mapper",
]

#: What evaluates: threads of this program, processes of its own, a Master, or any executor.
On: TypeAlias = Literal["threads", "processes"] | Master | WorkMaster | Executor


class Mapper(ABC):
    """Calls a function for each row of arguments. A context manager, and callable like :meth:`map`."""

    @abstractmethod
    def map(self, function: Callable[..., Any], xs: Iterable[Any], *more: Iterable[Any]) -> list[Any]:
        """``list(map(function, xs, *more))``. Raises what the first call that failed raised, in their order."""

    @property
    def workers(self) -> int:
        """How many calls are evaluated at a time, at present."""
        return 1

    def close(self) -> None:  # noqa: B027 - nothing to do is a fine default
        """Let go of what evaluates, if it is this mapper's own."""

    def __call__(self, function: Callable[..., Any], xs: Iterable[Any], *more: Iterable[Any]) -> list[Any]:
        return self.map(function, xs, *more)

    def __enter__(self) -> Mapper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SerialMapper(Mapper):
    """A plain loop."""

    def map(self, function: Callable[..., Any], xs: Iterable[Any], *more: Iterable[Any]) -> list[Any]:
        """``list(map(function, xs, *more))``."""
        return list(map(function, xs, *more))


class ParallelMapper(Mapper):
    """Hands out chunks of calls, each of consecutive rows.

    ``on`` is ``"threads"``, ``"processes"`` (of a WorkMaster, so that any function can be mapped), a Master or an
    executor; of the first two there are ``workers``, by default one for each processor. A Master that takes functions
    by name, or evaluates points by itself, is given the calls one by one, and chooses the chunks.

    Raises CallerError for what maps nothing, and numbers of workers that cannot be.
    """

    def __init__(self, on: On = "processes", workers: int | None = None) -> None:
        self._stack = ExitStack()
        self._count = self._wanted(on, workers)
        self._executor = self._open(on)

    @staticmethod
    def _wanted(on: On, workers: int | None) -> int:
        """How many workers there are to be; 0 where what is given has its own."""
        if isinstance(on, str):
            return whole(_processors() if workers is None else workers, "the number of workers", 1, MOST_WORKERS)
        if workers is not None:
            raise CallerError("workers is for 'threads' and 'processes'; a Master or an executor has its own")
        return 0

    def _open(self, on: On) -> Executor:
        if isinstance(on, Executor):
            return on
        if on == "threads":
            return self._stack.enter_context(ThreadPoolExecutor(self._count, "taskmaster-mapper"))
        if on == "processes":
            return self._stack.enter_context(MasterExecutor(self._own_processes()))
        if isinstance(on, str):
            raise CallerError(f"a mapper maps on 'threads', 'processes', a Master or an executor, not {on!r}")
        require_master(on, type(self).__name__)
        executor = self._stack.enter_context(MasterExecutor(on))
        executor.await_workers()
        return executor

    def _own_processes(self) -> WorkMaster:
        return self._stack.enter_context(WorkMaster(None, workers=self._count))

    @abstractmethod
    def sizes(self, n: int) -> Iterable[int]:
        """How many of ``n`` calls each chunk has, in their order."""

    def map(self, function: Callable[..., Any], xs: Iterable[Any], *more: Iterable[Any]) -> list[Any]:
        """``list(map(function, xs, *more))``, in parallel."""
        executor = self._executor
        rows = list(zip(xs, *more))
        if isinstance(executor, MasterExecutor):
            if not executor.takes_code:
                return list(executor.map(function, *zip(*rows))) if rows else []
            function = executor.pack(function)
        ends = [0]
        for size in self.sizes(len(rows)):
            ends.append(ends[-1] + size)
        futures = [executor.submit(each, function, rows[low:high]) for low, high in pairwise(ends)]
        return _gathered(futures)

    @property
    def workers(self) -> int:
        """How many calls are evaluated at a time; of a Master, how many at present."""
        return self._count or int(getattr(self._executor, "_max_workers", 1))

    def close(self) -> None:
        """End the threads or processes. What was given stays open."""
        self._stack.close()


class StaticParallelMapper(ParallelMapper):
    """Each worker gets an equal part, up front."""

    def sizes(self, n: int) -> Iterator[int]:
        """One part for each worker, none if there are fewer calls."""
        parts = min(n, self.workers)
        return (n // parts + (k < n % parts) for k in range(parts))


class DynamicParallelMapper(ParallelMapper):
    """Each worker gets the next call whenever it is free. (A Master gives light ones a few at a time, all the same.)"""

    def sizes(self, n: int) -> Iterator[int]:
        """One by one."""
        return (1 for _ in range(n))


class GuidedMapper(ParallelMapper):
    """Each worker gets a share of what remains whenever it is free; towards the end, one call."""

    def sizes(self, n: int) -> Iterator[int]:
        """Half of an equal part of what remains, at least 1."""
        shares = 2 * self.workers
        while n:
            size = -(-n // shares)
            yield size
            n -= size


class MapperInstance(Mapper):
    """The mapper of a program, chosen in one place: a plain loop until then, and inside of parallel sections."""

    def __init__(self, chosen: Mapper | None = None) -> None:
        self._serial = SerialMapper()
        self._chosen: Mapper = chosen or self._serial

    def choose(self, chosen: Mapper) -> Mapper:
        """Map with this one from now on; returns the former one. Neither is closed."""
        if chosen is self:
            raise CallerError("a MapperInstance maps with another mapper, not with itself")
        former, self._chosen = self._chosen, chosen
        return former

    @contextmanager
    def using(self, chosen: Mapper) -> Iterator[MapperInstance]:
        """Map with this one as long as the context lasts, and close it then."""
        with chosen:
            former = self.choose(chosen)
            try:
                yield self
            finally:
                self.choose(former)

    @property
    def current(self) -> Mapper:
        """What maps here and now."""
        return self._serial if is_parallel() else self._chosen

    @property
    def workers(self) -> int:
        """Those of :attr:`current`."""
        return self.current.workers

    def map(self, function: Callable[..., Any], xs: Iterable[Any], *more: Iterable[Any]) -> list[Any]:
        """By :attr:`current`."""
        return self.current.map(function, xs, *more)

    def close(self) -> None:
        """Close the chosen mapper, and go back to the plain loop."""
        self.choose(self._serial).close()

    def __reduce__(self) -> tuple[type[MapperInstance], tuple[()]]:
        return MapperInstance, ()  # where it travels to is a parallel section


#: The program's mapper.
mapper = MapperInstance()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gathered(futures: Sequence[Future[list[Any]]]) -> list[Any]:
    try:
        return [value for future in futures for value in future.result()]
    finally:
        for future in futures:  # none is left, but where one has failed, or waiting was broken off
            future.cancel()
