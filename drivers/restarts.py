"""When a worker process that has ended is started again by its host: a pure decision.

A worker that has begun tasks is replaced at once: the one it died in carries the blame, which uses up an attempt, so
it cannot go on for ever. A worker that dies before it has begun any has nobody else to blame: it is started again after
a growing pause, and given up after ``limit`` such deaths within ``window`` seconds.
"""

from __future__ import annotations

from collections import deque

__all__ = ["RestartPolicy"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


class RestartPolicy:
    """For the workers of one Master."""

    def __init__(self, limit: int = 5, window: float = 60.0) -> None:
        self.limit = limit
        self.window = window
        self._deaths: deque[float] = deque(maxlen=limit)

    def after_death(self, now: float, *, worked: bool) -> float | None:
        """Seconds until the next start, or None: give up until somebody says otherwise.

        ``worked``: it had begun a task. One that could not even be started has died, too.
        """
        if worked:
            return 0.0
        self._deaths.append(now)
        recent = sum(now - at <= self.window for at in self._deaths)
        if recent >= self.limit:
            return None
        return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (recent - 1)))

    def forgive(self) -> None:
        """Start counting anew: somebody has looked at it."""
        self._deaths.clear()
