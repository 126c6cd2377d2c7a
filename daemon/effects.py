"""What the daemon decides, as values: records for the journal, and what may leave once they are on disk.

The decision code appends to one :class:`Effects` a turn. The broker commits ``records`` in one transaction and only
then releases the rest; the single exception, ``early``, is named and argued in :mod:`taskmaster.daemon.broker`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.messages import EventHead, LeaseId, Where
from taskmaster.bus.table import Buffer, Table
from taskmaster.daemon.roles import LOCAL, Peer
from taskmaster.daemon.tails import Segment, SeriesKey

if TYPE_CHECKING:
    from taskmaster.daemon.blocks import Block
    from taskmaster.daemon.run import Run

__all__ = ["Dispatched", "Effects", "Publication", "Record", "Reply", "Sender", "ToWorker", "Verify"]


class Sender(msgspec.Struct, frozen=True, gc=False):
    """Whom a message came from: the routing id to answer to, and the user as the transport knows them."""

    address: bytes
    user: str = "local"
    peer: Peer = LOCAL
    #: where from, as far as the transport says
    origin: str = ""


class _Record(msgspec.Struct, frozen=True, gc=False):
    pass


class RunCreated(_Record, frozen=True):
    run: int
    master: str
    name: str
    seed: int
    created: float
    user: str
    metadata: dict[str, str]
    priority: int


class WriterChanged(_Record, frozen=True):
    run: int
    writer: int
    user: str
    time: float
    claim: str = ""
    #: how many tasks there were
    first: int = 0


class WriterNoted(_Record, frozen=True):
    """What a writer says of itself."""

    run: int
    writer: int
    metadata: dict[str, str]


class RunChanged(_Record, frozen=True):
    """The run's switches, after a change."""

    run: int
    closed: bool
    paused: bool
    priority: int


class RunDeleted(_Record, frozen=True):
    run: int


class RowsCleared(_Record, frozen=True):
    """Some of the rows that a deleted run has left are let go."""

    run: int


class RunForked(_Record, frozen=True):
    """Run ``run`` is new, and starts from the first ``at`` events of ``source``; see `daemon.journal.forks`."""

    run: int
    source: int
    at: int
    master: str
    name: str
    seed: int
    created: float
    user: str
    metadata: dict[str, str]
    priority: int
    paused: bool


class MasterChanged(_Record, frozen=True):
    master: str
    paused: bool


class BlockAppended(msgspec.Struct, frozen=True):
    run: int
    first: int
    n: int
    asks: tuple[m.Ask, ...]
    time: float
    user: str
    block: Block
    table: Table


class AsksNoted(_Record, frozen=True):
    """What a learner was asked behind task ``first - 1``, from the number ``at`` of those on; see NoteAsks."""

    run: int
    first: int
    at: int
    asks: tuple[m.Ask, ...]


class EventAppended(msgspec.Struct, frozen=True):
    """One row of events, with its raw frames: outputs, then finish times."""

    run: int
    head: EventHead
    frames: tuple[Buffer, ...]


class LeaseGranted(_Record, frozen=True):
    lease: LeaseId
    run: int
    first: int
    n: int
    attempt: int
    worker: str
    local: bool
    time: float
    name: str = ""


class LeaseEnded(_Record, frozen=True):
    lease: LeaseId


class AttemptsCharged(_Record, frozen=True):
    """Tasks ``first ≤ i < last`` have now used up ``attempts`` evaluations."""

    run: int
    first: int
    last: int
    attempts: int


class RunCounted(_Record, frozen=True):
    """Where a run stands after a turn that touched it."""

    run: int
    next_index: int
    next_seq: int
    done: int
    failed: int
    cancelled: int


class MasterStopped(_Record, frozen=True):
    """A Master's heads are stopped (``by`` whom and why), or are not any more (empty)."""

    master: str
    by: str
    user: str
    time: float
    reason: str = ""


class HeadChanged(_Record, frozen=True):
    """``what`` became of a head: ``in``, ``out``, ``quarantined``, ``tripped``, ``unsafe``; and why it is out of
    service since, if it is, by each way to be so."""

    master: str
    head: str
    what: str
    out: str
    quarantined: str
    reason: str
    user: str
    time: float
    tripped: str = ""


