"""Functions that yield: evaluations of the drivers ``process`` and ``thread`` that take their time, step by step.

A function that returns a generator has not evaluated anything yet. It is driven here as a head's evaluation is: what it
yields is told as the task's progress, what it returns is the output. Between two steps the worker listens; a task that
nobody wants any more is broken off there: the generator is closed, so that its ``finally`` blocks run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import TaskCancelled
from taskmaster.drivers.generators import drive
from taskmaster.drivers.protocol import Assignment
from taskmaster.drivers.yields import EVERY, Yields

__all__ = ["LOOK_SECONDS", "Tell", "Yielding"]

#: A worker looks at its socket at least this often, as far as the tasks let it.
LOOK_SECONDS = 0.0025

#: Is given what is to be told of a task's progress.
Tell = Callable[[m.Progress], None]


class Yielding:
    """Drives generators in one slot. ``tell`` gets their progress; ``between`` is called every few milliseconds."""

    def __init__(self, who: str, tell: Tell, between: Callable[[], None]) -> None:
        self._yields = Yields(who, tell)
        self._between = between
        self._never = threading.Event()
        self._look_at = 0.0
        #: what ``between`` has raised: no task's exception
        self.broken: BaseException | None = None

    def drive(self, evaluation: Any, assignment: Assignment, position: int) -> Any:
        """The output of what the function gave for the task at ``position``. Raises what the evaluation raises.

        Raises TaskCancelled where that is not wanted any more.
        """
        began = time.monotonic()
        self._yields.begin(assignment.lease, position)

        def look() -> None:
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + LOOK_SECONDS
                self._listen()
            if assignment.revoked and position in assignment.revoked:
                raise TaskCancelled(f"task {assignment.first + position} is not wanted any more")

        try:
            return drive(evaluation, self._yields.take, self._never, look)
        finally:
            # Of quick ones not each may have its say: what came last waits for its turn, and gives way to the next.
            self._yields.flush(at_once=time.monotonic() - began >= EVERY)

    def _listen(self) -> None:
        try:
            self._between()
        except BaseException as error:
            self.broken = error
            raise
