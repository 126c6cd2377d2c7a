"""Learners around a learner: what they change, and that all else comes through."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import adaptive
import numpy as np
import pytest

from taskmaster.bus.errors import CallerError, TaskFailed
from taskmaster.bus.fields import Field
from taskmaster.learners import goals
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.evolution import Evolution
from taskmaster.learners.gp import GaussianProcess
from taskmaster.learners.guards import Dedup, Pending
from taskmaster.learners.movecost import MoveCost
from taskmaster.learners.points import Grid, Random, Sequence, Sobol
from taskmaster.learners.protocol import Lossy, Optimizing
from taskmaster.learners.transforms import DataSaver, Filter, Linear, Log, Mapped, Transform
from taskmaster.learners.travel import Travel
from taskmaster.learners.wrapper import Wrapper

X, Y = Field("x", min=0, max=1), Field("y", min=0, max=1)


class Scribe:
    """Asks for what it was given, and writes down what is done to it."""

    def __init__(self, *asks: Any) -> None:
        self.asks = list(asks)
        self.log: list[Any] = []

    def ask(self, n: int) -> list[Any]:
        points = self.asks[:n]
        del self.asks[:n]
        return points

    def tell(self, point: Any, output: Any) -> None:
        self.log.append((point, output))

    def fail(self, point: Any, error: BaseException) -> None:
        self.log.append((point, f"failed: {error}"))


# -- capabilities -----------------------------------------------------------------------------------------------------

WRAPPERS: dict[str, Callable[[Any], Wrapper]] = {
    "plain": Wrapper,
    "dedup": Dedup,
    "pending": lambda learner: Pending(learner, 0.01, [X]),
    "movecost": lambda learner: MoveCost(learner, Travel({"x": 1.0})),
    "transform": lambda learner: Transform(learner, {"x": Linear(2.0)}),
    "datasaver": lambda learner: DataSaver(learner, "out"),
    "filter": lambda learner: Filter(learner, lambda point: True),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_goal_on_the_loss_is_refused_where_the_learner_has_none(name: str) -> None:
    lossy = WRAPPERS[name](AdaptiveLearner(adaptive.Learner1D(None, (0, 2)), ["x"]))
    other = WRAPPERS[name](Sobol([X]))
    assert isinstance(lossy, Lossy)
    assert lossy.loss() == math.inf
    assert type(lossy).__name__ == type(other).__name__
    assert not isinstance(other, Lossy)
    goals.loss(0.1).require(lossy)
    with pytest.raises(CallerError, match="has none"):
        goals.loss(0.1).require(other)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_best_point_comes_through_as_the_master_has_it(name: str) -> None:
    learner = WRAPPERS[name](Evolution([Field("x", min=0, max=2 if name == "transform" else 1)], maximize=True, n=9))
    learner.bind([X], [Field("out")])
    assert isinstance(learner, Optimizing)
    assert not isinstance(WRAPPERS[name](Sobol([X])), Optimizing)
    with pytest.raises(CallerError, match="there is no best point"):
        learner.incumbent()
    while points := learner.ask(1):
        learner.tell(points[0], {"out": 1 - (points[0]["x"] - 0.3) ** 2})
    assert learner.incumbent() == max(((p, o["out"]) for p, o in learner.data), key=lambda pair: pair[1])
    both = WRAPPERS[name](AdaptiveLearner(adaptive.Learner1D(None, (0, 2)), ["x"]))
    other = pickle.loads(pickle.dumps(WRAPPERS[name](Evolution([X])))) if name != "filter" else learner
    assert isinstance(copy.deepcopy(learner), Optimizing)
    assert isinstance(other, Optimizing)
    assert not isinstance(both, Optimizing)


def test_the_best_output_has_the_masters_sign() -> None:
    learner = Transform(Evolution([X], n=9), output="yield", negate=True)
    learner.bind([X], [Field("yield"), Field("cost")])
    assert isinstance(learner, Optimizing)
    while points := learner.ask(1):
        learner.tell(points[0], {"yield": points[0]["x"], "cost": 1.0})
    point, output = learner.incumbent()
    assert output == point["x"] == max(told["yield"] for _, told in learner.data)


@pytest.mark.parametrize("name", WRAPPERS)
def test_all_else_comes_through(name: str) -> None:
    learner = Random([X], n=3)
    wrapper = WRAPPERS[name](learner)
    wrapper.seed(np.random.default_rng(1))
    wrapper.bind([X], [Field("out")])
    points = list(wrapper.ask(5))
    assert len(points) == 3
    assert not wrapper.done()
    for point in points[:2]:
        wrapper.tell(point, {"out": point["x"]})
    wrapper.fail(points[2], RuntimeError("no"))
    assert wrapper.done()
    assert learner.npoints == wrapper.npoints == 2
    assert learner.nfailed == wrapper.nfailed == 1
    assert wrapper.data == [(point, {"out": point["x"]}) for point in points[:2]]
    assert "Random" in wrapper.describe()


# -- Dedup ------------------------------------------------------------------------------------------------------------


def test_what_has_ended_is_answered_from_memory_and_what_is_in_flight_is_shared() -> None:
    learner = Scribe({"x": 1.0}, {"x": 2.0}, {"x": 1.0}, {"x": 3.0}, {"x": 2.0}, {"x": 1.0}, {"x": 4.0})
    guard = Dedup(learner)
    assert guard.ask(3) == [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]
    guard.tell({"x": 1.0}, 10)
    guard.fail({"x": 2.0}, RuntimeError("no"))
    assert learner.log == [({"x": 1.0}, 10), ({"x": 1.0}, 10), ({"x": 2.0}, "failed: no")]
    assert guard.ask(3) == [{"x": 4.0}]
    assert learner.log[3:] == [({"x": 2.0}, "failed: no"), ({"x": 1.0}, 10)]
    assert guard.data == [({"x": 1.0}, 10)]


def test_values_within_the_resolution_are_the_same() -> None:
    learner = Scribe({"T": 300.1, "B": 1}, {"T": 299.9, "B": 1}, {"T": 299.9, "B": 2}, {"T": 301.2, "B": 1})
    guard = Dedup(learner, {"T": 1.0})
    assert [point["T"] for point in guard.ask(4)] == [300.1, 299.9, 301.2]
    guard.tell({"T": 300.1, "B": 1}, 7)
    assert learner.log == [({"T": 300.1, "B": 1}, 7), ({"T": 299.9, "B": 1}, 7)], "told of the points as it asked them"


def test_a_learner_that_asks_for_one_point_for_ever_does_not_hang_it() -> None:
    class Stuck(Scribe):
        def ask(self, n: int) -> list[Any]:
            return [0.5] * n

    guard = Dedup(Stuck())
    assert guard.ask(4) == [0.5]
    assert guard.ask(4) == []


# -- Pending ----------------------------------------------------------------------------------------------------------


class Greedy:
    """Asks for its best guess, whatever is in flight."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def ask(self, n: int) -> list[Any]:
        return [{"x": 0.3, "kernel": "rbf"}] * n

    def tell(self, point: Any, output: Any) -> None:
        self.told.append(point)


