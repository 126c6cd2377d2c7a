"""Learners by name, as ``taskmaster learn MASTER --learner NAME key=value …`` makes them.

A name stands for a :class:`Factory`. Other distributions add theirs by an entry point of the group
``taskmaster.learners``::

    [project.entry-points."taskmaster.learners"]
    simplex = "mypackage.learners:make_simplex"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, metadata
from typing import Protocol, TypeVar

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.points import Grid, Halton, LatinHypercube, Random, Sobol
from taskmaster.learners.protocol import Learner

__all__ = ["BUILTIN", "ENTRY_POINTS", "Factory", "Options", "create", "factory", "names", "require_packages"]

#: The entry-point group of learners from other distributions.
ENTRY_POINTS = "taskmaster.learners"

T = TypeVar("T")


class Factory(Protocol):
    """Makes a learner for a Master. Its docstring's first line says what it makes; an error is a CallerError."""

    def __call__(
        self,
        parameters: Sequence[Field],
        outputs: Sequence[Field],
        seed: int | None,
        options: Mapping[str, str],
        /,
    ) -> Learner:
        """A learner over ``parameters``, learning from ``outputs``, set up by the text of ``options``.

        ``seed`` is None where the learner shall follow the seed of its run.
        """


class Options:
    """The ``key=value`` options of one learner: each is taken once, and :meth:`end` refuses what nobody took."""

    def __init__(self, learner: str, options: Mapping[str, str]) -> None:
        self._learner = learner
        self._options = dict(options)
        self._taken: list[str] = []

    def take(self, key: str, convert: Callable[[str], T], expected: str) -> T | None:
        """Option ``key`` as ``convert`` reads it, None if it is not given. ``expected`` says in words what it must be.

        Raises CallerError where ``convert`` raises ValueError.
        """
        self._taken.append(key)
        text = self._options.pop(key, None)
        if text is None:
            return None
        try:
            return convert(text)
        except ValueError:
            raise CallerError(f"option {key!r} of learner {self._learner!r} must be {expected}, got {text!r}") from None

    def end(self) -> None:
        """Raise CallerError if an option is left that the learner does not have."""
        for key in self._options:
            hint = did_you_mean_or(key, self._taken, "it takes")
            raise CallerError(f"learner {self._learner!r} has no option {key!r}{hint}")


def names() -> list[str]:
    """The names of all learners that can be had here, sorted."""
    return sorted({*BUILTIN, *(entry.name for entry in metadata.entry_points(group=ENTRY_POINTS))})


def factory(name: str) -> Factory:
    """The factory called ``name``. Raises CallerError if there is none, or if the one there is cannot be imported."""
    if name in BUILTIN:
        return BUILTIN[name]
    for entry in metadata.entry_points(group=ENTRY_POINTS, name=name):
        try:
            made: Factory = entry.load()
        except (ImportError, AttributeError) as error:
            package = f" of {entry.dist.name}" if entry.dist else ""
            raise CallerError(f"learner {name!r}{package} cannot be imported from {entry.value}: {error}") from error
        return made
    raise CallerError(f"no learner is called {name!r}{did_you_mean_or(name, names())}")


def require_packages(name: str) -> None:
    """Raise CallerError if a package is not installed that this learner will need when it is asked for points."""
    if name not in _NEEDS:
        return
    package, extra = _NEEDS[name]
    try:
        import_module(package)
    except ImportError as error:
        raise CallerError(lacking(f"learner {name!r} needs", package.partition(".")[0], extra, error)) from None


def create(
    name: str,
    parameters: Sequence[Field],
    outputs: Sequence[Field] = (),
    seed: int | None = None,
    options: Mapping[str, str] | None = None,
) -> Learner:
    """The learner called ``name`` for a Master with these parameters and outputs. Raises CallerError."""
    require_packages(name)
    return factory(name)(parameters, outputs, seed, options or {})


# -- the built-in ones ------------------------------------------------------------------------------------------------


def _grid(
    parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str]
) -> Learner:
    """Every combination of evenly spaced values: n=10 of each parameter, or n=10,20."""
    given = Options("grid", options)
    n = given.take("n", _counts, "numbers of values, like n=10 for all parameters or n=10,20 for one each")
    given.end()
    return Grid(parameters, n[0] if n is not None and len(n) == 1 else n)


def _sampler(name: str, kind: type[Random | Sobol | Halton], summary: str) -> Factory:
    def make(
        parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str]
    ) -> Learner:
        given = Options(name, options)
        n = given.take("n", int, _A_COUNT)
        given.end()
        return kind(parameters, seed=seed, n=n)

    make.__doc__ = f"{summary}; endless, or n=1000 points."
    return make


def _latin_hypercube(
    parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str]
) -> Learner:
    """n=100 points of which each parameter's n equal shares get one."""
    given = Options("latin-hypercube", options)
    n = given.take("n", int, _A_COUNT)
    given.end()
    if n is None:
        raise CallerError(f"learner 'latin-hypercube' needs option 'n', {_A_COUNT}")
    return LatinHypercube(parameters, n, seed=seed)


def _adaptive(
    parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str]
) -> Learner:
    """Points where the function varies most, by python-adaptive; output=NAME where there are several."""
    given = Options("adaptive", options)
    output = given.take("output", str, "the name of an output")
    given.end()
    learner = AdaptiveLearner.over(parameters, output)
    learner.bind(parameters, outputs)
    return learner


_A_COUNT = "the number of points, like n=1000"


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


#: The learners that come with TaskMaster.
BUILTIN: Mapping[str, Factory] = {
    "adaptive": _adaptive,
    "grid": _grid,
    "halton": _sampler("halton", Halton, "Points of a scrambled Halton sequence, evenly filling"),
    "latin-hypercube": _latin_hypercube,
    "random": _sampler("random", Random, "Independent uniform points"),
    "sobol": _sampler("sobol", Sobol, "Points of a scrambled Sobol sequence, evenly filling"),
}

#: Package, and the extra of ours that has it.
_NEEDS: Mapping[str, tuple[str, str]] = {
    "adaptive": ("adaptive", "adaptive"),
    "halton": ("scipy.stats", "qmc"),
    "latin-hypercube": ("scipy.stats", "qmc"),
    "sobol": ("scipy.stats", "qmc"),
}
