"""Functions that optimisers are compared on, over parameters of any names and limits.

Each is defined on a box of its own; a point is mapped to it by its parameters' limits, in their order. All are to be
minimised, and their least value is 0, at a place off the middle where nobody starts.

Sources: D. H. Ackley, A Connectionist Machine for Genetic Hillclimbing (1987); F. H. Branin, IBM J. Res. Dev. 16 (1972)
504; H. H. Rosenbrock, Comput. J. 3 (1960) 175; L. A. Rastrigin, Systems of Extremal Control (1974).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or

__all__ = ["FUNCTIONS", "over"]

#: How far the least value lies off the middle, as a share of the box's half width.
_OFF = 0.17


def _sphere(x: Sequence[float]) -> float:
    return sum(value * value for value in x)


def _rosenbrock(x: Sequence[float]) -> float:
    if len(x) < 2:
        return (1 - x[0]) ** 2
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x))


def _rastrigin(x: Sequence[float]) -> float:
    return sum(10 + value * value - 10 * math.cos(2 * math.pi * value) for value in x)


def _ackley(x: Sequence[float]) -> float:
    square = math.sqrt(sum(value * value for value in x) / len(x))
    waves = sum(math.cos(2 * math.pi * value) for value in x) / len(x)
    return -20 * math.exp(-0.2 * square) - math.exp(waves) + 20 + math.e


def _branin(x: Sequence[float]) -> float:
    a, b = x
    valley = b - 5.1 / (4 * math.pi**2) * a * a + 5 / math.pi * a - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10 - 0.39788735772973816


#: name → (the function, its box: limits for each dimension or for all, dimensions or None for any, whether shifted)
_BOXES: Mapping[str, tuple[Callable[[Sequence[float]], float], Sequence[tuple[float, float]], int | None, bool]] = {
    "sphere": (_sphere, [(-5.0, 5.0)], None, True),
    "rosenbrock": (_rosenbrock, [(-2.0, 2.0)], None, False),
    "rastrigin": (_rastrigin, [(-5.12, 5.12)], None, True),
    "ackley": (_ackley, [(-32.768, 32.768)], None, True),
    "branin": (_branin, [(-5.0, 10.0), (0.0, 15.0)], 2, False),
}

#: What they are called.
FUNCTIONS: Sequence[str] = tuple(_BOXES)


def over(name: str, parameters: Sequence[Field]) -> Callable[[Mapping[str, Any]], float]:
    """The function of this name over these parameters, which must be numbers within limits. Raises CallerError."""
    if name not in _BOXES:
        raise CallerError(f"no test function is called {name!r}{did_you_mean_or(name, FUNCTIONS)}")
    f, box, dimensions, shifted = _BOXES[name]
    if dimensions not in (None, len(parameters)):
        raise CallerError(f"test function {name!r} takes {dimensions} parameters, not {len(parameters)}")
    for field in parameters:
        if not field.is_bounded or field.kind not in ("float", "int"):
            raise CallerError(
                f"test function {name!r} is over numbers within limits; parameter {field.name!r} takes "
                f"{field.describe()}: give a function of your own"
            )
    sides = [box[k % len(box)] for k in range(len(parameters))]
    scales = [
        (field.name, field.limits[0], (high - low) / (field.limits[1] - field.limits[0] or 1.0), low)
        for field, (low, high) in zip(parameters, sides)
    ]
    offsets = [_OFF * (high - low) / 2 if shifted else 0.0 for low, high in sides]

    def evaluate(point: Mapping[str, Any]) -> float:
        x = [low + (point[key] - least) * scale - off for (key, least, scale, low), off in zip(scales, offsets)]
        return f(x)

    return evaluate
