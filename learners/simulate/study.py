"""Which learner gets there first: learners compared in virtual time, over seeds and numbers of workers."""

from __future__ import annotations

import contextlib
import inspect
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from taskmaster.bus.errors import CallerError, TaskCancelled, TaskFailed
from taskmaster.bus.fields import Field, shown
from taskmaster.bus.text import count, format_duration
from taskmaster.learners.arguments import whole, wholes
from taskmaster.learners.declared import Fields, as_fields
from taskmaster.learners.goals import Goal
from taskmaster.learners.loop import Loop
from taskmaster.learners.looping.hooks import Hooks
from taskmaster.learners.looping.interrupts import interrupted_at_once
from taskmaster.learners.protocol import Learner
from taskmaster.learners.record import select
from taskmaster.learners.results import Result
from taskmaster.learners.simulate.failures import FailuresLike
from taskmaster.learners.simulate.latency import LatencyLike
from taskmaster.learners.simulate.master import SimulatedMaster, Thinking
from taskmaster.learners.simulate.workers import MISHAPS

__all__ = ["HEADINGS", "MakeLearner", "Row", "Study", "Trial", "goal_text", "study"]

#: A learner for these parameters and outputs, fresh.
MakeLearner: TypeAlias = Callable[[Sequence[Field], Sequence[Field]], Learner]

#: What the columns of :meth:`Study.rows` are called.
HEADINGS = ("learner", "workers", "reached", "time to goal", "evaluations to goal", "best", "idle")


@dataclass(frozen=True)
class Trial:
    """One learner, with so many workers, and one seed."""

    learner: str
    workers: int
    seed: int
    #: virtual seconds and evaluations until the goal; infinite where it was not reached
    seconds: float
    evaluations: float
    #: share of the workers' time in which they evaluated nothing
    idle: float
    #: the best output so far after each result, ``(n,)``, and when that was; NaN as long as there was none
    best: Sequence[float] = field(repr=False)
    times: Sequence[float] = field(repr=False)

    @property
    def is_reached(self) -> bool:
        """Whether it got there."""
        return math.isfinite(self.seconds)


@dataclass(frozen=True)
class Row:
    """One learner with so many workers: medians over the seeds, a trial without the goal counting as infinite."""

    learner: str
    workers: int
    trials: int
    reached: int
    seconds: float
    evaluations: float
    best: float
    idle: float

    def cells(self) -> tuple[str, ...]:
        """For people, in the order of :data:`HEADINGS`."""
        return (
            self.learner,
            str(self.workers),
            f"{self.reached} of {self.trials}",
            format_duration(self.seconds) if math.isfinite(self.seconds) else "–",
            f"{self.evaluations:.0f}" if math.isfinite(self.evaluations) else "–",
            "–" if math.isnan(self.best) else f"{self.best:.4g}",
            f"{100 * self.idle:.1f} %",
        )


@dataclass(frozen=True)
class Study:
    """What :func:`study` has found."""

    trials: Sequence[Trial]
    goal: str
    minimize: bool = True

    def rows(self) -> list[Row]:
        """A row for each number of workers and learner, in the order in which they were given."""
        return [_row(group) for group in self.groups()]

    def groups(self) -> Iterator[list[Trial]]:
        """The trials that differ in their seed alone."""
        keys = dict.fromkeys((trial.workers, trial.learner) for trial in self.trials)
        for key in keys:
            yield [trial for trial in self.trials if (trial.workers, trial.learner) == key]

    def table(self) -> str:
        """The rows as aligned text."""
        lines = [HEADINGS, *(row.cells() for row in self.rows())]
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if k == 0 else cell.rjust(width) for k, (cell, width) in enumerate(zip(line, widths))
            ).rstrip()
            for line in lines
        )

    def plot(self, file: Any = None) -> Any:
        """Best output so far against virtual time, medians and quartiles; written to ``file``, if any. The figure.

        Raises CallerError without matplotlib.
        """
        from taskmaster.learners.simulate.plot import plot_study

        return plot_study(self, file)

    def __str__(self) -> str:
        return self.table()


