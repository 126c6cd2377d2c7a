"""How much of the disk the owner of one key may fill: what they have put of late is no more than what is left free.

So one that has gone mad leaves as much to the others as it takes, whatever the size of the disk, and a second one half
of that; nobody has to say how much is right. (Dynamic thresholds are this rule's name where packets share a switch's
memory: A. K. Choudhury and E. L. Hahne, IEEE/ACM Transactions on Networking 6, 130, 1998.) *Of late*: what was put
counts half after twelve hours, so that whoever measures for months is not blamed for what has long been there, and an
operator has the day to see to it. Pure state: nothing here knows the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from taskmaster.bus.text import format_size

__all__ = ["LEAST_SHARE", "DiskShares"]

#: What counts half after so many seconds.
_HALF_LIFE_SECONDS = 12 * 3600.0
#: Nobody is refused who has put less, however little is free: that is looked to without asking whose it is.
LEAST_SHARE = 64 << 20
#: Who has put less than this is forgotten.
_NOTHING = 1.0


class DiskShares:
    """The bytes that each key's owner has put, since the daemon's start."""

    def __init__(self) -> None:
        self._taken: dict[str, float] = {}
        self._faded = -math.inf
        #: who was refused, and since has not had room again
        self._refused: set[str] = set()

    def admits(self, user: str, size: int, left: int) -> bool:
        """Whether somebody may put so many bytes where so many are ``left``."""
        taken = self._taken.get(user, 0.0)
        if taken + size > max(left, LEAST_SHARE):
            self._refused.add(user)
            return False
        return True

    def take(self, user: str, size: int) -> None:
        """They have put so many."""
        self._taken[user] = self._taken.get(user, 0.0) + size

    def look(self, now: float, left: int) -> None:
        """Once in a while, at a monotonic time in seconds: what was put counts less."""
        factor = 0.5 ** (max(0.0, now - self._faded) / _HALF_LIFE_SECONDS)
        self._faded = now
        self._taken = {user: taken * factor for user, taken in self._taken.items() if taken * factor >= _NOTHING}
        most = 0.9 * max(left, LEAST_SHARE)
        self._refused = {user for user in self._refused if self._taken.get(user, 0.0) > most}

    @property
    def refused(self) -> Mapping[str, str]:
        """Who has filled their share, and what is said of that."""
        return {user: self.reason(user) for user in sorted(self._refused)}

    def reason(self, user: str) -> str:
        """Why somebody may put nothing more."""
        size = format_size(round(self._taken.get(user, 0.0)))
        return f"key {user!r} may not put more within a day ({size}) than is left free: the rest is for others"
