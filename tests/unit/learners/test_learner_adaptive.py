"""The adapter for python-adaptive, with its real learners: forms of points and outputs, failures, limits."""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import adaptive
import numpy as np
import pytest
import scipy.spatial

from taskmaster.bus.errors import CallerError, EvaluationError, TaskFailed
from taskmaster.bus.fields import Field
from taskmaster.learners.adaptive import AdaptiveLearner

SQUARE = [(-2, 4), (-6, 0)]
LOG_C = Field("log_C", min=-2, max=4)
LOG_GAMMA = Field("log_gamma", min=-6, max=0)
REFUSED = TaskFailed("no contact", "LabError", "Traceback …")


def ridge(point: Any) -> float:
    """Steep along a diagonal."""
    a, b = point.values() if isinstance(point, dict) else point
    return math.tanh(8 * (a + b + 1))


def drive(
    learner: AdaptiveLearner, n: int, f: Callable[[Any], Any], fails: Callable[[Any], bool] = lambda point: False
) -> list[Any]:
    """Answer ``n`` points, four in flight, first in first out, failing those that ``fails``. Returns all asked."""
    asked = learner.ask(4)
    in_flight = deque(asked)
    for _ in range(n):
        point = in_flight.popleft()
        if fails(point):
            learner.fail(point, REFUSED)
        else:
            learner.tell(point, f(point))
        new = learner.ask(4 - len(in_flight))
        in_flight += new
        asked += new
    return asked


# -- the same as adaptive alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "f"),
    [
        (lambda f: adaptive.Learner1D(f, (-1, 1)), lambda x: math.tanh(20 * x)),
        (lambda f: adaptive.Learner1D(f, (0, 3)), lambda x: np.array([math.sin(x), x * x])),
        (lambda f: adaptive.Learner2D(f, SQUARE), ridge),
        (lambda f: adaptive.LearnerND(f, SQUARE), ridge),
        (lambda f: adaptive.LearnerND(f, [(0, 1)] * 3), lambda p: p[0] * p[1] - p[2]),
    ],
    ids=["1d", "1d-vector", "2d", "2d-as-nd", "3d"],
)
def test_one_at_a_time_samples_what_adaptives_own_runner_samples(
    make: Callable[..., Any], f: Callable[..., Any]
) -> None:
    alone = make(f)
    adaptive.runner.simple(alone, npoints_goal=60)

    ours = AdaptiveLearner(make(None))
    while ours.npoints < 60:
        (point,) = ours.ask(1)
        ours.tell(point, f(point))

    assert list(ours.learner.data) == list(alone.data)
    assert ours.loss() == alone.loss()


def test_a_point_nobody_asked_for_is_learnt_too() -> None:
    for kind, point in ((adaptive.Learner1D, 0.25), (adaptive.Learner2D, (0.5, 0.5)), (adaptive.LearnerND, (0.5, 0.5))):
        learner = AdaptiveLearner(kind(None, (0, 1) if kind is adaptive.Learner1D else [(0, 1), (0, 1)]))
        learner.tell(point, 1.0)
        assert learner.npoints == 1
        assert point not in learner.ask(10)


def test_the_loss_is_that_of_all_that_was_told() -> None:
    learner = AdaptiveLearner(adaptive.Learner2D(None, SQUARE))
    losses = []
    for _ in range(40):
        (point,) = learner.ask(1)
        learner.tell(point, ridge(point))
        losses.append(learner.loss())
        assert losses[-1] == learner.learner.loss()
    assert losses[:3] == [math.inf] * 3
    assert losses[-1] < losses[4]


# -- points and outputs in the Master's form --------------------------------------------------------------------------


