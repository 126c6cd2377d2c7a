"""Ax (https://ax.dev): Bayesian optimisation by BoTorch, against a Master.

What is relied on of Ax 1.3, and what is done about it here:

- A client hands out trials and is told of them by number, in any order. It knows what is in flight, and marks what
  failed.
- Under ``random_seed``, which is the run's, it chooses bitwise the same points of the same calls, as long as PyTorch
  sums in the same order: it computes with one thread here, however many processors there are. With other versions of
  PyTorch, or on a processor of another kind, it may choose others.
- After its first points it waits for their results, and asks for none meanwhile.
- Several objectives and constraints are its own.

It needs PyTorch, some gigabytes: that is why no other extra of ours has it. Once its model is fitted asking takes it
0.2 s a point where all parameters are real, and some seconds where whole numbers or choices are among them.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from taskmaster.bus.errors import CallerError, EvaluationError
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.learners.adapters.aims import Aims, Names, Values
from taskmaster.learners.adapters.base import Optimizer, OwnDice, ignoring, importing
from taskmaster.learners.adapters.space import Space
from taskmaster.learners.axes import Axis, Interval, Levels, Parameters
from taskmaster.learners.protocol import Point

try:
    with importing():
        import torch
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
        from ax.exceptions.core import AxError, DataRequiredError, OptimizationComplete
        from ax.exceptions.generation_strategy import MaxParallelismReachedException
        from ax.utils.common.logger import set_ax_logger_levels
        from botorch.acquisition.multi_objective import logei

        from taskmaster.learners.gp.threads import one_thread
except ImportError as error:
    raise CallerError(lacking("Ax's learners need", "ax-platform", "ax", error)) from error

__all__ = ["METHODS", "AxLearner"]

#: What a client can be told to do.
METHODS = ("fast", "quality", "random_search")

_KINDS = {bool: "bool", int: "int", float: "float", str: "str"}


class AxLearner(Optimizer[int]):
    """Asks a ``Client`` of Ax.

    ``method`` is one of :data:`METHODS`, ``options`` are further ones of ``Client.configure_generation_strategy``.
    ``minimize`` and ``maximize`` name outputs, ``constraints`` are like ``"temperature <= 80"``; ``log`` names
    parameters to be searched by their logarithm.

        AxLearner(master.parameters, minimize="loss", constraints="temperature <= 80", initialization_budget=10)

    Raises CallerError for parameters without limits, and a method or options that Ax does not have.
    """

    def __init__(
        self,
        parameters: Parameters,
        method: str = "fast",
        *,
        minimize: Names = (),
        maximize: Names = (),
        constraints: str | Sequence[str] = (),
        log: Collection[str] = (),
        seed: int | None = None,
        repeats: bool = False,
        **options: Any,
    ) -> None:
        aims = Aims(minimize, maximize, constraints, who="AxLearner")
        super().__init__(Space(parameters, "AxLearner", log), aims, seed=seed, repeats=repeats)
        _check(method, options)
        self._method = method
        self._options = options
        self._fixed = {axis.name: values[0] for axis in self.space.axes if len(values := _few_values(axis)) == 1}
        if len(self._fixed) == len(self.space.axes):
            raise CallerError(f"AxLearner has nothing to choose: {', '.join(self._fixed)} can have one value only")
        #: as they were given: Ax makes 1.0 of 1 beside 0.5
        self._choices = {
            axis.name: {value: value for value in axis.values} for axis in self.space.axes if isinstance(axis, Levels)
        }
        self._client: Any = None
        self._dice = OwnDice(0)
        self._ready: deque[tuple[int, Point]] = deque()
        try:
            self._made_client(0)  # what it does not take shows before there is a run
        except (AxError, TypeError, ValueError, RuntimeError) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
            raise CallerError(f"Ax's {method} cannot be made with {given}: {error}") from error

    @property
    def client(self) -> Any:
        """Ax's client, to be read: ``get_best_parameterization()``, ``summarize()``. Raises CallerError before the
        first ask."""
        if self._client is None:
            raise CallerError("the client is made at the first ask, with the run's seed")
        return self._client

    # -- Ax -----------------------------------------------------------------------------------------------------------

    def _open(self, seed: int, n: int) -> None:
        self._dice = OwnDice(seed)
        self._client = self._made_client(seed)

    def _made_client(self, seed: int) -> Any:
        set_ax_logger_levels(logging.ERROR)  # it says a line for each trial, and warns of each for which it waits
        with self._alone():
            client = Client(random_seed=seed)
            log = self.space.log
            client.configure_experiment(
                [_parameter(axis, axis.name in log) for axis in self.space.axes if axis.name not in self._fixed]
            )
            # Names of its own: it reads these as formulas, in which not every name of an output would be one.
            objectives = [f"-y{k}" if not more else f"y{k}" for k, (_, more) in enumerate(self.aims.objectives)]
            limits = [f"c{k} <= 0" for k in range(len(self.aims.constraints))]
            client.configure_optimization(", ".join(objectives), limits or None)
            client.configure_generation_strategy(
                method=self._method, **{"initialization_random_seed": seed, **self._options}
            )
        return client

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """With its own dice, one thread, and without its warnings: what is chosen depends on nothing else."""
        with self._dice(), one_thread(), _one_of_torch(), _nothing_compiled(), ignoring(Warning):
            yield

    def _suggest(self) -> tuple[int, Point] | None:
        if not self._ready:
            self._ready.extend((number, self._point(values)) for number, values in self._next_trials().items())
        return self._ready.popleft() if self._ready else None

    def _point(self, values: Mapping[str, Any]) -> Point:
        chosen = {
            name: self._choices[name][value] if name in self._choices else value for name, value in values.items()
        }
        return self.space.point({**chosen, **self._fixed})

    def _next_trials(self) -> Mapping[int, Mapping[str, Any]]:
        try:
            with self._alone():
                trials: Mapping[int, Mapping[str, Any]] = self._client.get_next_trials(max_trials=self._wanted)
        except OptimizationComplete:
            return {}
        except (DataRequiredError, MaxParallelismReachedException) as error:
            if not self._waiting:
                raise EvaluationError(
                    f"Ax cannot go on from {self.npoints} points that have an output after {self.nfailed} that failed: "
                    "mend the evaluation, or give it more points to begin with (initialization_budget)"
                ) from error
            return {}
        return trials

    def _answer(self, suggestion: int, values: Values) -> None:
        told = {f"y{k}": value for k, value in enumerate(values.measured)}
        told |= {f"c{k}": excess for k, excess in enumerate(values.violations)}
        with self._alone():
            self._client.complete_trial(suggestion, raw_data=told)

    def _give_up(self, suggestion: int, cancelled: bool) -> None:
        if cancelled:
            self._client.mark_trial_abandoned(suggestion)
        else:
            self._client.mark_trial_failed(suggestion)

    def _learn(self, point: Point, values: Values) -> None:
        if self.space.place(point) is None:
            return  # outside of what is searched
        searched = {name: value for name, value in self.space.point(point).items() if name not in self._fixed}
        with self._alone():
            number = self._client.attach_trial(searched)
        self._answer(number, values)

    @property
    def _library(self) -> str:
        return f"Ax's {self._method}"


@contextmanager
def _one_of_torch() -> Iterator[None]:
    """One thread for what PyTorch sums: with several the last bits depend on how many, and at these sizes one is as
    fast."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """For several objectives BoTorch compiles a kernel of its own where there is a compiler, for just this processor.

    That takes half a minute, and the last bits depend on what there is. Without, it computes the same by PyTorch.
    """
    without = {"_C": None, "_load_attempted": True}
    before = {name: getattr(logei, name) for name in without if hasattr(logei, name)}
    vars(logei).update({name: without[name] for name in before})
    try:
        yield
    finally:
        vars(logei).update(before)


def _check(method: str, options: Collection[str]) -> None:
    """Raise CallerError for what Ax does not have."""
    if method not in METHODS:
        raise CallerError(f"Ax has no method {method!r}{did_you_mean_or(method, METHODS, 'it has')}")
    takes = [*inspect.signature(Client.configure_generation_strategy).parameters][2:]  # after self and the method
    for key in options:
        if key not in takes:
            raise CallerError(f"Ax has no option {key!r}{did_you_mean_or(key, takes, 'it takes')}")
    if method == "quality" and find_spec("numpyro") is None:
        raise CallerError(
            "Ax's quality needs NumPyro, which is not installed here: pip install 'ax-platform[fully_bayesian]'"
        )


def _few_values(axis: Axis) -> Sequence[Any]:
    if isinstance(axis, Levels):
        return axis.values
    return [int(axis.low) if axis.whole else axis.low] if axis.low == axis.high else ()


def _parameter(axis: Axis, log: bool) -> Any:
    if isinstance(axis, Interval):
        kind, scaling = ("int" if axis.whole else "float"), ("log" if log else "linear")
        low, high = (int(axis.low), int(axis.high)) if axis.whole else (axis.low, axis.high)
        return RangeParameterConfig(name=axis.name, bounds=(low, high), parameter_type=kind, scaling=scaling)
    kinds = {type(value) for value in axis.values}
    kind = _KINDS.get(next(iter(kinds)) if len(kinds) == 1 else float if kinds == {int, float} else object, "")
    if not kind:
        raise CallerError(f"Ax takes choices of one type, but those of parameter {axis.name!r} are {axis.values!r}")
    return ChoiceParameterConfig(name=axis.name, values=list(axis.values), parameter_type=kind, is_ordered=False)
