"""Learners by name, as ``taskmaster learn MASTER --learner NAME key=value …`` makes them.

A name stands for a :class:`Factory`, or for a :class:`Family` of them: the learners of one library, which are called by
the family's name, a colon and the library's own name, as ``optuna:TPESampler``. Other distributions add theirs by an
entry point of the group ``taskmaster.learners``::

    [project.entry-points."taskmaster.learners"]
    simplex = "mypackage.learners:make_simplex"

One's own need none: where nothing is called ``climber``, ``climber:Climber`` is the class of that module, see `own`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from typing import Protocol, runtime_checkable

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean, did_you_mean_or, lacking
from taskmaster.learners import factories
from taskmaster.learners.adapters.families import FAMILIES
from taskmaster.learners.options import Options
from taskmaster.learners.own import own_factory
from taskmaster.learners.points import Grid, Halton, LatinHypercube, Random, Sobol
from taskmaster.learners.protocol import Learner, ask, prepare

__all__ = [
    "BUILTIN",
    "ENTRY_POINTS",
    "Factory",
    "Family",
    "Options",
    "create",
    "factory",
    "is_imported",
    "is_own",
    "names",
    "rehearse",
    "require_packages",
]

#: The entry-point group of learners from other distributions.
ENTRY_POINTS = "taskmaster.learners"


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


@runtime_checkable
class Family(Protocol):
    """A factory of a library's default learner that has factories of its others by name."""

    def __call__(
        self,
        parameters: Sequence[Field],
        outputs: Sequence[Field],
        seed: int | None,
        options: Mapping[str, str],
        /,
    ) -> Learner:
        """As :class:`Factory`."""

    def of(self, kind: str, /) -> Factory:
        """The factory of what the library calls ``kind``. Raises CallerError, or its factory does."""


def names() -> list[str]:
    """The names of all learners and families that can be had here, sorted."""
    return sorted({*BUILTIN, *FAMILIES, *(entry.name for entry in metadata.entry_points(group=ENTRY_POINTS))})


def is_own(name: str) -> bool:
    """Whether this is ``module:Class``: there is a colon, and what stands before it is not the name of a learner."""
    family, _, kind = name.partition(":")
    return bool(family and kind) and family not in names()


def is_imported(name: str) -> bool:
    """Whether a module is part of the name, which may be one of one's own: ``module:Class``, ``gest:module:Class``."""
    return is_own(name) or name.partition(":")[0] == "gest"


def factory(name: str) -> Factory:
    """The factory called ``name``. Raises CallerError if there is none, or if the one there is cannot be imported.

    Of one's own ``module:Class``, what the module raises while it is imported comes through.
    """
    family, colon, kind = name.partition(":")
    if is_own(name):
        return own_factory(name, did_you_mean(family, names()))
    found = _found(family)
    if not colon:
        return found
    if not isinstance(found, Family):
        raise CallerError(f"learner {family!r} is no family of learners: write {family!r}, without {':' + kind!r}")
    return found.of(kind)


def _found(name: str) -> Factory:
    if name in BUILTIN:
        return BUILTIN[name]
    if name in FAMILIES:
        return FAMILIES[name]
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
    if (family := FAMILIES.get(name.partition(":")[0])) is not None:
        family.require_package()
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
    """The learner called ``name`` for a Master with these parameters and outputs. Raises CallerError.

    Options that begin with ``wrap.`` say what is to be around it: :func:`~taskmaster.learners.factories.wrapped`.
    """
    require_packages(name)
    make = factory(name)
    return factories.wrapped(
        lambda seen, told, own: make(seen, told, seed, own), parameters, outputs, options or {}, name
    )


def rehearse(
    name: str, parameters: Sequence[Field], outputs: Sequence[Field] = (), options: Mapping[str, str] | None = None
) -> None:
    """Ask and tell another learner that :func:`create` makes of these a few times, if it is an optimiser of a library.

    Some of these look at their options, or for a package that they need, only when they come to use them, by which time
    there would be a run. What they are told is made up. Raises CallerError.
    """
    if name.partition(":")[0] not in _REHEARSED:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come again
        _rehearse(name, create(name, parameters, outputs, 0, options), parameters, outputs, options)


def _rehearse(
    name: str,
    learner: Learner,
    parameters: Sequence[Field],
    outputs: Sequence[Field],
    options: Mapping[str, str] | None,
) -> None:
    prepare(learner, parameters, outputs, 0)
    try:
        for turn in range(_TURNS):
            for point in ask(learner, 1):
                told = {field.name: 1.0 / (1 + turn) for field in outputs} or 1.0 / (1 + turn)
                learner.tell(point, told)
    except CallerError:
        raise
    except Exception as error:  # whatever the library makes of an option that it does not check
        given = " ".join(f"{key}={value}" for key, value in (options or {}).items())
        raise CallerError(
            f"learner {name!r} with {given or 'no options'} fails at point {turn + 1}: {type(error).__name__}: {error}"
        ) from error


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


_A_COUNT = "the number of points, like n=1000"


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


#: The learners that come with TaskMaster.
BUILTIN: Mapping[str, Factory] = {
    "evolution": factories.evolution,
    "gp": factories.gp,
    "grid": _grid,
    "halton": _sampler("halton", Halton, "Points of a scrambled Halton sequence, evenly filling"),
    "human": factories.human,
    "latin-hypercube": _latin_hypercube,
    "random": _sampler("random", Random, "Independent uniform points"),
    "sobol": _sampler("sobol", Sobol, "Points of a scrambled Sobol sequence, evenly filling"),
}

#: Beyond the ten points that a library's optimiser draws at random to begin with.
_TURNS = 12
#: The families of which a learner is quickly made, and leaves nothing behind.
_REHEARSED = frozenset(("cma", "nevergrad", "optuna"))

#: Package, and the extra of ours that has it.
_NEEDS: Mapping[str, tuple[str, str]] = {
    "gp": ("threadpoolctl", "gp"),
    "halton": ("scipy.stats", "qmc"),
    "latin-hypercube": ("scipy.stats", "qmc"),
    "sobol": ("scipy.stats", "qmc"),
}