def test_points_take_the_masters_names_or_are_bare() -> None:
    bare = AdaptiveLearner(adaptive.Learner2D(None, SQUARE))
    assert bare.ask(1) == [(-2.0, -6.0)]
    assert AdaptiveLearner(adaptive.Learner1D(None, (0, 1))).ask(2) == [0.0, 1.0]

    bound = AdaptiveLearner(adaptive.Learner2D(None, SQUARE))
    bound.bind((LOG_C, LOG_GAMMA), [Field("accuracy")])
    assert bound.ask(1) == [{"log_C": -2.0, "log_gamma": -6.0}]
    assert bound.describe() == "adaptive Learner2D over log_C, log_gamma"

    turned = AdaptiveLearner(adaptive.Learner2D(None, SQUARE[::-1]), names=["log_gamma", "log_C"])
    turned.bind((LOG_C, LOG_GAMMA))
    assert turned.ask(1) == [{"log_gamma": -6.0, "log_C": -2.0}]
    turned.tell({"log_C": -2.0, "log_gamma": -6.0}, 0.5)  # the order of a dict says nothing
    assert turned.learner.data == {(-6.0, -2.0): 0.5}


def test_points_are_pythons_floats_and_outputs_of_numpy_are_taken() -> None:
    learner = AdaptiveLearner(adaptive.LearnerND(None, SQUARE))
    for output in (np.float32(1), np.int64(2), True, np.array(3.0)):
        (point,) = learner.ask(1)
        assert [type(value) for value in point] == [float, float]
        learner.tell(point, output)
    assert list(learner.learner.data.values()) == [1.0, 2.0, 1.0, 3.0]


def test_the_output_to_learn_is_named_where_there_are_several() -> None:
    learner = AdaptiveLearner(adaptive.Learner1D(None, (0, 1)), output="current")
    for point in learner.ask(3):
        learner.tell(point, {"current": 2 * point, "trace": [0.0, point]})
    assert learner.learner.data == {0.0: 0.0, 0.5: 1.0, 1.0: 2.0}
    assert learner.best() == (1.0, 2.0)

    only = AdaptiveLearner(adaptive.Learner1D(None, (0, 1)))
    only.tell(0.0, {"current": 3.0})
    assert only.learner.data == {0.0: 3.0}
    with pytest.raises(CallerError, match="several outputs, 'current', 'trace': say which with output=NAME"):
        only.tell(1.0, {"current": 3.0, "trace": []})
    with pytest.raises(CallerError, match="no output is called 'current'"):
        learner.tell(0.1, {"voltage": 3.0})


@pytest.mark.parametrize("output", ["high", None, 1j, [[1.0, 2.0]], [], [[1], [1, 2]]])
def test_an_output_that_cannot_be_learnt_is_refused(output: object) -> None:
    with pytest.raises(CallerError, match="Learner1D learns a real number or a vector of them, not "):
        AdaptiveLearner(adaptive.Learner1D(None, (0, 1))).tell(0.0, output)


