"""SimulatedMaster: a laboratory in virtual time, to drive a learner against."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import GeneratorType
from typing import Any, SupportsFloat

import numpy as np

from taskmaster.bus.errors import CallerError, Conflict, InvalidOutput, UnknownRun
from taskmaster.bus.fields import Field, Schema, shown
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.arguments import check_since, moment, text, whole, words
from taskmaster.learners.declared import Fields, as_fields
from taskmaster.learners.results import Result
from taskmaster.learners.simulate.failures import FailuresLike, as_failures
from taskmaster.learners.simulate.latency import LatencyLike, as_latency
from taskmaster.learners.simulate.run import SimulatedResults, SimulatedRun, SimulatedTasks
from taskmaster.learners.simulate.workers import VirtualWorkers, returned

__all__ = ["SimulatedMaster", "SimulationStatistics", "Thinking"]

#: How long a learner's asking and telling takes in virtual time, see :class:`SimulatedMaster`.
Thinking = bool | float

_MOST_WORKERS = 1_000_000


@dataclass(frozen=True)
class SimulationStatistics:
    """Where a simulation stands."""

    #: evaluations at a time
    slots: int
    #: seconds of the simulation so far
    elapsed: float
    #: tasks put, and ended with an output or without
    tasks: int
    done: int
    failed: int
    cancelled: int
    #: share of the workers' time so far in which they evaluated nothing
    idle: float
    #: workers that died
    deaths: int
    #: answers that were lost, that came late, and those of them that came too late
    lost: int
    late: int
    ignored: int
    #: attempts beyond a task's first
    repeated: int
    #: events of the heap
    events: int


class SimulatedMaster:
    """What a Master is to a Loop, with ``f(point)`` evaluated here and now, and virtual time in between.

    Args:
        f: evaluates one point: a dict of the parameters, or where none are declared whatever is put. What it raises
            fails the task. It may be a generator function; of that only what it returns counts here.
        workers: how many evaluate at a time; or the speed of each, 1 being the one that ``latency`` speaks of.
        latency: how long an evaluation takes: seconds, a function of the point, or a model of
            :mod:`taskmaster.learners.simulate.latency`.
        failures: what goes wrong; a number is the probability that an evaluation fails.
        seed: of durations, failures and (where a run is opened without) of runs. The same calls give the same history,
            to the bit.
        thinking: whether time passes while the learner thinks: False, not; True, as much as passes here, which makes a
            history that cannot be had again; a number, so many seconds after each result.
        parameters, outputs: as declared of a WorkMaster, or fields of a Master.
        max_attempts: evaluations of a task at most, where workers die or answers are lost.
        began: when the simulation begins, in seconds since 1970 or as a datetime.

    Time passes only in ``results.get()`` and what waits for results: until the next arrives, or its time-out. One
    thread drives all runs of a simulation; where several are open they share the workers, first come, first served,
    those of the highest ``priority`` before the others.

        lab = SimulatedMaster(hills, workers=8, latency=HalfNormal(60), parameters={"x": (0, 1), "y": (0, 1)})
        Loop(lab, learner, goal=500).run()
        lab.statistics().elapsed

    Raises CallerError naming the setting for what cannot be.
    """

    def __init__(
        self,
        f: Callable[[Any], Any],
        workers: int | Sequence[float] = 8,
        latency: LatencyLike = 1.0,
        failures: FailuresLike | None = None,
        seed: int = 0,
        *,
        thinking: Thinking = False,
        parameters: Fields = (),
        outputs: Fields = (),
        max_attempts: int = 3,
        name: str = "simulated",
        began: float | datetime = 0.0,
    ) -> None:
        if not callable(f):
            raise CallerError(f"a SimulatedMaster evaluates with a function, not with a {type(f).__name__}")
        self.name = text(name, "a Master's name")
        self.parameters: tuple[Field, ...] = as_fields(parameters)
        self.outputs: tuple[Field, ...] = as_fields(outputs, nan=True)
        self.schema = Schema(self.parameters, self.name)
        self.seed = whole(seed, "the seed of a simulation", 0, 2**63 - 1)
        self._began = moment(began, "the beginning of a simulation") or 0.0
        self.workers = VirtualWorkers(
            _checked(f, self.outputs, self.name) if self.outputs else f,
            _speeds(workers),
            as_latency(latency),
            as_failures(failures),
            self.seed,
            whole(max_attempts, "max_attempts", 1, 1_000_000),
            self._began,
        )
        self._runs: dict[str, SimulatedRun] = {}
        self._own: SimulatedRun | None = None
        self._measures = thinking is True
        self._each = 0.0 if isinstance(thinking, bool) else _thought(thinking)
        #: results taken and not thought about yet; when the last was taken
        self._unthought = 0
        self._taken_at: float | None = None

    @property
    def slots(self) -> int:
        """How many tasks it evaluates at a time."""
        return self.workers.n

    def wait_for_slots(self, timeout: float = 0.0) -> int:
        """:attr:`slots`: they are always there."""
        return self.slots

    @property
    def runs(self) -> Mapping[str, SimulatedRun]:
        """The runs by their names."""
        return dict(self._runs)

    def open(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        since: str = "start",
        priority: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> SimulatedRun:
        """A run: a new one, or the one of this name, whose results come ``since`` its ``"start"`` or ``"now"``.

        Raises Conflict if that has another seed.
        """
        check_since(since)
        run = self._open(name, seed, since, metadata)
        if priority is not None:
            run.prioritise(priority)
        return run

    def watch(self, name: str, since: str = "start") -> SimulatedRun:
        """The run of this name, as :meth:`open` has it: there is one program here. Raises UnknownRun."""
        check_since(since)
        if name not in self._runs:
            raise UnknownRun(f"the simulation has no run {name!r}{did_you_mean_or(name, self._runs, 'it has')}")
        return self._runs[name].reopen(since)

    def _open(self, name: str | None, seed: int | None, since: str, metadata: Mapping[str, str] | None) -> SimulatedRun:
        number = len(self._runs) + 1
        name = f"run-{number}" if name is None else text(name, "a run's name")
        known = self._runs.get(name)
        if known is not None:
            if seed not in (None, known.seed):
                raise Conflict(f"run {name!r} of the simulation has the seed {known.seed}, not {seed}")
            return known.reopen(since)
        if seed is None:
            seed = int(np.random.default_rng([self.seed, 2, number]).integers(2**63))
        run = SimulatedRun(self, name, whole(seed, "seed", 0, 2**63 - 1), words(metadata, "metadata"))
        self._runs[name] = run
        return run

    def forked(self, source: SimulatedRun, name: str, at: int | None = None) -> SimulatedRun:
        """See :meth:`SimulatedRun.fork`."""
        name = text(name, "a run's name")
        if name in self._runs:
            raise Conflict(f"the simulation has a run {name!r} already; a fork is a run of its own, by a new name")
        at = len(source.events) if at is None else whole(at, "at", 0, len(source.events))
        words_of = {**source.metadata, "forked_from": f"{self.name}/{source.name}", "forked_at": str(at)}
        run = self._runs[name] = SimulatedRun(self, name, source.seed, words_of)
        run.begin_as(source, at)
        return run

    # -- a Master's own tasks and results -----------------------------------------------------------------------------

    @property
    def run(self) -> SimulatedRun:
        """A run of this object's own, opened when it is first used."""
        if self._own is None:
            self._own = self.open()
        return self._own

    @property
    def tasks(self) -> SimulatedTasks:
        """The ``tasks`` channel of :attr:`run`."""
        return self.run.tasks

    @property
    def results(self) -> SimulatedResults:
        """The ``results`` channel of :attr:`run`."""
        return self.run.results

    def map(self, points: Any) -> list[Any]:
        """The outputs for ``points``, in their order.

        Raises TaskFailed for the first that fails; the others are cancelled then.
        """
        with self._errand() as run:
            outputs: list[Any] = [None] * len(run.tasks.put_many(points))
            for result in run.results:
                outputs[result.index] = result.output
        return outputs

    def imap_unordered(self, points: Any) -> Iterator[Result]:
        """Results for ``points`` as they come. Those that nobody waits for any more are cancelled."""
        with self._errand() as run:
            run.tasks.put_many(points)
            yield from run.results

    @contextmanager
    def _errand(self) -> Iterator[SimulatedRun]:
        """A run for one call, which nobody comes back to."""
        run = self.open()
        try:
            yield run
        finally:
            run.cancel()
            run.close()

    # -- switches -----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Evaluate nothing further, of any run; what is being evaluated goes on."""
        self.catch_up()
        self.workers.paused = True

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self.catch_up()
        self.workers.paused = False
        self.workers.serve()

    def set_workers(self, count: int) -> None:
        """Have ``count`` workers; those that go end first what they are at. Raises CallerError for what cannot be."""
        self.catch_up()
        self.workers.resize(whole(count, "the number of workers", 0, _MOST_WORKERS))

    def on_switched(self) -> None:
        """A run was paused or resumed, or has another priority."""
        self.catch_up()
        self.workers.choose(choosy=any(run.is_paused or run.priority for run in self._runs.values()))

    # -- where it stands ----------------------------------------------------------------------------------------------

    def clock(self) -> float:
        """The simulation's time, in seconds."""
        self.catch_up()
        return self.workers.now

    def statistics(self) -> SimulationStatistics:
        """Where it stands."""
        workers, losses = self.workers, self.workers.losses
        outcomes = [task.outcome for run in self._runs.values() for task in run.events]
        elapsed = self.clock() - self._began
        offered = workers.offered_seconds
        busy = workers.busy_seconds / offered if offered > 0 else 1.0
        return SimulationStatistics(
            slots=workers.n,
            elapsed=elapsed,
            tasks=sum(run.next_index for run in self._runs.values()),
            done=outcomes.count("done"),
            failed=outcomes.count("failed"),
            cancelled=outcomes.count("cancelled"),
            idle=max(0.0, 1.0 - busy),
            deaths=losses.deaths,
            lost=losses.lost,
            late=losses.late,
            ignored=losses.ignored,
            repeated=losses.repeated,
            events=workers.events,
        )

    # -- the learner's time -------------------------------------------------------------------------------------------

    def on_taken(self) -> None:
        """A result has been taken: from now on the learner thinks."""
        if self._measures:
            self._taken_at = time.perf_counter()
        elif self._each:
            self._unthought += 1

    def catch_up(self) -> None:
        """Let the time pass that the learner has been thinking."""
        if self._taken_at is not None:
            now = time.perf_counter()
            self.workers.advance(self.workers.now + now - self._taken_at)
            self._taken_at = now
        elif self._unthought:
            self.workers.advance(self.workers.now + self._each * self._unthought)
            self._unthought = 0

    def __repr__(self) -> str:
        return f"<SimulatedMaster {self.name!r} of {self.slots} workers at {self.workers.now:g} s>"


