"""A task of a simulation, from when it is put to its end; then it is its own result."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taskmaster.bus.errors import TaskCancelled, TaskFailed
from taskmaster.learners.results import Result

if TYPE_CHECKING:
    from taskmaster.learners.simulate.journal import RunJournal

__all__ = ["SimulatedResult", "remote_error"]


class SimulatedResult(Result):
    """How one simulated task ended; times are the simulation's.

    One object from beginning to end, with nothing behind it: making several for each task would halve the speed.
    """

    __slots__ = (
        "_attempt",
        "_error",
        "_finished",
        "_index",
        "_outcome",
        "_output",
        "_point",
        "_seq",
        "_started",
        "_worker",
        "is_waiting",
        "run",
    )

    def __init__(self, run: RunJournal, index: int, point: Any) -> None:
        #: where it belongs
        self.run = run
        self._index = index
        self._point = point
        self._attempt = 0
        #: empty as long as it has not ended
        self._outcome = ""
        #: whether it waits for a worker
        self.is_waiting = True
        self._error: TaskFailed | TaskCancelled | None = None

    @property
    def index(self) -> int:
        """The task's number in its run."""
        return self._index

    @property
    def seq(self) -> int:
        """The number of the event in its run."""
        return self._seq

    @property
    def outcome(self) -> str:
        """``done``, ``failed`` or ``cancelled``."""
        return self._outcome

    @property
    def input(self) -> Any:
        """The point that was evaluated."""
        return self._point

    @property
    def is_edited(self) -> bool:
        """Nobody edits what is simulated."""
        return False

    @property
    def output(self) -> Any:
        """What the evaluation returned. Raises TaskFailed or TaskCancelled where there is no output."""
        if self._error is not None:
            raise self._error
        return self._output

    @property
    def error(self) -> TaskFailed | TaskCancelled | None:
        """Why there is no output; None if there is one."""
        return self._error

    @property
    def worker(self) -> str:
        """Who evaluated it."""
        return self._worker

    @property
    def attempt(self) -> int:
        """Which evaluation of it this was, from 1; 0 if it was cancelled before the first."""
        return self._attempt

    @property
    def started(self) -> float:
        """When its evaluation began, in seconds of the simulation."""
        return self._started

    @property
    def finished(self) -> float:
        """When its evaluation ended, in seconds of the simulation."""
        return self._finished

    def __iter__(self) -> Iterator[Any]:
        return iter((self._point, self.output))

    # -- what becomes of it -------------------------------------------------------------------------------------------

    def start(self, worker: str, now: float) -> int:
        """Its evaluation begins; returns which that is."""
        self._worker = worker
        self._started = now
        self.is_waiting = False
        self._attempt += 1
        return self._attempt

    def end(self, now: float, output: Any, error: TaskFailed | None) -> None:
        """It has an output, or has failed."""
        self._finished = now
        self._output = output
        self._error = error
        self._outcome = "done" if error is None else "failed"

    def cancel(self, now: float) -> None:
        """It will have no output."""
        if not self._attempt:
            self._worker, self._started = "", now
        self._finished = now
        self._error = TaskCancelled(f"task {self._index} was cancelled")
        self._outcome = "cancelled"

    def copied(self, run: RunJournal) -> SimulatedResult:
        """The same task of a fork: ended as it has, or to be evaluated there by itself."""
        copy = SimulatedResult(run, self._index, self._point)
        if self._outcome:
            for name in ("_attempt", "_error", "_finished", "_outcome", "_output", "_started", "_worker", "is_waiting"):
                if hasattr(self, name):  # of one that was cancelled early, not all are there
                    setattr(copy, name, getattr(self, name))
        return copy

    def number(self, seq: int) -> None:
        """Its end is this event of its run."""
        self._seq = seq


def remote_error(error: BaseException) -> TaskFailed:
    """What an exception of the evaluation looks like to the learner, as from a worker."""
    kind = type(error).__qualname__
    module = type(error).__module__
    if module not in ("builtins", "__main__"):
        kind = f"{module}.{kind}"
    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    return TaskFailed(str(error), kind, "".join(traceback.format_exception(type(error), error, frames)))
