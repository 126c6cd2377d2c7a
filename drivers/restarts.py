"""When a worker process that has ended is started again by its host: a pure decision.

A worker that has begun tasks is replaced at once: the one it died in carries the blame, which uses up an attempt, so
it cannot go on for ever. Where several have died one after the other and no task has ended in between, the next ones
are started after a growing pause: it may be all of the tasks, and there may be a million. A worker that dies before it
has begun any has nobody else to blame: it is started again after a growing pause, and given up after ``limit`` such
deaths within ``window`` seconds.
"""

from __future__ import annotations

from collections import deque

__all__ = ["RestartPolicy"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
#: So many may die at work in a row before others are kept waiting: as often as a single task is tried, by default.
_BARREN = 3


class RestartPolicy:
    """For the workers of one Master."""

    def __init__(self, limit: int = 5, window: float = 60.0) -> None:
        self.limit = limit
        self.window = window
        self._deaths: deque[float] = deque(maxlen=limit)
        self._ended = 0
        #: workers that have died at work in a row, without any task having ended in between
        self.barren = 0

    def after_death(self, now: float, *, worked: bool, ended: int = 0) -> float | None:
        """Seconds until the next start, or None: give up until somebody says otherwise.

        ``worked``: it had begun a task. One that could not even be started has died, too. ``ended`` counts the tasks
        that have ended, in whatever worker.
        """
        if worked:
            self.barren = self.barren + 1 if ended == self._ended else 1
            self._ended = ended
            patience = self.barren - _BARREN
            return 0.0 if patience < 0 else float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(patience, 10)))
        self._deaths.append(now)
        recent = sum(now - at <= self.window for at in self._deaths)
        if recent >= self.limit:
            return None
        return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (recent - 1)))

    def forgive(self) -> None:
        """Start counting anew: somebody has looked at it."""
        self._deaths.clear()
        self.barren = 0