def study(
    learners: Mapping[str, MakeLearner],
    f: Callable[[Any], Any],
    parameters: Fields,
    *,
    goal: float | Goal | None = None,
    evaluations: int = 100,
    seeds: int | Sequence[int] = 10,
    workers: int | Sequence[int] = (8,),
    latency: LatencyLike = 1.0,
    failures: FailuresLike | None = None,
    thinking: Thinking = False,
    outputs: Fields = (),
    output: str | None = None,
    minimize: bool = True,
    in_flight: int | None = None,
    on_trial: Callable[[Trial], object] | None = None,
) -> Study:
    """Have each learner learn ``f`` in a simulated laboratory, once for each seed and number of workers.

    Args:
        learners: a function for each name that makes the learner, given parameters and outputs.
        f: evaluates a point, as of a :class:`SimulatedMaster`; so ``parameters``, ``outputs``, ``latency``,
            ``failures`` and ``thinking``.
        goal: an output to reach, a number (at most that, or at least if not ``minimize``), or a goal of a Loop, such as
            ``loss(0.01)``; None where only the best is looked at.
        evaluations: a trial ends without the goal after so many, those that failed among them.
        seeds: numbers, or how many; a seed is that of the simulation and of the run.
        workers: a number of workers, or several.
        output: which output counts, where there are several.
        in_flight: tasks in flight for each worker; by default two, or as the learner wants, as in a Loop.
        on_trial: called after each trial.

    The seeds are the same for all learners, and with them the durations that the first, second, … evaluation takes:
    differences are the learners' own. Ctrl-C ends it at once, by KeyboardInterrupt; what had ended by then ``on_trial``
    was told of. Raises CallerError for what it cannot do, and where every evaluation of a trial has failed of itself;
    and what a learner raises, with a note that says in which trial that was.
    """
    fields, declared = as_fields(parameters), as_fields(outputs, nan=True)
    evaluations = whole(evaluations, "evaluations", 1, 10_000_000)
    in_flight = None if in_flight is None else whole(in_flight, "in_flight for each worker", 1, 1_000_000)
    for name, make in _named(learners).items():
        _require_making(name, make, fields, declared)
    numbers = _several(workers, "workers", 1)
    chosen = list(range(whole(seeds, "seeds", 1, 10_000_000))) if _is_whole(seeds) else _several(seeds, "seeds", 0)
    goal = _goal(goal)
    if on_trial is not None and not callable(on_trial):
        raise CallerError(f"on_trial is called with each Trial; got {shown(on_trial)}")
    trials = []
    for n in numbers:
        for name, make in learners.items():
            for seed in chosen:
                with _naming(name, n, seed), interrupted_at_once():
                    master = SimulatedMaster(
                        f, n, latency, failures, seed, thinking=thinking, parameters=fields, outputs=declared
                    )
                    course = _Course(goal, output, minimize=minimize)
                    loop = Loop(
                        master,
                        make(fields, declared),
                        goal=course.goal | _ended(evaluations),
                        in_flight=None if in_flight is None else in_flight * n,
                        hook=course,
                        max_failures=None,
                        seed=seed,
                    )
                    master.runs[loop.run_.name].expression = None  # whoever reads an error has no such run
                    loop.run()
                    course.require_outputs(name, loop)
                    trial = course.trial(name, n, seed, loop, master)
                trials.append(trial)
                if on_trial is not None:
                    on_trial(trial)
    return Study(trials, goal_text(goal, minimize=minimize), minimize)


def goal_text(goal: float | Goal | None, *, minimize: bool) -> str:
    """What a goal of :func:`study` is, for :class:`Study`."""
    if goal is None:
        return "none"
    return f"{'≤' if minimize else '≥'} {goal:g}" if isinstance(goal, (int, float)) else repr(goal)


