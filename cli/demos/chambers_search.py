"""Direct search in rounds: of the climates of a round the best is the middle of the next, smaller, box.

R. Luus, T. H. I. Jaakola, AIChE J. 19 (1973) 760, with a Latin hypercube's points in place of independent ones. It
bears with noise, and asks for a whole round at a time, as a room of chambers that take equally long wants it.
"""

from __future__ import annotations

from collections.abc import Mapping

from taskmaster.learners.points import LatinHypercube
from taskmaster.learners.protocol import Point

__all__ = ["ShrinkingBox"]

#: By how much each side of the box shrinks from round to round.
_SHRINK = 0.75


class ShrinkingBox:
    """Looks for the largest output within ``limits``: (min, max) by parameter."""

    def __init__(self, limits: Mapping[str, tuple[float, float]], seed: int) -> None:
        self.best: tuple[Point, float] | None = None
        self._limits = dict(limits)
        self._seed = seed
        self._rounds = 0

    def ask(self, n: int) -> list[Point]:
        """The ``n`` points of the next round."""
        share = _SHRINK**self._rounds
        box = {name: self._side(name, low, high, share) for name, (low, high) in self._limits.items()}
        self._rounds += 1
        return list(LatinHypercube(box, n, seed=self._seed + self._rounds).ask(n))

    def tell(self, point: Point, output: float) -> None:
        """What came of a point."""
        if self.best is None or output > self.best[1]:
            self.best = (point, output)

    def _side(self, name: str, low: float, high: float, share: float) -> tuple[float, float]:
        """A part of the whole, around the best, and moved to where it lies within."""
        if self.best is None:
            return low, high
        half = share * (high - low) / 2
        middle = min(max(float(self.best[0][name]), low + half), high - half)
        return max(low, middle - half), min(high, middle + half)