def test_outputs_keep_their_shape() -> None:
    learner = AdaptiveLearner(adaptive.Learner1D(None, (0, 1)))
    learner.tell(0.0, [1.0, 2.0])
    with pytest.raises(CallerError, match=r"output of shape \(3,\) after others of \(2,\)"):
        learner.tell(1.0, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("point", [{"a": 1.0}, {"a": 1.0, "c": 2.0}, (1.0,), 0.5, "ab", None])
def test_a_point_of_another_form_is_refused(point: object) -> None:
    learner = AdaptiveLearner(adaptive.Learner2D(None, [(0, 1), (0, 1)]), names=["a", "b"])
    with pytest.raises(CallerError, match=r"adaptive Learner2D over a, b was told of .*, which is no point of a, b"):
        learner.tell(point, 1.0)


# -- failures ---------------------------------------------------------------------------------------------------------


def in_hole(point: Any) -> bool:
    return math.hypot(point[0] - 1, point[1] + 3) < 1


@pytest.mark.parametrize("kind", [adaptive.Learner2D, adaptive.LearnerND])
def test_it_works_around_a_hole_where_every_point_fails(kind: type[Any]) -> None:
    learner = AdaptiveLearner(kind(None, SQUARE))
    asked = drive(learner, 250, ridge, fails=in_hole)

    assert max(Counter(asked).values()) == 1
    assert 0 < learner.nfailed < 60  # the hole is 9 % of the domain: it draws no crowd
    assert learner.npoints == 250 - learner.nfailed
    assert not any(in_hole(point) for point in learner.learner.data)
    assert math.isfinite(learner.loss())


@pytest.mark.parametrize("value", [math.nan, math.inf, [0.0, math.nan]])
def test_outputs_that_are_not_finite_count_as_failures(value: float | list[float]) -> None:
    learner = AdaptiveLearner(adaptive.Learner2D(None, SQUARE))

    def f(point: Any) -> Any:
        ordinary = [ridge(point), 0.0] if isinstance(value, list) else ridge(point)
        return value if in_hole(point) else ordinary

    asked = drive(learner, 150, f)
    assert learner.nfailed == sum(map(in_hole, asked[:150])) > 0
    assert len(learner.data) == 150  # they were told, all the same
    assert math.isfinite(learner.loss())


@pytest.mark.parametrize("kind", [adaptive.Learner2D, adaptive.LearnerND])
def test_a_corner_that_fails_is_asked_again_and_learnt(kind: type[Any]) -> None:
    corner = (4.0, 0.0)
    attempts = Counter[Any]()

    def fails(point: Any) -> bool:
        attempts[point] += 1
        return point == corner and attempts[point] <= 2

    learner = AdaptiveLearner(kind(None, SQUARE))
    asked = drive(learner, 60, ridge, fails)
    assert asked.count(corner) == 3
    assert learner.nfailed == 2
    assert corner in learner.learner.data
    assert math.isfinite(learner.loss())


@pytest.mark.parametrize("kind", [adaptive.Learner2D, adaptive.LearnerND])
def test_a_corner_that_keeps_failing_is_an_error_that_names_it(kind: type[Any]) -> None:
    learner = AdaptiveLearner(kind(None, SQUARE), names=["a", "b"])
    expected = (
        rf"{kind.__name__} cannot learn without the corners of its bounds, and \{{'a': 4.0, 'b': 0.0\}} failed 3 times "
        r"\(LabError: no contact\); mend the evaluation there, or choose bounds that leave it out"
    )
    with pytest.raises(EvaluationError, match=expected) as caught:
        drive(learner, 60, ridge, lambda point: point == {"a": 4.0, "b": 0.0})
    assert caught.value.__cause__ is REFUSED


def test_a_corner_told_while_it_waits_to_be_asked_again_is_not_asked_again() -> None:
    learner = AdaptiveLearner(adaptive.Learner2D(None, SQUARE))
    corners = learner.ask(4)
    learner.fail(corners[0], REFUSED)
    learner.tell(corners[0], 1.0)
    assert corners[0] not in learner.ask(20)


def test_the_corners_of_a_hull_are_needed_too() -> None:
    triangle = scipy.spatial.ConvexHull([(0.0, 0.0), (1.0, 0.0), (0.25, 1.0)])
    learner = AdaptiveLearner(adaptive.LearnerND(None, triangle))
    asked = drive(learner, 20, ridge, lambda point: point == (0.25, 1.0) and learner.nfailed < 1)
    assert asked.count((0.25, 1.0)) == 2


def test_a_line_is_learnt_without_its_ends() -> None:
    learner = AdaptiveLearner(adaptive.Learner1D(None, (0, 1)))
    asked = drive(learner, 80, math.sqrt, lambda x: x in (0.0, 1.0))
    assert learner.nfailed == 2
    assert max(Counter(asked).values()) == 1
    assert learner.loss() < 0.1
    assert min(learner.learner.data) < 0.05
    assert max(learner.learner.data) > 0.95


# -- the end of what can be asked -------------------------------------------------------------------------------------


def test_it_is_done_when_every_float_of_the_domain_is_known() -> None:
    start, ulp = 1.0, 2.0**-52
    learner = AdaptiveLearner(adaptive.Learner1D(None, (start, start + 4 * ulp)))
    asked = []
    for _ in range(5):
        for point in learner.ask(3):
            asked.append(point)
            learner.tell(point, point - start)
    assert learner.done()
    assert sorted(asked) == sorted(set(asked))
    assert {start, start + 2 * ulp, start + 4 * ulp} <= set(asked) <= {start + k * ulp for k in range(5)}
    assert learner.ask(0) == []


def test_rounding_in_a_crowd_of_points_in_flight_does_not_stop_learner_nd() -> None:
    """After 175 points of this schedule LearnerND raises ValueError: a suggestion falls on a pending point."""
    chance = random.Random(4)
    learner = AdaptiveLearner(adaptive.LearnerND(None, [(-1, 1), (-2, 3)]), retries=99)
    in_flight: list[Any] = []
    asked = 0
    while asked < 250:
        if chance.random() < 0.35:
            n = chance.randint(0, 12)
            points = learner.ask(n)
            assert len(points) == n
            asked += n
            in_flight += points
        elif in_flight:
            point = in_flight.pop(chance.randint(0, 12) % len(in_flight))
            if chance.random() < 0.3:
                learner.fail(point, REFUSED)
            else:
                learner.tell(point, 1.0)


# -- a Master that it does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "parameters", "outputs", "message"),
    [
        (None, [LOG_C], [], "Learner2D has 2 dimensions, which need as many parameters; got log_C"),
        (["log_c", "log_gamma"], [LOG_C, LOG_GAMMA], [], "the Master has no parameter 'log_c'; did you mean 'log_C'?"),
        (
            ["log_C", "log_gamma"],
            [LOG_C, LOG_GAMMA, Field("degree")],
            [],
            "adaptive Learner2D over log_C, log_gamma leaves out 'degree', which the Master needs",
        ),
        (
            None,
            [Field("log_C", min=-1, max=4, unit="dB"), LOG_GAMMA],
            [],
            r"asks for 'log_C' within \[-2, 4\], but the Master's parameter 'log_C' takes a number in \[-1, 4\] dB",
        ),
        (None, [LOG_C, Field("k", kind="int")], [], "Learner2D gives real numbers, but parameter 'k' takes a whole"),
        (None, [LOG_C, Field("k", choices=(1.0, 2.0))], [], "but parameter 'k' takes one of 1.0, 2.0"),
        (None, [LOG_C, LOG_GAMMA], [Field("a"), Field("b")], "several outputs, 'a', 'b': say which with output=NAME"),
        (None, [LOG_C, LOG_GAMMA], [Field("a", kind="str")], "output 'a' is a string"),
        (None, [LOG_C, LOG_GAMMA], [Field("a", shape=(8, 8))], r"output 'a' is an array of shape \(8, 8\)"),
    ],
)
def test_binding_to_a_master_that_does_not_fit_names_both(
    names: list[str] | None, parameters: list[Field], outputs: list[Field], message: str
) -> None:
    learner = AdaptiveLearner(adaptive.Learner2D(None, SQUARE), names)
    with pytest.raises(CallerError, match=message):
        learner.bind(parameters, outputs)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_each_dimension_has_one_name(names: list[str]) -> None:
    with pytest.raises(CallerError, match="Learner2D has 2 dimensions"):
        AdaptiveLearner(adaptive.Learner2D(None, SQUARE), names)


def test_other_learners_are_refused_by_name() -> None:
    for other in (
        adaptive.BalancingLearner([adaptive.SequenceLearner(abs, [1, 2])]),
        adaptive.BalancingLearner([adaptive.IntegratorLearner(abs, (0, 1), 0.1)]),
    ):
        with pytest.raises(CallerError, match=r"BalancingLearner balances .*, and DataSavers of these; not "):
            AdaptiveLearner(other)
    with pytest.raises(CallerError, match="takes a learner of python-adaptive, not <class"):
        AdaptiveLearner(adaptive.Learner1D)


def test_over_a_masters_parameters_it_takes_the_learner_for_their_number() -> None:
    learner = AdaptiveLearner.over((LOG_C, LOG_GAMMA))
    assert learner.learner.bounds == ((-2.0, 4.0), (-6.0, 0.0))
    assert learner.ask(1) == [{"log_C": -2.0, "log_gamma": -6.0}]
    assert AdaptiveLearner.over({"x": (0, 1)}).learner.bounds == (0.0, 1.0)
    with pytest.raises(CallerError, match="parameter 'kernel' is not a real number within limits"):
        AdaptiveLearner.over({"x": (0, 1), "kernel": ["rbf", "poly"]})
