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
from taskmaster.learners.adapters.families import FAMILIES
from taskmaster.learners.points import Random
from taskmaster.learners.protocol import Learner, describe

X, Y, Z = (Field(name, min=0, max=1) for name in "xyz")
KERNEL = Field("kernel", kind="str", choices=("rbf", "poly"))
STEPS = Field("steps", kind="int", min=1, max=5)
STEPS_FROM_0 = Field("steps", kind="int", min=0)
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
        ("gp", [X, STEPS], {"output": "accuracy", "maximize": "yes"}, "GaussianProcess over x, steps"),
        ("evolution", [X, STEPS], {"output": "accuracy", "members": "12"}, "Evolution of 12 members over x, steps"),
        ("sobol", [X, Y], {"wrap.travel": "x:2,y:0.5", "wrap.ahead": "4"}, "Sobol over x, y, nearest first"),
        (
            "random",
            [X],
            {"wrap.dedup": "yes", "wrap.pending": "0.01"},
            "Random over x, apart from those in flight, nothing twice",
        ),
        ("adaptive", [X, Y], {"output": "accuracy"}, "adaptive Learner2D over x, y"),
        ("adaptive", [X, Y, Z], {}, "adaptive LearnerND over x, y, z"),
        ("adaptive:LearnerND", [X, Y], {"output": "accuracy"}, "adaptive LearnerND over x, y"),
        ("adaptive:IntegratorLearner", [X], {"tol": "1e-6"}, "adaptive IntegratorLearner over x"),
        ("adaptive:AverageLearner", [STEPS_FROM_0], {"atol": "0.1"}, "adaptive AverageLearner over steps"),
        ("adaptive:AverageLearner1D", [X], {"min_samples": "3"}, "adaptive AverageLearner1D over x"),
        ("adaptive:AverageLearner1D", [STEPS_FROM_0, X], {}, "adaptive AverageLearner1D over steps, x"),
        ("optuna", [X], {}, "Optuna's TPESampler over x, minimising its output"),
        (
            "optuna:TPESampler",
            [X, STEPS],
            {"maximize": "accuracy", "n_startup_trials": "5", "multivariate": "true", "log": "steps"},
            "Optuna's TPESampler over x, steps, maximising accuracy",
        ),
        ("optuna:GridSampler", [STEPS], {}, "Optuna's GridSampler over steps, minimising its output"),
        ("nevergrad:DE", [X, Y], {"budget": "50"}, "Nevergrad's DE over x, y, minimising its output"),
        ("ax", [X, Y], {"initialization_budget": "4"}, "Ax's fast over x, y, minimising its output"),
        (
            "ax:random_search",
            [X, STEPS],
            {"maximize": "accuracy"},
            "Ax's random_search over x, steps, maximising accuracy",
        ),
        ("cma:CMAES", [X, Y], {"popsize": "8", "sigma": "0.2"}, "CMA-ES over x, y, minimising its output"),
        (
            "gest:helpers.generators:Walker",
            [X, STEPS],
            {"step": "0.1"},
            "generator Walker over x, steps, minimising accuracy",
        ),
    ],
)
def test_a_built_in_learner_by_name(
    name: str, parameters: list[Field], options: Mapping[str, str], description: str
) -> None:
    learner = registry.create(name, parameters, [ACCURACY], options=options)
    assert describe(learner) == description
    (point,) = learner.ask(1)
    assert list(point) == [field.name for field in parameters]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("optuna:TPESampler", {"n_startup_trials": "x"}, r"n_startup_trials=x fails at point 1: TypeError: '<' not"),
        ("cma", {"tolfun": "abc"}, r"'cma' with tolfun=abc fails at point \d+: TypeError: "),
        ("optuna:CmaEsSampler", {"x0": "abc"}, r"with x0=abc fails at point \d: "),
    ],
)
def test_a_librarys_learner_is_rehearsed_for_options_that_it_looks_at_late(
    name: str, options: Mapping[str, str], message: str
) -> None:
    with pytest.raises(CallerError, match=message):
        registry.rehearse(name, [X, Y], [ACCURACY], options)


