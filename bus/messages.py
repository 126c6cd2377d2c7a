"""Every message of the protocol, by socket. `docs/protocol.md` says in words what these say in types.

A message is one msgpack frame, a map with its type under ``t``, followed by as many raw frames as its layouts call for.
Unknown keys are ignored, so a newer peer may say more; unknown types are refused.
"""

from __future__ import annotations

import msgspec

from taskmaster.bus.fields import Field
from taskmaster.bus.instrument_messages import (
    LONGEST_TOKEN as LONGEST_TOKEN,
    Alive as Alive,
    Checkpoint as Checkpoint,
    Guard as Guard,
    Guarded as Guarded,
    GuardianHello as GuardianHello,
    GuardianPlan as GuardianPlan,
    HeadList as HeadList,
    HeadOrder as HeadOrder,
    HeadReport as HeadReport,
    ListHeads as ListHeads,
    Polled as Polled,
    Progress as Progress,
    Reconcile as Reconcile,
    Reconciled as Reconciled,
    Reset as Reset,
    Rest as Rest,
    Samples as Samples,
    SetHead as SetHead,
    Stop as Stop,
    Token as Token,
    Tripped as Tripped,
)
from taskmaster.bus.operation_messages import (
    Alarm as Alarm,
    AlarmList as AlarmList,
    AuditPage as AuditPage,
    ListAlarms as ListAlarms,
    Prune as Prune,
    ReadAudit as ReadAudit,
)
from taskmaster.bus.people_messages import (
    Answer as Answer,
    Approve as Approve,
    Claim as Claim,
    Claimed as Claimed,
    Edit as Edit,
    ListProposed as ListProposed,
    ListRequests as ListRequests,
    ProposedList as ProposedList,
    Reject as Reject,
    Release as Release,
    RequestList as RequestList,
    Waiting as Waiting,
)
from taskmaster.bus.record_messages import (
    AGAIN as AGAIN,
    BY_HAND as BY_HAND,
    FOUND as FOUND,
    KEPT as KEPT,
    Ask as Ask,
    Asks as Asks,
    AsksPage as AsksPage,
    BlockHead as BlockHead,
    Fork as Fork,
    Forked as Forked,
    NoteAsks as NoteAsks,
    NoteWriter as NoteWriter,
    Order as Order,
    ReadAsks as ReadAsks,
    ReadWriters as ReadWriters,
    WriterList as WriterList,
)
from taskmaster.bus.series_messages import (
    Piece as Piece,
    ReadProgress as ReadProgress,
    ReadSamples as ReadSamples,
    SeriesCursor as SeriesCursor,
    SeriesNews as SeriesNews,
    SeriesPage as SeriesPage,
)
from taskmaster.bus.status import DaemonStatus, HeldTask, RunInfo
from taskmaster.bus.table import Layout
from taskmaster.bus.wire import (
    HELLO as HELLO,
    PROTOCOL_VERSION as PROTOCOL_VERSION,
    UNHEEDED as UNHEEDED,
    Count as Count,
    Interval as Interval,
    Intervals as Intervals,
    LeaseId as LeaseId,
    Message as Message,
    Metadata as Metadata,
    Name as Name,
    Refused as Refused,
    Scalar as Scalar,
    Seconds as Seconds,
    Segment as Segment,
    Slots as Slots,
    TaskError as TaskError,
    Text as Text,
    Where as Where,
    Whole as Whole,
)
from taskmaster.bus.worker_messages import (
    Dispatch as Dispatch,
    Goodbye as Goodbye,
    Heartbeat as Heartbeat,
    Interrupt as Interrupt,
    Leave as Leave,
    OfHead as OfHead,
    Outcome as Outcome,
    Ready as Ready,
    Returned as Returned,
    Revoke as Revoke,
    Settled as Settled,
    Several as Several,
    ToHost as ToHost,
    ToWorker as ToWorker,
    Welcome as Welcome,
    WorkerFailed as WorkerFailed,
    WorkerHello as WorkerHello,
    WorkerLost as WorkerLost,
    WorkerMessage as WorkerMessage,
)

# ---------------------------------------------------------------------------------------------------------------------
# control socket, client → daemon. `id` ≠ 0 marks a request; its reply carries the same `id`.


class Describe(Message, tag="describe"):
    """Who are you, and what do you expose?"""

    id: Count
    version: Count


class Open(Message, tag="open"):
    """Open a run by name, for writing (fences the writer before) or for reading only.

    ``claim`` is unique to this wish to write: a repetition that comes late, when its answer was lost or slow, gets the
    writer number that it got before, and fences nobody off.
    """

    id: Count
    master: Name
    name: Name
    write: bool = True
    create: bool = True
    seed: int | None = None
    priority: int | None = None
    metadata: Metadata = msgspec.field(default_factory=dict)
    claim: Name = ""


