"""The best that a learner has found, of each output that it optimises: for the last lines of a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskmaster.bus.errors import CallerError
from taskmaster.learners.adapters.aims import Aims, is_known
from taskmaster.learners.protocol import Configured, Learner, Optimizing, Point
from taskmaster.learners.record import Record
from taskmaster.learners.wrapper import Wrapper

__all__ = ["Best", "bests_of"]


@dataclass(frozen=True)
class Best:
    """The best point by one output."""

    point: Point
    output: float
    #: the output's name, as far as the learner was given one
    name: str | None


def bests_of(learner: Learner) -> list[Best]:
    """The best point of a learner that looks for it and has found one; where it has several objectives, of each."""
    if not isinstance(learner, Optimizing):
        return []
    aims = _aims(learner)
    if aims is not None and len(aims.objectives) > 1 and isinstance(learner, Record):
        return _of_each(aims, learner)
    try:
        point, output = learner.incumbent()
    except CallerError:  # there is none yet
        return []
    return [Best(point, output, _name(learner))]


def _of_each(aims: Aims, learner: Record) -> list[Best]:
    """Of each objective, among the points that keep the constraints."""
    told = [(point, aims.read(output)) for point, output in learner.data]
    kept = [(point, one) for point, one in told if is_known(one) and all(excess <= 0 for excess in one.violations)]
    found = []
    for k, (name, _) in enumerate(aims.objectives if kept else ()):
        point, values = min(kept, key=lambda one: one[1].losses[k])
        found.append(Best(point, values.measured[k], name))
    return found


def _aims(learner: Any) -> Aims | None:
    while isinstance(learner, Wrapper):
        learner = learner.learner
    aims = getattr(learner, "aims", None)
    return aims if isinstance(aims, Aims) else None


def _name(learner: Any) -> str | None:
    """The output that a learner goes by, or that it is shown by one around it."""
    while True:
        made = learner.made_with() if isinstance(learner, Configured) else {}
        for key in ("output", "pick"):
            if isinstance(made, Mapping) and isinstance(made.get(key), str):
                return str(made[key])
        if not isinstance(learner, Wrapper):
            aims = _aims(learner)
            return None if aims is None else aims.objectives[0][0]
        learner = learner.learner
