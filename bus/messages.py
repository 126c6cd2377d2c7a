"""Every message of the protocol, by socket. `docs/protocol.md` says in words what these say in types.

A message is one msgpack frame, a map with its type under ``t``, followed by as many raw frames as its layouts call for.
Unknown keys are ignored, so a newer peer may say more; unknown types are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from taskmaster.bus.fields import Field
from taskmaster.bus.status import DaemonStatus, RunInfo
from taskmaster.bus.table import Layout

PROTOCOL_VERSION = 1
#: Code of the Refused that asks a worker to introduce itself (again).
HELLO = "hello"

#: What peers may say: whole numbers that SQLite, JSON and every client can hold, and times that are numbers.
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Whole: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Slots: TypeAlias = Annotated[int, Meta(ge=1, le=65_536)]
Seconds: TypeAlias = Annotated[float, Meta(ge=-1e15, le=1e15)]

#: ``(epoch, number)``: the daemon start that granted a lease, and a number unique in it.
LeaseId: TypeAlias = tuple[Count, Count]
#: ``(low, high)``: the indices ``low ≤ i < high``.
Interval: TypeAlias = tuple[Count, Count]


class Message(msgspec.Struct, tag_field="t", omit_defaults=True, gc=False):
    """Base of all messages."""


class TaskError(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Why the task at ``position`` (counted from the first of its event or outcome) has no output."""

    position: Count
    kind: str
    message: str
    traceback: str = ""


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
    master: str
    name: str
    write: bool = True
    create: bool = True
    seed: int | None = None
    priority: int | None = None
    metadata: dict[str, str] = {}
    claim: str = ""


class Submit(Message, tag="submit"):
    """A block: tasks ``first … first + n - 1`` of a run, as a table in the frames that follow.

    ``asks`` holds ``(offset, after)`` for each point where the learner asked: from task ``first + offset`` on, the last
    event it had been told was number ``after`` (-1: none). Tasks before the first offset belong to the last ask of the
    block before.
    """

    run: Count
    writer: Count
    first: Count
    n: Count
    layout: Layout
    asks: tuple[tuple[Count, Whole], ...] = ()


class Cancel(Message, tag="cancel"):
    """Cancel tasks that are not done yet; all open ones where ``intervals`` is None."""

    id: Count
    run: Count
    intervals: tuple[Interval, ...] | None = None


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
    master: str
    run: Count | None = None


class Resume(Message, tag="resume"):
    """Undo Pause."""

    id: Count
    master: str
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

    ``attempt`` is that of the ``held`` event it answers: a repetition that arrives when the task was evaluated again
    and is in doubt once more must not let it run a third time. 0 stands for any, and is for people who look first.
    """

    id: Count
    run: Count
    index: Count
    action: str
    layout: Layout | None = None
    reason: str = ""
    attempt: Count = 0


class SetWorkers(Message, tag="set_workers"):
    """Have the daemon keep ``count`` local worker processes for a Master."""

    id: Count
    master: str
    count: Count


class Status(Message, tag="status"):
    """How is everything?"""

    id: Count


class ListRuns(Message, tag="list_runs"):
    """The runs of one Master, or of all."""

    id: Count
    master: str | None = None


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
    | Ping
)


# ---------------------------------------------------------------------------------------------------------------------
# control socket, daemon → client


class MasterInfo(msgspec.Struct, frozen=True, gc=False):
    """A Master as clients see it."""

    name: str
    driver: str
    parameters: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    slots: int = 0
    description: str = ""
    code: bool = False


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
    metadata: dict[str, str] = {}


class Ack(Message, tag="ack"):
    """All tasks below ``next_index`` of the run are on disk; ``writer`` is the newest writer, who put the last."""

    run: int
    next_index: int
    writer: int = 0


class Refused(Message, tag="refused"):
    """A request (``id``) or a submission was not taken; see `taskmaster.bus.errors` for codes.

    A submission is named by its ``run``, ``writer`` and ``first``; its run ends at ``next_index``.
    """

    code: str
    message: str
    id: int = 0
    run: int = 0
    first: int = 0
    next_index: int = 0
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


class Page(Message, tag="page"):
    """Recorded events, contiguous from the number asked for; ``next_seq`` is where the run's events end now."""

    id: int
    run: int
    next_seq: int
    events: tuple[EventHead, ...] = ()
    writer: int = 0


class StatusReport(Message, tag="status_report"):
    """Answer to Status."""

    id: int
    status: DaemonStatus


