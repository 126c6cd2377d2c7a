"""The messages of the workers socket, see `messages`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from taskmaster.bus.fields import Field
from taskmaster.bus.instrument_messages import (
    Alive,
    Checkpoint,
    Guard,
    Guarded,
    GuardianHello,
    GuardianPlan,
    HeadOrder,
    HeadReport,
    Polled,
    Progress,
    Reconcile,
    Reconciled,
    Rest,
    Samples,
    Token,
    Tripped,
)
from taskmaster.bus.status import DeviceStatus
from taskmaster.bus.table import Layout
from taskmaster.bus.wire import (
    MOST_ERRORS,
    MOST_LEASES,
    MOST_POSITIONS,
    MOST_TOKENS,
    Count,
    Interval,
    LeaseId,
    Message,
    Name,
    Refused,
    Seconds,
    Segment,
    Slots,
    TaskError,
    Text,
)

__all__ = [
    "Dispatch",
    "Goodbye",
    "Heartbeat",
    "Interrupt",
    "Leave",
    "Outcome",
    "Ready",
    "Returned",
    "Revoke",
    "Settled",
    "Several",
    "ToHost",
    "ToWorker",
    "Welcome",
    "WorkerFailed",
    "WorkerHello",
    "WorkerLost",
    "WorkerMessage",
]

# ---------------------------------------------------------------------------------------------------------------------
# workers socket, worker → daemon


class WorkerHello(Message, tag="hello"):
    """A worker offers ``slots`` evaluations at a time to a Master.

    ``token`` names this worker for good, across reconnections; ``session`` counts its hellos; ``leases`` are those it
    still works on or holds unsettled outcomes of. Until the welcome that answers this very session it must drop every
    dispatch: the daemon takes a lease that is not in ``leases`` for one that never arrived. ``head`` names the head of
    an instrument that it is the worker of; ``proof`` is for who can take a `Segment` of its process ``pid``.

    A worker that evaluates up to ``batch`` tasks together, of whatever leases, takes leases of so many in all, and
    what waits is not divided by its slots but by its ``shares`` (0: as many as slots).
    """

    version: Count
    master: Name
    token: Name
    session: Count = 1
    slots: Slots = 1
    pid: Count = 0
    host: Name = ""
    leases: Annotated[tuple[LeaseId, ...], Meta(max_length=MOST_LEASES)] = ()
    head: Name = ""
    proof: Segment | None = None
    batch: Count = 0
    shares: Count = 0
    #: it takes `Several`
    several: bool = False


#: Messages that go as one at most.
MOST_PARTS = 512


class Several(Message, tag="several"):
    """Several messages, either way: of each its header and the lengths of its frames (:mod:`taskmaster.bus.joining`).

    Only to who has said that it takes them. None of them is such a one again.
    """

    parts: Annotated[
        tuple[tuple[bytes, Annotated[tuple[Count, ...], Meta(max_length=MOST_PARTS)]], ...], Meta(max_length=MOST_PARTS)
    ]


class Returned(Message, tag="returned"):
    """Nobody here reads these segments of the other side's any more. That of the welcome: more may come."""

    numbers: Annotated[tuple[Count, ...], Meta(max_length=MOST_LEASES)]


class Ready(Message, tag="ready"):
    """The driver is set up; tasks may come."""


class Outcome(Message, tag="outcome"):
    """Tasks ``position … position + n - 1`` of a lease have ended: a table of the outputs of those not in ``errors``.

    Its frames come behind it, or are in a ``segment``, which is there until the lease is settled.

    ``final`` says that nothing more comes of this lease, and gives the slot back; ``n`` may be 0 then.

    Of a head, the last word on a lease: ``doubt`` says that the one task it is about may have acted, and that it is not
    known how that ended (why is in ``errors``); what comes after it, or with ``n`` = 0 from ``position`` on, is given
    back: it has not begun.
    """

    lease: LeaseId
    position: Count
    n: Count
    outputs: Layout | None = None
    errors: Annotated[tuple[TaskError, ...], Meta(max_length=MOST_ERRORS)] = ()
    started: Seconds = 0.0
    finished: Seconds = 0.0
    timed: bool = False
    final: bool = True
    doubt: bool = False
    segment: Segment | None = None