class Submit(Message, tag="submit"):
    """A block: tasks ``first … first + n - 1`` of a run, as a table in the frames that follow.

    ``asks`` says where in it the learner was asked, in that order; several may share an offset. Tasks before the first
    offset belong to the last ask of the block before.
    """

    run: Count
    writer: Count
    first: Count
    n: Count
    layout: Layout
    asks: Asks = ()
    where: Where | None = None


class Cancel(Message, tag="cancel"):
    """Cancel tasks that are not done yet; all open ones where ``intervals`` is None.

    ``queued``: only those that nobody evaluates, and that no worker has been granted.
    """

    id: Count
    run: Count
    intervals: Intervals | None = None
    queued: bool = False


class Replay(Message, tag="replay"):
    """The events of a run from number ``since`` on: a page of them, with the tasks' inputs if asked for."""

    id: Count
    run: Count
    since: Count
    limit: Count = 4096
    inputs: bool = False


class Pause(Message, tag="pause"):
    """Stop granting leases: to one run, or (``run`` None) to a whole Master. What is being evaluated goes on."""

    id: Count
    master: Name
    run: Count | None = None


class Resume(Message, tag="resume"):
    """Undo Pause."""

    id: Count
    master: Name
    run: Count | None = None


class Prioritise(Message, tag="prioritise"):
    """Give a run another priority; the highest goes first, equals share."""

    id: Count
    run: Count
    priority: int


class Close(Message, tag="close"):
    """No further tasks for this run. Its open tasks are still evaluated."""

    id: Count
    run: Count
    writer: Count


class Delete(Message, tag="delete"):
    """Forget a run that has no open tasks, with everything measured in it."""

    id: Count
    run: Count


class Resolve(Message, tag="resolve"):
    """An operator's word on a held task: ``done`` (with its output in the frames), ``retry`` or ``fail``.

    Or ``resume``: it goes on from its last checkpoint, if it has left one.

    ``attempt`` is that of the ``held`` event it answers: a repetition that arrives when the task was evaluated again
    and is in doubt once more must not let it run a third time. 0 stands for any, and is for people who look first.
    """

    id: Count
    run: Count
    index: Count
    action: Name
    layout: Layout | None = None
    reason: Text = ""
    attempt: Count = 0
    who: Name = ""


class SetWorkers(Message, tag="set_workers"):
    """Have the daemon keep ``count`` local worker processes for a Master."""

    id: Count
    master: Name
    count: Count


class Status(Message, tag="status"):
    """How is everything?"""

    id: Count


class ListRuns(Message, tag="list_runs"):
    """The runs of one Master, or of all, with numbers above ``after``."""

    id: Count
    master: Name | None = None
    after: Count = 0


class ListHeld(Message, tag="list_held"):
    """The tasks in doubt of one run, of one Master, or of all, behind task ``after[1]`` of run ``after[0]``."""

    id: Count
    master: Name | None = None
    run: Count | None = None
    after: tuple[Count, Whole] = (0, -1)


class Ping(Message, tag="ping"):
    """Are you there? Says what this client was acknowledged and told, so that a journal fallen behind shows."""

    id: Count
    run: Count = 0
    next_index: Count = 0
    next_seq: Count = 0


ClientMessage = (
    Describe
    | Open
    | Submit
    | Cancel
    | Replay
    | Pause
    | Resume
    | Prioritise
    | Close
    | Delete
    | Resolve
    | SetWorkers
    | Status
    | ListRuns
    | ListHeld
    | ListHeads
    | ReadProgress
    | ReadSamples
    | SetHead
    | Stop
    | Reset
    | ListRequests
    | Claim
    | Release
    | Answer
    | ListProposed
    | Approve
    | Reject
    | Edit
    | NoteAsks
    | NoteWriter
    | ReadAsks
    | ReadWriters
    | Fork
    | ListAlarms
    | Prune
    | ReadAudit
    | Ping
)


# ---------------------------------------------------------------------------------------------------------------------
# control socket, daemon → client


class HeadName(msgspec.Struct, frozen=True, gc=False):
    """A head of an instrument, as a task may ask for it."""

    name: str
    capabilities: tuple[str, ...] = ()
    #: whether there is a safe state to bring it to
    has_safe_state: bool = True

    def fits(self, where: Where) -> bool:
        """Whether a task that asks for this may be evaluated here."""
        return where.head in ("", self.name) and (not where.capability or where.capability in self.capabilities)


