"""How fast a demonstration gets on, and how long it will take."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from taskmaster.bus.text import format_duration

__all__ = ["PLAIN_SECONDS", "RATE_POINTS", "RATE_SECONDS", "Pace"]

#: Between two plain lines where there is no terminal.
PLAIN_SECONDS = 3.0
#: The rate is that of the latest so many seconds: what it is now, yet steady enough to read …
RATE_SECONDS = 10.0
#: … and is not given before so many points have come.
RATE_POINTS = 8


class Pace:
    """Counts points towards ``total``."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.told = 0
        self._clock = clock
        #: when how many were told
        self._marks: deque[tuple[float, int]] = deque()
        self._printed_at = -math.inf

    def note(self, told: int) -> None:
        """So many are told by now."""
        now = self._clock()
        self.told = told
        self._marks.append((now, told))
        while len(self._marks) > RATE_POINTS and now - self._marks[1][0] > RATE_SECONDS:
            self._marks.popleft()

    def is_due(self) -> bool:
        """Whether it is time for another plain line."""
        now = self._clock()
        if now - self._printed_at < PLAIN_SECONDS and self.told < self.total:
            return False
        self._printed_at = now
        return True

    @property
    def rate(self) -> float:
        """Points a second lately; 0 while nothing can be said. Falls while nothing comes."""
        if len(self._marks) < RATE_POINTS:
            return 0.0
        (since, before), (_, told) = self._marks[0], self._marks[-1]
        return (told - before) / max(1e-9, self._clock() - since)

    @property
    def points_text(self) -> str:
        """``12/300 points``"""
        return f"{self.told}/{self.total} points"

    @property
    def rate_text(self) -> str:
        """``4.2 points/s``"""
        return f"{f'{self.rate:.1f}' if self.rate else '–'} points/s"

    @property
    def time_left(self) -> str:
        """``2 min left``; empty while nothing can be said."""
        rate, left = self.rate, self.total - self.told
        return f"{format_duration(math.ceil(left / rate))} left" if rate and left else ""
