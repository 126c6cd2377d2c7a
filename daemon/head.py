"""One head of an instrument as its Master sees it; what it is to do is decided in `heads`. Pure state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from taskmaster.bus.messages import HeadName, LeaseId, Where
from taskmaster.bus.status import HeadInfo, HeadTask
from taskmaster.daemon.leases import Worker
from taskmaster.daemon.usage import Usage

__all__ = ["Head", "Trip", "Wanted"]

Wanted: TypeAlias = Literal["stop", "park", "work"]


@dataclass(frozen=True)
class Trip:
    """How an interlock does not hold; an empty reason: it does."""

    action: Literal["pause", "safe", "stop"]
    reason: str
    #: because its value cannot be had
    lost: bool = False


class Head:
    """One head as the Master sees it."""

    def __init__(self, spec: HeadName, wall: float = 0.0) -> None:
        self.spec = spec
        #: who has it, if anybody
        self.worker: Worker | None = None
        #: who was not heard of any more, and may be driving it still, until this time (monotonic)
        self.silent: Worker | None = None
        self.silent_until = -math.inf
        #: the name of the key with which its latest worker came; None: nobody has had it since the daemon's start
        self.keeper: str | None = None
        #: what that worker has said of it
        self.reported = "away"
        self.identity = ""
        self.error = ""
        #: number of the latest order, what that was, and the latest that was carried out
        self.order: LeaseId = (0, 0)
        self.wanted: Wanted = "work"
        #: whether it is to be watched though it is safe
        self.watch = True
        self.obeyed: LeaseId = (0, 0)
        #: the latest of what its worker has said of interlocks
        self.heard = 0
        #: who took it out of service and why; empty if it is in
        self.out = ""
        self.quarantined = ""
        #: which interlock has tripped and why, until it is put back in; and those that do not hold at present
        self.tripped = ""
        self.trips: dict[str, Trip] = {}
        #: it was said that it cannot be reached
        self.is_missed = False
        #: why it cannot be brought to its safe state, since when, and when that is said again
        self.unsafe = ""
        self.unsafe_since = self.unsafe_again = math.inf
        #: since when it is to have stopped, if it is (inf: since just now), and whether it was told that it has not
        self.stop_since: float | None = None
        self.stop_is_told = False
        #: somebody has had it since the daemon's start; whoever was the last has left it in its safe state
        self.reached = self.left_safe = False
        #: connections lost since a task was done, or came further
        self.failures = 0
        #: tasks in doubt that it had, and those it has been asked about since it was last at work
        self.doubts: set[tuple[int, int]] = set()
        self.asked: set[tuple[int, int]] = set()
        self.since = wall
        #: ever; and the last thing that went wrong, and when that was first said
        self.tasks = 0
        self.busy_seconds = 0.0
        self.last_error, self.last_error_time = "", 0.0
        #: the journal has these
        self.is_counted = True
        self.usage = Usage()

    @property
    def is_available(self) -> bool:
        """Whether it may be given a task."""
        return self.reported == "ready" and self.wanted == "work" and self.obeyed == self.order

    @property
    def works(self) -> bool:
        """Whether it is there to evaluate, be it busy or not."""
        return self.reported == "ready" and self.wanted == "work"

    @property
    def is_watched(self) -> bool:
        """Whether its interlocks are asked at present; were one not answered, its worker would say so."""
        return self.worker is not None and not self.out and self.reported in ("ready", "safe")

    @property
    def is_safe(self) -> bool:
        """Whether it is known to be in its safe state, and to stay there."""
        return (self.reported == "safe" and self.obeyed == self.order) or (self.worker is None and self.left_safe)

    @property
    def kept_safe(self) -> str:
        """Which interlock keeps it safe, and why; empty if none does."""
        present = (f"interlock {name}: {trip.reason}" for name, trip in self.trips.items() if trip.action == "safe")
        return self.tripped or next(present, "")

    def fits(self, where: Where) -> bool:
        """Whether a task that asks for this may be evaluated here."""
        return self.spec.fits(where)

    def info(self, master: str, stopped: str, wall: float) -> HeadInfo:
        """This head for lists, at ``wall`` seconds since 1970. ``stopped``: why the Master is, empty if it is not."""
        state, reason = self._state(master, stopped)
        task = self._task()
        return HeadInfo(
            master,
            self.spec.name,
            state,
            reason,
            self.identity,
            self.since,
            self.is_safe,
            self.tasks,
            self.busy_seconds,
            tuple(sorted(self.doubts)),
            self.spec.capabilities,
            self.worker.pid if self.worker is not None else 0,
            task,
            attended=self.usage.attended(wall),
            utilisation=self.usage.share(wall, task.since if task is not None else None),
            has_safe_state=self.spec.has_safe_state,
            last_error=self.last_error,
            last_error_time=self.last_error_time,
        )

    def _task(self) -> HeadTask | None:
        """What its worker has been granted; it begins its leases in their order."""
        if self.worker is None or not self.worker.leases:
            return None
        lease = next(iter(self.worker.leases.values()))
        first = lease.remaining.first[0] if lease.remaining else lease.first
        return HeadTask(lease.run.id, lease.run.name, first, lease.attempt, lease.since)

    def _state(self, master: str, stopped: str) -> tuple[str, str]:
        """What people are told: of several reasons not to work the weightiest."""
        reasons = {
            "stopped": stopped,
            "out": self.out,
            "tripped": self.kept_safe,
            "quarantined": self.quarantined,
        }
        for state, reason in reasons.items():
            if reason:
                if state == "quarantined":
                    reason += f"; when that is mended: taskmaster heads {master} --in {self.spec.name or repr('')}"
                return state, f"{reason} (not known to be safe: {self.unsafe})" if self.unsafe else reason
        if self.doubts:
            run, index = min(self.doubts)
            return "parked", f"task {index} of run {run} is in doubt: taskmaster resolve {run} {index} done|retry|fail"
        if self.reported == "ready":
            return ("busy" if self.worker is not None and self.worker.leases else "ready"), self.error
        return self.reported if self.reported != "safe" else "connecting", self.error
