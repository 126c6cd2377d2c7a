"""Optuna (https://optuna.org): any of its samplers, or a study of the user's own, against a Master.

What is relied on of Optuna 5, and what is done about it here:

- A study is asked for trials over declared distributions and told of them by number, in any order.
- A trial that is running is known to TPE, which keeps away from it (its ``constant_liar``); most other samplers do not
  look. The guard of :mod:`.base` keeps points from being evaluated twice.
- A trial that failed is told so (``FAIL``): samplers leave it out.
- Constraints are told with each trial: zero or less is feasible.
- With ``prunes=True`` a task that was **cancelled** counts as pruned, which TPE takes for bad, without the values that
  led to it. Those come by the task's progress, whose order against other events nobody records; what a sampler learns
  comes from events of the run alone, so that a replay chooses the same points. See :mod:`.pruning` for who cancels.
- Its samplers are deterministic under a seed, which is the run's. A study of the user's own keeps its sampler: give
  that a seed, or the run cannot be replayed.

Asking costs about 1 ms with TPE at a hundred points, more as they grow; telling 0.1 ms.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.learners.adapters.aims import Aims, Names, Values
from taskmaster.learners.adapters.base import OPTIONS, Optimizer, ignoring
from taskmaster.learners.adapters.space import Space
from taskmaster.learners.axes import Axis, Levels, Parameters
from taskmaster.learners.protocol import Point

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import Trial, TrialState, create_trial
except ImportError as error:
    raise CallerError(lacking("Optuna's learners need", "optuna", "optuna", error)) from error

__all__ = ["DEFAULT", "OptunaLearner", "samplers"]

#: Optuna's own default.
DEFAULT = "TPESampler"

#: A sampler by name, one that is made, or what makes one of a seed.
SamplerLike: TypeAlias = "str | BaseSampler | Callable[[int], BaseSampler]"

#: Marks a study that a learner has asked; its trials are those of a run.
_USED = "taskmaster: asked"


class OptunaLearner(Optimizer[Trial]):
    """Asks a study of Optuna.

    ``sampler`` is the name of one of Optuna's, by default TPESampler, which gets the run's seed and ``options`` as
    keyword arguments; or a function that makes one of a seed; or one that is made already. Or a ``study`` brings its
    own, with its directions, its earlier trials and those enqueued. ``minimize`` and ``maximize`` name outputs,
    ``constraints`` are like ``"temperature <= 80"``; ``log`` names parameters to be searched by their logarithm.
    ``repeats`` has points evaluated again when they are suggested again, as noise may want it. ``prunes``: cancelled
    tasks count as pruned.

        OptunaLearner(master.parameters, "TPESampler", maximize="accuracy", multivariate=True)

    Raises CallerError for parameters without limits, a sampler or options that Optuna does not have, constraints that
    are none, and a study that goes by other directions or has been asked for a run before.
    """

    def __init__(
        self,
        parameters: Parameters,
        sampler: SamplerLike | None = None,
        *,
        study: Study | None = None,
        minimize: Names = (),
        maximize: Names = (),
        constraints: str | Sequence[str] = (),
        log: Collection[str] = (),
        seed: int | None = None,
        repeats: bool = False,
        prunes: bool = False,
        **options: Any,
    ) -> None:
        who = "OptunaLearner"
        aims = Aims(minimize, maximize, constraints, who=who)
        super().__init__(Space(parameters, who, log), aims, seed=seed, repeats=repeats)
        self._distributions = {axis.name: _distribution(axis, axis.name in self.space.log) for axis in self.space.axes}
        self._prunes = prunes
        if study is not None and (sampler is not None or seed is not None):
            raise CallerError(
                f"{who}: study {study.study_name!r} has a sampler of its own, so sampler and seed go there: "
                "optuna.create_study(sampler=TPESampler(seed=1))"
            )
        self._sampler: SamplerLike = (sampler or DEFAULT) if study is None else study.sampler
        self._options = options
        self._study = study
        self._has_ended = False
        if isinstance(self._sampler, str):
            _check_options(self._sampler, options)
            with _quiet():
                self._made_sampler(0)  # what it does not take shows before there is a run
        elif options:
            raise CallerError(
                f"{who}: options go with a sampler's name; give {', '.join(options)} to the sampler itself"
            )
        if study is not None:
            self._check_study(study)

    def _check_study(self, study: Study) -> None:
        wanted = [_direction(more) for _, more in self.aims.objectives]
        has = [direction.name.lower() for direction in study.directions]
        if wanted != has:
            raise CallerError(
                f"study {study.study_name!r} goes by {', '.join(has)}, the learner by {', '.join(wanted)}: "
                "name the outputs in minimize and maximize as the study has them"
            )
        if _USED in study.user_attrs:
            raise CallerError(
                f"study {study.study_name!r} has been asked for a run before. A run is resumed by replay, which fills "
                "a new study with the same trials: make the study anew"
            )

    def made_with(self) -> dict[str, Any]:
        """What it was made with; the sampler also where that is the default."""
        return super().made_with() | {"sampler": self._sampler}

    @property
    def study(self) -> Study:
        """The study, to be read: ``study.best_trials``, ``optuna.visualization``. Raises CallerError before the first
        ask."""
        if self._study is None:
            raise CallerError("the study is made at the first ask, with the run's seed")
        return self._study

    # -- Optuna -------------------------------------------------------------------------------------------------------

    def _open(self, seed: int, n: int) -> None:
        if self._study is None:
            directions = [_direction(more) for _, more in self.aims.objectives]
            with _quiet():
                sampler = self._made_sampler(seed)
                self._study = optuna.create_study(sampler=sampler, directions=directions, study_name="taskmaster")
        self._study.set_user_attr(_USED, True)

    def _made_sampler(self, seed: int) -> BaseSampler:
        if isinstance(self._sampler, BaseSampler):
            return self._sampler
        if callable(self._sampler):
            return self._sampler(seed)
        kind = _kind(self._sampler)
        given = dict(self._options)
        takes = inspect.signature(kind).parameters
        if "seed" in takes:
            given.setdefault("seed", seed)
        if self._sampler in _LISTING:
            listed = {axis.name: _values(axis, self._sampler) for axis in self.space.axes}
            if "search_space" in takes:
                given.setdefault("search_space", listed)
        try:
            made: BaseSampler = kind(**given)
        except (ImportError, TypeError, ValueError) as error:
            raise CallerError(f"Optuna's {self._sampler} cannot be made: {error}") from error
        return made

    def _suggest(self) -> tuple[Trial, Point] | None:
        if self._has_ended:
            return None
        try:
            with _quiet():
                trial = self.study.ask(self._distributions)
        except ImportError as error:
            raise CallerError(f"{self._library} needs a package that is not installed: {error}") from error
        return trial, self.space.point(trial.params)

    def _answer(self, suggestion: Trial, values: Values) -> None:
        for constraint, violation in zip(self.aims.constraints, values.violations, strict=True):
            suggestion.set_constraint(str(constraint), violation)
        self._tell_study(suggestion, TrialState.COMPLETE, list(values.measured))

    def _give_up(self, suggestion: Trial, cancelled: bool) -> None:
        self._tell_study(suggestion, TrialState.PRUNED if cancelled and self._prunes else TrialState.FAIL)

    def _tell_study(self, trial: Trial, state: TrialState, values: list[float] | None = None) -> None:
        try:
            with _quiet():
                self.study.tell(trial, values, state)
        except RuntimeError:
            # A sampler that has gone through all there is stops the study, which Optuna takes for a mistake where it
            # does not run the loop itself; the trial is in the study then.
            if not self.study.trials[trial.number].state.is_finished():
                raise
            self._has_ended = True

    def _learn(self, point: Point, values: Values) -> None:
        if self.space.place(point) is None:
            return  # outside of what is searched
        constraints = dict(zip(map(str, self.aims.constraints), values.violations, strict=True))
        trial = create_trial(
            params=point, distributions=self._distributions, values=list(values.measured), constraints=constraints
        )
        with _quiet():
            self.study.add_trial(trial)

    @property
    def _library(self) -> str:
        sampler = self._sampler
        name = sampler if isinstance(sampler, str) else getattr(sampler, "__name__", type(sampler).__name__)
        return f"Optuna's {name}"


def samplers() -> list[str]:
    """The names of Optuna's samplers that can be made of a name."""
    return [name for name in optuna.samplers.__all__ if name.endswith("Sampler") and name not in _NEED_MORE]


