"""VOCS of gest-api: what is searched and for what, in its words and in those of a Master."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import lacking
from taskmaster.learners.adapters.aims import Aims
from taskmaster.learners.adapters.space import Space
from taskmaster.learners.record import TO_OPTIMISE, chosen_output

try:
    from gest_api.vocs import (
        VOCS,
        BoundsConstraint,
        ContinuousVariable,
        DiscreteVariable,
        GreaterThanConstraint,
        LessThanConstraint,
        MaximizeObjective,
    )
except ImportError as error:
    raise CallerError(lacking("generators of gest-api need", "gest-api", "gest", error)) from error

__all__ = ["aims_of", "fields_of", "outputs_of", "vocs_of"]


def vocs_of(
    parameters: Sequence[Field],
    outputs: Sequence[Field] = (),
    *,
    minimize: str | Sequence[str] = (),
    maximize: str | Sequence[str] = (),
    constraints: str | Sequence[str] = (),
    observables: Sequence[str] = (),
) -> VOCS:
    """VOCS of a Master's parameters, bounded or with choices, and of its outputs by name. Raises CallerError.

    Where nothing is named the Master's only output is minimised. Whole numbers become discrete values: gest-api has no
    other.
    """
    if not minimize and not maximize:
        only = chosen_output(outputs, None, TO_OPTIMISE)
        if only is None:
            raise CallerError("gest-api takes outputs by name: say which to minimise or to maximise")
        minimize = only.name
    aims = Aims(minimize, maximize, constraints, who="gest-api")
    variables: dict[str, Any] = {}
    for axis, size in zip((space := Space(parameters, "gest-api")).axes, space.sizes, strict=True):
        if math.isinf(size):
            variables[axis.name] = ContinuousVariable(domain=[axis.at(0.0), axis.at(1.0)])
        else:
            values = [axis.at((k + 0.5) / size) for k in range(int(size))]
            variables[axis.name] = DiscreteVariable(values=set(values))
    return VOCS(
        variables=variables,
        objectives={str(name): "MAXIMIZE" if more else "MINIMIZE" for name, more in aims.objectives},
        constraints={
            one.output: ["LESS_THAN" if one.relation == "<=" else "GREATER_THAN", one.limit] for one in aims.constraints
        },
        observables=set(observables),
    )


def fields_of(vocs: VOCS) -> tuple[Field, ...]:
    """The variables of ``vocs`` as a Master would declare them: in order, with limits or choices. Raises
    CallerError."""
    fields = []
    for name, variable in vocs.variables.items():
        if isinstance(variable, DiscreteVariable):
            values = tuple(sorted(variable.values, key=lambda value: (type(value).__name__, value)))
            fields.append(Field(name, kind=_kind(values), choices=values))
        elif isinstance(variable, ContinuousVariable) and all(map(math.isfinite, variable.domain)):
            fields.append(Field(name, min=variable.domain[0], max=variable.domain[1]))
        else:
            raise CallerError(f"variable {name!r} is {type(variable).__name__}, which no learner can choose")
    return tuple(fields)


def _kind(values: Sequence[Any]) -> str:
    for kind, types in (("bool", bool), ("int", int), ("float", (int, float)), ("str", str)):
        if all(isinstance(value, types) for value in values):
            return kind
    return "any"


def outputs_of(vocs: VOCS) -> list[str]:
    """What a result says besides the point: each name once, in order."""
    return list(dict.fromkeys((*vocs.objectives, *vocs.constraints, *vocs.observables)))


def aims_of(vocs: VOCS, who: str) -> Aims:
    constraints = []
    for name, one in vocs.constraints.items():
        if isinstance(one, LessThanConstraint):
            constraints.append(f"{name} <= {one.value!r}")
        elif isinstance(one, GreaterThanConstraint):
            constraints.append(f"{name} >= {one.value!r}")
        elif isinstance(one, BoundsConstraint):
            constraints += [f"{name} >= {one.range[0]!r}", f"{name} <= {one.range[1]!r}"]
    return Aims(
        [name for name, one in vocs.objectives.items() if not isinstance(one, MaximizeObjective)],
        [name for name, one in vocs.objectives.items() if isinstance(one, MaximizeObjective)],
        constraints,
        who=who,
    )