class MasterInfo(msgspec.Struct, frozen=True, gc=False):
    """A Master as clients see it."""

    name: str
    driver: str
    parameters: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    slots: int = 0
    description: str = ""
    code: bool = False
    question: str = ""
    approval: bool = False
    heads: tuple[HeadName, ...] = ()
    calls: tuple[str, ...] = ()


class Described(Message, tag="described"):
    """The daemon: its name, epoch, Masters, and where to subscribe and to dial in workers."""

    id: int
    version: int
    name: str
    epoch: int
    results: str
    workers: str
    masters: tuple[MasterInfo, ...] = ()
    max_message: int = 0


class Opened(Message, tag="opened"):
    """A run is open: what its writer number is, and where tasks and events go on."""

    id: int
    run: int
    master: str
    name: str
    writer: int
    next_index: int
    next_seq: int
    seed: int
    closed: bool = False
    open_tasks: int = 0
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class Ack(Message, tag="ack"):
    """All tasks below ``next_index`` of the run are on disk; ``writer`` is the newest writer, who put the last."""

    run: int
    next_index: int
    writer: int = 0


class Done(Message, tag="done"):
    """The request was carried out, and is on disk where it changed anything; ``count`` things were affected."""

    id: int
    count: int = 0


class Pong(Message, tag="pong"):
    """Here; in this epoch. ``next_index`` and ``next_seq`` of the run that was asked about (0 for none)."""

    id: int
    epoch: int
    next_index: int = 0
    next_seq: int = 0
    writer: int = 0


class EventHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """``n`` events ``seq … seq + n - 1`` about the tasks ``first … first + n - 1``, in one row.

    Kinds: ``done`` (outputs of all tasks that are not in ``errors``; those failed), ``cancelled``, ``held`` (in doubt,
    an outcome follows once it is resolved), ``released`` (to be evaluated again); ``closed`` and ``reopened`` concern
    the run and no task. ``frames`` raw frames belong to it: of the ``outputs`` table, of the
    finish times (float64 seconds after ``started``, one a task) if ``timed``, of the ``inputs`` table if there is one.
    The tasks at the positions ``edited`` have another input than they were put with; then there is that table.
    """

    seq: int
    n: int
    kind: str
    first: int = 0
    frames: int = 0
    outputs: Layout | None = None
    errors: tuple[TaskError, ...] = ()
    worker: str = ""
    attempt: int = 1
    started: float = 0.0
    finished: float = 0.0
    timed: bool = False
    inputs: Layout | None = None
    edited: tuple[int, ...] = ()


class Page(Message, tag="page"):
    """Recorded events, contiguous from the number asked for.

    ``next_seq`` is where the run's events end now, ``next_index`` where its tasks do.
    """

    id: int
    run: int
    next_seq: int
    events: tuple[EventHead, ...] = ()
    writer: int = 0
    next_index: int = 0


class StatusReport(Message, tag="status_report"):
    """Answer to Status."""

    id: int
    status: DaemonStatus


class RunList(Message, tag="run_list"):
    """Answer to ListRuns: runs by their numbers, as many as go into a message.

    If there are ``more``, they are asked for with ``after`` the last of these.
    """

    id: int
    runs: tuple[RunInfo, ...] = ()
    more: bool = False


class HeldList(Message, tag="held_list"):
    """Answer to ListHeld: tasks by their runs and numbers, as many as go into a message.

    If there are ``more``, they are asked for with ``after`` the last of these.
    """

    id: int
    tasks: tuple[HeldTask, ...] = ()
    more: bool = False


DaemonMessage = (
    Described
    | Opened
    | Ack
    | Refused
    | Done
    | Pong
    | Page
    | SeriesPage
    | StatusReport
    | RunList
    | HeldList
    | HeadList
    | RequestList
    | Claimed
    | ProposedList
    | AsksPage
    | WriterList
    | Forked
    | AlarmList
    | AuditPage
)


# ---------------------------------------------------------------------------------------------------------------------
# results socket, daemon → subscribers; the first frame is the topic, see `taskmaster.bus.topics`


class Events(Message, tag="events"):
    """Events of a run as they become durable; acknowledges to ``writer`` all tasks below ``next_index`` besides."""

    run: int
    epoch: int
    events: tuple[EventHead, ...]
    next_index: int = 0
    writer: int = 0


class Beacon(Message, tag="beacon"):
    """Where the run's events and its tasks end, repeated so that a lost tail shows."""

    run: int
    epoch: int
    next_seq: int
    next_index: int = 0


class Gone(Message, tag="gone"):
    """There is no such run (any more): it was deleted. Repeated, in place of the beacon, to those who follow it."""

    run: int
    epoch: int


Publication = Events | Beacon | Gone | Alarm | SeriesNews | Waiting
