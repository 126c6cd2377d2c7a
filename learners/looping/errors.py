"""What ends a loop before its goal, and what is said of it."""

from __future__ import annotations

import shlex
from typing import Any

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.fields import shown
from taskmaster.bus.text import count

__all__ = ["LearnerStuck", "TooManyFailures", "step_note"]


class LearnerStuck(TaskMasterError):
    """The learner asks for nothing although it has been told everything there is to tell."""

    code = "stuck"


class TooManyFailures(TaskMasterError):
    """One task after the other fails; the loop can go on when that is mended."""

    code = "failures"


def step_note(what: str, run: str, master: str, step: int, index: int | None = None, point: Any = None) -> str:
    """Where in a run its learner raised, and how to get there again: a note for its error (PEP 678).

    ``what`` the learner was just then, in words; ``step`` is how many events it had been told before; ``index`` and
    ``point`` are of the task that it was told of.
    """
    of = "" if index is None else f" of task {index}, {shown(point)}"
    return (
        f"The learner raised when it was {what}{of}: at step {step} of run {run!r} of Master {master!r}, after "
        f"{count(step, 'event')}. The run stays open and nothing is lost: run the loop again to go on, or replay it up "
        f"to there: taskmaster runs replay {shlex.quote(f'{master}/{run}')} --until {step} --learner …"
    )