#: These are bases of others, or made of them.
_NEED_MORE = ("BaseSampler", "BaseGASampler", "PartialFixedSampler")

#: These go through all combinations.
_LISTING = ("BruteForceSampler", "GridSampler")


def _kind(name: str) -> Callable[..., BaseSampler]:
    if name not in samplers():
        raise CallerError(f"Optuna has no sampler {name!r}{did_you_mean_or(name, samplers(), 'it has')}")
    kind: Callable[..., BaseSampler] = getattr(optuna.samplers, name)
    return kind


def _check_options(name: str, options: Collection[str]) -> None:
    takes = inspect.signature(_kind(name)).parameters
    for key in options:
        if key not in takes:
            known = (*OPTIONS, "prunes", *takes)
            raise CallerError(f"Optuna's {name} has no option {key!r}{did_you_mean_or(key, known, 'it takes')}")


def _direction(more: bool) -> Literal["minimize", "maximize"]:
    return "maximize" if more else "minimize"


def _distribution(axis: Axis, log: bool) -> BaseDistribution:
    if isinstance(axis, Levels):
        return CategoricalDistribution(axis.values)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=log)
    return FloatDistribution(axis.low, axis.high, log=log)


def _values(axis: Axis, sampler: str) -> list[Any]:
    if isinstance(axis, Levels):
        return list(axis.values)
    if axis.whole:
        return list(range(int(axis.low), int(axis.high) + 1))
    raise CallerError(
        f"Optuna's {sampler} goes through a list of values, but {axis.name!r} is any number from {axis.low:g} to "
        f"{axis.high:g}: give it choices, or take the learner 'grid'"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's lines on what is experimental and that a study was created; its warnings are left."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
    try:
        with ignoring(ExperimentalWarning):
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
