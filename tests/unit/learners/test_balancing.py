"""Several learners on one Master."""

from __future__ import annotations

from typing import Any

import adaptive
import numpy as np
import pytest

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners import goals
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.balancing import STRATEGIES, Balancing
from taskmaster.learners.points import Grid, Random, Sequence
from taskmaster.learners.protocol import Lossy

SPANS = [{"T": 4.0}, {"T": 77.0}, {"T": 300.0}]


def lines() -> list[Any]:
    return [AdaptiveLearner(adaptive.Learner1D(None, (-1, 1)), ["x"]) for _ in SPANS]


def peak(point: dict[str, float]) -> float:
    """Sharp when cold, flat when hot."""
    width = point["T"] / 1000
    return width**2 / (width**2 + (point["x"] - 0.1) ** 2)


def drive(balancing: Balancing, points: int) -> list[Any]:
    in_flight: list[Any] = []
    asked = []
    for i in range(points):
        new = balancing.ask(4 - len(in_flight))
        asked += new
        in_flight += new
        point = in_flight.pop(i % len(in_flight))
        balancing.tell(point, peak(point))
    return asked


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_point_is_told_to_who_asked_for_it(strategy: str) -> None:
    balancing = Balancing(lines(), strategy, SPANS)
    asked = drive(balancing, 90)
    assert balancing.npoints == 90
    counts = [learner.npoints for learner in balancing.learners]  # type: ignore[attr-defined]
    assert sum(counts) == 90
    assert min(counts) >= 5, "nobody starves"
    for learner, fixed in zip(balancing.learners, SPANS, strict=True):
        own = {point["x"] for point in asked if point["T"] == fixed["T"]}
        assert {point["x"] for point, _ in learner.data} <= own  # type: ignore[attr-defined]
        assert all(point.keys() == {"x"} for point, _ in learner.data)  # type: ignore[attr-defined]


@pytest.mark.parametrize("strategy", ["cycle", "npoints"])
def test_turns_are_taken_evenly(strategy: str) -> None:
    asked = drive(Balancing(lines(), strategy, SPANS), 87)
    counts = [sum(point["T"] == fixed["T"] for point in asked) for fixed in SPANS]
    assert max(counts) - min(counts) <= 1


def test_by_loss_the_sharp_peak_gets_most_points() -> None:
    asked = drive(Balancing(lines(), "loss", SPANS), 150)
    counts = [sum(point["T"] == fixed["T"] for point in asked) for fixed in SPANS]
    assert counts[0] > 1.3 * counts[2]


def test_by_improvement_who_has_stopped_improving_waits() -> None:
    class Counted:
        """Its loss falls by ``steps`` for each result."""

        def __init__(self, step: float) -> None:
            self.n, self.step = 0, step

        def ask(self, n: int) -> list[float]:
            return [self.n + self.step / 10 + i for i in range(n)]

        def tell(self, point: float, output: float) -> None:
            self.n += 1

        def loss(self) -> float:
            return 100.0 - self.step * self.n

    slow, fast = Counted(1.0), Counted(2.0)
    balancing = Balancing([slow, fast], "loss improvement")
    for _ in range(40):
        for point in balancing.ask(1):
            balancing.tell(point, 0.0)
    assert slow.n <= 4
    assert fast.n >= 36
    assert isinstance(balancing, Lossy)
    assert balancing.loss() == slow.loss()


def test_equal_points_of_two_learners_are_both_evaluated_and_told_in_order() -> None:
    one, other = Sequence([1.0, 2.0]), Sequence([1.0, 3.0])
    balancing = Balancing([one, other], "cycle")
    assert balancing.ask(9) == [1.0, 1.0, 2.0, 3.0]
    for output, point in enumerate([1.0, 1.0, 3.0, 2.0]):
        assert not balancing.done()
        balancing.tell(point, output)
    assert one.data == [(1.0, 0), (2.0, 3)]
    assert other.data == [(1.0, 1), (3.0, 2)]
    assert balancing.done()


