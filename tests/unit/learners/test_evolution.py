"""Differential evolution without generations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners.evolution import Evolution

BOX = {f"x{k}": (-5.0, 5.0) for k in range(4)}


def rosenbrock(point: dict[str, float]) -> float:
    x = np.array(list(point.values()))
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def drive(learner: Evolution, points: int, workers: int = 6, seed: int = 0) -> None:
    """Workers that answer in any order; one in twenty points fails."""
    rng = np.random.default_rng(seed)
    in_flight: list[Any] = []
    for _ in range(points):
        in_flight += learner.ask(workers - len(in_flight))
        point = in_flight.pop(int(rng.integers(len(in_flight))))
        if rng.random() < 0.05:
            learner.fail(point, RuntimeError("no"))
        else:
            learner.tell(point, rosenbrock(point))


def test_it_follows_a_bent_valley_to_its_end() -> None:
    learner = Evolution(dict(list(BOX.items())[:3]), seed=1)
    drive(learner, 3000)
    point, value = learner.best()
    assert value < 1e-2
    assert max(abs(x - 1) for x in point.values()) < 0.1


def test_it_beats_chance_by_orders_of_magnitude_in_a_few_hundred_points() -> None:
    learner = Evolution(BOX, seed=2)
    drive(learner, 600)
    rng = np.random.default_rng(2)
    chance = min(rosenbrock(dict(enumerate(rng.uniform(-5, 5, 4)))) for _ in range(600))  # type: ignore[arg-type]
    assert learner.best()[1] < chance / 5


def test_a_result_takes_its_place_at_once_and_only_if_it_is_no_worse() -> None:
    learner = Evolution({"x": (0.0, 1.0)}, members=4, seed=3)
    first = learner.ask(4)
    for i, point in enumerate(first):
        learner.tell(point, float(i))
    (one,) = learner.ask(1)
    learner.tell(one, 99.0)
    assert sorted(member.value for member in learner._members) == [0.0, 1.0, 2.0, 3.0]
    (other,) = learner.ask(1)
    learner.tell(other, -1.0)
    assert sorted(member.value for member in learner._members) == [-1.0, 0.0, 2.0, 3.0]


def test_it_maximizes_whole_numbers_and_choices_among_others() -> None:
    fields = (Field("n", kind="int", min=1, max=1000), Field("mode", kind="str", choices=("a", "b", "c")))
    learner = Evolution(fields, output="gain", maximize=True, seed=4, n=400)
    while not learner.done():
        for point in learner.ask(7):
            learner.tell(point, {"gain": -abs(point["n"] - 700) - 50 * (point["mode"] != "b"), "log": "x"})
    best, _ = learner.best()
    assert best["mode"] == "b"
    assert abs(best["n"] - 700) <= 3
    assert learner.npoints == 400


def test_a_finite_number_of_points_and_no_member_that_is_not_finite() -> None:
    learner = Evolution(BOX, seed=5, n=50)
    asked = learner.ask(80)
    assert len(asked) == 50
    for point in asked[:49]:
        learner.tell(point, math.nan)
    assert not learner.done()
    learner.fail(asked[49], RuntimeError("no"))
    assert learner.done()
    assert learner.nfailed == 50
    assert all(member.value == math.inf for member in learner._members)


def test_where_there_are_few_points_each_is_asked_once() -> None:
    learner = Evolution({"kernel": ["rbf", "poly", "rbf"], "n": [1, 2, 3]}, seed=1)
    points = learner.ask(99)
    assert sorted(map(str, points)) == sorted({str(point) for point in points})
    assert len(points) == 6
    for point in points:
        assert not learner.done()
        learner.tell(point, 1.0)
    assert learner.done()
    with pytest.raises(CallerError, match="parameter 'x' has values that are lists"):
        Evolution({"x": [[1, 2], [3, 4]]})


def test_mistakes_are_named() -> None:
    with pytest.raises(CallerError, match=r"members of Evolution must be a whole number from 4 to .*, not 3"):
        Evolution(BOX, members=3)
    with pytest.raises(CallerError, match="no point of x0, x1"):
        Evolution(BOX).tell({"x0": 1.0}, 2.0)
    with pytest.raises(CallerError, match="learns a real number, not 'high'"):
        Evolution({"x": (0, 1)}).tell({"x": 0.5}, "high")
    learner = Evolution(BOX)
    learner.ask(1)
    with pytest.raises(CallerError, match="before the first ask only"):
        learner.seed(np.random.default_rng(1))
