"""Outputs as the regression gets them: of mean 0 and deviation 1, and of a shape that suits it.

Functions to be minimised often rise by orders of magnitude away from where it matters, which leaves a regression on
plain outputs nothing to see there. Two shapes press what is large together: ``half``, what is worse than the median by
its logarithm, and ``log``, everything above the best. Which of the shapes is used is decided by which of them makes the
outputs most probable (E. Snelson, C. E. Rasmussen, Z. Ghahramani, NIPS 2003), on occasions that only the number of
points fixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taskmaster.learners.space import Floats

__all__ = ["RAW", "SHAPES", "Scale"]

SHAPES = ("plain", "half", "log")


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

    @classmethod
    def of(cls, outputs: Floats, shape: str) -> Scale:
        """For ``outputs``, ``(n,)``."""
        low, middle = float(outputs.min()), float(np.median(outputs))
        origin = {"plain": 0.0, "half": middle, "log": low}[shape]
        span = 1.0 if shape == "plain" else _positive(middle - low, float(outputs.std()))
        shaped = cls(shape, origin, span)._shaped(outputs)
        return cls(shape, origin, span, float(shaped.mean()), _positive(float(shaped.std())))

    def __call__(self, outputs: Floats) -> Floats:
        """Of mean 0 and deviation 1 for those it was made for."""
        return (self._shaped(outputs) - self.mean) / self.deviation

    def log_slopes(self, outputs: Floats) -> float:
        """The sum of the logarithms of its derivative: what a density of the result is to be corrected by."""
        total = -len(outputs) * float(np.log(self.deviation * self.span))
        if self.shape != "plain":
            total -= float(np.log1p(np.maximum((outputs - self.origin) / self.span, 0.0)).sum())
        return total

    def _shaped(self, outputs: Floats) -> Floats:
        if self.shape == "plain":
            return outputs
        above = (outputs - self.origin) / self.span
        return np.where(above > 0.0, np.log1p(np.maximum(above, 0.0)), above)


#: Leaves outputs as they are.
RAW = Scale()


def _positive(*numbers: float) -> float:
    """The first above 0, else 1."""
    return next((number for number in numbers if number > 0.0), 1.0)


def names(noise: float | None) -> Sequence[str]:
    """Shapes to choose from: noise that is known to be as large everywhere would not be so of another shape."""
    return SHAPES if not noise else SHAPES[:1]
