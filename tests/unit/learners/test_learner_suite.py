"""What holds for every learner, whatever the order in which its points are answered.

A schedule says when a learner is asked, for how many points, and which of the points in flight is answered next, and
how. Points go through the wire's encoding both ways, as they do between a Loop and a Master.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import adaptive
import numpy as np
import pytest
import scipy.spatial
from hypothesis import given, settings, strategies as st

from taskmaster.bus import values
from taskmaster.bus.fields import Field
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.points import Grid, Halton, LatinHypercube, Random, Sequence, Sobol
from taskmaster.learners.protocol import Endable, Failable, Learner, Seeded
from taskmaster.learners.record import Record

#: A real, a whole-number, a categorical and a yes-or-no parameter.
MIXED = (
    Field("voltage", min=-2, max=4, unit="V"),
    Field("steps", kind="int", min=1, max=5),
    Field("kernel", kind="str", choices=("rbf", "poly", "linear")),
    Field("shuffle", kind="bool"),
)
SQUARE = [(-1, 1), (-2, 3)]
TRIANGLE = scipy.spatial.ConvexHull([(0.0, 0.0), (1.0, 0.0), (0.3, 1.0)])
NAMES = ["a", "b"]

#: Every learner, fresh, also for tests that ask for far more than a schedule does.
LEARNERS: dict[str, Callable[[], Record]] = {
    "sequence": lambda: Sequence(iter(range(10))),
    "rows": lambda: Sequence(np.arange(12.0).reshape(6, 2), names=NAMES),
    "grid": lambda: Grid(MIXED, n=3),
    "random": lambda: Random(MIXED),
    "sobol": lambda: Sobol(MIXED, n=70),
    "halton": lambda: Halton(MIXED, seed=3),
    "latin": lambda: LatinHypercube(MIXED, n=20),
    "adaptive-1d": lambda: AdaptiveLearner(adaptive.Learner1D(None, (-1, 1)), None, "scalar", retries=99),
    "adaptive-1d-vector": lambda: AdaptiveLearner(adaptive.Learner1D(None, (0, 1)), ["a"], "vector", retries=99),
    "adaptive-2d": lambda: AdaptiveLearner(adaptive.Learner2D(None, SQUARE), NAMES, "scalar", retries=99),
    "adaptive-2d-bare": lambda: AdaptiveLearner(adaptive.Learner2D(None, SQUARE), output="vector", retries=99),
    "adaptive-2d-as-nd": lambda: AdaptiveLearner(adaptive.LearnerND(None, SQUARE), NAMES, "vector", retries=99),
    "adaptive-3d": lambda: AdaptiveLearner(adaptive.LearnerND(None, [(0, 1)] * 3), None, "scalar", retries=99),
    "adaptive-hull": lambda: AdaptiveLearner(adaptive.LearnerND(None, TRIANGLE), NAMES, "scalar", retries=99),
}

#: ("ask", how many), ("tell" or "fail", which of those in flight)
Step: TypeAlias = tuple[str, int]

steps = st.tuples(st.sampled_from(["ask", "ask", "tell", "tell", "tell", "tell", "fail"]), st.integers(0, 7))
schedules = st.one_of(st.lists(steps, max_size=12), st.lists(steps, min_size=30, max_size=70))


@dataclass
class Story:
    """What came of a schedule."""

    asked: list[bytes] = field(default_factory=list)
    told: list[tuple[Any, Any]] = field(default_factory=list)
    failed: list[bytes] = field(default_factory=list)
    in_flight: list[bytes] = field(default_factory=list)


def evaluate(point: Any) -> dict[str, Any]:
    """A Master with two outputs."""
    coordinates = point.values() if isinstance(point, dict) else point if isinstance(point, tuple) else [point]
    x = sum(weight * value for weight, value in zip((1.0, -0.7, 0.3), (v for v in coordinates if type(v) is not str)))
    return {"scalar": math.tanh(5 * x), "vector": [math.sin(3 * x), x * x]}


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
            else:
                learner.fail(point, RuntimeError("out of range"))
                story.failed.append(data)
    return story


@pytest.mark.parametrize("name", LEARNERS)
@given(schedule=schedules)
@settings(max_examples=20, deadline=None)
def test_a_schedule_replayed_gives_bitwise_the_same_points(name: str, schedule: list[Step]) -> None:
    story = play(LEARNERS[name](), schedule)
    assert play(LEARNERS[name](), schedule) == story


@pytest.mark.parametrize("name", LEARNERS)
@given(schedule=schedules)
@settings(max_examples=20, deadline=None)
def test_points_are_asked_once_and_what_is_told_is_kept(name: str, schedule: list[Step]) -> None:
    learner = LEARNERS[name]()
    story = play(learner, schedule)

    assert learner.data == story.told
    assert learner.npoints == len(story.told)
    assert learner.nfailed == len(story.failed)
    again = [data for data in set(story.asked) if story.asked.count(data) > 1 + story.failed.count(data)]
    assert again == [] or isinstance(learner, Random | Halton | Sobol | LatinHypercube), again


@pytest.mark.parametrize("name", ["sequence", "rows", "grid", "sobol", "latin"])
def test_a_finite_learner_is_done_when_all_its_points_are_answered(name: str) -> None:
    learner = LEARNERS[name]()
    assert isinstance(learner, Learner)
    assert isinstance(learner, Endable)
    in_flight = list(learner.ask(4))
    answered = 0
    while in_flight:
        assert not learner.done()
        point = in_flight.pop(len(in_flight) // 2)
        if answered % 3:
            learner.tell(point, 1.0)
        else:
            learner.fail(point, RuntimeError("no"))
        answered += 1
        in_flight += learner.ask(1)
    assert learner.done()
    assert learner.npoints + learner.nfailed == answered


@pytest.mark.parametrize("name", [name for name in LEARNERS if not name.startswith("adaptive")])
@given(cuts=st.lists(st.integers(0, 90), max_size=8))
@settings(max_examples=15, deadline=None)
def test_how_many_points_are_asked_for_at_a_time_does_not_change_them(name: str, cuts: list[int]) -> None:
    parts, whole = LEARNERS[name](), LEARNERS[name]()
    for learner in (parts, whole):
        if isinstance(learner, Seeded):
            learner.seed(np.random.default_rng(7))
    assert isinstance(parts, Learner)
    assert isinstance(whole, Learner)
    in_parts = [point for n in cuts for point in parts.ask(n)]
    assert [values.encode(p) for p in in_parts] == [values.encode(p) for p in whole.ask(sum(cuts))]


def test_adaptive_points_do_not_depend_on_the_process_they_are_computed_in() -> None:
    """Sets are in there: were the order of one to depend on the seed of hashes, a resumed run would diverge."""
    program = textwrap.dedent("""
        import adaptive, math
        from taskmaster.learners.adaptive import AdaptiveLearner
        for kind in (adaptive.Learner2D, adaptive.LearnerND):
            learner = AdaptiveLearner(kind(None, [(-1, 1), (-2, 3)]), ["a", "b"])
            in_flight = []
            for i in range(80):
                in_flight += learner.ask(3 - len(in_flight) // 3)
                point = in_flight.pop(i % len(in_flight))
                print(point["a"].hex(), point["b"].hex())
                if i % 9 == 8 and i > 20:
                    learner.fail(point, RuntimeError("no"))
                else:
                    learner.tell(point, math.tanh(9 * (point["a"] - point["b"])))
    """)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "12345")
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"\n") == 160