def test_a_learner_that_forgets_what_is_in_flight_gets_points_beside_it() -> None:
    learner = Greedy()
    guard = Pending(learner, 0.05)
    guard.seed(np.random.default_rng(1))
    guard.bind([X, Field("kernel", kind="str", choices=("rbf", "poly"))])
    points = guard.ask(5)
    assert points[0] == {"x": 0.3, "kernel": "rbf"}
    assert len(points) == 5
    for i, one in enumerate(points):
        assert 0 <= one["x"] <= 1
        for other in points[:i]:
            assert abs(one["x"] - other["x"]) > 0.05 or one["kernel"] != other["kernel"]
    guard.tell(points[3], 1.0)
    assert learner.told == [points[3]]
    assert max(abs(point["x"] - 0.3) for point in points) < 0.6, "beside it, not anywhere"


def test_where_all_is_in_flight_there_is_nothing_beside_it() -> None:
    guard = Pending(Greedy(), 0.9, [X, Field("kernel", kind="str", choices=("rbf", "poly"))])
    assert len(guard.ask(10)) < 5
    with pytest.raises(CallerError, match="does not know the parameters"):
        Pending(Greedy()).ask(1)


def test_what_has_no_room_waits_for_it_and_nothing_is_lost() -> None:
    kernels = [Field("kernel", kind="str", choices=("rbf", "poly"))]
    learner = Sequence([{"kernel": "rbf"}] * 3 + [{"kernel": "poly"}] * 3)
    guard = Pending(learner, 0.5, kernels)
    in_flight, most = guard.ask(6), 0
    while in_flight:
        most = max(most, len(in_flight))
        assert not guard.done()
        guard.tell(in_flight.pop(0), 1.0)
        in_flight += guard.ask(6)
    assert (guard.npoints, most) == (6, 2)
    assert guard.done()


