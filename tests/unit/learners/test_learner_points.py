"""Learners whose points are fixed from the start: which points, in which order, and what they refuse."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field, Schema
from taskmaster.learners.points import Grid, Halton, LatinHypercube, Random, Sequence, Sobol

LOG_C = Field("log_C", min=-2, max=4)
LOG_GAMMA = Field("log_gamma", min=-6, max=0)
STEPS = Field("steps", kind="int", min=1, max=5)
KERNEL = Field("kernel", kind="str", choices=("rbf", "poly"))
SHUFFLE = Field("shuffle", kind="bool")


# -- Sequence ---------------------------------------------------------------------------------------------------------


def test_a_sequence_is_asked_in_order_and_consumed_lazily() -> None:
    source = itertools.count()
    learner = Sequence(source)
    assert learner.ask(3) == [0, 1, 2]
    assert next(source) == 3

    for point in (2, 0, 1):
        learner.tell(point, point**2)
    assert not learner.done()  # looks one point ahead, and keeps it
    assert learner.ask(0) == []
    assert learner.ask(2) == [4, 5]
    assert learner.data == [(2, 4), (0, 0), (1, 1)]


def test_an_empty_sequence_is_done_once_it_was_asked() -> None:
    learner = Sequence([])
    assert not learner.done()
    assert learner.ask(5) == []
    assert learner.done()


def test_rows_of_an_array_become_dicts_of_plain_numbers() -> None:
    points = Sequence(np.array([[1.5, 2.0], [0.1, -3.0]]), names=["a", "b"]).ask(9)
    assert points == [{"a": 1.5, "b": 2.0}, {"a": 0.1, "b": -3.0}]
    assert all(type(value) is float for point in points for value in point.values())
    assert [type(point) for point in Sequence(np.arange(2)).ask(2)] == [int, int]


def test_rows_may_be_tuples_single_values_or_points_already() -> None:
    assert Sequence([(1, "x"), {"b": "y", "a": 2}], names=["a", "b"]).ask(2) == [{"a": 1, "b": "x"}, {"b": "y", "a": 2}]
    assert Sequence(np.linspace(0, 1, 3), names=["a"]).ask(3) == [{"a": 0.0}, {"a": 0.5}, {"a": 1.0}]


def test_a_row_of_the_wrong_length_is_named() -> None:
    learner = Sequence([(1, 2), (1, 2, 3)], names=["a", "b"])
    with pytest.raises(CallerError, match=r"point 1 of the Sequence has 3 values for the parameters a, b: \(1, 2, 3\)"):
        learner.ask(2)


@pytest.mark.parametrize("points", [{"a": 1}, "abc", 3])
def test_a_single_point_is_not_a_sequence(points: object) -> None:
    with pytest.raises(CallerError, match="a single point goes in a list"):
        Sequence(points)  # type: ignore[arg-type]


def test_names_are_a_list() -> None:
    with pytest.raises(CallerError, match=r"write \['ab'\]"):
        Sequence([(1, 2)], names="ab")


# -- Grid -------------------------------------------------------------------------------------------------------------


def test_a_grid_varies_the_last_parameter_fastest() -> None:
    grid = Grid({"x": (0, 1), "mode": ["a", "b"]}, n=3)
    assert len(grid) == 6
    assert grid.ask(100) == [
        {"x": 0.0, "mode": "a"},
        {"x": 0.0, "mode": "b"},
        {"x": 0.5, "mode": "a"},
        {"x": 0.5, "mode": "b"},
        {"x": 1.0, "mode": "a"},
        {"x": 1.0, "mode": "b"},
    ]
    assert grid.describe() == "Grid of 3 × 2 points over x, mode"


def test_a_grid_over_a_masters_parameters_stays_within_what_they_take() -> None:
    parameters = (LOG_C, STEPS, KERNEL, SHUFFLE)
    grid = Grid(parameters, n={"log_C": 4})
    assert len(grid) == 4 * 5 * 2 * 2
    table = Schema(parameters, "svm").pack_points(grid.ask(len(grid)))
    assert sorted(set(table.column("log_C"))) == [-2.0, 0.0, 2.0, 4.0]
    assert sorted(set(table.column("steps"))) == [1, 2, 3, 4, 5]


def test_n_may_differ_between_the_axes_that_need_it() -> None:
    grid = Grid((LOG_C, KERNEL, LOG_GAMMA), n=[2, 3])
    assert grid.describe() == "Grid of 2 × 2 × 3 points over log_C, kernel, log_gamma"


@given(low=st.integers(-(2**62), 2**62), span=st.integers(0, 2**62), n=st.integers(2, 50))
def test_whole_number_axes_are_exact_and_even(low: int, span: int, n: int) -> None:
    low, high = int(float(low)), int(float(low + span))
    values = [point["k"] for point in Grid([Field("k", kind="int", min=low, max=high)], n=n).ask(n)]
    assert all(type(value) is int for value in values)
    assert len(values) == len(set(values)) == min(n, high - low + 1)
    assert (values[0], values[-1]) == (low, high)
    gaps = {b - a for a, b in itertools.pairwise(values)}
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


@pytest.mark.parametrize(
    ("parameters", "n", "message"),
    [
        ([Field("x", min=0)], 3, r"parameter 'x' has no finite max, Grid needs both limits: declare them"),
        ([Field("x")], 3, r"no finite min and max.*or pass \{'x': \(min, max\)\} to Grid"),
        ([Field("x", kind="str")], 3, "parameter 'x' takes a string: Grid needs min and max, or choices"),
        ([Field("x", shape=(3,), min=0, max=1)], 3, "parameter 'x' is an array"),
        ([Field("k", kind="int", min=0.2, max=0.8)], 3, "parameter 'k' of Grid is empty"),
        ([], 3, "Grid needs to know the parameters"),
        ({"x": (1, 0)}, 3, "its min 1 is above its max 0"),
        ({"x": []}, 3, "with at least one"),
        ({"x": "abc"}, 3, r"must be \(min, max\) or a list of values"),
        ({"x": (0, 1)}, None, "'x' goes from 0 to 1: say by n how many values"),
        ({"x": (0, 1)}, 1, "n for parameter 'x' of a Grid must be a whole number, at least 2; got 1"),
        (
            {"x": (0, 1), "y": (0, 1)},
            [3],
            r"this Grid has 2 bounded parameters \(x, y\); give one number for each",
        ),
        ({"x": [0, 1]}, [3], "has no bounded parameters"),
        ({"x": (0, 1)}, {"y": 3}, "n gives a number of values for 'y'"),
    ],
)
def test_a_grid_that_cannot_be_made_says_what_is_missing(parameters: object, n: object, message: str) -> None:
    with pytest.raises(CallerError, match=message):
        Grid(parameters, n)  # type: ignore[arg-type]


# -- Random, Sobol, Halton, LatinHypercube ----------------------------------------------------------------------------

SAMPLERS = [Random, Sobol, Halton, LatinHypercube]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_samples_fit_the_master_and_use_all_of_its_space(kind: type[Random]) -> None:
    parameters = (LOG_C, STEPS, KERNEL, SHUFFLE)
    points = kind(parameters, n=512, seed=1).ask(1000)
    assert len(points) == 512
    table = Schema(parameters, "svm").pack_points(points)

    shares, _ = np.histogram(np.asarray(table.column("log_C")), bins=8, range=(-2, 4))
    assert shares.min() > 30
    assert all(table.column("steps").tolist().count(k) > 60 for k in range(1, 6))
    assert {point["kernel"] for point in points} == {"rbf", "poly"}
    assert {type(point["shuffle"]) for point in points} == {bool}
    assert {type(point["log_C"]) for point in points} == {float}
    assert {type(point["steps"]) for point in points} == {int}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_the_runs_seed_decides_unless_the_learner_has_its_own(kind: type[Random]) -> None:
    def points(own: int | None, run: int) -> list[object]:
        learner = kind({"x": (0, 1)}, n=8, seed=own)
        learner.seed(np.random.default_rng(run))
        return learner.ask(8)

    assert points(None, 1) == points(None, 1) != points(None, 2)
    assert points(5, 1) == points(5, 2) != points(6, 1)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_seeding_after_the_first_ask_is_refused(kind: type[Random]) -> None:
    learner = kind({"x": (0, 1)}, n=8)
    assert not learner.done()  # a question before the first ask opens nothing
    learner.seed(np.random.default_rng(1))
    learner.ask(1)
    with pytest.raises(CallerError, match=f"{kind.__name__} has been asked already"):
        learner.seed(np.random.default_rng(1))


def test_a_latin_hypercube_puts_one_point_in_each_share() -> None:
    points = LatinHypercube({"x": (0, 10), "y": (0, 10)}, n=10, seed=1).ask(10)
    for name in ("x", "y"):
        assert sorted(int(point[name]) for point in points) == list(range(10))


def test_sobol_points_fill_more_evenly_than_chance() -> None:
    points = Sobol({"x": (0, 16), "y": (0, 16)}, seed=1).ask(256)
    assert len({(int(point["x"]), int(point["y"])) for point in points}) == 256


def test_extreme_limits_neither_overflow_nor_are_left() -> None:
    top = sys.float_info.max
    for point in Random({"huge": (-top, top), "fixed": (0.1, 0.1), "tiny": (1.0, 1.0 + 2**-52)}, seed=1).ask(200):
        assert -top <= point["huge"] <= top
        assert point["fixed"] == 0.1
        assert point["tiny"] in (1.0, 1.0 + 2**-52)


def test_n_is_checked() -> None:
    with pytest.raises(CallerError, match="n of Random must be a whole number, at least 1; got 0"):
        Random({"x": (0, 1)}, n=0)


@pytest.mark.parametrize("kind", [Sobol, Halton, LatinHypercube])
def test_without_scipy_the_extra_is_named(kind: type[Sobol], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)  # how Python itself marks a module that cannot be imported
    learner = kind({"x": (0, 1)}, n=4)
    with pytest.raises(CallerError, match=r"pip install scipy \(it is in the extra 'qmc'\)"):
        learner.ask(1)


# -- the best of it ---------------------------------------------------------------------------------------------------


def test_the_best_point_is_the_earliest_with_the_largest_or_smallest_output() -> None:
    learner = Sequence(list("abcd"))
    for point, output in zip(learner.ask(4), [2.0, float("nan"), 7, 7]):
        learner.tell(point, output)
    assert learner.best() == ("c", 7.0)
    assert learner.best(minimize=True) == ("a", 2.0)


def test_the_best_of_several_outputs_needs_a_name() -> None:
    learner = Sequence(range(3))
    for point in learner.ask(3):
        learner.tell(point, {"loss": -point, "trace": [point]})
    assert learner.best(output="loss") == (0, 0.0)
    with pytest.raises(CallerError, match="several outputs, 'loss', 'trace': say which with output=NAME"):
        learner.best()
    with pytest.raises(CallerError, match=r"no output is called 'los'; did you mean 'loss'\?"):
        learner.best(output="los")
    with pytest.raises(CallerError, match="outputs of type list have no best one"):
        learner.best(output="trace")


def test_nothing_told_has_no_best() -> None:
    with pytest.raises(CallerError, match="none of the 0 outputs told so far"):
        Sequence(range(3)).best()