class HeadCounted(_Record, frozen=True):
    """What a head has done, ever, and what went wrong with it last."""

    master: str
    head: str
    tasks: int
    busy: float
    error: str
    error_time: float


class KeptPoint(msgspec.Struct, frozen=True, array_like=True):
    """A point of a series; ``values`` is JSON, see `tails.Point`, ``time`` in milliseconds since 1970."""

    entry: int
    key: SeriesKey
    names: tuple[str, ...]
    time: int
    values: str


class PointsKept(msgspec.Struct, frozen=True):
    """New points of series."""

    points: tuple[KeptPoint, ...]


class PointsFolded(msgspec.Struct, frozen=True):
    """All points that were new, put together."""

    rows: tuple[tuple[SeriesKey, Segment], ...]


class MonitorDeclared(_Record, frozen=True):
    """What the configuration says of a monitored value of a head; ``retention`` in seconds."""

    master: str
    head: str
    name: str
    unit: str
    retention: float


class SamplesPruned(_Record, frozen=True):
    """Rows of a monitored value that ended ``before`` (milliseconds since 1970) are not kept any longer."""

    master: str
    head: str
    name: str
    before: int


class Decided(msgspec.Struct, frozen=True):
    """Tasks ``first ≤ i < last`` were ``proposed``, ``approved``, ``rejected``, or ``edited`` to be as in ``table``."""

    run: int
    first: int
    last: int
    what: str
    reason: str
    user: str
    time: float
    table: Table | None = None


class RequestClaimed(_Record, frozen=True):
    """Somebody has taken a request, until then (both in seconds since 1970)."""

    run: int
    task: int
    claim: str
    who: str
    since: float
    until: float


class ClaimEnded(_Record, frozen=True):
    """It was answered, given back, or nobody wants it any more."""

    run: int
    task: int


class TasksPlaced(_Record, frozen=True):
    """Tasks ``first ≤ i < first + n`` ask for heads."""

    run: int
    first: int
    n: int
    where: Where


class Checkpointed(_Record, frozen=True):
    """From where the evaluation of a task can go on, at which head; ``lost``: since when it does not, 0 if it does."""

    run: int
    index: int
    attempt: int
    head: str
    #: which of the evaluation's leases it came with, and its number there
    lease: LeaseId
    number: int
    time: float
    token: bytes
    lost: float = 0.0


class CheckpointDropped(_Record, frozen=True):
    """It cannot, or need not any more."""

    run: int
    index: int


class Audited(_Record, frozen=True):
    """What somebody has done who runs the daemon, or was refused: see `auditing`."""

    time: float
    user: str
    role: str
    origin: str
    what: str
    master: str = ""
    about: dict[str, Any] = {}
    outcome: str = "done"
    why: str = ""
    times: int = 1


class AuditPruned(_Record, frozen=True):
    """Entries up to this number are not kept any longer."""

    last: int


class KeysNoted(_Record, frozen=True):
    """The keys that are in force from here on, as JSON: see `keychanges`."""

    keys: str


Record: TypeAlias = (
    RunCreated
    | WriterChanged
    | WriterNoted
    | RunChanged
    | RunDeleted
    | RowsCleared
    | RunForked
    | MasterChanged
    | BlockAppended
    | AsksNoted
    | EventAppended
    | LeaseGranted
    | LeaseEnded
    | AttemptsCharged
    | RunCounted
    | MasterStopped
    | HeadChanged
    | HeadCounted
    | PointsKept
    | PointsFolded
    | MonitorDeclared
    | SamplesPruned
    | Decided
    | RequestClaimed
    | ClaimEnded
    | TasksPlaced
    | Checkpointed
    | CheckpointDropped
    | Audited
    | AuditPruned
    | KeysNoted
)


class Reply(msgspec.Struct, frozen=True):
    """A message to a client."""

    address: bytes
    message: m.DaemonMessage
    frames: tuple[Buffer, ...] = ()


class ToWorker(msgspec.Struct, frozen=True):
    """A message to a worker that is no dispatch, or to a host."""

    address: bytes
    message: m.ToWorker | m.ToHost


