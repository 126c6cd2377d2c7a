"""One learner on several Masters: each point goes where it can be evaluated, at the least cost.

Each Master has a run of its own, under one name, and knows nothing of the others. Here they are one run again: tasks
are numbered in the order in which they were put, whichever Master they went to, and results in the order in which they
were taken.

Going on with runs that exist, what was recorded is found again by asking: a point that the learner asks for and that
is among those recorded stands for that task, wherever it was put then. What the learner does not ask for again is told
in the end, as a point that was never asked for: nothing is lost, or mixed up.

No journal holds in which order results of *different* Masters were taken: of the recorded ones the earliest finished is
told first. A learner that is to ask the same points again after a restart should be wrapped in
:class:`~taskmaster.learners.inorder.InOrder`.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

from taskmaster.bus import values
from taskmaster.bus.errors import CallerError, DaemonUnreachable, InvalidTask, TaskCancelled, TaskFailed
from taskmaster.bus.fields import Field, Schema, shown
from taskmaster.learners.looping.legs import Leg, waiting
from taskmaster.learners.results import Result
from taskmaster.learners.target import Recorded, Target, TargetRun

__all__ = ["Cost", "RoutedResult", "RoutedRun", "Routes"]

#: What it costs to have a point evaluated by this Master, which has so many in flight; infinite if it cannot.
Cost: TypeAlias = Callable[[Any, Target, int], float]


class Routes:
    """Several Masters as one, to drive a learner against.

    ``cost(point, master, in_flight)`` says what a point costs at a Master (seconds, money) that has so many in flight;
    infinite where it cannot be evaluated there. The least counts, and of equals the Master named first. By default it
    is how many tasks there are for each slot, where the Master's parameters take the point. ``parameters`` and
    ``outputs`` are the first Master's, unless they are given.

        Routes([lab["simulation"], lab["probe"]], cost=lambda point, master, n: n if master.name == "probe" else 10)
    """

    def __init__(
        self,
        masters: Sequence[Target],
        cost: Cost | None = None,
        *,
        parameters: Sequence[Field] | None = None,
        outputs: Sequence[Field] | None = None,
    ) -> None:
        self.masters = _different(masters)
        self.name = "+".join(master.name for master in self.masters)
        self.parameters = tuple(self.masters[0].parameters if parameters is None else parameters)
        self.outputs = tuple(self.masters[0].outputs if outputs is None else outputs)
        self._cost = cost
        self._slots: list[int] = []
        self._schemas = [Schema(tuple(master.parameters), master.name) for master in self.masters]

    def wait_for_slots(self, timeout: float = 10.0) -> int:
        """How many tasks they evaluate at a time, together."""
        self._slots = [master.wait_for_slots(timeout) for master in self.masters]
        return sum(self._slots)

    def open(
        self, name: str | None = None, *, seed: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> RoutedRun:
        """A run at each Master, all of one name and seed: new ones, or those that there are, to go on with."""
        first = self.masters[0].open(name, seed=seed, metadata=metadata)
        others = [master.open(first.name, seed=first.seed, metadata=metadata) for master in self.masters[1:]]
        return RoutedRun(self, [first, *others])

    def choose(self, point: Any, in_flight: Sequence[int]) -> int:
        """Which of the Masters a point goes to, where they have so many in flight. Raises InvalidTask for none."""
        if self._cost is None and not self._slots:
            self.wait_for_slots()
        costs = [self._of(k, point, in_flight[k]) for k in range(len(self.masters))]
        least = min(costs)
        if not least < math.inf:
            names = ", ".join(repr(master.name) for master in self.masters)
            raise InvalidTask(f"none of the Masters {names} can evaluate {shown(point)}")
        return costs.index(least)

    def _of(self, k: int, point: Any, in_flight: int) -> float:
        if self._cost is not None:
            return self._cost(point, self.masters[k], in_flight)
        if self._schemas[k]:
            try:
                self._schemas[k].row(point)
            except InvalidTask:
                return math.inf
        return (in_flight + 1) / max(1, self._slots[k])

    def __repr__(self) -> str:
        return f"<Routes to {', '.join(master.name for master in self.masters)}>"


def _different(masters: Sequence[Target]) -> tuple[Target, ...]:
    """These Masters. Raises CallerError where they are none, no Masters, or one of them twice."""
    given = tuple(masters) if isinstance(masters, Iterable) else (masters,)
    if not given:
        raise CallerError("Routes needs a Master to begin with")
    for k, master in enumerate(given):
        if not isinstance(master, Target) or isinstance(masters, Target):
            raise CallerError(f"Routes takes several Masters in a list, not {master!r}")
        if any(_place(master) == _place(other) for other in given[:k]):
            raise CallerError(f"Routes has Master {master.name!r} twice; a run of it can be open once")
    return given


def _place(master: Target) -> tuple[Any, str]:
    """What one Master has in common with itself, had twice from its daemon."""
    return getattr(getattr(master, "lab", None), "address", id(master)), master.name


class RoutedResult(Result):
    """A result of one of the Masters, numbered as a task and an event of them all."""

    __slots__ = ("_index", "_own", "_seq", "master")

    def __init__(self, own: Result, index: int, seq: int, master: Target) -> None:
        self._own = own
        self._index = index
        self._seq = seq
        #: who evaluated it
        self.master = master

    @property
    def index(self) -> int:
        """The task's number in the routed run; -1 if it was recorded and has not been asked for."""
        return self._index

    @property
    def seq(self) -> int:
        """The number of the event in the routed run."""
        return self._seq

    @property
    def outcome(self) -> str:
        """``done``, ``failed`` or ``cancelled``."""
        return self._own.outcome

    @property
    def input(self) -> Any:
        """The point that was evaluated."""
        return self._own.input

    @property
    def is_edited(self) -> bool:
        """Whether somebody has given the task another input than it was put with."""
        return self._own.is_edited

    @property
    def output(self) -> Any:
        """What the evaluation returned. Raises TaskFailed or TaskCancelled where there is none."""
        return self._own.output

    @property
    def error(self) -> TaskFailed | TaskCancelled | None:
        """Why there is no output; None if there is one."""
        return self._own.error

    @property
    def worker(self) -> str:
        """Who evaluated it."""
        return self._own.worker

    @property
    def attempt(self) -> int:
        """Which evaluation of it this was, from 1."""
        return self._own.attempt

    @property
    def started(self) -> float:
        """When its evaluation began, in seconds since 1970 by the worker's clock."""
        return self._own.started

    @property
    def finished(self) -> float:
        """When its evaluation ended, in seconds since 1970 by the worker's clock."""
        return self._own.finished

    def __iter__(self) -> Iterator[Any]:
        return iter((self.input, self.output))


