"""Pruning by Optuna: tasks are cancelled whose progress says that nothing will come of them.

A function that is a generator, or a head whose ``evaluate`` is one, tells how its task comes along. :class:`Pruning`
follows that beside a Loop, shows it to one of Optuna's pruners, and cancels what that gives up. The learner hears of a
cancelled point as of one that failed; an OptunaLearner with ``prunes=True`` tells its sampler that it was pruned.

Who is cancelled depends on what was told when, so on chance; but it is in the run's record, and what a sampler learns
comes from that record alone. A run therefore replays to the same points with or without this.

It is for tasks of seconds and more: what is told is on disk, and here, within a fifth of one.

A task is broken off where that is harmless: of a Master whose ``on_lost`` is ``"retry"``. Elsewhere what has begun goes
on.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from taskmaster.bus.errors import CallerError, ConnectionClosed
from taskmaster.bus.text import lacking
from taskmaster.learners.client import Lab, Run
from taskmaster.learners.results import Result
from taskmaster.learners.series import ProgressPoint

if TYPE_CHECKING:
    from taskmaster.learners.loop import Loop

try:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.trial import Trial, TrialState
except ImportError as error:
    raise CallerError(lacking("pruning needs", "optuna", "optuna", error)) from error

__all__ = ["Pruning"]


#: Steps between two that are known, at most, that are filled in.
_FILLED = 100


@dataclass
class _Evaluation:
    """A task that is being evaluated."""

    attempt: int
    trial: Trial
    #: the latest step that it has told, -1 before the first, and the value there
    step: int = -1
    value: float = math.nan

    def report(self, step: int, value: float) -> None:
        """Tell the trial what is known, and what lies between that and what was known before."""
        gap = step - self.step
        if self.step >= 0 and gap <= _FILLED:
            for k in range(1, gap):
                self.trial.report(self.value + (value - self.value) * k / gap, self.step + k)
        self.trial.report(value, step)
        self.step, self.value = step, value


class Pruning:
    """Cancels tasks of ``run`` that ``pruner`` gives up, by the ``value`` that their progress tells.

    ``step`` names the progress value that counts steps; without, its points are counted. ``maximize`` says that more is
    better. It is the Loop's hook as well: finished tasks are what others are compared with. ``pruned`` counts.

    Where more is told than is passed on (ten times a second) steps are left out, not the same in each task. As pruners
    compare tasks at the same step, values of whole ``step``s between two that are known are taken to lie on a line.

        run = lab["chamber"].open("night")
        with Pruning(run, optuna.pruners.MedianPruner(), value="loss", step="day") as pruning:
            Loop(run, OptunaLearner(run.master.parameters, minimize="loss", prunes=True), hook=pruning).run()
    """

    def __init__(
        self, run: Run, pruner: BasePruner, *, value: str, step: str | None = None, maximize: bool = False
    ) -> None:
        self.pruned = 0
        self._run = run
        self._value = value
        self._step = step
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
        try:
            # A study for the pruner alone: the sampler's learns from the run's record.
            self._study = optuna.create_study(
                study_name="pruning",
                direction="maximize" if maximize else "minimize",
                pruner=pruner,
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
        finally:
            optuna.logging.set_verbosity(verbosity)
        self._lock = threading.Lock()
        #: tasks being evaluated, by their index
        self._trials: dict[int, _Evaluation] = {}
        #: all tasks below have ended, and those beyond that have
        self._all_ended = 0
        self._ended: set[int] = set()
        self._lab: Lab | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    # -- following ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Pruning:
        own = self._run.master.lab
        # another connection, closed to end the thread, by the same keys
        lab = self._lab = Lab(own.address, credentials=own._core.credentials)
        watched = lab[self._run.master.name].watch(self._run.name, since="now")
        self._thread = threading.Thread(target=self._follow, args=(watched,), name="pruning", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lab is not None and self._thread is not None:
            self._lab.close()
            self._thread.join()
            self._lab = self._thread = None
        if self._error is not None and error is None:
            raise self._error

    def _follow(self, watched: Run) -> None:
        try:
            for point in watched.follow_progress(since="now"):
                if self.is_hopeless(point) and watched.cancel([point.index]):
                    self.pruned += 1
        except ConnectionClosed:
            pass  # by __exit__
        except Exception as error:  # noqa: BLE001 - of a pruner that is anybody's; raised where the block ends
            self._error = error

    def is_hopeless(self, point: ProgressPoint) -> bool:
        """Whether the pruner gives up the task that has told this; each point is to be shown once."""
        value = point.values.get(self._value)
        if not isinstance(value, (int, float)) or value != value:
            return False
        with self._lock:
            if point.index < self._all_ended or point.index in self._ended:
                return False
            evaluation = self._evaluation(point)
            step = evaluation.step + 1 if self._step is None else point.values.get(self._step)
            if not isinstance(step, (int, float)) or step <= evaluation.step:
                return False
            evaluation.report(int(step), float(value))
            return evaluation.trial.should_prune()

    def _evaluation(self, point: ProgressPoint) -> _Evaluation:
        known = self._trials.get(point.index)
        if known is None or known.attempt != point.attempt:
            if known is not None:
                self._study.tell(known.trial, state=TrialState.FAIL)  # begun anew
            known = self._trials[point.index] = _Evaluation(point.attempt, self._study.ask())
        return known

    # -- the Loop's hook ----------------------------------------------------------------------------------------------

    def __call__(self, loop: Loop, result: Result) -> None:
        """A task has ended: what it told is what others are compared with, if it went well."""
        with self._lock:
            self._ended.add(result.index)
            while self._all_ended in self._ended:
                self._ended.remove(self._all_ended)
                self._all_ended += 1
            known = self._trials.pop(result.index, None)
            if known is not None:
                self._end(known, result)

    def _end(self, evaluation: _Evaluation, result: Result) -> None:
        if result.outcome == "done" and evaluation.step >= 0:
            self._study.tell(evaluation.trial, evaluation.value)
        else:
            state = TrialState.PRUNED if result.outcome == "cancelled" else TrialState.FAIL
            self._study.tell(evaluation.trial, state=state)