class Heartbeat(Message, tag="heartbeat"):
    """These workers (tokens) are alive, says their host. A worker itself names none: it speaks for its connection."""

    tokens: Annotated[tuple[Name, ...], Meta(max_length=MOST_TOKENS)] = ()
    #: of a worker that speaks for itself: on what it evaluates
    device: DeviceStatus | None = None


class Leave(Message, tag="leave"):
    """No further leases, please; the worker goes when its last one is settled."""

    token: Name


class WorkerLost(Message, tag="lost"):
    """A host reports that its worker died, and how far it had come.

    A worker begins its leases in the order of their numbers: ``latest`` is the last one it began (None: it began none),
    ``positions`` says of each lease it was in how many tasks had started. ``known`` False: nobody can tell.
    ``checkpoint`` is the last that a head's worker has left, and ``since`` when it was last known to live (seconds
    since 1970; 0: now).
    """

    token: Name
    kind: Name
    reason: Text
    known: bool = True
    latest: LeaseId | None = None
    positions: Annotated[tuple[tuple[LeaseId, Count], ...], Meta(max_length=MOST_POSITIONS)] = ()
    checkpoint: Checkpoint | None = None
    since: Seconds = 0.0


class WorkerFailed(Message, tag="failed"):
    """The driver cannot be set up (its function cannot be imported, say)."""

    token: Name
    kind: Name
    message: Text
    traceback: Text = ""


#: What a head has to say besides outcomes.
OfHead = HeadReport | Progress | Samples | Polled | Tripped | Checkpoint | Reconciled
#: What a guardian of heads says besides what any host of workers does.
OfGuardian = GuardianHello | Guarded
WorkerMessage = (
    WorkerHello
    | Several
    | Returned
    | Ready
    | Outcome
    | Heartbeat
    | Leave
    | WorkerLost
    | WorkerFailed
    | OfHead
    | OfGuardian
)


# ---------------------------------------------------------------------------------------------------------------------
# workers socket, daemon → worker


class Welcome(Message, tag="welcome"):
    """You are in. What to evaluate with: the driver's name and options, and what outputs must look like."""

    epoch: int
    session: int
    master: str
    driver: str
    options: dict[str, Any]
    parameters: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    heartbeat: float = 1.0
    lost_after: float = 10.0
    timeout: float | None = None
    max_message: int = 0
    #: of the daemon, and whether it has taken the worker's ``proof``, so that outcomes may come in segments; what
    #: the worker takes to show that it can, too
    pid: int = 0
    takes: bool = False
    proof: Segment | None = None
    #: the daemon takes `Several`
    several: bool = False


class Dispatch(Message, tag="dispatch"):
    """A lease: evaluate the ``n`` tasks in the frames, in order.

    An ended task may wait up to ``hold`` seconds for others to be reported with. With a ``token`` a head goes on with a
    task from the checkpoint that this is.
    """

    lease: LeaseId
    run: Count
    first: Count
    n: Count
    layout: Layout
    attempt: Count = 1
    settled: tuple[LeaseId, ...] = ()
    hold: Seconds = 0.0
    token: Token | None = None
    #: where the frames are, if they do not come behind it
    segment: Segment | None = None


class Revoke(Message, tag="revoke"):
    """Skip the tasks at these positions of a lease as far as they have not started."""

    lease: LeaseId
    intervals: tuple[Interval, ...]


class Interrupt(Message, tag="interrupt"):
    """To a host: nobody wants the tasks at positions ``low ≤ p < high`` of this lease of its worker any more.

    A worker that is still in one of them after a moment's grace is to be killed. To the worker of a head itself: it is
    to break off the one that it is in, and to make its head safe.
    """

    token: str
    lease: LeaseId
    low: int
    high: int


class Settled(Message, tag="settled"):
    """The outcomes of these leases are on disk (or not wanted any more): forget them, and begin nothing more of them.

    ``dispatched`` counts the dispatches of this session; a worker that got fewer says hello again.
    """

    leases: tuple[LeaseId, ...]
    dispatched: int = 0


class Goodbye(Message, tag="goodbye"):
    """Go, when your present task is done; or at once if not ``drain``."""

    reason: str = ""
    drain: bool = True


ToWorker = (
    Welcome
    | Several
    | Dispatch
    | Revoke
    | Interrupt
    | Settled
    | Returned
    | Goodbye
    | HeadOrder
    | Alive
    | Reconcile
    | Refused
)
ToHost = Interrupt | GuardianPlan | Guard | Rest | Alive | Refused
