"""Learners by name: the built-in ones, their options, and those of other distributions."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners import registry
from taskmaster.learners.points import Random
from taskmaster.learners.protocol import Learner, describe

X, Y, Z = (Field(name, min=0, max=1) for name in "xyz")
STEPS = Field("steps", kind="int", min=1, max=5)
ACCURACY, SECONDS, LOG = Field("accuracy"), Field("seconds"), Field("log", kind="str")


@pytest.mark.parametrize(
    ("name", "parameters", "options", "description"),
    [
        ("grid", [X, Y], {"n": "4"}, "Grid of 4 × 4 points over x, y"),
        ("grid", [X, Y], {"n": "4, 5"}, "Grid of 4 × 5 points over x, y"),
        ("grid", [STEPS], {}, "Grid of 5 points over steps"),
        ("random", [X, STEPS], {}, "Random over x, steps"),
        ("sobol", [X], {"n": "8"}, "Sobol of 8 points over x"),
        ("halton", [X], {"n": "8"}, "Halton of 8 points over x"),
        ("latin-hypercube", [X], {"n": "8"}, "LatinHypercube of 8 points over x"),
        ("adaptive", [X], {}, "adaptive Learner1D over x"),
        ("adaptive", [X, Y], {"output": "accuracy"}, "adaptive Learner2D over x, y"),
        ("adaptive", [X, Y, Z], {}, "adaptive LearnerND over x, y, z"),
    ],
)
def test_a_built_in_learner_by_name(
    name: str, parameters: list[Field], options: Mapping[str, str], description: str
) -> None:
    learner = registry.create(name, parameters, [ACCURACY], options=options)
    assert describe(learner) == description
    (point,) = learner.ask(1)
    assert list(point) == [field.name for field in parameters]


def test_a_seed_of_its_own_is_passed_on() -> None:
    assert registry.create("random", [X], seed=3).ask(4) == Random([X], seed=3).ask(4)


@pytest.mark.parametrize(
    ("name", "parameters", "options", "message"),
    [
        ("sobool", [X], {}, "no learner is called 'sobool'; did you mean 'sobol'?"),
        ("gradient", [X], {}, "no learner is called 'gradient'; there are 'adaptive', 'grid', 'halton'"),
        ("grid", [X], {"m": "3"}, "learner 'grid' has no option 'm'.*it takes 'n'"),
        ("grid", [X], {"n": "ten"}, "option 'n' of learner 'grid' must be numbers of values, like n=10.*got 'ten'"),
        ("grid", [X], {}, "'x' goes from 0 to 1: say by n how many values"),
        ("random", [X], {"n": ""}, "option 'n' of learner 'random' must be the number of points, like n=1000, got ''"),
        ("random", [X], {"n": "-2"}, "n of Random must be a whole number, at least 1; got -2"),
        ("random", [], {}, "Random needs to know the parameters: declare them for the Master"),
        ("latin-hypercube", [X], {}, "learner 'latin-hypercube' needs option 'n'"),
        ("adaptive", [X, STEPS], {"output": "accuracy"}, "parameter 'steps' is not a real number within limits"),
        (
            "adaptive",
            [X],
            {},
            "several outputs, 'accuracy', 'seconds', 'log': say which with output=NAME",
        ),
        ("adaptive", [X], {"output": "acuracy"}, "the Master has no output 'acuracy'; did you mean 'accuracy'?"),
        ("adaptive", [X], {"output": "log"}, "output 'log' is a string"),
        ("adaptive", [Field("x", min=0)], {}, "parameter 'x' has no finite max"),
    ],
)
def test_mistakes_are_named_with_their_remedy(
    name: str, parameters: list[Field], options: Mapping[str, str], message: str
) -> None:
    with pytest.raises(CallerError, match=message):
        registry.create(name, parameters, [ACCURACY, SECONDS, LOG], options=options)


def test_without_adaptive_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adaptive", None)  # how Python itself marks a module that cannot be imported
    with pytest.raises(CallerError, match=r"pip install adaptive \(it is in the extra 'adaptive'\)"):
        registry.create("adaptive", [X])


@pytest.fixture
def other_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution on the path that offers two learners, one of which it forgot to ship."""
    (tmp_path / "centre_learner.py").write_text(
        textwrap.dedent("""
            class Centre:
                def __init__(self, parameters):
                    self.parameters = parameters
                def ask(self, n):
                    return [{f.name: (f.min + f.max) / 2 for f in self.parameters}] * min(n, 1)
                def tell(self, point, output):
                    pass

            def make(parameters, outputs, seed, options):
                return Centre(parameters)
        """)
    )
    info = tmp_path / "centre_learner-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: centre-learner\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINTS}]\ncentre = centre_learner:make\nlost = centre_learner.lost:make\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("other_distribution")
def test_other_distributions_add_learners_by_entry_points() -> None:
    assert set(registry.names()) == {*registry.BUILTIN, "centre", "lost"}
    learner = registry.create("centre", [X, Y])
    assert isinstance(learner, Learner)
    assert learner.ask(3) == [{"x": 0.5, "y": 0.5}]
    with pytest.raises(CallerError, match=r"'lost' of centre-learner cannot be imported from centre_learner\.lost"):
        registry.create("lost", [X])


@pytest.mark.parametrize("name", registry.BUILTIN)
def test_every_built_in_learner_has_a_line_of_help(name: str) -> None:
    summary = (registry.factory(name).__doc__ or "").partition("\n")[0]
    assert summary.endswith(".")
    assert len(summary) < 110