def test_of_equal_points_each_gets_its_own_result_in_whatever_order_they_come() -> None:
    """A loop tells of the very object that was asked: so which of two equal points failed is known."""
    one, other = Sequence([{"x": 1.0}]), Sequence([{"x": 1.0}])
    balancing = Balancing([one, other], "cycle")
    first, second = balancing.ask(2)
    assert first == second
    balancing.tell(second, "second")
    balancing.fail(first, RuntimeError("no"))
    assert other.data == [({"x": 1.0}, "second")]
    assert (one.data, one.nfailed, other.nfailed) == ([], 1, 0)


def test_what_a_learner_raised_at_is_told_again_to_it_alone() -> None:
    class Touchy(Sequence):
        def tell(self, point: Any, output: Any) -> None:
            if not self.nfailed:
                self.nfailed += 1
                raise ValueError("not today")
            super().tell(point, output)

    touchy, other = Touchy([1.0]), Sequence([2.0])
    balancing = Balancing([touchy, other], "cycle")
    point, _ = balancing.ask(2)
    with pytest.raises(ValueError, match="not today"):
        balancing.tell(point, 3.0)
    assert balancing.data == []
    balancing.tell(point, 3.0)
    assert touchy.data == balancing.data == [(1.0, 3.0)]
    assert other.data == []


def test_when_one_is_done_the_others_go_on_and_failures_reach_who_asked() -> None:
    short, long = Grid({"x": [1, 2]}), Grid({"x": list(range(10, 18))})
    balancing = Balancing([short, long], "cycle")
    points = balancing.ask(99)
    assert len(points) == 10
    for point in points:
        balancing.fail(point, RuntimeError("no"))
    assert (short.nfailed, long.nfailed) == (2, 8)
    assert balancing.done()


def test_what_nobody_asked_for_is_told_to_all_it_concerns() -> None:
    learners = [Random({"x": (0, 1)}) for _ in SPANS]
    balancing = Balancing(learners, "cycle", SPANS)
    balancing.tell({"x": 0.5, "T": 77.0}, 1.0)
    assert [learner.npoints for learner in learners] == [0, 1, 0]
    shared = [Random({"x": (0, 1)}) for _ in range(2)]
    Balancing(shared, "cycle").tell({"x": 0.5}, 1.0)
    assert [learner.npoints for learner in shared] == [1, 1]


def test_each_has_randomness_of_its_own_and_knows_only_its_parameters() -> None:
    learners = [Random({"x": (0, 1)}) for _ in range(2)]
    balancing = Balancing(learners, "cycle")
    balancing.seed(np.random.default_rng(1))
    one, other = balancing.ask(2)
    assert one != other
    grid = Balancing(lines(), "cycle", SPANS)
    grid.bind([Field("x", min=-1, max=1), Field("T", min=0, max=400)], [Field("out")])
    with pytest.raises(CallerError, match="no parameter 'T'"):
        grid.bind([Field("x", min=-1, max=1)])


def test_mistakes_are_named() -> None:
    with pytest.raises(CallerError, match="a list of learners, at least one"):
        Balancing([])
    with pytest.raises(CallerError, match="no strategy 'lost'; did you mean 'loss'"):
        Balancing(lines(), "lost")
    with pytest.raises(CallerError, match="3 learners, and fixed values for 1"):
        Balancing(lines(), fixed=[{"T": 1}])
    with pytest.raises(CallerError, match=r"needs learners with a loss\(\), which Random over x has not"):
        Balancing([Random({"x": (0, 1)})], "loss")
    with pytest.raises(CallerError, match="a list of learners"):
        Balancing(Random({"x": (0, 1)}), "cycle")  # type: ignore[arg-type]
    (line,) = lines()[:1]
    with pytest.raises(CallerError, match="the same learner twice, adaptive Learner1D over x"):
        Balancing([line, line])


def test_a_goal_on_the_loss_is_refused_where_one_of_them_has_none() -> None:
    goals.loss(0.1).require(Balancing(lines()))
    mixed = Balancing([*lines(), Random({"x": (-1, 1)})], "cycle")
    assert not isinstance(mixed, Lossy)
    with pytest.raises(CallerError, match="Balancing has none"):
        goals.loss(0.1).require(mixed)
