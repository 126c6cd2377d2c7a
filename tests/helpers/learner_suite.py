"""The learner suite: schedules of asking and telling that hold for every learner, and what came of one.

A schedule says when a learner is asked, for how many points, and which of the points in flight is answered next, and
how. Points go through the wire's encoding both ways, as they do between a Loop and a Master.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from taskmaster.bus import values
from taskmaster.bus.errors import TaskCancelled
from taskmaster.bus.fields import Field
from taskmaster.learners.protocol import Failable, Learner, Seeded
from taskmaster.learners.record import Record

__all__ = ["MIXED", "Step", "Story", "evaluate", "hard_schedules", "long_way", "play", "schedules"]

#: A real, a whole-number, a categorical and a yes-or-no parameter.
MIXED = (
    Field("voltage", min=-2, max=4, unit="V"),
    Field("steps", kind="int", min=1, max=5),
    Field("kernel", kind="str", choices=("rbf", "poly", "linear")),
    Field("shuffle", kind="bool"),
)

#: ("ask", how many), ("tell" or "fail", which of those in flight)
Step: TypeAlias = tuple[str, int]

steps = st.tuples(st.sampled_from(["ask", "ask", "tell", "tell", "tell", "tell", "fail"]), st.integers(0, 7))
schedules = st.one_of(st.lists(steps, max_size=12), st.lists(steps, min_size=30, max_size=70))

#: … among which are also outputs that are not numbers
hard_steps = st.tuples(
    st.sampled_from(["ask", "ask", "tell", "tell", "tell", "tell", "fail", "nan", "cancel"]), st.integers(0, 7)
)
hard_schedules = st.one_of(st.lists(hard_steps, max_size=12), st.lists(hard_steps, min_size=20, max_size=50))


@dataclass
class Story:
    """What came of a schedule."""

    asked: list[bytes] = field(default_factory=list)
    told: list[tuple[Any, Any]] = field(default_factory=list)
    failed: list[bytes] = field(default_factory=list)
    #: points whose output was NaN
    unknown: list[bytes] = field(default_factory=list)
    in_flight: list[bytes] = field(default_factory=list)


def evaluate(point: Any) -> dict[str, Any]:
    """A Master with three outputs."""
    coordinates = point.values() if isinstance(point, dict) else point if isinstance(point, tuple) else [point]
    x = sum(weight * value for weight, value in zip((1.0, -0.7, 0.3), (v for v in coordinates if type(v) is not str)))
    return {"scalar": math.tanh(5 * x), "vector": [math.sin(3 * x), x * x], "cost": x * x}


def play(learner: Record, schedule: list[Step], seed: int = 1) -> Story:
    """Drive ``learner`` through ``schedule``; it is told what came back over the wire."""
    story = Story()
    assert isinstance(learner, Learner)
    assert isinstance(learner, Failable)
    if isinstance(learner, Seeded):
        learner.seed(np.random.default_rng(seed))
    for what, k in schedule:
        if what == "ask":
            points = [values.encode(point) for point in learner.ask(k)]
            assert len(points) <= k
            story.asked += points
            story.in_flight += points
        elif story.in_flight:
            data = story.in_flight.pop(k % len(story.in_flight))
            point = values.decode(data)
            if what == "tell":
                output = values.decode(values.encode(evaluate(point)))
                learner.tell(point, output)
                story.told.append((point, output))
            elif what == "nan":
                learner.tell(point, {"scalar": math.nan, "vector": [math.nan, 0.0], "cost": 1.0})
                story.unknown.append(data)
            elif what == "cancel":
                learner.fail(point, TaskCancelled("task was cancelled"))
                story.failed.append(data)
            else:
                learner.fail(point, RuntimeError("out of range"))
                story.failed.append(data)
    return story


def long_way(learner: Record) -> str:
    """All that a learner asks on a long way, in short."""
    schedule = [("ask", 3), ("tell", 1), ("tell", 0), ("ask", 1), ("fail", 2)] * 12
    return hashlib.sha256(b"".join(play(learner, schedule).asked)).hexdigest()