@contextlib.contextmanager
def _naming(learner: str, workers: int, seed: int) -> Iterator[None]:
    """Say of an error in which trial that was."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"That was learner {learner!r} of a study, in its trial with seed {seed} and {count(workers, 'worker')}: "
            f"a study with seeds=[{seed}] and workers={workers} is that trial alone."
        )
        raise


def _named(learners: Any) -> Mapping[str, MakeLearner]:
    if isinstance(learners, Mapping) and learners:
        return learners
    raise CallerError(
        "a study compares learners by their names: give one at least, "
        f'{{"sobol": lambda parameters, outputs: Sobol(parameters)}}; got {shown(learners)}'
    )


def _require_making(name: str, make: Any, parameters: Sequence[Field], outputs: Sequence[Field]) -> None:
    """Raise CallerError for what is no function of parameters and outputs, as far as that can be seen."""
    how = f"learner {name!r} of a study is made by a function, lambda parameters, outputs: …"
    if not callable(make):
        raise CallerError(f"{how}; got {shown(make)}")
    try:
        signature = inspect.signature(make)
        names = signature.bind(parameters, outputs).arguments
    except ValueError:  # nobody knows what it takes
        return
    except TypeError as error:
        raise CallerError(f"{how}; {shown(make)} is not called so: {error}") from None
    second = signature.parameters[list(names)[-1]]
    if isinstance(make, type) and second.kind is not second.VAR_POSITIONAL and second.name != "outputs":
        raise CallerError(f"{how}; {make.__name__} takes {second.name!r}, not outputs, as its second argument")


def _is_whole(number: Any) -> bool:
    return hasattr(number, "__index__")


def _several(numbers: Any, what: str, least: int) -> list[int]:
    """One number, or several, at least one."""
    given = wholes([numbers] if _is_whole(numbers) else numbers, what, least, 2**63 - 1)
    if not given:
        raise CallerError(f"{what} of a study: give one at least, not {shown(numbers)}")
    return given


def _goal(goal: Any) -> float | Goal | None:
    if goal is None or isinstance(goal, Goal):
        return goal
    if isinstance(goal, (int, float, np.number)) and not isinstance(goal, bool) and not math.isnan(goal):
        return float(goal)
    raise CallerError(
        "the goal of a study is an output to reach, a number, or the goal of a Loop, like loss(0.01) or seconds(3600); "
        f"not {shown(goal)}"
    )


def _ended(n: int) -> Goal:
    """``n`` evaluations have ended, with an output or without: where all fail, it is over too."""
    return Goal(
        lambda loop: loop.told + loop.failed >= n,
        f"{n} evaluations",
        missing=lambda loop: n - loop.told - loop.failed,
    )


class _Course(Hooks):
    """Follows one loop: the best so far, and when the goal was reached."""

    def __init__(self, goal: float | Goal | None, output: str | None, *, minimize: bool) -> None:
        self._output = output
        self._better = min if minimize else max
        self._sign = 1.0 if minimize else -1.0
        self._value = goal if isinstance(goal, (int, float)) else None
        self._is_reached = False
        self.best: list[float] = []
        self.times: list[float] = []
        self.goal = goal if isinstance(goal, Goal) else Goal(lambda loop: self._is_reached, f"{goal}")
        self._is_a_goal = isinstance(goal, Goal)
        #: why the first evaluation failed that did so of itself
        self._error: TaskFailed | None = None

    def told(self, loop: Loop, result: Result) -> None:
        value = select(result.output, self._output)
        number = float(value) if isinstance(value, (int, float, np.number)) else math.nan
        before = self.best[-1] if self.best else math.nan
        self.best.append(
            before if math.isnan(number) else number if math.isnan(before) else self._better(before, number)
        )
        self.times.append(loop.elapsed)
        if self._value is not None and self._sign * self.best[-1] <= self._sign * self._value:
            self._is_reached = True

    def failed(self, loop: Loop, result: Result, error: TaskFailed | TaskCancelled) -> None:
        if self._error is None and isinstance(error, TaskFailed) and error.kind not in MISHAPS:
            self._error = error

    def require_outputs(self, learner: str, loop: Loop) -> None:
        """Raise CallerError where the function is no good, or the points are not for it."""
        if self._error is not None and not loop.told:
            raise CallerError(
                f"all {loop.failed} evaluations that {learner} asked for have failed, one of them with "
                f"{self._error.kind}: {self._error.args[0]}"
            ) from self._error

    def trial(self, learner: str, workers: int, seed: int, loop: Loop, master: SimulatedMaster) -> Trial:
        """What has come of it."""
        reached = self.goal.reached(loop) if self._is_a_goal else self._is_reached
        return Trial(
            learner,
            workers,
            seed,
            loop.elapsed if reached else math.inf,
            loop.told + loop.failed if reached else math.inf,
            master.statistics().idle,
            self.best,
            self.times,
        )


def _row(trials: Sequence[Trial]) -> Row:
    final = [trial.best[-1] for trial in trials if trial.best]
    return Row(
        trials[0].learner,
        trials[0].workers,
        len(trials),
        sum(trial.is_reached for trial in trials),
        statistics.median(trial.seconds for trial in trials),
        statistics.median(trial.evaluations for trial in trials),
        statistics.median(final) if final else math.nan,
        statistics.fmean(trial.idle for trial in trials),
    )
