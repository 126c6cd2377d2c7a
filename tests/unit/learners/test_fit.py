"""A learner that does not fit its Master is refused before there is a run, and the error names both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners import (
    Balancing,
    CmaLearner,
    DataSaver,
    Dedup,
    Evolution,
    Filter,
    GaussianProcess,
    Grid,
    Halton,
    InOrder,
    LatinHypercube,
    Linear,
    Loop,
    MoveCost,
    NevergradLearner,
    OptunaLearner,
    Pending,
    Random,
    Sequence,
    SimulatedMaster,
    Sobol,
    Transform,
    Travel,
)
from taskmaster.learners.replay import replay

Ranges = Mapping[str, Any]

LEARNERS: Mapping[str, Callable[[Ranges], Any]] = {
    "Evolution": Evolution,
    "GaussianProcess": GaussianProcess,
    "Random": Random,
    "Sobol": Sobol,
    "Halton": Halton,
    "LatinHypercube": lambda ranges: LatinHypercube(ranges, 8),
    "Grid": lambda ranges: Grid(ranges, 3),
    "OptunaLearner": OptunaLearner,
    "NevergradLearner": NevergradLearner,
    "CMA-ES": CmaLearner,
    "Pending": lambda ranges: Pending(_Silent(), parameters=ranges),
}


class _Silent:
    """Asks nothing."""

    def ask(self, n: int) -> list[Any]:
        return []

    def tell(self, point: Any, output: Any) -> None: ...


def _lab(**ranges: Any) -> SimulatedMaster:
    return SimulatedMaster(lambda point: sum(point.values()), parameters=ranges or {"x": (0.0, 1.0), "y": (0.0, 1.0)})


def _refused(learner: Any, lab: SimulatedMaster) -> str:
    with pytest.raises(CallerError) as refusal:
        Loop(lab, learner, goal=3)
    assert not lab.runs, "a mistake leaves no run"
    return str(refusal.value)


@pytest.mark.parametrize("name", LEARNERS)
def test_limits_beyond_the_masters_are_refused(name: str) -> None:
    said = _refused(LEARNERS[name]({"x": (0.0, 5.0), "y": (0.0, 1.0)}), _lab())
    assert name in said
    assert "asks for 'x' of " in said
    assert "the Master's parameter 'x' takes a number in [0, 1]; give the learner the Master's parameters" in said


@pytest.mark.parametrize("name", LEARNERS)
def test_other_parameters_than_the_masters_are_refused(name: str) -> None:
    said = _refused(LEARNERS[name]({"x": (0.0, 1.0), "yy": (0.0, 1.0)}), _lab())
    assert f"{name} asks for 'yy', but the Master has no parameter 'yy'; did you mean 'y'?" in said
    lab = _lab(x=(0.0, 1.0), y=(0.0, 1.0), z=(0.0, 1.0))
    said = _refused(LEARNERS[name]({"x": (0.0, 1.0), "y": (0.0, 1.0)}), lab)
    assert f"{name} over x, y leaves out 'z', which the Master needs with each point" in said


@pytest.mark.parametrize("name", LEARNERS)
def test_what_lies_within_the_masters_limits_is_taken(name: str) -> None:
    lab = _lab()
    Loop(lab, LEARNERS[name]({"x": (0.25, 0.75), "y": (1.0, 1.0)}), goal=3)
    assert len(lab.runs) == 1


@pytest.mark.parametrize("name", ["Evolution", "GaussianProcess", "Random", "OptunaLearner"])
def test_listed_values_that_the_master_does_not_take_are_named(name: str) -> None:
    lab = _lab(x=(0.0, 1.0), k=["a", "b"])
    said = _refused(LEARNERS[name]({"x": [0.5, 1.5, 2.5, 3.5, 4.5], "k": ["a", "b"]}), lab)
    assert "asks for 'x' of 1.5, 2.5, 3.5, …, but the Master's parameter 'x' takes a number in [0, 1]" in said
    said = _refused(LEARNERS[name]({"x": (0.0, 1.0), "k": ["a", "c", None]}), lab)
    assert "asks for 'k' of 'c', None, but the Master's parameter 'k' takes one of 'a', 'b'" in said


def test_real_numbers_are_none_for_whole_ones_but_a_grid_of_whole_ones_is() -> None:
    fields = [Field("n", kind="int", min=0, max=4)]
    with pytest.raises(CallerError, match=r"Sobol asks for 'n' of real numbers in \[0, 4\].* takes a whole number in"):
        Sobol({"n": (0, 4)}).bind(fields)
    Grid({"n": (0, 4)}, 5).bind(fields)
    Grid(fields).bind(fields)
    Grid(fields, 3).bind(fields)
    Sobol({"n": (3, 3)}).bind(fields)
    with pytest.raises(CallerError, match=r"Grid asks for 'n' of 0\.5, 1\.5, 2\.5, …, but"):
        Grid({"n": (0, 4)}, 9).bind(fields)


def test_rows_of_a_sequence_are_for_the_masters_parameters() -> None:
    said = _refused(Sequence([[0.1, 0.2]], ["x", "z"]), _lab())
    assert said.startswith("Sequence asks for 'z', but the Master has no parameter 'z'")
    Loop(_lab(), Sequence([[0.1, 0.2]], ["x", "y"]), goal=1).run()


def test_a_master_that_declares_nothing_takes_any_points() -> None:
    Loop(SimulatedMaster(lambda point: point["a"]), Evolution({"a": (0, 9)}), goal=3).run()


def test_limits_in_other_units_may_differ_by_a_rounding() -> None:
    lab = _lab(x=(0.0, 1.1e-9))
    inner = Evolution({"x": (0.0, 1.1e-9 * 1e9 * (1 + 2**-52))})
    loop = Loop(lab, Transform(inner, {"x": Linear(1e9, unit="nm")}), goal=200)
    loop.run()
    assert loop.told == 200
    said = _refused(Transform(Evolution({"x": (0.0, 1.2)}), {"x": Linear(1e9, unit="nm")}), _lab(x=(0.0, 1.1e-9)))
    assert "Evolution asks for 'x' of real numbers in [0, 1.2], but the Master's parameter 'x' takes" in said
    assert "takes a number in [0, 1.1] nm" in said
    assert said.endswith("(all of x as Transform shows it to the learner)")


def test_a_learner_hears_of_the_master_once_and_before_the_seed() -> None:
    heard = []

    class Listening(_Silent):
        def bind(self, parameters: Any, outputs: Any = ()) -> None:
            heard.append("bind")

        def seed(self, rng: Any) -> None:
            heard.append("seed")

        def done(self) -> bool:
            return True

    Loop(_lab(), Listening()).run()
    Loop(_lab().open("a"), Listening()).run()
    assert heard == ["bind", "seed"] * 2


# -- what a learner gives when it is asked ----------------------------------------------------------------------------


class _Giving(_Silent):
    """Gives whatever ``give(n)`` makes."""

    def __init__(self, give: Callable[[int], Any]) -> None:
        self._give = give

    def ask(self, n: int) -> Any:
        return self._give(n)


def _endless(n: int) -> Iterator[Any]:
    while True:
        yield {"x": 0.5, "y": 0.5}


AROUND: Mapping[str, Callable[[Any], Any]] = {
    "alone": lambda learner: learner,
    "Dedup": Dedup,
    "Filter": lambda learner: Filter(learner, lambda point: True),
    "InOrder": lambda learner: InOrder(learner, 4),
    "MoveCost": lambda learner: MoveCost(learner, Travel({"x": 1.0}), ahead=4),
    "Pending": Pending,
    "Transform": lambda learner: Transform(learner, {"x": Linear(2.0)}),
    "DataSaver": lambda learner: DataSaver(learner, str),
    "Balancing": lambda learner: Balancing([learner], "cycle"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", AROUND)
def test_a_learner_that_gives_points_without_an_end_is_stopped(name: str) -> None:
    with pytest.raises(CallerError, match=r"_Giving\) was asked for \d+ points? and gave \d+ or more") as raised:
        Loop(_lab(), AROUND[name](_Giving(_endless)), goal=3, in_flight=4).run()
    assert "asked for 4 points: at step 0 of run" in raised.value.__notes__[0]


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize(
    ("given", "shown"), [(None, "None"), ({"x": 0.5, "y": 0.5}, "{'x': 0.5, 'y': 0.5}"), ("x", "'x'"), (0.5, "0.5")]
)
def test_a_learner_that_gives_no_points_is_named_and_told_what_to_give(name: str, given: Any, shown: str) -> None:
    said = rf"_Giving\) was asked for \d points? and gave {shown}: ask\(n\) returns points in a list, a single one too"
    with pytest.raises(CallerError, match=said):
        Loop(_lab(), AROUND[name](_Giving(lambda n: given)), goal=3, in_flight=4).run()


def test_a_generator_of_as_many_points_as_are_asked_for_will_do() -> None:
    loop = Loop(_lab(), _Giving(lambda n: ({"x": k / n, "y": 0.5} for k in range(n))), goal=5)
    loop.run()
    assert loop.told == 5


@pytest.mark.timeout(60)
def test_a_replay_of_a_learner_that_gives_points_without_an_end_ends() -> None:
    lab = _lab()
    Loop(lab, Sobol(lab.parameters), goal=5, name="night", in_flight=2).run()
    divergence = replay(_Giving(_endless), lab.open("night")).divergence
    assert divergence is not None
    assert divergence.why == "the learner gives 3 points, though it is asked for 2"
    with pytest.raises(CallerError, match=r"_Giving\) was asked for 2 points and gave None"):
        replay(_Giving(lambda n: None), lab.open("night"))
