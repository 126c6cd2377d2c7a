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
from taskmaster.learners.arguments import check_since, moment, rank, text, whole, words
from taskmaster.learners.client import SLOTS_SECONDS
from taskmaster.learners.declared import Fields, as_fields
from taskmaster.learners.results import Result
from taskmaster.learners.simulate.absent import stands_for
from taskmaster.learners.simulate.failures import FailuresLike, as_failures
from taskmaster.learners.simulate.journal import RunJournal
from taskmaster.learners.simulate.latency import LatencyLike, as_latency
from taskmaster.learners.simulate.run import SimulatedResults, SimulatedRun, SimulatedTasks
from taskmaster.learners.simulate.workers import VirtualWorkers, returned

__all__ = ["SimulatedMaster", "SimulationStatistics", "Thinking"]

#: How long a learner's asking and telling takes in virtual time, see :class:`SimulatedMaster`.
Thinking = bool | float

_MOST_WORKERS = 1_000_000
_LARGEST_SEED = 2**63 - 1


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


@stands_for("Master")
class SimulatedMaster:
    """What a Master is, with ``f(point)`` evaluated here and now, and virtual time in between.

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

    Time passes only in ``results.get()`` and what waits for results: until the next arrives, or its time-out. Nothing
    ever blocks: where no result would ever come that is said. One thread drives all runs of a simulation; they share
    its workers as those of a daemon do, the highest ``priority`` first, and equals by how long their evaluations take.

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
        #: what there is of its runs, by their names, in the order in which they were made
        self.journals: dict[str, RunJournal] = {}
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

    def wait_for_slots(self, timeout: float = SLOTS_SECONDS) -> int:
        """:attr:`slots`: they are always there."""
        return self.slots

    # -- runs ---------------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> Mapping[str, SimulatedRun]:
        """The runs by their names, as they were opened last; one that is but a fork as yet, for reading."""
        return {
            name: SimulatedRun(journal, write=False) if journal.opened is None else journal.opened
            for name, journal in self.journals.items()
        }

    def open(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        since: str = "start",
        priority: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> SimulatedRun:
        """Open a run for writing: a new one, or an existing one to go on with (its former writer is fenced).

        ``seed`` and ``metadata`` are recorded with a new run (the simulation's seed gives one if it is None). ``since``
        says which results of an existing run come: ``"start"`` all, ``"now"`` those that arrive from now on. The run of
        the highest ``priority`` goes first, equals share. Raises Conflict if the run exists with another seed.
        """
        self.catch_up()
        check_since(since)
        name = text("" if name is None else name, "a run's name") or self._fresh_name()
        seed = None if seed is None else whole(seed, "seed", 0, _LARGEST_SEED)
        metadata = words(metadata, "metadata")
        priority = None if priority is None else rank(priority)
        journal = self.journals.get(name)
        if journal is None:
            journal = self.begin(name, seed, metadata)
        elif seed not in (None, journal.seed):
            raise Conflict(f"run {name!r} of the simulation has the seed {journal.seed}, not {seed}")
        if priority is not None:
            journal.priority = priority
        journal.opened = SimulatedRun(journal, write=True, since=since)
        return journal.opened

    def watch(self, name: str, since: str = "start") -> SimulatedRun:
        """An existing run for reading: its results, whoever writes to it. Raises UnknownRun."""
        self.catch_up()
        journal = self.journals.get(text(name, "a run's name"))
        if journal is None:
            raise UnknownRun(f"the simulation has no run {name!r}{did_you_mean_or(name, self.journals, 'it has')}")
        return SimulatedRun(journal, write=False, since=since)

    def begin(
        self, name: str, seed: int | None, metadata: Mapping[str, str] | None = None, priority: int = 0
    ) -> RunJournal:
        """A new run, which nobody has open."""
        number = len(self.journals) + 1
        if seed is None:
            seed = int(np.random.default_rng([self.seed, 2, number]).integers(2**63))
        journal = self.journals[name] = RunJournal(self, number, name, seed, metadata or {}, priority)
        return journal

    def _fresh_name(self) -> str:
        """One that no run has: whoever opens a run by a name that is there goes on with it."""
        number = len(self.journals) + 1
        while f"run-{number}" in self.journals:
            number += 1
        return f"run-{number}"

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
        """The outputs for ``points``, in their order. No learner thinks meanwhile.

        Raises TaskFailed for the first that fails; the others are cancelled then.
        """
        with self._errand() as run:
            outputs: list[Any] = [None] * len(run.tasks.put_many(points))
            while run.open_tasks:
                result = run.results.take()
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
        self.workers.turns.paused = True

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self.catch_up()
        self.workers.turns.paused = False
        self.workers.serve()

    def set_workers(self, count: int) -> None:
        """Have ``count`` workers; further ones are of speed 1. Raises CallerError for what is no number of them.

        Those that are too many, idle ones before busy ones, leave when they have finished.
        """
        self.catch_up()
        self.workers.resize(whole(count, "the number of workers", 0, _MOST_WORKERS))

    # -- where it stands ----------------------------------------------------------------------------------------------

    def clock(self) -> float:
        """The simulation's time, in seconds."""
        self.catch_up()
        return self.workers.now

    def statistics(self) -> SimulationStatistics:
        """Where it stands."""
        elapsed = self.clock() - self._began  # first, for tasks may end while the learner is thinking
        workers, losses = self.workers, self.workers.losses
        outcomes = [task.outcome for run in self.journals.values() for task in run.events]
        offered = workers.offered_seconds
        busy = workers.busy_seconds / offered if offered > 0 else 1.0
        return SimulationStatistics(
            slots=workers.n,
            elapsed=elapsed,
            tasks=sum(run.next_index for run in self.journals.values()),
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
