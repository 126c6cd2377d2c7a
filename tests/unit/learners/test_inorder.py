"""A learner that is told in the order of asking asks the same points, in whatever order results come."""

from __future__ import annotations

import random
from typing import Any

import adaptive
import numpy as np
import pytest

from taskmaster.bus.errors import CallerError, TaskFailed
from taskmaster.learners import protocol
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.inorder import InOrder
from taskmaster.learners.points import Sequence
from taskmaster.learners.protocol import Point


class Scribe:
    """Asks for whole numbers, and writes down what is done to it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._next = 0

    def ask(self, n: int) -> list[int]:
        self.log.append(f"ask {n}")
        self._next += n
        return list(range(self._next - n, self._next))

    def tell(self, point: int, output: Any) -> None:
        self.log.append(f"tell {point}")

    def fail(self, point: int, error: BaseException) -> None:
        self.log.append(f"fail {point}")


def peaks(point: Point) -> float:
    x, y = point
    return float(np.exp(-20 * (x - 0.3) ** 2 - 20 * y**2))


def explore(seed: int, ahead: int, limit: int) -> list[Point]:
    """The points an adaptive learner asks when results come back in an order that ``seed`` shuffles."""
    shuffle = random.Random(seed)
    learner = InOrder(AdaptiveLearner(adaptive.Learner2D(None, bounds=[(-1, 1), (-1, 1)])), ahead, limit)
    in_flight: list[Point] = []
    asked: list[Point] = []
    while not learner.done():
        new = learner.ask(ahead - len(in_flight))
        asked += new
        in_flight += new
        point = in_flight.pop(shuffle.randrange(len(in_flight)))
        learner.tell(point, peaks(point))
    assert in_flight == []
    return asked


def test_the_points_do_not_depend_on_the_order_of_results() -> None:
    first, *others = (explore(seed, ahead=6, limit=60) for seed in range(4))
    assert len(first) == len(set(first)) == 60
    assert others == [first] * 3


def test_without_it_they_do() -> None:
    def explore_as_they_come(seed: int) -> list[Point]:
        shuffle = random.Random(seed)
        learner = AdaptiveLearner(adaptive.Learner2D(None, bounds=[(-1, 1), (-1, 1)]))
        in_flight: list[Point] = []
        asked: list[Point] = []
        while len(asked) < 60:
            new = learner.ask(6 - len(in_flight))
            asked += new
            in_flight += new
            point = in_flight.pop(shuffle.randrange(len(in_flight)))
            learner.tell(point, peaks(point))
        return asked

    assert explore_as_they_come(0) != explore_as_they_come(1)


def test_results_wait_for_those_asked_before_and_one_point_is_asked_after_each() -> None:
    scribe = Scribe()
    learner = InOrder(scribe, ahead=3)
    assert learner.ask(10) == [0, 1, 2]
    learner.tell(2, None)
    learner.fail(1, TaskFailed("no"))
    assert scribe.log == ["ask 3"]
    assert learner.ask(10) == [], "nothing new is known"

    learner.tell(0, None)
    assert scribe.log == ["ask 3", "tell 0", "ask 1", "fail 1", "ask 1", "tell 2", "ask 1"]
    assert learner.ask(2) == [3, 4]
    assert learner.ask(2) == [5]


def test_the_limit_is_kept_and_then_it_is_done() -> None:
    learner = InOrder(Scribe(), ahead=3, limit=4)
    assert learner.ask(3) == [0, 1, 2]
    for point in (0, 1):
        learner.tell(point, None)
    assert learner.ask(3) == [3]
    for point in (3, 2):
        assert not learner.done()
        learner.tell(point, None)
    assert learner.done()
    assert learner.ask(3) == []


def test_it_is_done_when_the_learner_is() -> None:
    learner = InOrder(Sequence([10, 20]), ahead=5)
    assert learner.ask(5) == [10, 20]
    learner.tell(20, None)
    assert not learner.done()
    learner.tell(10, None)
    assert learner.done()


def test_a_point_that_has_travelled_is_recognised() -> None:
    learner = InOrder(Sequence([{"x": 1, "image": np.eye(2)}, {"x": 2, "image": np.eye(2)}]), ahead=2)
    learner.ask(2)
    learner.tell({"image": np.eye(2), "x": 2.0}, None)
    learner.tell({"image": np.eye(2), "x": 1.0}, None)
    assert learner.done()


def test_a_result_nobody_asked_for_is_passed_on_at_once() -> None:
    scribe = Scribe()
    learner = InOrder(scribe, ahead=1)
    learner.ask(1)
    learner.tell(99, None)
    assert scribe.log == ["ask 1", "tell 99"]


def test_it_can_do_what_its_learner_can() -> None:
    wrapped = AdaptiveLearner(adaptive.Learner2D(None, bounds=[(-1, 1), (-1, 1)]))
    learner = InOrder(wrapped, ahead=2)
    for capability in (protocol.Learner, protocol.Failable, protocol.Endable, protocol.Lossy, protocol.Bindable):
        assert isinstance(learner, capability)
    assert isinstance(learner, protocol.Lossy)
    assert learner.loss() == wrapped.loss()
    assert learner.describe() == "adaptive Learner2D, told in order"
    assert not isinstance(InOrder(Scribe(), ahead=1), protocol.Lossy)


def test_no_point_ahead_is_a_mistake() -> None:
    with pytest.raises(CallerError, match=r"ahead of InOrder must be a whole number from 1 to .*, not 0"):
        InOrder(Scribe(), ahead=0)


class Touchy(Scribe):
    """Raises once at each of some steps, as they stand in its log."""

    def __init__(self, *steps: str) -> None:
        super().__init__()
        self._steps = set(steps)

    def _do(self, step: str) -> None:
        if step in self._steps:
            self._steps.remove(step)
            raise ValueError(step)

    def ask(self, n: int) -> list[int]:
        self._do(f"ask {n}")
        return super().ask(n)

    def tell(self, point: int, output: Any) -> None:
        self._do(f"tell {point}")
        super().tell(point, output)


def tell_until_it_holds(learner: InOrder, point: int) -> None:
    """As a loop does it that is run again after the learner raised: the same result is told once more."""
    for _ in range(5):
        try:
            learner.tell(point, None)
        except ValueError:
            continue
        return
    raise AssertionError("it raises for ever")


@pytest.mark.parametrize(
    "steps", [("tell 0",), ("tell 1",), ("tell 2",), ("ask 1",), ("ask 1", "tell 1", "tell 2", "tell 0")]
)
def test_a_learner_that_raises_is_told_the_same_in_the_same_order_when_it_is_tried_again(steps: Any) -> None:
    logs = []
    for raising in ((), steps):
        touchy = Touchy(*raising)
        learner = InOrder(touchy, ahead=3)
        learner.ask(3)
        for point in (2, 1, 0, 3):
            tell_until_it_holds(learner, point)
        assert learner.ask(4) == [3, 4, 5, 6]
        assert [point for point, _ in learner.data] == [2, 1, 0, 3], "each once, as it came"
        logs.append(touchy.log)
    assert logs[0] == logs[1]


def test_of_equal_points_the_one_that_ended_is_passed_on() -> None:
    learner = InOrder(Sequence([{"x": 1.0}, {"x": 1.0}]), ahead=2)
    first, second = learner.ask(2)
    learner.tell(second, "second")
    learner.tell(first, "first")
    assert learner.learner.data == [({"x": 1.0}, "first"), ({"x": 1.0}, "second")]  # type: ignore[attr-defined]
