"""Whose turn it is at a simulated Master: several runs share its workers as they would share a daemon's.

That is by *start-time fair queueing* (Goyal, Vin and Cheng, SIGCOMM 1996), in seconds of evaluation: the run with the
least virtual time goes next; a run that was idle starts at the clock of those that were not, so it can neither save up
time nor be starved. A higher priority goes first whatever the clocks say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskmaster.learners.simulate.journal import RunJournal
    from taskmaster.learners.simulate.result import SimulatedResult

__all__ = ["Turns"]


class Turns:
    """The tasks that wait for a worker, by their runs."""

    def __init__(self) -> None:
        #: nothing is to be evaluated, of any run
        self.paused = False
        #: virtual time of the run served last
        self.clock = 0.0
        #: runs with tasks waiting that are not paused; one whose last was taken is still here until it is looked at
        self._runs: list[RunJournal] = []

    def add(self, run: RunJournal, tasks: Sequence[SimulatedResult]) -> None:
        """Tasks of a run wait, behind its others."""
        queue = run.queue
        while queue and queue[0]._outcome:  # it may have been cancelled, or answered late
            queue.popleft()
        if not queue and run.virtual_time < self.clock:
            run.virtual_time = self.clock
        queue.extend(tasks)
        self.list(run)

    def put_back(self, task: SimulatedResult) -> None:
        """A task waits again, and goes before the others of its run."""
        run = task.run
        if not run.queue and run.virtual_time < self.clock:
            run.virtual_time = self.clock
        run.queue.appendleft(task)
        self.list(run)

    def list(self, run: RunJournal) -> None:
        """It may have turns, if it is not paused."""
        if not run.is_listed and not run.paused:
            run.is_listed = True
            self._runs.append(run)

    def strike(self, run: RunJournal) -> None:
        """It has none: it is paused."""
        if run.is_listed:
            run.is_listed = False
            self._runs.remove(run)

    def next(self) -> SimulatedResult | None:
        """Take the task that is evaluated next: of the highest priority, then least virtual time, then oldest run."""
        if self.paused:
            return None
        runs = self._runs
        while runs:
            run = runs[0] if len(runs) == 1 else min(runs, key=_turn)
            queue = run.queue
            while queue:
                task = queue.popleft()
                if not task._outcome:
                    if run.virtual_time > self.clock:
                        self.clock = run.virtual_time
                    return task
            self.strike(run)
        return None


def _turn(run: RunJournal) -> tuple[int, float, int]:
    return -run.priority, run.virtual_time, run.number