def _thought(seconds: Any) -> float:
    if isinstance(seconds, str) or not isinstance(seconds, SupportsFloat) or not 0 <= float(seconds) < math.inf:
        raise CallerError(f"thinking must be True, False or a number of seconds, not {shown(seconds)}")
    return float(seconds)


def _speeds(workers: int | Sequence[float]) -> tuple[float, ...]:
    given: Any = workers
    if isinstance(given, Sequence) and not isinstance(given, str):
        speeds = tuple(given)
        if not speeds or not all(isinstance(speed, (int, float)) and 0 < speed < math.inf for speed in speeds):
            raise CallerError(f"the speeds of workers must be numbers above 0, not {workers!r}")
        return tuple(map(float, speeds))
    return (1.0,) * whole(given, "the number of workers", 1, _MOST_WORKERS)


def _checked(f: Callable[[Any], Any], outputs: Sequence[Field], owner: str) -> Callable[[Any], Any]:
    """``f`` with what it returns checked and formed as a Master's with these outputs would be."""
    schema = Schema(outputs, owner, "output")
    names = schema.names
    only = names[0] if len(names) == 1 else None

    def evaluate(point: Any) -> Any:
        value = f(point)
        if type(value) is GeneratorType:
            value = returned(value)
        if not isinstance(value, Mapping):
            if only is None:
                raise InvalidOutput(
                    f"Master {owner!r}: a function of {len(names)} outputs ({', '.join(names)}) returns a dict of "
                    f"them, not {type(value).__name__}"
                )
            value = {only: value}
        row = schema.row(value)
        return row[0] if only is not None else dict(zip(names, row))

    return evaluate
