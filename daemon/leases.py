"""What the Master knows of workers and of the tasks it has granted to them. Pure state, see `master`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import Interrupt, LeaseId, Settled
from taskmaster.bus.status import DeviceStatus, WorkerStatus
from taskmaster.daemon.effects import Effects, ToWorker
from taskmaster.daemon.run import Run

__all__ = ["NOTHING", "Lease", "Started", "Worker"]

#: A worker may be slower than expected by this before what waits behind its task is given to another.
LATE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Started:
    """How far a worker had come when it was lost.

    It begins its leases in the order of their numbers, so those before ``latest`` have been through, or were given back
    without the word of it having arrived; ``positions`` says of those it was in how many tasks had started.
    """

    latest: LeaseId | None = None
    positions: Mapping[LeaseId, int] = field(default_factory=dict)

    def of(self, lease: Lease) -> int:
        """How many tasks of a lease had, or may have, started."""
        if self.latest is None or lease.id > self.latest:
            return 0
        return min(lease.n, self.positions.get(lease.id, lease.n))


#: The worker had begun nothing.
NOTHING = Started()


class Lease:
    """Tasks of one run granted to one worker, until their outcomes are settled or the worker is lost."""

    __slots__ = (
        "attempt",
        "final",
        "first",
        "granted",
        "heard",
        "id",
        "is_asked_back",
        "is_timed",
        "lost",
        "n",
        "name",
        "recorded",
        "remaining",
        "run",
        "seconds",
        "since",
        "turn",
        "worker",
    )

    def __init__(self, lease: LeaseId, run: Run, worker: str, first: int, n: int, attempt: int) -> None:
        self.id = lease
        self.run = run
        #: the worker's token, and its name for people
        self.worker = self.name = worker
        self.first = first
        self.n = n
        self.attempt = attempt
        #: indices whose outcome from this lease would still be taken
        self.remaining = IntervalSet([(first, first + n)])
        #: what the tasks not yet reported are expected to take
        self.seconds = 0.0
        #: when, in monotonic seconds
        self.granted = 0.0
        #: the same in seconds since 1970, for people; and in which turn
        self.since = 0.0
        self.turn = -1
        #: when an outcome last came of it, or it was granted
        self.heard = 0.0
        #: since when its worker has been lost, in seconds since 1970; 0: just now
        self.lost = 0.0
        #: it is in the journal
        self.recorded = False
        #: its worker has said that nothing more comes
        self.final = False
        #: its worker was told not to begin what it has not begun
        self.is_asked_back = False
        #: it was known how long its tasks take when it was granted
        self.is_timed = False

    @property
    def is_wanted(self) -> bool:
        """Whether any task that it could give an outcome of has none."""
        return any(self.run.open.intersects(low, high) for low, high in self.remaining)


class Worker:
    """A worker as the Master sees it.

    States: ``absent`` (known from before the daemon's start, not heard of yet) → ``starting`` → ``ready`` →
    ``leaving``. A worker that is lost is forgotten.
    """

    def __init__(self, token: str, address: bytes, slots: int, *, local: bool, now: float) -> None:
        self.token = token
        #: routing id of its connection; changes when it reconnects
        self.address = address
        self.slots = slots
        #: of one that evaluates many tasks together: how many; and by what the work is divided for it
        self.batch = 0
        #: it takes several messages as one
        self.several = False
        self.shares = slots
        #: what it says of the device that it evaluates on
        self.device: DeviceStatus | None = None
        self.local = local
        #: routing id of the host that vouches for it, where that is not the daemon
        self.host = b""
        #: what to tell that host as soon as it is heard of
        self.interrupts: list[Interrupt] = []
        self.name = token
        self.pid = 0
        self.state = "starting"
        self.since = now
        self.last_seen = now
        self.leases: dict[LeaseId, Lease] = {}
        #: the tasks of these, those that have ended included
        self.tasks_in_hand = 0
        #: when it has last said what became of tasks
        self.heard = 0.0
        #: leases whose outcomes are on disk when this turn is, of which it has not been told yet
        self.settled: list[LeaseId] = []
        #: the turn in which the last of them was settled
        self.settled_in_turn = -1
        self.tasks = 0
        #: the last turn in which something for it has to wait for the commit: what follows may not overtake that
        self.waits_in_turn = -1
        #: dispatches sent in the present session
        self.dispatched = 0
        #: what else has to be so for it to be given leases: of a worker of a head, that this may work
        self.is_available = True

    def on_device(self, device: DeviceStatus) -> None:
        """It has said how the device is that it evaluates on."""
        self.device = device
        if self.batch:
            self.batch = device.batch

    def settle(self, lease: LeaseId, turn: int) -> None:
        """Nothing more is wanted of a lease; that is to be told to the worker once this turn is on disk."""
        self.settled.append(lease)
        self.settled_in_turn = turn

    def take_settled(self) -> tuple[LeaseId, ...]:
        """What it is told now."""
        settled = tuple(self.settled)
        self.settled.clear()
        return settled

    def tell_settled(self, out: Effects) -> None:
        """Tell it which of its outcomes are on disk, and how many dispatches it must have got."""
        out.to_workers.append(ToWorker(self.address, Settled(self.take_settled(), self.dispatched)))

    @property
    def seconds_in_hand(self) -> float:
        """Expected work of its leases."""
        return sum(lease.seconds for lease in self.leases.values())

    def hold(self, lease: Lease) -> None:
        """It has this lease."""
        self.leases[lease.id] = lease
        self.tasks_in_hand += lease.n

    def drop(self, lease: LeaseId) -> None:
        """It has this one no more."""
        dropped = self.leases.pop(lease, None)
        if dropped is not None:
            self.tasks_in_hand -= dropped.n

    @property
    def first(self) -> Lease | None:
        """The lease that it is in."""
        return next(iter(self.leases.values()), None)

    def seconds_left(self, now: float) -> float:
        """Expected work of its leases, less what it should have done since it was last heard of it."""
        first = self.first
        return 0.0 if first is None else self.seconds_in_hand - min(self._since_heard(first, now), first.seconds)

    def is_late_at(self, now: float) -> float:
        """In how many seconds it stands in its task for longer than can be expected; negative: for so long it does."""
        first = self.first
        if first is None:
            return math.inf
        each = first.seconds / max(1, len(first.remaining))
        return LATE_SECONDS + 2 * each - self._since_heard(first, now)

    def _since_heard(self, first: Lease, now: float) -> float:
        return now - max(first.heard, self.heard)

    def statistics(self, now: float) -> WorkerStatus:
        """This worker for ``status``."""
        state = ("busy" if self.leases else "idle") if self.state == "ready" else self.state
        leased = sum(len(lease.remaining) for lease in self.leases.values())
        return WorkerStatus(
            self.name, state, self.slots, self.pid, leased, self.tasks, now - self.since, self.local, self.device
        )
