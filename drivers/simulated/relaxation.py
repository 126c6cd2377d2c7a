"""First-order relaxation: a quantity that nears its target exponentially."""

from __future__ import annotations

import math

__all__ = ["Relaxation"]


class Relaxation:
    """A solution of ``τ dv/dt = target - v``, exact at any time: how often it is looked at makes no difference."""

    def __init__(self, value: float, target: float, tau: float, now: float) -> None:
        """``tau`` in s; 0 follows at once."""
        self._start = value
        self._since = now
        self.target = target
        self.tau = tau

    def at(self, time: float) -> float:
        """The value at a time; the start's, before the last change of target."""
        elapsed = max(0.0, time - self._since)
        # Beyond 40 time constants nothing is left of where it came from, to double precision.
        if elapsed >= 40 * self.tau:
            return self.target
        return self.target + (self._start - self.target) * math.exp(-elapsed / self.tau)

    def aim(self, target: float, now: float, tau: float | None = None) -> None:
        """Head for another target from wherever it is now, maybe at another pace."""
        self._start = self.at(now)
        self._since = now
        self.target = target
        if tau is not None:
            self.tau = tau

    def reaches(self, value: float) -> float:
        """When it rises through this value: a time, inf if it will not."""
        if self._start >= value:
            return self._since
        if self.target <= value:
            return math.inf
        return self._since + self.tau * math.log((self.target - self._start) / (self.target - value))
