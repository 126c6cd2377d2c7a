"""What an optimiser is after: outputs to minimise or to maximise, and limits that others must keep."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import FIELD_NAME
from taskmaster.learners.record import TO_OPTIMISE, chosen_output, select

__all__ = ["Aims", "Constraint", "Names", "Values", "is_known"]

#: Names of outputs: one, several, or True for the only one there is.
Names: TypeAlias = "str | Sequence[str] | bool"

_CONSTRAINT = re.compile(rf"\s*({FIELD_NAME})\s*(<=|>=|≤|≥)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """An output that must not exceed, or fall below, a limit: ``temperature <= 80``."""

    output: str
    relation: Literal["<=", ">="]
    limit: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """From ``NAME <= NUMBER`` or ``NAME >= NUMBER``. Raises CallerError."""
        match = _CONSTRAINT.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            return cls(match[1], "<=" if match[2] in ("<=", "≤") else ">=", float(match[3]))
        except ValueError:
            raise CallerError(
                f"a constraint is NAME <= NUMBER or NAME >= NUMBER, like 'temperature <= 80'; got {text!r}"
            ) from None

    def violation(self, told: Any) -> float:
        """By how much the limit is exceeded: zero or less is kept, NaN unknown."""
        value = _number(select(told, self.output), self.output)
        return value - self.limit if self.relation == "<=" else self.limit - value

    def __str__(self) -> str:
        return f"{self.output} {self.relation} {self.limit:g}"


@dataclass(frozen=True)
class Values:
    """What one output says about a point."""

    #: of each objective, as it was measured
    measured: tuple[float, ...]
    #: the same, to be minimised: negative where the objective is maximised
    losses: tuple[float, ...]
    #: of each constraint, by how much it is exceeded; zero or less is kept
    violations: tuple[float, ...]


class Aims:
    """Outputs to ``minimize`` and to ``maximize``, and ``constraints`` like ``"temperature <= 80"`` on others.

    Where nothing is named the only output is minimised, or maximised with ``maximize=True``.
    """

    def __init__(
        self, minimize: Names = (), maximize: Names = (), constraints: str | Sequence[str] = (), *, who: str = "learner"
    ) -> None:
        lower, higher = _names(minimize), _names(maximize)
        if not lower and not higher:
            (higher if maximize is True else lower).append(None)
        elif True in (minimize, maximize):
            raise CallerError(f"{who} has outputs to minimise and to maximise: name them all")
        #: name (None: the only output) and whether more is better
        self.objectives: tuple[tuple[str | None, bool], ...] = (
            *((name, False) for name in lower),
            *((name, True) for name in higher),
        )
        names = [name for name, _ in self.objectives]
        if len(set(names)) != len(names):
            raise CallerError(f"{who}: an output can be minimised or maximised once; got {', '.join(map(str, names))}")
        self.constraints = tuple(
            Constraint.parse(text) for text in ([constraints] if isinstance(constraints, str) else constraints)
        )
        self.who = who

    def require_single(self) -> None:
        """Raise CallerError unless there is one objective and no constraint."""
        if len(self.objectives) > 1 or self.constraints:
            raise CallerError(
                f"{self.who} optimises one output without constraints, not {self.describe()}; let the Master combine "
                "them into one, or take Optuna or Nevergrad, which have both"
            )

    def require_among(self, outputs: Sequence[Field]) -> None:
        """Raise CallerError where a Master with these ``outputs`` does not have what is optimised, as numbers."""
        named = [*(name for name, _ in self.objectives), *(constraint.output for constraint in self.constraints)]
        for name in named:
            field = chosen_output(outputs, name, TO_OPTIMISE)
            if field is not None and (field.kind == "str" or field.shape):
                raise CallerError(
                    f"{self.who} optimises single numbers, but output {field.name!r} is {field.describe()}"
                )

    def read(self, told: Any) -> Values:
        """What ``told`` says. Raises CallerError where an output is missing or not a number."""
        measured = tuple(_number(select(told, name, TO_OPTIMISE), name or "output") for name, _ in self.objectives)
        losses = tuple(-value if more else value for value, (_, more) in zip(measured, self.objectives, strict=True))
        return Values(measured, losses, tuple(constraint.violation(told) for constraint in self.constraints))

    def describe(self) -> str:
        """In a few words: ``maximising accuracy, temperature <= 80``."""
        parts = [f"{'maximising' if more else 'minimising'} {name or 'its output'}" for name, more in self.objectives]
        return ", ".join([*parts, *map(str, self.constraints)])


def is_known(values: Values) -> bool:
    """Whether all of it is finite: libraries take nothing else."""
    return all(map(math.isfinite, (*values.losses, *values.violations)))


def _names(names: Names) -> list[str | None]:
    if isinstance(names, bool):
        return []
    return [names] if isinstance(names, str) else list(names)


def _number(value: Any, name: str) -> float:
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value.item()
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        return float(value)
    raise CallerError(f"output {name!r} must be a single number to be optimised, got {value!r}")