@pytest.mark.parametrize("name", ["optuna", "cma", "nevergrad:DE", "gest:helpers.generators:Walker", "sobol", "human"])
def test_what_is_well_passes_its_rehearsal(name: str) -> None:
    registry.rehearse(name, [X, Y], [ACCURACY], {})


def test_a_seed_of_its_own_is_passed_on() -> None:
    assert registry.create("random", [X], seed=3).ask(4) == Random([X], seed=3).ask(4)


@pytest.mark.parametrize(
    ("name", "parameters", "options", "message"),
    [
        (
            "gp",
            [X],
            {"maximize": "accuracy", "wrap.negate": "yes"},
            r"say which with output=NAME of .* wrap\.output=NAME",
        ),
        ("sobool", [X], {}, "no learner is called 'sobool'; did you mean 'sobol'?"),
        ("gradient", [X], {}, "no learner is called 'gradient'; there are 'adaptive', 'ax', 'cma'"),
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
        ("gp", [X], {}, "several outputs, 'accuracy', 'seconds', 'log': say which with output=NAME"),
        ("gp", [X], {"output": "accuracy", "maximize": "maybe"}, "name two outputs, 'accuracy' and 'maybe'"),
        ("gp", [X], {"output": "accuracy", "travel": "x"}, "'travel' of learner 'gp' must be speeds of parameters"),
        ("gp", [X], {"output": "accuracy", "kernels": "rbf"}, "no option 'kernels'; did you mean 'kernel'"),
        (
            "evolution",
            [X],
            {"output": "accuracy", "members": "2"},
            "members of Evolution must be a whole",
        ),
        ("gp", [X], {"minimize": "acuracy"}, "the Master has no output 'acuracy'; did you mean 'accuracy'?"),
        ("gp", [X], {"minimize": "accuracy", "maximize": "seconds"}, "'minimize' and 'maximize' do not go together"),
        ("gp", [X], {"output": "accuracy", "maximize": "seconds"}, "name two outputs, 'accuracy' and 'seconds'"),
        ("evolution", [X], {"output": "accuracy", "n": "0"}, "n of Evolution must be a whole number from 1"),
        ("random", [X, KERNEL], {"wrap.travel": "kernel:1"}, "'kernel' is no number, so it has no speed"),
        ("random", [X], {"wrap.in-order": "0"}, "ahead of InOrder must be a whole number from 1"),
        ("random", [X], {"wrap.lag": "x"}, r"there is no option 'wrap\.lag'; did you mean 'wrap\.log'\?"),
        ("random", [X], {"wrap.log": "z"}, "the Master has no parameter 'z'"),
        ("random", [X], {"wrap.travel": "z:1"}, "Travel is about parameter 'z'"),
        ("random", [X], {"wrap.ahead": "3"}, "'wrap.ahead' goes with 'wrap.travel'"),
        ("human", [X], {}, "asks a person at a terminal"),
        ("adaptive", [Field("x", min=0)], {}, "parameter 'x' has no finite max"),
        ("grid:fine", [X], {}, "'grid' is no family of learners: write 'grid'"),
        ("optina:TPESampler", [X], {}, "no learner is called 'optina', and there is no such module in "),
        ("optuna:TPE", [X], {}, "Optuna has no sampler 'TPE'; it has 'BruteForceSampler', 'CmaEsSampler'"),
        ("optuna:TPESampler", [X], {"startup": "5"}, "Optuna's TPESampler has no option 'startup'"),
        ("optuna", [X], {}, "several outputs, 'accuracy', 'seconds', 'log': say which with minimize=NAME, or maximize"),
        ("cma", [X, Y], {}, "'log': say which with minimize=NAME, or maximize=NAME"),
        ("nevergrad:DE", [X], {}, "'log': say which with minimize=NAME, or maximize=NAME"),
        ("gest:helpers.generators:Walker", [X], {}, "'log': say which with minimize=NAME, or maximize=NAME"),
        ("optuna", [X], {"minimise": "accuracy"}, "TPESampler has no option 'minimise'; did you mean 'minimize'?"),
        ("optuna", [X], {"prune": "yes"}, "TPESampler has no option 'prune'; did you mean 'prunes'?"),
        ("cma", [X, Y], {"maximise": "accuracy"}, "CMA-ES has no option 'maximise'; did you mean 'maximize'?"),
        ("cma", [X, Y], {"restart": "2"}, "CMA-ES has no option 'restart'; did you mean 'restarts'?"),
        ("optuna", [X], {"minimize": "accuracy", "seed": "3"}, "no option 'seed'; the seed is that of the run, --seed"),
        ("optuna", [X], {"minimize": "accuracy", "study": "3"}, "'optuna:TPESampler' has no option 'study'"),
        ("cma", [X, Y], {"minimize": "accuracy", "seed": "3"}, "'cma:CMAES' has no option 'seed'; the seed is that of"),
        ("optuna", [X], {"minimize": "log"}, "optimises single numbers, but output 'log' is a string"),
        ("optuna", [X], {"minimize": "acuracy"}, "the Master has no output 'acuracy'; did you mean 'accuracy'?"),
        ("optuna", [X], {"minimize": "accuracy", "constraints": "seconds=3"}, "a constraint is NAME <= NUMBER"),
        ("optuna", [X], {"minimize": "accuracy", "log": "x"}, "'x' of OptunaLearner cannot be searched by its log"),
        ("optuna", [X], {"repeats": "maybe"}, "option 'repeats' of learner 'optuna:TPESampler' must be yes or no"),
        ("nevergrad:DE", [X], {"minimize": "accuracy", "budget": "0"}, "budget of NevergradLearner must be a whole"),
        ("ax:fastest", [X], {}, "Ax has no method 'fastest'; did you mean 'fast'"),
        ("ax", [X], {}, "several outputs, 'accuracy', 'seconds', 'log': say which"),
        (
            "ax",
            [X],
            {"minimize": "accuracy", "budget": "5"},
            "Ax has no option 'budget'; it takes 'initialization_budget",
        ),
        ("ax", [X], {"initialization_budget": "six"}, "Ax's fast cannot be made with initialization_budget='six': "),
        ("ax", [X], {"torch_device": "nowhere"}, "Ax's fast cannot be made with torch_device='nowhere': "),
        ("ax", [X], {"minimize": "accuracy", "method": "fast"}, "learner 'ax:fast' has no option 'method'"),
        ("ax", [Field("x", min=0)], {}, "parameter 'x' has no finite max"),
        ("ax", [Field("x", min=1, max=1)], {}, "AxLearner has nothing to choose: x can have one value only"),
        ("ax", [Field("x", choices=(1, "a"))], {}, "Ax takes choices of one type, but those of parameter 'x' are"),
        ("nevergrad:XDE", [X], {}, "Nevergrad has no optimiser 'XDE'"),
        ("nevergrad:DE", [X], {"popsize": "3"}, "learner 'nevergrad:DE' has no option 'popsize'"),
        ("cma:CMA", [X, Y], {}, "cma has no learner 'CMA'; did you mean 'CMAES'?"),
        ("cma", [X], {}, "CMA-ES needs two parameters at least"),
        ("cma", [X, Y], {"popsise": "3"}, "CMA-ES has no option 'popsise'; did you mean 'popsize'?"),
        ("cma", [X, Y], {"minimize": "accuracy", "popsize": "x"}, "popsize of CMA-ES must be a whole number from 2"),
        ("cma", [X, Y], {"minimize": "accuracy", "minstd": "abc"}, "CMA-ES cannot be made with minstd='abc'"),
        ("cma", [X, Y], {"minimize": "accuracy", "sigma": "wide"}, "sigma is a part of each parameter's range"),
        ("cma", [X, Y], {"verb_disp": "1"}, "CMA-ES's option 'verb_disp' is not for learners"),
        ("gest", [X], {"minimize": "accuracy"}, "say which, gest:MODULE:CLASS"),
        ("gest:nowhere:Nobody", [X], {"minimize": "accuracy"}, "no generator can be imported from 'nowhere:Nobody'"),
        ("gest:Nobody", [X], {"minimize": "accuracy"}, "from 'Nobody': write gest:MODULE:CLASS"),
        (
            "gest:helpers.generators:Waker",
            [X],
            {"minimize": "accuracy"},
            "learner 'gest:helpers.generators:Waker': module .* has no 'Waker'; did you mean 'Walker'",
        ),
        ("gest:decimal:Decimal", [X], {"minimize": "accuracy"}, "'decimal:Decimal' is no generator of gest-api"),
        ("adaptive:Learner3D", [X], {}, "adaptive has no learner 'Learner3D' that can be made of a name"),
        ("adaptive:Learner2D", [X], {"output": "accuracy"}, "adaptive's Learner2D has 2 parameters, the Master 1"),
        ("adaptive:IntegratorLearner", [X], {"output": "accuracy"}, "needs option 'tol', like tol=1e-6"),
        (
            "adaptive:AverageLearner",
            [X],
            {"output": "accuracy", "atol": "0.1"},
            r"gives whole numbers from 0 on, as seeds, but parameter 'x' takes a number in \[0, 1\]",
        ),
    ],
)
def test_mistakes_are_named_with_their_remedy(
    name: str, parameters: list[Field], options: Mapping[str, str], message: str
) -> None:
    with pytest.raises(CallerError, match=message):
        registry.create(name, parameters, [ACCURACY, SECONDS, LOG], options=options)


