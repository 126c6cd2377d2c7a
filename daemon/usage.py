"""How busy a head is: the share of its time in which it evaluates, over the last hour. Sans-I/O.

Time is counted in minutes, of which the last sixty are kept; so it takes the same little room however long a head has
been at work, and however short its tasks are.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

__all__ = ["Usage"]

#: Seconds of one bucket, and how many of them make up what is looked back on.
_BUCKET = 60.0
_BUCKETS = 60


class _Buckets:
    """Seconds of something, by the minute in which they were."""

    def __init__(self) -> None:
        #: number of the latest minute, since 1970
        self._latest = 0
        self._seconds: deque[float] = deque([0.0], maxlen=_BUCKETS)

    def add(self, begin: float, end: float) -> None:
        """Count the time from ``begin`` to ``end`` (seconds since 1970), which is not before what was counted last."""
        self._move_to(end)
        oldest = (self._latest - len(self._seconds) + 1) * _BUCKET
        begin = max(begin, oldest)
        while begin < end:
            minute = int(begin // _BUCKET)
            until = min(end, (minute + 1) * _BUCKET)
            self._seconds[minute - self._latest - 1] += until - begin
            begin = until

    def total(self, now: float) -> float:
        """Seconds counted within the last hour."""
        self._move_to(now)
        return sum(self._seconds)

    def _move_to(self, moment: float) -> None:
        minute = int(moment // _BUCKET)
        if minute < self._latest - 1 or minute > self._latest + _BUCKETS:  # the clock was set, or nothing since long
            self._latest = minute
            self._seconds = deque([0.0] * _BUCKETS, maxlen=_BUCKETS)
        self._seconds.extend(0.0 for _ in islice(range(_BUCKETS), max(0, minute - self._latest)))
        self._latest = max(self._latest, minute)


class Usage:
    """The time that one head had a worker, and in which it evaluated. All moments are in seconds since 1970."""

    def __init__(self) -> None:
        self._attended = _Buckets()
        self._busy = _Buckets()
        self._attended_until: float | None = None
        self._seconds = 0.0

    def attach(self, now: float) -> None:
        """It has a worker from now on."""
        if self._attended_until is None:
            self._attended_until = now

    def detach(self, now: float) -> None:
        """It has none any more."""
        self._attend(now)
        self._attended_until = None

    def done(self, seconds: float, now: float) -> None:
        """A task has ended now, that took so many seconds."""
        self._busy.add(now - seconds, now)

    def attended(self, now: float) -> float:
        """Seconds that it had a worker, ever."""
        self._attend(now)
        return self._seconds

    def share(self, now: float, since: float | None = None) -> float:
        """Of the last hour, as far as it had a worker, the share in which it was busy: since a moment until now, too.

        0 to 1.
        """
        self._attend(now)
        attended = self._attended.total(now)
        busy = self._busy.total(now)
        if since is not None:
            busy += max(0.0, min(now - since, attended))
        return min(1.0, busy / attended) if attended > 0 else 0.0

    def _attend(self, now: float) -> None:
        if self._attended_until is None:
            return
        elapsed = max(0.0, now - self._attended_until)
        self._attended.add(now - elapsed, now)
        self._seconds += elapsed
        self._attended_until = now
