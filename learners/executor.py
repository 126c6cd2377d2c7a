"""MasterExecutor: a ``concurrent.futures.Executor`` whose workers are a Master's.

Whatever takes an executor takes this one: ``adaptive.Runner``, asyncio's ``run_in_executor``, Nevergrad, Xopt. Each
call is a task of one run: it is on the daemon's disk before anybody evaluates it, goes on where the daemon was
restarted, and is started again where its worker died.

It derives from ThreadPoolExecutor, of which it uses nothing: that is what programs look for to learn how many workers
there are (``_max_workers``), and here that number lives: it follows the Master's slots.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from types import MethodType
from typing import Any, TypeVar

from taskmaster.bus import messages as m
from taskmaster.bus.calls import Packed, each, opened, returning_objects, unwrapped
from taskmaster.bus.errors import CallerError, NotAllowed, TaskFailed, TaskMasterError
from taskmaster.bus.fields import shown
from taskmaster.learners.arguments import duration
from taskmaster.learners.client import Master
from taskmaster.learners.code import dumps
from taskmaster.learners.collecting import Collector
from taskmaster.learners.requests import Request
from taskmaster.learners.workmaster import WorkMaster

__all__ = ["MasterExecutor", "require_master"]

#: Seconds after which the number of workers is asked for anew, when somebody wants to know it.
FRESH_SECONDS = 0.2
#: Seconds for which workers that are about to start are waited for, where work is to be split among them.
START_SECONDS = 30.0
_LOOK_SECONDS = 0.01

T = TypeVar("T")


class MasterExecutor(ThreadPoolExecutor):
    """Submits calls to a Master: one whose tasks are calls, or any other by way of :meth:`evaluate`.

    ``WorkMaster(None, workers=…)`` takes any function, as does a Master with ``code = true``; one with ``calls = […]``
    takes those that its workers can import and that it lists, with arguments and results that can travel.
    ``name`` is that of the run; ``unpickle`` says whether results may be any objects: they are pickled by the worker
    then, and unpickled here, which is only right if the daemon is trusted like this very program. By default only a
    WorkMaster's is, as it belongs to it.

    Beside what the standard library's executors do: a future can be cancelled also while its call is being evaluated
    (what it does goes on where it cannot be broken off harmlessly, and is ignored), so none is ever ``running()``; and
    :meth:`abandon` cancels all of them. An exception has the type that was raised, if this program has imported it
    (else it is a TaskFailed), and the remote traceback as its cause.

    Raises CallerError for what is no Master of a daemon, and ``unpickle`` for one that takes no code; and what opening
    a run raises.
    """

    def __init__(self, master: Master | WorkMaster, *, name: str | None = None, unpickle: bool | None = None) -> None:
        require_master(master, "a MasterExecutor")
        super().__init__(1)  # of its threads none is ever started
        self._owner = master  # a WorkMaster ends with its last user
        self._master = master.master if isinstance(master, WorkMaster) else master
        info = self._master._info
        self.takes_code = info.code
        self._takes_names = bool(info.calls)
        own = self._master.lab._owner is not None
        self._opens = self.takes_code and (own if unpickle is None else unpickle)
        if unpickle and not self.takes_code:
            raise CallerError(f"Master {self._master.name!r} pickles no results: it does not take code")
        self._slots = _Slots(self._master)
        self._collector = Collector(
            self._master.open(name, since="now"),
            opened if self._opens else None,
            _with_remedy if self.takes_code and not self._opens else None,
        )

    # -- the standard library's interface -----------------------------------------------------------------------------

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called. Raises NotAllowed, InvalidTask or CallerError where it cannot travel."""
        return self._collector.put(self._task(fn, args, kwargs))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **further: Any,
    ) -> Iterator[T]:
        """As the standard library's. The Master hands calls out in chunks anyway; ``chunksize`` makes one task of many.

        That saves the cost of a task for light calls, of a Master that takes code; others leave it out of account.
        ``further`` is what this release of Python has besides: ``buffersize`` from 3.14 on.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if not self.takes_code:
            return super().map(fn, *iterables, timeout=timeout, **further)
        packed = self.pack(fn)
        if chunksize == 1:
            return super().map(packed, *iterables, timeout=timeout, **further)
        rows = zip(*iterables)
        chunks = iter(lambda: list(islice(rows, chunksize)), [])
        return _chained(super().map(partial(each, packed), chunks, timeout=timeout, **further))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No further calls. ``wait`` until those that were submitted have ended, and the run is closed.

        ``cancel_futures``: those that no worker has yet are not evaluated. Where nobody waits, their futures are
        cancelled as soon as the daemon has said which these are.
        """
        self._collector.end(cancel=cancel_futures)
        if wait:
            self._collector.join()

    # -- beyond it ----------------------------------------------------------------------------------------------------

    def abandon(self, wait: bool = True) -> None:
        """:meth:`shutdown`, and cancel every call that has no result, also those that are being evaluated: at once."""
        self._collector.end()
        self._collector.withdraw_all()
        if wait:
            self._collector.join()

    @property
    def master(self) -> Master:
        """The Master."""
        return self._master

    @property
    def run_name(self) -> str:
        """The name of the run that the calls are tasks of."""
        return self._collector.run.name

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Calls that are submitted meanwhile are sent together, at the end at the latest. For one thread at a time."""
        tasks = self._collector.run.tasks
        tasks.gather()
        try:
            yield
        finally:
            tasks.gather(False)

    def evaluate(self, point: Any) -> Any:
        """What the Master gives for ``point``; also the function to submit where it evaluates points by itself.

        A point of a Master with parameters is a dict of them, an array of their values in order, or, if there is one
        only, its value: ``Runner(Learner1D(executor.evaluate, …), executor=executor)``.
        """
        return self.submit(self.evaluate, point).result()

    def pack(self, fn: Callable[..., T]) -> Callable[..., T]:
        """``fn`` pickled once for many calls, where code travels; the same ``fn`` elsewhere."""
        if not self.takes_code or isinstance(fn, Packed):
            return fn
        return Packed(dumps(fn), getattr(fn, "__qualname__", repr(fn)))

    def await_workers(self, timeout: float = START_SECONDS) -> int:
        """How many calls are evaluated at a time, once workers that are about to start have: at least 1."""
        deadline = time.monotonic() + duration(timeout, "timeout")
        status = self._master.statistics()
        while status.starting and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            status = self._master.statistics()
        return self._slots.note(status.slots)

    @property
    def _max_workers(self) -> int:
        """How many calls are evaluated at a time, at present; 1 where there are none, as they wait for one."""
        return self._slots.count or self.await_workers(0.0)

    @_max_workers.setter
    def _max_workers(self, count: int) -> None:
        """The base class says how many threads it would have."""

    def __repr__(self) -> str:
        return f"<MasterExecutor of {self._master!r}, run {self.run_name!r}>"

    def _task(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._opens:
            return returning_objects, (fn, args, kwargs)
        if self.takes_code or self._takes_names:
            return fn, args, kwargs
        return self._point(fn, args, kwargs)

    def _point(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        while (call := unwrapped(fn, args, kwargs)) is not None:
            fn, args, kwargs = call
        ours = isinstance(fn, MethodType) and fn.__func__ is MasterExecutor.evaluate
        if not ours or len(args) != 1 or kwargs:
            raise NotAllowed(
                f"Master {self._master.name!r} evaluates points with a function of its own and takes no others: give "
                "executor.evaluate as the function, with a point, of executor = MasterExecutor(master), which a mapper "
                "takes, too, or of the MasterMap; or use a Master that takes calls (calls = […], "
                "code = true, or a WorkMaster without a function)"
            )
        other = fn.__self__._master
        if (other.name, other.lab.address) != (self._master.name, self._master.lab.address):
            raise NotAllowed(
                f"this executor is of {self._master!r}, and the function evaluates points by {other!r}; submit it to "
                "the executor that it is of"
            )
        return _as_point(args[0], [field.name for field in self._master.parameters])


def require_master(master: Any, who: str) -> None:
    """Raise CallerError for what is no Master of a daemon."""
    if isinstance(master, (Master, WorkMaster)):
        return
    hint = "lab['NAME'] of lab = connect(), or a WorkMaster"
    if hasattr(master, "wait_for_slots"):  # what stands in for a Master, see `taskmaster.learners.target`
        hint += "; a simulated or recorded Master is for a Loop, which goes by its time"
    raise CallerError(f"{who} is over a Master of a daemon, not over {shown(master)}: take {hint}")


def _with_remedy(failed: TaskFailed) -> TaskFailed:
    """What to do about a result that could not travel. That has no traceback: it was returned, not raised."""
    if failed.kind != "TypeError" or failed.traceback or "cannot travel" not in failed.args[0]:
        return failed
    return TaskFailed(
        f"{failed.args[0]}; or have workers pickle results, by unpickle=True of the MasterExecutor or of joblib's "
        'parallel_backend("taskmaster", …), if the daemon is trusted like this program: it can run anything here then',
        failed.kind,
    )


def _as_point(value: Any, names: list[str]) -> Any:
    """A point in the form that a Master with these parameters takes."""
    if not names or isinstance(value, dict):
        return value
    values = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, (list, tuple)):
        values = [values]
    if len(values) != len(names):
        raise CallerError(f"a point has {len(names)} values, for {', '.join(names)}; this one has {len(values)}")
    return dict(zip(names, values))


def _chained(lists: Iterator[list[T]]) -> Iterator[T]:
    for items in lists:
        yield from items


class _Slots:
    """How many slots a Master has, without waiting for the answer: it is asked for when the last one is old."""

    def __init__(self, master: Master) -> None:
        self._lab = master.lab
        self._name = master.name
        self._lock = threading.Lock()
        self._request: Request | None = None
        self._asked_at = time.monotonic()
        self._count = 0

    def note(self, slots: int) -> int:
        """This is what it is now."""
        self._count = max(1, slots)
        return self._count

    @property
    def count(self) -> int:
        """As the daemon has last said, but at least 1; 0 if it has not. Never waits, and raises nothing."""
        channel, now = self._lab._channel, time.monotonic()
        with self._lock, channel.lock:
            request = self._request
            if request is not None and request.answered:
                self._request = None
                if isinstance(request.reply, m.StatusReport):
                    self.note(next((it.slots for it in request.reply.status.masters if it.name == self._name), 0))
            if self._request is None and now - self._asked_at >= FRESH_SECONDS and not channel.closed:
                self._asked_at = now
                self._ask(now)
        return self._count

    def _ask(self, now: float) -> None:
        channel = self._lab._channel
        try:
            self._request = self._lab._core.request(m.Status(0), now)
            channel.flush()
        except TaskMasterError:
            return  # the daemon has ended: whoever submits gets to know
        channel.wake_keeper()