def test_a_learner_is_made_for_what_it_sees_through_its_wrapper() -> None:
    dose = Field("dose", min=1e-6, max=1.0)
    options = {"wrap.log": "dose", "wrap.output": "accuracy", "wrap.negate": "yes", "n": "200"}
    learner = registry.create("random", [dose], [ACCURACY, SECONDS], seed=1, options=options)
    doses = [point["dose"] for point in learner.ask(200)]
    assert 40 < sum(value < 1e-4 for value in doses) < 95, "a third of the decades"
    assert min(doses) >= 1e-6


@pytest.mark.parametrize(
    ("name", "package", "install", "extra"),
    [
        ("adaptive", "adaptive", "adaptive", "adaptive"),
        ("optuna:TPESampler", "optuna", "optuna", "optuna"),
        ("nevergrad:NGOpt", "nevergrad", "nevergrad", "nevergrad"),
        ("cma:CMAES", "cma", "cma", "cma"),
        ("gest:a:B", "gest_api", "gest-api", "gest"),
        ("ax:fast", "ax", "ax-platform", "ax"),
    ],
)
def test_without_its_library_the_extra_is_named(
    name: str, package: str, install: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # how Python itself marks a module that cannot be imported
    with pytest.raises(CallerError, match=rf"pip install {install} \(it is in the extra '{extra}'\)"):
        registry.create(name, [X])


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
    assert set(registry.names()) == {*registry.BUILTIN, *FAMILIES, "centre", "lost"}
    learner = registry.create("centre", [X, Y])
    assert isinstance(learner, Learner)
    assert learner.ask(3) == [{"x": 0.5, "y": 0.5}]
    with pytest.raises(CallerError, match=r"'lost' of centre-learner cannot be imported from centre_learner\.lost"):
        registry.create("lost", [X])


@pytest.mark.parametrize("name", [*registry.BUILTIN, *FAMILIES])
def test_every_built_in_learner_has_a_line_of_help(name: str) -> None:
    summary = (registry.factory(name).__doc__ or "").partition("\n")[0]
    assert summary.endswith(".")
    assert len(summary) < 130
