"""The time in a simulated laboratory: real time stretched by a factor, or standing still until it is moved on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Simulated seconds since the start.

    With ``factor`` 1e5 a day passes in 0.86 s; with 0 time stands still but for :meth:`advance`, so a test decides
    what time it is at each reading. ``source`` is real time, in seconds, never going back.
    """

    def __init__(self, factor: float = 1.0, source: Callable[[], float] = time.monotonic) -> None:
        if not (math.isfinite(factor) and factor >= 0):
            raise ValueError(f"time cannot pass {factor} times as fast")
        self.factor = factor
        self.real = source
        self._start = source()
        self._advanced = 0.0

    def now(self) -> float:
        """Simulated seconds since the start."""
        return (self.real() - self._start) * self.factor + self._advanced

    def advance(self, seconds: float) -> None:
        """Jump forward by this many simulated seconds."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"time cannot jump by {seconds} s")
        self._advanced += seconds

    def real_at(self, simulated: float) -> float:
        """The real time at which it will be ``simulated``; inf if that takes a jump."""
        left = simulated - self.now()
        if left <= 0:
            return self.real()
        return self.real() + left / self.factor if self.factor else math.inf