class RoutedRun:
    """Runs of several Masters as one; see :class:`Routes`. One thread puts and takes."""

    def __init__(self, routes: Routes, runs: Sequence[TargetRun]) -> None:
        self.master = routes
        self.name = runs[0].name
        self.seed = runs[0].seed
        self.metadata = runs[0].metadata
        #: the index that the next task will get; what is recorded is found again by putting it
        self.next_index = 0
        #: ``seq`` of the last event that was taken; -1 if there was none
        self.told = -1
        #: where points are put, and where results arrive: here
        self.tasks = self.results = self
        self._legs = [Leg(run) for run in runs]
        #: recorded tasks that the learner has not asked for yet, by what their points have in common with it
        self._recorded: dict[Hashable, deque[tuple[Leg, int]]] = {}
        for leg in self._legs:
            self._find_record(leg)
        self._waiting = waiting(f"run {self.name!r} of {routes.name!r}", self._legs)

    @property
    def runs(self) -> tuple[TargetRun, ...]:
        """The run of each Master, in their order."""
        return tuple(leg.run for leg in self._legs)

    @property
    def open_tasks(self) -> int:
        """Tasks whose outcome has not arrived here."""
        return sum(len(leg.points) for leg in self._legs)

    def clock(self) -> float:
        """Seconds, by the first Master's clock."""
        return self._legs[0].run.clock()

    def time(self) -> float:
        """Seconds since 1970."""
        return self._legs[0].run.time()

    def flush(self, timeout: float | None = None) -> None:
        """Wait, up to ``timeout`` seconds for each Master, until all that was put is recorded."""
        for leg in self._legs:
            leg.run.flush(timeout)

    def close(self) -> None:
        """No further tasks, at any of the Masters, and no further results here."""
        self._waiting.end()
        for leg in self._legs:
            leg.run.close()

    def detach(self) -> None:
        """No further results here; the runs are left as they are."""
        self._waiting.end()
        for leg in self._legs:
            leg.run.detach()

    def __enter__(self) -> RoutedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            with contextlib.suppress(DaemonUnreachable):  # what has gone wrong before is what is to be raised
                self.detach()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def put(self, point: Any) -> int:
        """Put a point where it costs least; returns its index. Raises InvalidTask."""
        recorded = self._recorded.get(_key(point))
        if recorded:
            leg, there = recorded.popleft()
        else:
            leg = self._legs[self.master.choose(point, [len(leg.points) for leg in self._legs])]
            self._waiting.level()
            there = leg.run.tasks.put(point)
        leg.points[there] = (self.next_index, point)
        self.next_index += 1
        return self.next_index - 1

    def put_many(self, points: Sequence[Any]) -> list[int]:
        """Put several. Raises InvalidTask, and has put none, if there is one that no Master takes."""
        for point in points:
            self.master.choose(point, [0] * len(self._legs))
        return [self.put(point) for point in points]

    def new_ask(self, after: int | None = None, *asked: int) -> None:
        """What is put next was asked for together: noted at each Master, with the last event of its own."""
        for leg in self._legs:
            leg.run.tasks.new_ask(leg.told, *asked)

    def gather(self, on: bool = True) -> None:
        """Whether what is put may be kept until :meth:`send`, or until a result is waited for."""
        for leg in self._legs:
            leg.run.tasks.gather(on)

    def send(self, *, listen: bool = True) -> None:
        """Let go what was gathered."""
        for leg in self._legs:
            leg.run.tasks.send(listen=listen)

    def _find_record(self, leg: Leg) -> None:
        """Note the tasks that one of the Masters has already."""
        if leg.run.next_index and isinstance(leg.run, Recorded):
            for block in leg.run.record():
                for index, point in enumerate(block.points.rows(), block.first):
                    self._recorded.setdefault(_key(point), deque()).append((leg, index))

    # -- results ------------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Result:
        """The next result of any of the Masters; of those that are here, the one that was finished first.

        Raises TimeoutError after ``timeout`` seconds, and what waiting at one of the Masters raises.
        """
        self.send()
        return self._numbered(*self._waiting.take(self._next, timeout))

    def rouse(self, on: bool = True) -> None:
        """Have :meth:`get` raise TimeoutError now; from any thread, and from a signal's handler."""
        self._waiting.rouse(on)

    def __iter__(self) -> Iterator[Result]:
        """Results until no task is open."""
        while self.open_tasks:
            yield self.get()

    def _next(self) -> Leg | None:
        """Whose result is next. What nobody has asked for waits for it, until nothing else can come."""
        here = [leg for leg in self._legs if leg.result is not None]
        awaited = [leg for leg in here if leg.is_awaited]
        if awaited:
            return min(awaited, key=_finished)
        if here and not any(leg.points and not leg.came for leg in self._legs):
            return min(here, key=_finished)
        return next((leg for leg in self._legs if leg.came and leg.result is None), None)

    def _numbered(self, leg: Leg, own: Result) -> Result:
        """A result as one of this run."""
        leg.told = own.seq
        self.told += 1
        index, _ = leg.points.pop(own.index, (-1, None))
        if index < 0 and (leg, own.index) in (recorded := self._recorded.get(_key(own.input), deque())):
            recorded.remove((leg, own.index))  # asked for later, it is another task
        return RoutedResult(own, index, self.told, leg.run.master)


def _key(point: Any) -> Hashable:
    """What a point and the same one out of the journal have in common."""
    if isinstance(point, Mapping):
        return tuple((name, _key(point[name])) for name in sorted(point))
    try:
        hash(point)
    except TypeError:
        return values.encode(point)
    return point  # type: ignore[no-any-return]


def _finished(leg: Leg) -> float:
    assert leg.result is not None
    return leg.result.finished
