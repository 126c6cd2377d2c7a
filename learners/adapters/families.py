"""Learners of other libraries by name: ``optuna:TPESampler``, ``nevergrad:DE``, ``cma:CMAES``, ``adaptive:LearnerND``.

Before the colon stands the library, a *family* of learners; after it what the library calls one of its own. Nothing
here imports a library before a learner of it is made, so that all can be listed where none is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.learners.adapters.base import importing
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.options import Options, literal, names, yes
from taskmaster.learners.protocol import Learner
from taskmaster.learners.record import TO_OPTIMISE, chosen_output

if TYPE_CHECKING:
    from taskmaster.learners.registry import Factory

__all__ = ["FAMILIES", "Family"]

Make = Callable[[str, Sequence[Field], Sequence[Field], int | None, Options], Learner]


@dataclass(frozen=True)
class Family:
    """The learners of one library. It is a Factory, of its default; :meth:`of` gives those by name.

    ``make`` is given the name, parameters, outputs, seed and options; ``summary`` is a line that says what there is.
    ``package`` is what is imported, ``install`` what pip calls it, ``extra`` the extra of ours that has it.
    """

    name: str
    default: str
    summary: str
    package: str
    install: str
    extra: str
    make: Make

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.summary)  # as a factory's docstring says what it makes

    def __call__(
        self,
        parameters: Sequence[Field],
        outputs: Sequence[Field],
        seed: int | None,
        options: Mapping[str, str],
        /,
    ) -> Learner:
        """Its default learner."""
        return self.of(self.default)(parameters, outputs, seed, options)

    def of(self, kind: str) -> Factory:
        """The factory of what the library calls ``kind``."""

        def make(
            parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str], /
        ) -> Learner:
            given = Options(f"{self.name}:{kind}", options)
            return self.make(kind, parameters, outputs, seed, given)

        make.__doc__ = self.summary
        return make

    def require_package(self) -> None:
        """Raise CallerError if the library is not installed."""
        try:
            with importing():
                import_module(self.package)
        except ImportError as error:
            who = f"learner {self.name!r} needs"
            raise CallerError(lacking(who, self.install, self.extra, error)) from None


# -- options as text --------------------------------------------------------------------------------------------------


def _outputs(text: str) -> list[str] | bool:
    """Names of outputs; or yes, for the only one that there is."""
    return True if text.lower() in ("yes", "true") else names(text)


def _aimed(given: Options) -> dict[str, Any]:
    """What all optimisers take: what to optimise, and how to search."""
    taken = {
        "minimize": given.take("minimize", _outputs, "names of outputs, like minimize=loss"),
        "maximize": given.take("maximize", _outputs, "names of outputs, like maximize=yield,purity"),
        "constraints": given.take("constraints", names, "limits of outputs, like constraints=temperature<=80"),
        "log": given.take("log", names, "names of parameters, like log=rate"),
        "repeats": given.take("repeats", yes, "yes or no"),
    }
    return {key: value for key, value in taken.items() if value is not None}


def _plain(given: Options) -> dict[str, Any]:
    return {key: literal(text) for key, text in given.rest().items()}


def _rest(given: Options, *ours: str) -> dict[str, Any]:
    """What the library takes; ``ours`` are said otherwise, though a learner takes them by these names.

    Raises CallerError for one of them.
    """
    rest = _plain(given)
    for key in (*ours, "parameters", "seed"):
        if key in rest:
            remedy = "; the seed is that of the run, --seed" if key == "seed" else ""
            raise CallerError(f"learner {given.learner!r} has no option {key!r}{remedy}")
    return rest


def _bound(learner: Any, parameters: Sequence[Field], outputs: Sequence[Field]) -> Learner:
    """``learner``, having looked at the Master: what does not fit shows before there is a run."""
    learner.bind(parameters, outputs)
    bound: Learner = learner
    return bound


# -- the libraries ----------------------------------------------------------------------------------------------------


def _optuna(
    kind: str, parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, given: Options
) -> Learner:
    from taskmaster.learners.adapters.optuna import OptunaLearner

    aimed = _aimed(given)
    prunes = given.take("prunes", yes, "yes or no") or False
    learner = OptunaLearner(parameters, kind, seed=seed, prunes=prunes, **aimed, **_rest(given, "sampler", "study"))
    return _bound(learner, parameters, outputs)


def _nevergrad(
    kind: str, parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, given: Options
) -> Learner:
    from taskmaster.learners.adapters.nevergrad import BUDGET, NevergradLearner

    aimed = _aimed(given)
    budget = given.take("budget", int, "a number of points, like budget=500")
    workers = given.take("workers", int, "how many points are evaluated at once")
    given.end()
    learner = NevergradLearner(
        parameters, kind, seed=seed, budget=BUDGET if budget is None else budget, workers=workers, **aimed
    )
    return _bound(learner, parameters, outputs)


def _cma(kind: str, parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, given: Options) -> Learner:
    from taskmaster.learners.adapters.cma import CmaLearner

    if kind != "CMAES":
        raise CallerError(f"cma has no learner {kind!r}{did_you_mean_or(kind, ['CMAES'], 'it has')}")
    aimed = _aimed(given)
    return _bound(CmaLearner(parameters, seed=seed, **aimed, **_rest(given)), parameters, outputs)


def _ax(kind: str, parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, given: Options) -> Learner:
    from taskmaster.learners.adapters.ax import AxLearner

    aimed = _aimed(given)
    return _bound(AxLearner(parameters, kind, seed=seed, **aimed, **_rest(given, "method")), parameters, outputs)


def _gest(
    kind: str, parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, given: Options
) -> Learner:
    """A generator by its import path, ``gest:libensemble.gen_classes.UniformSample``."""
    if not kind:
        raise CallerError("learner 'gest' is any generator of gest-api: say which, gest:MODULE:CLASS")
    from taskmaster.learners.adapters.gest import GestLearner, generator_at, vocs_of

    wanted = {key: value for key, value in _aimed(given).items() if key in ("minimize", "maximize", "constraints")}
    only = chosen_output(outputs, None, TO_OPTIMISE) if True in wanted.values() else None
    wanted = {key: value if value is not True else () if only is None else only.name for key, value in wanted.items()}
    generations = given.take("generations", yes, "yes or no") or False
    vocs = vocs_of(parameters, outputs, **wanted)
    learner = GestLearner(vocs, generator_at(kind, _plain(given)), generations=generations, seed=seed)
    return _bound(learner, parameters, outputs)


#: How learners of adaptive are made of the bounds, and their options, with what these must be.
_ADAPTIVE: Mapping[str, Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "Learner1D": {},
    "Learner2D": {},
    "LearnerND": {},
    "IntegratorLearner": {"tol": (float, "the relative tolerance of the integral, like tol=1e-6")},
    "AverageLearner": {
        "atol": (float, "the absolute tolerance of the mean, like atol=0.01"),
        "rtol": (float, "the relative tolerance of the mean, like rtol=0.01"),
        "min_npoints": (int, "a number of points"),
    },
    "AverageLearner1D": {
        "delta": (float, "how often points are sampled again, like delta=0.2"),
        "alpha": (float, "the size of the confidence interval, like alpha=0.005"),
        "neighbor_sampling": (float, "at least this part of the neighbours' samples, like neighbor_sampling=0.3"),
        "min_samples": (int, "a number of samples for each point"),
        "max_samples": (int, "a number of samples for each point"),
        "min_error": (float, "of the mean, like min_error=0.01"),
    },
}


def _adaptive(
    kind: str, parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, given: Options
) -> Learner:
    if kind == "auto":
        output = given.take("output", str, "the name of an output")
        given.end()
        return _bound(AdaptiveLearner.over(parameters, output), parameters, outputs)
    if kind not in _ADAPTIVE:
        hint = did_you_mean_or(kind, _ADAPTIVE, "by name there are")
        raise CallerError(f"adaptive has no learner {kind!r} that can be made of a name{hint}")
    output = given.take("output", str, "the name of an output")
    taken = {key: given.take(key, read, expected) for key, (read, expected) in _ADAPTIVE[kind].items()}
    given.end()
    options = {key: value for key, value in taken.items() if value is not None}
    import adaptive

    made = getattr(adaptive, kind)
    if kind == "AverageLearner":
        if not {"atol", "rtol"} & options.keys():
            raise CallerError("learner 'adaptive:AverageLearner' needs option 'atol' or 'rtol', like atol=0.01")
        learner = AdaptiveLearner(made(None, **options), output=output)
    elif kind == "AverageLearner1D":
        coordinates = [field for field in parameters if field.kind == "float"]
        learner = AdaptiveLearner.over(coordinates, output, lambda bounds: made(None, bounds, **options))
        learner = AdaptiveLearner(learner.learner, output=output)
    else:
        if kind == "IntegratorLearner" and "tol" not in options:
            raise CallerError("learner 'adaptive:IntegratorLearner' needs option 'tol', like tol=1e-6")
        learner = AdaptiveLearner.over(parameters, output, lambda bounds: _made(made, bounds, options))
    return _bound(learner, parameters, outputs)


def _made(kind: Any, bounds: Any, options: Mapping[str, Any]) -> Any:
    pairs = bounds if isinstance(bounds, list) else [bounds]
    wanted = {"Learner1D": 1, "IntegratorLearner": 1, "Learner2D": 2}.get(kind.__name__, len(pairs))
    if len(pairs) != wanted:
        raise CallerError(f"adaptive's {kind.__name__} has {wanted} parameters, the Master {len(pairs)}")
    return kind(None, bounds=pairs if kind.__name__ in ("Learner2D", "LearnerND") else pairs[0], **options)


_ALL = (
    Family(
        "adaptive",
        "auto",
        "Points where the function varies most, by python-adaptive; output=NAME if several; or adaptive:LearnerND, ….",
        "adaptive",
        "adaptive",
        "adaptive",
        _adaptive,
    ),
    Family(
        "ax",
        "fast",
        "Bayesian optimisation by Ax, as ax:fast or ax:quality; minimize=OUTPUT or maximize=OUTPUT.",
        "ax.api.client",
        "ax-platform",
        "ax",
        _ax,
    ),
    Family(
        "cma",
        "CMAES",
        "Covariance matrix adaptation by pycma, CMA-ES; minimize=OUTPUT or maximize=OUTPUT, popsize=20.",
        "cma",
        "cma",
        "cma",
        _cma,
    ),
    Family(
        "gest",
        "",
        "A generator of gest-api by its import path, gest:MODULE:CLASS; minimize=OUTPUT or maximize=OUTPUT.",
        "gest_api",
        "gest-api",
        "gest",
        _gest,
    ),
    Family(
        "nevergrad",
        "NGOpt",
        "Any optimiser of Nevergrad, as nevergrad:DE; minimize=OUTPUT or maximize=OUTPUT, budget=500.",
        "nevergrad",
        "nevergrad",
        "nevergrad",
        _nevergrad,
    ),
    Family(
        "optuna",
        "TPESampler",
        "Any sampler of Optuna, as optuna:TPESampler; minimize=OUTPUT or maximize=OUTPUT.",
        "optuna",
        "optuna",
        "optuna",
        _optuna,
    ),
)

#: The libraries by name.
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
