"""What ends a loop before its goal, and what is said of it."""

from __future__ import annotations

import shlex
from typing import Any

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.fields import shown
from taskmaster.bus.text import count
from taskmaster.learners.target import TargetRun

__all__ = ["LearnerStuck", "TooManyFailures", "step_note"]


class LearnerStuck(TaskMasterError):
    """The learner asks for nothing although it has been told everything there is to tell."""

    code = "stuck"


class TooManyFailures(TaskMasterError):
    """One task after the other fails; the loop can go on when that is mended."""

    code = "failures"


def step_note(what: str, run: TargetRun, step: int, index: int | None = None, point: Any = None) -> str:
    """Where in a run its learner raised, and how to get there again: a note for its error (PEP 678).

    ``what`` the learner was just then, in words; ``step`` is how many events it had been told before; ``index`` and
    ``point`` are of the task that it was told of.
    """
    of = "" if index is None else f" of task {index}, {shown(point)}"
    return (
        f"The learner raised when it was {what}{of}: at step {step} of run {run.name!r} of Master {run.master.name!r}, "
        f"after {count(step, 'event')}. The run stays open and nothing is lost: run the loop again to go on, or replay "
        f"it up to there: {_replaying(run, step)}"
    )


def _replaying(run: TargetRun, step: int) -> str:
    """What to type for it; on the command line, where that has the run."""
    known_as = getattr(run, "command_name", None)
    if known_as is not None:
        return f"taskmaster runs replay {shlex.quote(known_as)} --until {step} --learner …"
    return f"replay(learner, {getattr(run, 'expression', 'loop.run_')}, until={step}), of taskmaster.learners.replay"
