"""Is the daemon well? What another thread can tell of the broker loop without asking it, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from taskmaster.bus.status import DaemonStatus, MasterStatus
from taskmaster.bus.text import count, format_duration

__all__ = ["Crews", "Pulse"]

#: The loop turns once a second at least, and a commit takes milliseconds.
STILL_SECONDS = 5.0
#: Workers may take so long to start, or to be replaced, before their Master counts as one without them.
CREW_SECONDS = 30.0


class Pulse:
    """Written by the broker loop, read by others: each field by itself."""

    def __init__(self, now: float) -> None:
        #: when the last turn began, and the commit that is under way (None: none is), monotonic
        self.turned = now
        self.committing: float | None = None
        #: why commits wait for room on the disk; empty if they do not
        self.waits = ""
        #: the daemon is about to end
        self.stopping = False
        #: what was wrong at the last look, which is made once a second
        self.troubles: tuple[str, ...] = ()

    def reasons(self, now: float) -> list[str]:
        """Why the daemon is not well; none if it is."""
        reasons = []
        committing, waits = self.committing, self.waits
        if waits:
            reasons.append(waits)
        elif committing is not None and now - committing > STILL_SECONDS:
            reasons.append(f"a commit to the journal has taken {format_duration(now - committing)} so far")
        elif now - self.turned > STILL_SECONDS:
            reasons.append(f"the broker loop has not turned for {format_duration(now - self.turned)}")
        if self.stopping:
            reasons.append("the daemon is about to stop")
        return reasons + list(self.troubles)


class Crews:
    """Whether Masters have the workers that the configuration says, for longer than it takes to start some."""

    def __init__(self) -> None:
        #: since when a Master has not
        self._since: dict[str, float] = {}

    def look(self, status: DaemonStatus, wanted: Mapping[str, int], now: float) -> Iterator[str]:
        """What is wrong at ``now``; ``wanted`` are the worker processes that the daemon is to keep, by Master."""
        for master in status.masters:
            lack = _lack(master, wanted.get(master.name, 0))
            if not lack:
                self._since.pop(master.name, None)
            elif master.state == "crash loop" or now - self._since.setdefault(master.name, now) > CREW_SECONDS:
                yield f"Master {master.name!r} {lack}"


def _lack(master: MasterStatus, wanted: int) -> str:
    if master.state == "crash loop":
        return f"cannot start its workers ({master.reason})"
    if master.state == "no heads":
        return f"has no head that works ({master.reason})"
    ready = sum(worker.local and worker.state in ("idle", "busy") for worker in master.workers)
    if ready < wanted:
        return f"has {ready} of {count(wanted, 'worker process', 'worker processes')}"
    return ""
