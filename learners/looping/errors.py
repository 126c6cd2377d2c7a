"""What ends a loop before its goal, and what is said of it."""

from __future__ import annotations

import shlex
from typing import Any

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.fields import shown
from taskmaster.bus.text import count
from taskmaster.learners.target import TargetRun

__all__ = ["LearnerStuck", "TooManyFailures", "command_name", "place_note", "replaying", "step_note"]


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
    return place_note(f"The learner raised when it was {what}{of}", run, step)


def place_note(happened: str, run: TargetRun, step: int) -> str:
    """Where in a run something ``happened``, after ``step`` events, and how to get there again."""
    place = (
        f"{happened}: at step {step} of run {run.name!r} of Master {run.master.name!r}, after {count(step, 'event')}."
    )
    if command_name(run) is None and getattr(run, "expression", "") is None:  # nobody has it any more
        return place
    return (
        f"{place} The run stays open and nothing is lost: run the loop again to go on, or replay it up to there: "
        f"{replaying(run, step)}"
    )


def replaying(run: TargetRun, step: int | None = None) -> str:
    """What to type to replay a run, up to ``step``; on the command line, where that has the run."""
    known_as = command_name(run)
    if known_as is not None:
        until = "" if step is None else f" --until {step}"
        return f"taskmaster runs replay {known_as}{until} --learner …"
    until = "" if step is None else f", until={step}"
    return f"replay(learner, {getattr(run, 'expression', 'loop.run_')}{until}), of taskmaster.learners.replay"


def command_name(run: TargetRun) -> str | None:
    """What the command line knows a run by, for a shell; None where it does not, as of a simulation."""
    known_as: str | None = getattr(run, "command_name", None)
    return None if known_as is None else shlex.quote(known_as)
