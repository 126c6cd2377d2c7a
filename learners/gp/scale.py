"""Outputs as the regression gets them: of mean 0 and deviation 1, and of a shape that suits it.

Functions to be minimised often rise by orders of magnitude away from where it matters, which leaves a regression on
plain outputs nothing to see there. Two shapes press what is large together: ``half``, what is worse than the median by
its logarithm, and ``log``, everything above the best. Which of the shapes is used is decided by which of them makes the
outputs most probable (E. Snelson, C. E. Rasmussen, Z. Ghahramani, NIPS 2003), on occasions that only the number of
points fixes.

Outputs so large, or so small, that their squares are no floats any more are divided by the largest of them first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taskmaster.learners.space import Floats

__all__ = ["RAW", "SHAPES", "Scale"]

SHAPES = ("plain", "half", "log")

#: Squares, and sums of many of them, of what lies between these are floats.
_SMALL, _LARGE = 1e-100, 1e100
#: So many deviations away is what comes after a fit, at most: until the next one, more would only be more.
_FARTHEST = 1e9


@dataclass(frozen=True)
class Scale:
    """How to turn outputs into what the regression gets, frozen until the next fit."""

    shape: str = "plain"
    #: where pressing together begins, and by what it is measured
    origin: float = 0.0
    span: float = 1.0
    #: of the shaped outputs
    mean: float = 0.0
    deviation: float = 1.0
    #: by what outputs are divided before all this
    unit: float = 1.0

    @classmethod
    def of(cls, outputs: Floats, shape: str) -> Scale:
        """For ``outputs``, ``(n,)``."""
        largest = float(np.abs(outputs).max())
        unit = 1.0 if largest == 0.0 or _SMALL < largest < _LARGE else largest
        outputs = outputs / unit
        low, middle = float(outputs.min()), float(np.median(outputs))
        origin = {"plain": 0.0, "half": middle, "log": low}[shape]
        span = 1.0 if shape == "plain" else _positive(middle - low, float(outputs.std()))
        shaped = cls(shape, origin, span)._shaped(outputs)
        return cls(shape, origin, span, float(shaped.mean()), _positive(float(shaped.std())), unit)

    def __call__(self, outputs: Floats) -> Floats:
        """Of mean 0 and deviation 1 for those it was made for."""
        with np.errstate(over="ignore"):  # of what came later
            scaled = (self._shaped(outputs / self.unit) - self.mean) / self.deviation
        return np.clip(scaled, -_FARTHEST, _FARTHEST)

    def log_slopes(self, outputs: Floats) -> float:
        """The sum of the logarithms of its derivative: what a density of the result is to be corrected by."""
        total = -len(outputs) * (float(np.log(self.deviation * self.span)) + math.log(self.unit))
        if self.shape != "plain":
            total -= float(np.log1p(np.maximum(self._above(outputs / self.unit), 0.0)).sum())
        return total

    def _shaped(self, outputs: Floats) -> Floats:
        if self.shape == "plain":
            return outputs
        above = self._above(outputs)
        return np.where(above > 0.0, np.log1p(np.maximum(above, 0.0)), above)

    def _above(self, outputs: Floats) -> Floats:
        """How far above the origin, by the span; one of hundreds of orders of magnitude more is as far as floats go."""
        with np.errstate(over="ignore"):
            return np.minimum((outputs - self.origin) / self.span, np.finfo(np.float64).max)


#: Leaves outputs as they are.
RAW = Scale()


def _positive(*numbers: float) -> float:
    """The first above 0, else 1."""
    return next((number for number in numbers if number > 0.0), 1.0)


def names(noise: float | None) -> Sequence[str]:
    """Shapes to choose from: noise that is known to be as large everywhere would not be so of another shape."""
    return SHAPES if not noise else SHAPES[:1]