def test_a_learner_that_keeps_account_of_its_points_hears_how_each_has_ended() -> None:
    learner = Evolution([X, Y], n=20)
    guard = Pending(learner, 0.3, [X, Y])
    guard.seed(np.random.default_rng(1))
    in_flight = guard.ask(4)
    for k in range(20):
        guard.tell(in_flight.pop(), float(k))
        in_flight += guard.ask(4 - len(in_flight))
    assert guard.npoints == learner.npoints == 20
    assert learner.nfailed > 0, "those that were moved"
    assert guard.nfailed == 0
    assert guard.done()


# -- MoveCost and Travel ----------------------------------------------------------------------------------------------


def length(points: Any, travel: Travel) -> float:
    return sum(travel.time(one, other) for one, other in itertools.pairwise(points))


def test_ways_are_a_fraction_of_those_in_the_order_of_asking() -> None:
    travel = Travel({"x": 1.0, "y": 1.0})
    plain = Sobol([X, Y], seed=1, n=128).ask(128)
    near = MoveCost(Sobol([X, Y], seed=1, n=128), travel, ahead=32).ask(128)
    assert sorted(map(str, near)) == sorted(map(str, plain)), "every point is asked, once"
    assert length(near, travel) < 0.4 * length(plain, travel)


def test_nobody_is_passed_over_for_ever() -> None:
    far = {"x": 100.0}
    near = [{"x": 0.001 * i} for i in range(200)]
    asked = MoveCost(Sequence([near[0], far, *near[1:]]), Travel({"x": 1.0}), ahead=8).ask(100)
    assert asked.index(far) <= 33


def test_the_nearest_of_several_heads_goes() -> None:
    for heads, expected in ((1, [0, 10, 13, 1]), (2, [0, 10, 1, 13])):
        points = Sequence([{"x": x} for x in (0, 10, 13, 1)])
        asked = MoveCost(points, Travel({"x": 1.0}), ahead=2, heads=heads).ask(4)
        assert [point["x"] for point in asked] == expected


def test_travel_is_that_of_the_slowest_or_of_all_one_after_the_other() -> None:
    speeds, changes = {"x": 2.0, "y": 0.5}, {"filter": 3.0}
    start, end = {"x": 0, "y": 0, "filter": "red"}, {"x": 4, "y": 2, "filter": "blue"}
    assert Travel(speeds, changes).time(start, end) == 4.0
    assert Travel(speeds, changes, together=False).time(start, end) == 9.0
    assert Travel(speeds, changes).time(start, start) == 0.0
    with pytest.raises(CallerError, match="points need the parameters x, y, filter"):
        Travel(speeds, changes).time(0.5, 0.7)
    with pytest.raises(CallerError, match="no number, so it has no speed"):
        MoveCost(Sobol([X]), Travel({"k": 1.0})).bind([X, Field("k", kind="str", choices=("a", "b"))])
    with pytest.raises(CallerError, match="takes the speeds of parameters"):
        Travel(["x"])  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="MoveCost needs a Travel"):
        MoveCost(Sobol([X]), 2.0)  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="goes around a learner, with ask"):
        MoveCost(Sobol, Travel({"x": 1.0}))  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="speed of parameter 'x' must be a number above 0"):
        Travel({"x": 0.0})


# -- Transform, DataSaver, Filter -------------------------------------------------------------------------------------


def test_a_learner_sees_logarithms_and_other_units_and_the_master_does_not() -> None:
    dose = Field("dose", min=1e-6, max=1.0, unit="g")
    gap = Field("gap", min=1e-9, max=5e-9, unit="m")
    count = Field("count", kind="int", min=1, max=1000)
    learner = Grid([Field("dose", min=-6, max=0), Field("gap", min=1, max=5), Field("count", min=0, max=3)], n=4)
    mapped: dict[str, Mapped] = {"dose": Log(), "gap": Linear(1e9, unit="nm"), "count": Log()}
    transform = Transform(learner, mapped)
    seen = transform.form.parameters([dose, gap, count])
    assert [field.limits for field in seen] == [(-6.0, 0.0), (1.0, pytest.approx(5.0)), (0.0, 3.0)]
    assert [field.unit for field in seen] == ["log10(g)", "nm", "log10"]
    transform.bind([dose, gap, count])
    points = transform.ask(64)
    for point in points:
        assert dose.limits[0] <= point["dose"] <= dose.limits[1]
        assert gap.limits[0] <= point["gap"] <= gap.limits[1]
        assert isinstance(point["count"], int)
        transform.tell(point, 1.0)
    fresh = Grid([Field("dose", min=-6, max=0), Field("gap", min=1, max=5), Field("count", min=0, max=3)], n=4).ask(64)
    assert [point for point, _ in learner.data] == fresh, "told of bitwise the points it asked"
    transform.tell({"dose": 0.01, "gap": 2e-9, "count": 10}, 1.0)
    assert learner.data[-1][0] == {"dose": pytest.approx(-2), "gap": pytest.approx(2), "count": pytest.approx(1)}