class RunList(Message, tag="run_list"):
    """Answer to ListRuns."""

    id: int
    runs: tuple[RunInfo, ...] = ()


DaemonMessage = Described | Opened | Ack | Refused | Done | Pong | Page | StatusReport | RunList


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
    """Where the run's events end, repeated so that a lost tail shows."""

    run: int
    epoch: int
    next_seq: int


class Gone(Message, tag="gone"):
    """There is no such run (any more): it was deleted. Repeated, in place of the beacon, to those who follow it."""

    run: int
    epoch: int


class Alarm(Message, tag="alarm"):
    """Something an operator should know."""

    level: str
    subject: str
    message: str
    time: float


Publication = Events | Beacon | Gone | Alarm


# ---------------------------------------------------------------------------------------------------------------------
# workers socket, worker → daemon


class WorkerHello(Message, tag="hello"):
    """A worker offers ``slots`` evaluations at a time to a Master.

    ``token`` names this worker for good, across reconnections; ``session`` counts its hellos; ``leases`` are those it
    still works on or holds unsettled outcomes of. Until the welcome that answers this very session it must drop every
    dispatch: the daemon takes a lease that is not in ``leases`` for one that never arrived.
    """

    version: Count
    master: str
    token: str
    session: Count = 1
    slots: Slots = 1
    pid: Count = 0
    host: str = ""
    leases: tuple[LeaseId, ...] = ()


class Ready(Message, tag="ready"):
    """The driver is set up; tasks may come."""


class Outcome(Message, tag="outcome"):
    """Tasks ``position … position + n - 1`` of a lease have ended: a table of the outputs of those not in ``errors``.

    ``final`` says that nothing more comes of this lease, and gives the slot back; ``n`` may be 0 then.
    """

    lease: LeaseId
    position: Count
    n: Count
    outputs: Layout | None = None
    errors: tuple[TaskError, ...] = ()
    started: Seconds = 0.0
    finished: Seconds = 0.0
    timed: bool = False
    final: bool = True


class Heartbeat(Message, tag="heartbeat"):
    """These workers (tokens) are alive, says their host. A worker itself names none: it speaks for its connection."""

    tokens: tuple[str, ...] = ()


class Leave(Message, tag="leave"):
    """No further leases, please; the worker goes when its last one is settled."""

    token: str


class WorkerLost(Message, tag="lost"):
    """A host reports that its worker died, and how far it had come.

    A worker begins its leases in the order of their numbers: ``latest`` is the last one it began (None: it began none),
    ``positions`` says of each lease it was in how many tasks had started. ``known`` False: nobody can tell.
    """

    token: str
    kind: str
    reason: str
    known: bool = True
    latest: LeaseId | None = None
    positions: tuple[tuple[LeaseId, Count], ...] = ()


class WorkerFailed(Message, tag="failed"):
    """The driver cannot be set up (its function cannot be imported, say)."""

    token: str
    kind: str
    message: str
    traceback: str = ""


WorkerMessage = WorkerHello | Ready | Outcome | Heartbeat | Leave | WorkerLost | WorkerFailed


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


class Dispatch(Message, tag="dispatch"):
    """A lease: evaluate the ``n`` tasks in the frames, in order.

    An ended task may wait up to ``hold`` seconds for others to be reported with.
    """

    lease: LeaseId
    run: Count
    first: Count
    n: Count
    layout: Layout
    attempt: Count = 1
    settled: tuple[LeaseId, ...] = ()
    hold: Seconds = 0.0


class Revoke(Message, tag="revoke"):
    """Skip the tasks at these positions of a lease as far as they have not started."""

    lease: LeaseId
    intervals: tuple[Interval, ...]


class Interrupt(Message, tag="interrupt"):
    """To a host: nobody wants the tasks at positions ``low ≤ p < high`` of this lease of its worker any more.

    A worker that is still in one of them after a moment's grace is to be killed.
    """

    token: str
    lease: LeaseId
    low: int
    high: int


class Settled(Message, tag="settled"):
    """The outcomes of these leases are on disk (or not wanted any more): forget them.

    ``dispatched`` counts the dispatches of this session; a worker that got fewer says hello again.
    """

    leases: tuple[LeaseId, ...]
    dispatched: int = 0


class Goodbye(Message, tag="goodbye"):
    """Go, when your present task is done; or at once if not ``drain``."""

    reason: str = ""
    drain: bool = True


ToWorker = Welcome | Dispatch | Revoke | Settled | Goodbye | Refused
ToHost = Interrupt | Refused
