"""The regression beneath the Gaussian process: its slopes, its growth by rows, and its hyperparameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.integrate import quad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern

from taskmaster.bus.fields import Field
from taskmaster.learners.gp.acquisition import confidence_bound, log_expected_improvement, log_h, log_success
from taskmaster.learners.gp.kernels import squared_distances
from taskmaster.learners.gp.model import Evidence, Factor, Hyper, Posterior, fit
from taskmaster.learners.gp.promise import Promise
from taskmaster.learners.gp.scale import SHAPES, Scale
from taskmaster.learners.gp.search import propose
from taskmaster.learners.gp.surrogate import Surrogate
from taskmaster.learners.gp.threads import one_thread
from taskmaster.learners.space import Floats, Space

RNG = np.random.default_rng(5)
X = RNG.random((30, 3))
Y = np.sin(5 * X[:, 0]) + X[:, 1] ** 2 + 0.1 * RNG.standard_normal(30)
Y = (Y - Y.mean()) / Y.std()
GROUPS = np.array([0, 1, 2])
HYPER = Hyper(np.array([0.3, 0.5, 0.7]), 1.3, 1e-3)
QUESTIONS = RNG.random((4, 3))


@pytest.fixture(autouse=True)
def single_threaded() -> Iterator[None]:
    """As the learner does it."""
    with one_thread():
        yield


def slope(function: object, at: Floats, k: int, step: float = 1e-6) -> Floats:
    """The derivative by coordinate ``k`` of rows, by differences."""
    assert callable(function)
    moved = np.zeros(at.shape[-1])
    moved[k] = step
    return np.asarray((function(at + moved) - function(at - moved)) / (2 * step))


def factor_of(x: Floats, kernel: str = "matern") -> Factor:
    factor = Factor(HYPER, GROUPS, kernel)
    factor.extend(x)
    return factor


# -- hyperparameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["matern", "rbf"])
@pytest.mark.parametrize("noise", [None, 0.01])
def test_the_evidence_has_the_slopes_of_its_differences(kernel: str, noise: float | None) -> None:
    evidence = Evidence(X, Y, np.array([0, 1, 1]), kernel, noise)
    at = np.array([-0.5, 0.2, 0.1, -3.0])[: 4 if noise is None else 3]
    by_difference = [slope(lambda logs: evidence(logs)[0], at, k) for k in range(len(at))]
    np.testing.assert_allclose(evidence(at)[1], by_difference, rtol=1e-5)


def test_a_parameter_that_does_not_matter_gets_a_long_length() -> None:
    x = np.random.default_rng(1).random((60, 2))
    y = np.sin(8 * x[:, 0])
    hyper, _ = fit(x, (y - y.mean()) / y.std(), np.array([0, 1]), "matern")
    assert hyper.lengths[1] > 8 * hyper.lengths[0]
    assert hyper.noise < 1e-3


def test_noise_is_learnt() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((150, 1))
    y = np.sin(4 * x[:, 0]) + 0.2 * rng.standard_normal(150)
    hyper, _ = fit(x, (y - y.mean()) / y.std(), np.array([0]), "rbf")
    assert math.sqrt(hyper.noise) * y.std() == pytest.approx(0.2, rel=0.25)


# -- predictions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "theirs"), [("matern", Matern(HYPER.lengths, nu=2.5)), ("rbf", RBF(HYPER.lengths))])
def test_it_predicts_what_scikit_learn_predicts(kernel: str, theirs: object) -> None:
    regressor = GaussianProcessRegressor(ConstantKernel(1.3) * theirs, alpha=1e-3 + 1.3e-8, optimizer=None).fit(X, Y)
    means, deviations = regressor.predict(QUESTIONS, return_std=True)
    ours = Posterior(factor_of(X, kernel), Y, mean=0.0).predict(QUESTIONS)
    np.testing.assert_allclose(ours[0][0], means, rtol=1e-8)
    np.testing.assert_allclose(ours[1], deviations, rtol=1e-6)


@given(cuts=st.lists(st.integers(1, 30), max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_factor_grown_in_parts_is_that_of_the_whole(cuts: list[int]) -> None:
    factor = Factor(HYPER, GROUPS, "matern")
    edges = [0, *sorted({*cuts, 30})]
    for low, high in itertools.pairwise(edges):
        factor.extend(X[low:high])
    np.testing.assert_allclose(factor.inverse, factor_of(X).inverse, atol=1e-11)


def test_a_factor_grows_past_its_first_room_and_shrinks_again() -> None:
    many = np.random.default_rng(3).random((200, 3))
    factor = factor_of(many[:50])
    before = factor.inverse.copy()
    factor.extend(many[50:])
    assert factor.x.shape == (200, 3)
    factor.truncate(50)
    np.testing.assert_array_equal(factor.inverse, before)


def test_the_same_point_twice_does_not_break_it() -> None:
    factor = Factor(Hyper(HYPER.lengths, 1.3, 0.0), GROUPS, "rbf")
    for _ in range(5):
        factor.extend(np.concatenate([X[:3], X[:3]]))
    assert np.isfinite(Posterior(factor, np.tile(Y[:3], 10)).predict(QUESTIONS)[0]).all()


def test_alternatives_of_points_in_flight_change_what_is_expected_beside_them() -> None:
    told = Posterior(factor_of(X), Y)
    (means, deviations), (_, lower) = told.predict(QUESTIONS), told.joint(QUESTIONS)
    np.testing.assert_allclose(np.sqrt((lower**2).sum(axis=1)), deviations, rtol=1e-6)
    outcomes = np.concatenate([means, means + 1.0])
    after = told.extended(QUESTIONS, outcomes)
    expected, certain = after.predict(QUESTIONS)
    np.testing.assert_allclose(expected, outcomes, atol=0.1)
    assert (certain < deviations).all()
    assert after.fitted.shape == (34, 2)


@pytest.mark.parametrize("kernel", ["matern", "rbf"])
@pytest.mark.parametrize("form", ["improvement", "bound", "improvement where it works, on the way"])
def test_a_promise_has_the_slopes_of_its_differences(kernel: str, form: str) -> None:
    posterior = Posterior(factor_of(X, kernel), np.stack([Y, Y + 0.3], axis=1))
    success = Posterior(factor_of(X, kernel), np.where(X[:, 0] > 0.5, 1.0, -1.0), mean=0.0)
    promise = {
        "improvement": Promise(posterior),
        "bound": Promise(posterior, kappa=2.0),
        "improvement where it works, on the way": Promise(
            posterior, success=success, toll=lambda points: np.asarray((points**2).sum(axis=1))
        ),
    }[form]
    values, slopes = promise(QUESTIONS, True)
    np.testing.assert_allclose(values, promise(QUESTIONS, False)[0], rtol=1e-12)
    for k in range(3):
        by_difference = slope(lambda points: promise(points, False)[0], QUESTIONS, k)
        np.testing.assert_allclose(slopes[:, k], by_difference, rtol=1e-4, atol=1e-5)


# -- acquisition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [3.0, 0.0, -0.99, -1.01, -5.0, -20.0])
def test_log_h_is_the_logarithm_of_the_integral(z: float) -> None:
    """h(z) = ∫₀^∞ t φ(z − t) dt, scaled here by φ(z) so that nothing underflows."""
    integral, _ = quad(lambda t: t * math.exp(z * t - t * t / 2), 0, 60, epsabs=0, epsrel=1e-12)
    expected = math.log(integral) - z * z / 2 - 0.5 * math.log(2 * math.pi)
    assert log_h(np.array([z]))[0] == pytest.approx(expected, rel=1e-9)


def test_log_h_falls_without_a_step_down_to_where_floats_end() -> None:
    z = -np.logspace(-3, 12, 4000)
    values = log_h(z)
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()
    far = z < -1e6
    np.testing.assert_allclose(values[far], -0.5 * z[far] ** 2, rtol=1e-9)


def test_acquisitions_have_the_slopes_of_their_differences() -> None:
    means, deviations = RNG.standard_normal((2, 5)), np.exp(RNG.standard_normal(5))
    acquisitions: list[Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]] = [
        lambda m, s: log_expected_improvement(m, s, np.array([-1.0, 0.5])),
        lambda m, s: confidence_bound(m, s, 1.5),
        lambda m, s: log_success(m[:1], s, 0.25),
    ]
    for acquire in acquisitions:
        _, by_means, by_deviations = acquire(means, deviations)
        for row in range(len(by_means)):
            moved = np.zeros_like(means)
            moved[row] = 1e-6
            difference = acquire(means + moved, deviations)[0] - acquire(means - moved, deviations)[0]
            np.testing.assert_allclose(by_means[row], difference / 2e-6, atol=1e-6)
        difference = acquire(means, deviations + 1e-6)[0] - acquire(means, deviations - 1e-6)[0]
        np.testing.assert_allclose(by_deviations, difference / 2e-6, atol=1e-6)


# -- scales -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_scale_keeps_the_order_and_knows_its_slope(shape: str) -> None:
    outputs = np.exp(3 * np.random.default_rng(1).standard_normal(40))
    scale = Scale.of(outputs, shape)
    scaled = scale(outputs)
    assert scaled.mean() == pytest.approx(0, abs=1e-9)
    assert scaled.std() == pytest.approx(1)
    np.testing.assert_array_equal(np.argsort(scaled), np.argsort(outputs))
    step = 1e-6
    slopes = (scale(outputs + step) - scale(outputs - step)) / (2 * step)
    assert scale.log_slopes(outputs) == pytest.approx(np.log(slopes).sum(), rel=1e-3)


def test_all_equal_outputs_have_a_scale() -> None:
    for shape in SHAPES:
        assert np.array_equal(Scale.of(np.full(5, 3.0), shape)(np.full(5, 3.0)), np.zeros(5))


def test_outputs_over_orders_of_magnitude_are_pressed_together_and_others_are_not() -> None:
    x = np.random.default_rng(4).random((60, 2))
    smooth, steep = np.sin(3 * x[:, 0]) + x[:, 1], np.exp(12 * x[:, 0]) + x[:, 1]
    chosen = []
    for outputs in (smooth, steep):
        surrogate = Surrogate(np.array([0, 1]), "matern", None)
        for code, value in zip(x, outputs.tolist(), strict=True):
            surrogate.add(code, value)
        surrogate.posterior()
        chosen.append(surrogate.scale.shape)
    assert chosen[0] == "plain"
    assert chosen[1] in ("half", "log")


def test_the_shape_is_chosen_by_the_probability_of_the_outputs_themselves() -> None:
    """Not of the scaled ones: which of two densities is larger changes with the variable they are densities of."""
    x = np.random.default_rng(4).random((30, 2))
    y = np.sin(8 * x[:, 0]) * np.cos(6 * x[:, 1])
    surrogate = Surrogate(np.array([0, 1]), "matern", None)
    for code, value in zip(x, y.tolist(), strict=True):
        surrogate.add(code, value)
    surrogate.posterior()
    scaled, own = {}, {}
    for shape in SHAPES:
        scale = Scale.of(y, shape)
        _, scaled[shape] = fit(x, scale(y), np.array([0, 1]), "matern")
        own[shape] = scaled[shape] - scale.log_slopes(y)
    assert surrogate.scale.shape == min(own, key=own.__getitem__)
    assert surrogate.scale.shape != min(scaled, key=scaled.__getitem__)


def test_what_is_predicted_from_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskmaster.learners.gp.surrogate._KEPT", 40)
    surrogate = Surrogate(np.array([0]), "matern", None)
    for i in range(200):
        surrogate.add(np.array([i / 200]), (i / 200 - 0.3) ** 2)
        if i % 7 == 3:
            posterior = surrogate.posterior()
            assert posterior.factor.n <= 40 + 200 // 20 + 1
    means, _ = surrogate.posterior().predict(np.array([[0.3], [0.9]]))
    assert means[0, 0] < means[0, 1], "the best and the latest are kept"


# -- the search -------------------------------------------------------------------------------------------------------

KINDS = tuple(f"kind {k}" for k in range(20))
MIXED = Space(
    [*(Field(f"x{k}", min=0, max=1) for k in range(6)), Field("few", "str", choices=(*"abcd",)),
     Field("many", "str", choices=KINDS)],
    "search",
)  # fmt: skip


def test_rows_without_an_order_are_the_same_or_at_the_distance_of_their_length() -> None:
    a, b = MIXED.spread(RNG.random((40, 8))), MIXED.spread(RNG.random((9, 8)))
    for scale in (1.0, 0.3, 1e-3, 7.7e5):
        kinds = [slice(6, 10), slice(10, 30)]
        quick, plain = squared_distances(a * scale, b * scale, kinds), squared_distances(a * scale, b * scale)
        assert quick == pytest.approx(plain, rel=1e-12)
        assert (np.diagonal(squared_distances(a * scale, a * scale, kinds)) == 0.0).all()
        assert (quick >= 0.0).all()


def test_the_search_finds_the_best_of_choices_and_numbers_with_few_looks() -> None:
    """Where the best numbers are depends on the choices, by a long bent valley that takes many steps to go down."""
    heights, places = np.random.default_rng(1).random(24), np.random.default_rng(2).random((24, 2))
    looks: list[tuple[int, bool]] = []

    def score(points: Floats, with_slopes: bool) -> tuple[Floats, Floats]:
        looks.append((len(points), with_slopes))
        x, on = points[:, :6], points[:, 6:] * math.sqrt(2.0)
        bend, foot = x[:, 1:] - x[:, :-1] ** 2, x[:, :1] - on @ places[:, :1]
        values = -100.0 * (bend**2).sum(axis=1) - (foot**2).sum(axis=1) - on @ heights
        slopes = np.zeros_like(points)
        slopes[:, 1:6] -= 200.0 * bend
        slopes[:, :5] += 400.0 * bend * x[:, :-1]
        slopes[:, :1] -= 2.0 * foot
        return values, slopes

    best = propose(MIXED, score, np.empty((0, MIXED.columns)), np.random.default_rng(3), 300)[0]
    few, many = (int(np.argmax(part)) for part in (best[6:10], best[10:]))
    assert (few, many) == (int(np.argmin(heights[:4])), int(np.argmin(heights[4:])))
    assert score(best[None], False)[0][0] == pytest.approx(-heights[few] - heights[4 + many], abs=1e-2)
    climbs, others = sum(slopes for _, slopes in looks), sum(not slopes for _, slopes in looks)
    assert climbs < 100, "a climb after a step is a short one"
    assert others < 8, "all that is one step away from any of the points is looked at at once"