class Dispatched(msgspec.Struct, frozen=True):
    """A lease with the inputs of its tasks, one table for each piece of a block."""

    address: bytes
    message: m.Dispatch
    tables: tuple[Table, ...]
    #: it may go with others as one message
    joins: bool = False


class Asked(msgspec.Struct, frozen=True):
    """A question to a head about a task in doubt, with the task's input."""

    address: bytes
    message: m.Reconcile
    tables: tuple[Table, ...]


class Publication(msgspec.Struct, frozen=True):
    """Events of a run; ``inputs`` are the tables of the tasks' inputs, for those who subscribed with inputs."""

    master: str
    run: int
    head: EventHead
    frames: tuple[Buffer, ...]
    inputs: tuple[Table, ...]


class Verify(msgspec.Struct, frozen=True):
    """A submission of tasks the run already has: a repetition if the journal holds the same, else a conflict."""

    address: bytes
    submit: m.Submit
    table: Table


class Recheck(msgspec.Struct, frozen=True):
    """An answer to a task that has ended: a repetition if the journal holds just that one, else a conflict."""

    address: bytes
    answer: m.Answer
    worker: str
    table: Table | None
    #: what is to be on record of it, but for what becomes of it
    entry: Audited | None = None


class WasOpened(msgspec.Struct, frozen=True, gc=False):
    """Somebody has opened a run, as it stood then; what is recorded of it is looked up when they are told."""

    id: int
    run: int
    writer: int
    next_index: int
    next_seq: int
    closed: bool
    open: int


class WasForked(msgspec.Struct, frozen=True, gc=False):
    """Somebody has had a run forked; what is to be said of the fork is looked up when they are told."""

    id: int
    run: int


class Query(msgspec.Struct, frozen=True):
    """A request that needs no decision, only a look at what is recorded."""

    address: bytes
    message: (
        m.Describe
        | m.ListRuns
        | m.ListHeads
        | m.Replay
        | m.ReadAsks
        | m.ReadWriters
        | m.Status
        | m.ListHeld
        | m.ListAlarms
        | m.ReadProgress
        | m.ReadSamples
        | m.ListRequests
        | m.ListProposed
        | m.ReadAudit
        | WasOpened
        | WasForked
    )
    peer: Peer = LOCAL


class Forking(msgspec.Struct, frozen=True):
    """A run is to be forked, which is done by copying in the journal, after the turn's commit and in one of its own."""

    sender: Sender
    message: m.Fork


@dataclass(slots=True)
class Effects:
    """One turn's decisions."""

    turn: int = 0
    #: seconds since 1970, for what people read; decisions use the monotonic time they are given
    wall: float = 0.0
    records: list[Record] = field(default_factory=list)
    #: Dispatches of repeatable tasks submitted in this same turn; they may leave before the commit.
    early: list[Dispatched] = field(default_factory=list)
    dispatches: list[Dispatched] = field(default_factory=list)
    questions: list[Asked] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    publications: list[Publication] = field(default_factory=list)
    #: What was recorded of series, by what they belong to.
    news: list[m.SeriesNews] = field(default_factory=list)
    to_workers: list[ToWorker] = field(default_factory=list)
    #: Orders to be safe: they leave before the commit.
    urgent: list[ToWorker] = field(default_factory=list)
    verifications: list[Verify | Recheck] = field(default_factory=list)
    forks: list[Forking] = field(default_factory=list)
    #: Masters of which something else waits for people than before
    waiting: set[str] = field(default_factory=set)
    #: About the daemon's own workers; the hosts of others are sent theirs.
    interrupts: list[m.Interrupt] = field(default_factory=list)
    #: Requests that are answered by reading: from the journal, or about the daemon itself.
    queries: list[Query] = field(default_factory=list)
    scalings: list[m.SetWorkers] = field(default_factory=list)
    alarms: list[m.Alarm] = field(default_factory=list)
    #: What else somebody who reads the daemon's log in the morning wants to know: whether it is a bad thing, and what.
    remarks: list[tuple[bool, str]] = field(default_factory=list)
    #: runs whose counts changed
    touched: dict[int, Run] = field(default_factory=dict)
