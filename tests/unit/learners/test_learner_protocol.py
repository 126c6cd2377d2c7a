"""Capabilities are what a class has, and a learner can be named for people."""

from __future__ import annotations

import subprocess
import sys

import adaptive
import pytest
from helpers.learner_kinds import LIBRARIES, OWN

from taskmaster import learners
from taskmaster.learners import protocol
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.human import Human
from taskmaster.learners.points import Random, Sequence


class Minimal:
    """The least that is a learner."""

    def ask(self, n: int) -> list[int]:
        return list(range(n))

    def tell(self, point: int, output: float) -> None:
        pass


OPTIONAL = {
    "Failable": protocol.Failable,
    "Endable": protocol.Endable,
    "Seeded": protocol.Seeded,
    "Lossy": protocol.Lossy,
    "Bindable": protocol.Bindable,
    "Describable": protocol.Describable,
    "Recalling": protocol.Recalling,
}


@pytest.mark.parametrize(
    ("learner", "capabilities"),
    [
        (Minimal(), set()),
        (Human(), {"Failable", "Endable", "Describable", "Bindable", "Recalling"}),
        (Sequence([1]), {"Failable", "Endable", "Describable", "Bindable"}),
        (Random({"x": (0, 1)}), {"Failable", "Endable", "Describable", "Bindable", "Seeded"}),
        (
            AdaptiveLearner(adaptive.Learner1D(None, (0, 1))),
            {"Failable", "Endable", "Describable", "Lossy", "Bindable"},
        ),
    ],
    ids=protocol.describe,
)
def test_a_learner_has_the_capabilities_whose_methods_it_has(learner: object, capabilities: set[str]) -> None:
    assert isinstance(learner, protocol.Learner)
    assert {name for name, kind in OPTIONAL.items() if isinstance(learner, kind)} == capabilities


def test_what_cannot_be_told_is_no_learner() -> None:
    assert not isinstance(range(3), protocol.Learner)


def test_a_learner_is_described_by_its_own_words_or_by_its_class() -> None:
    assert protocol.describe(Random({"x": (0, 1), "y": (0, 1)}, n=5)) == "Random of 5 points over x, y"
    assert protocol.describe(Sequence([4, 5])) == "Sequence of 2 points"
    assert protocol.describe(Minimal()).endswith("test_learner_protocol.Minimal")


# -- where they are ---------------------------------------------------------------------------------------------------


def test_every_learner_is_had_from_one_place_and_no_library_before_it_is() -> None:
    program = (
        "import sys, taskmaster.learners; print({'scipy', 'adaptive', 'optuna', 'cma', 'torch'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "set()"
    for name in learners._LEARNERS:
        assert getattr(learners, name).__name__ == name
    made = {make().__class__.__name__ for make in (OWN | LIBRARIES).values()}
    assert made <= learners._LEARNERS.keys(), "those of the learner suite are there"
    with pytest.raises(AttributeError, match="no attribute 'Gaussian'"):
        learners.Gaussian  # noqa: B018 - it is looked for