def test_a_learner_is_told_of_bitwise_the_points_it_asked_although_they_were_rounded() -> None:
    learner = Random([Field("dose", min=-6, max=0)], seed=1)
    transform = Transform(learner, {"dose": Log()})
    for point in transform.ask(200):
        transform.tell(point, 1.0)
    assert [point for point, _ in learner.data] == Random([Field("dose", min=-6, max=0)], seed=1).ask(200)


def test_it_makes_a_learner_that_minimises_maximise_one_output_of_several() -> None:
    learner = GaussianProcess({"x": (0, 1)}, seed=1)
    wrapped = Transform(learner, output="yield", negate=True)
    wrapped.bind([X], [Field("yield", min=0, max=1), Field("text", kind="str")])
    for _ in range(20):
        (point,) = wrapped.ask(1)
        wrapped.tell(point, {"yield": 1 - (point["x"] - 0.7) ** 2, "text": "seen"})
    assert wrapped.best(output="yield")[0]["x"] == pytest.approx(0.7, abs=0.02)
    assert learner.best()[1] == pytest.approx(-1.0, abs=1e-3)


def test_outputs_are_reduced_and_kept_whole() -> None:
    saver = DataSaver(Evolution({"x": (0, 1)}, seed=1), lambda output: max(output["spectrum"]))
    saver.bind([X], [Field("spectrum", shape=(-1,))])
    (point,) = saver.ask(1)
    saver.tell(point, {"spectrum": [1.0, 5.0, 2.0]})
    assert saver.data == [(point, {"spectrum": [1.0, 5.0, 2.0]})]
    assert saver.learner.data == [(point, 5.0)]  # type: ignore[attr-defined]
    reduced = Transform(Evolution({"x": (0, 1)}, seed=1), output="pair", function=sum)
    (point,) = reduced.ask(1)
    reduced.tell(point, {"pair": [1.0, 5.0], "other": 1})
    assert reduced.learner.data == [(point, 6.0)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wrapped", "parameters", "message"),
    [
        (Transform(Random({"x": (0, 1)}), {"z": Log()}), [X], "no parameter 'z'"),
        (Transform(Random({"x": (0, 1)}), {"x": Log()}), [X], r"parameter 'x' takes a number in \[0, 1\]: 0 has no"),
        (
            Transform(Random({"x": (0, 1)}), {"x": Log()}),
            [Field("x", kind="bool")],
            "of which Transform makes no number",
        ),
        (Transform(Random({"x": (0, 1)}), output="z"), [X], "no output 'z'"),
        (Dedup(Random({"x": (0, 1)}), {"z": 0.1}), [X], "no parameter 'z'"),
        (Dedup(Random({"k": ["a"]}), {"k": 0.1}), [Field("k", kind="str")], "are the same or not"),
    ],
)
def test_what_does_not_fit_the_master_is_named(wrapped: Wrapper, parameters: list[Field], message: str) -> None:
    with pytest.raises(CallerError, match=message):
        wrapped.bind(parameters, [Field("out")])
    with pytest.raises(CallerError, match=r"as a Log\(\), a Linear"):
        Transform(Random({"x": (0, 1)}), {"x": np.log10})  # type: ignore[dict-item]


def test_what_is_filtered_out_is_never_evaluated() -> None:
    learner = Grid([X, Y], n=5)
    disc = Filter(learner, lambda point: bool(point["x"] ** 2 + point["y"] ** 2 <= 1))
    points = disc.ask(99)
    assert all(point["x"] ** 2 + point["y"] ** 2 <= 1 for point in points)
    assert len(points) + disc.rejected == 25
    assert learner.nfailed == disc.rejected
    assert disc.nfailed == 0, "nothing failed at the Master"
    for point in points:
        disc.tell(point, 1.0)
    assert disc.done()


def test_a_filter_can_tell_a_penalty_instead() -> None:
    learner = Scribe({"x": 1}, {"x": 2})
    assert Filter(learner, lambda point: bool(point["x"] > 1), penalty=1e3).ask(1) == [{"x": 2}]
    assert learner.log == [({"x": 1}, 1e3)]
    failing = Scribe({"x": 1})
    Filter(failing, lambda point: False).ask(1)
    assert failing.log == [
        ({"x": 1}, f"failed: {TaskFailed(repr({'x': 1}) + ' was left out by a Filter', 'Rejected')}")
    ]


def test_a_filter_that_keeps_nothing_gives_up() -> None:
    assert Filter(Random([X]), lambda point: False).ask(3) == []
