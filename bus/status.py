"""What the daemon tells about itself: frozen records that ``status``, ``top`` and metrics read."""

from __future__ import annotations

from typing import Any

import msgspec

from taskmaster.bus.wire import Count, Name, Scalar, Seconds, Where

__all__ = [
    "AlarmInfo",
    "AuditEntry",
    "DaemonStatus",
    "DeviceStatus",
    "HeadInfo",
    "HeadTask",
    "HeadValue",
    "HeldTask",
    "MasterStatus",
    "ProposedTask",
    "RequestInfo",
    "RunInfo",
    "WorkerStatus",
    "WriterInfo",
]


class _Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    pass


class AlarmInfo(_Record, frozen=True):
    """One alarm that stands."""

    #: what sort of trouble it is; see `docs/operations.md`
    kind: str
    #: ``warning``, ``error`` or ``critical``
    level: str
    #: the Master, run or thing it is about
    subject: str
    message: str
    #: since when it stands, seconds since 1970
    since: float
    #: which part of the subject, such as a head; empty: all of it
    about: str = ""


class AuditEntry(_Record, frozen=True):
    """Something that an operator or admin has done, or that somebody was refused, as it is on record."""

    #: its number: contiguous, and never given again
    entry: int
    #: seconds since 1970
    time: float
    #: the name of their key; ``local`` on the daemon's own machine; empty: the daemon did it by itself
    user: str
    #: that of the key; ``daemon`` where it did it by itself; empty where the key is not in force any more
    role: str
    #: from where: a network address, or user and process of the daemon's own machine
    origin: str
    #: the kind of the message; see `docs/security.md`
    what: str
    #: the Master that it was about; empty: none, or all
    master: str = ""
    #: what else was said, such as ``run`` and its ``name``, ``index``, ``reason``
    about: dict[str, Any] = {}
    #: ``done`` or ``refused``
    outcome: str = "done"
    #: why it was refused
    why: str = ""
    #: of how many such this is the last, where they came too fast for an entry each
    times: int = 1


class DeviceStatus(_Record, frozen=True):
    """What a worker says of the device that it evaluates on: how that is, and what it has done in the last second."""

    #: for people
    name: Name
    #: the share of the time in which it was evaluating; 0 to 1
    utilisation: Seconds = 0.0
    #: rows that a batch may have at present
    batch: Count = 0
    #: batches that have ended, and their rows
    batches: Count = 0
    rows: Count = 0
    #: seconds that copying rows and outputs took, and evaluating them
    copying: Seconds = 0.0
    kernel: Seconds = 0.0
    #: bytes of its memory, and those that are free; 0 where that is of no interest
    memory: Count = 0
    free: Count = 0


class WorkerStatus(_Record, frozen=True):
    """One worker."""

    #: name for people: ``svm-2`` for a local process, ``host:pid`` for one that dialled in
    name: str
    #: ``starting``, ``idle``, ``busy``, ``leaving``
    state: str
    #: tasks it can evaluate at a time
    slots: int = 1
    #: process id, on its own machine
    pid: int = 0
    #: tasks granted to it and not settled
    leased: int = 0
    #: tasks it has ended
    tasks: int = 0
    #: seconds since it was welcomed
    age: float = 0.0
    #: True where the daemon started it
    local: bool = False
    #: of the driver `gpu`: on what it evaluates
    device: DeviceStatus | None = None


class HeadTask(_Record, frozen=True):
    """What a head is evaluating, and what that has last told of itself."""

    #: number and name of the run
    run: int
    name: str
    #: number of the task in its run
    index: int
    attempt: int = 1
    #: since when it has the task, seconds since 1970
    since: float = 0.0
    #: the latest progress, and of when that is; empty as long as there is none
    progress: dict[str, Scalar] = {}
    time: float = 0.0


class HeadValue(_Record, frozen=True):
    """The latest of a monitored value."""

    #: None: it could not be had
    value: Scalar
    #: seconds since 1970
    time: float
    unit: str = ""


class HeadInfo(_Record, frozen=True):
    """One head of an instrument."""

    master: str
    head: str
    #: ``away`` (no worker has it), ``connecting``, ``faulty``, ``ready``, ``busy``, ``parked`` (a task of it is in
    #: doubt), ``tripped`` (an interlock keeps it safe), ``out`` (taken out by hand), ``quarantined``, ``stopped``,
    #: ``unsafe`` (it cannot be brought to its safe state)
    state: str
    #: why, where the state is not a good one
    reason: str = ""
    #: what the instrument says it is
    identity: str = ""
    #: since when the state is what it is, seconds since 1970
    since: float = 0.0
    #: whether it has been brought to its safe state and stays there
    safe: bool = False
    #: tasks that it has ended, ever, and the seconds they took
    tasks: int = 0
    busy: float = 0.0
    #: tasks in doubt that it had: (number of the run, index)
    doubts: tuple[tuple[int, int], ...] = ()
    capabilities: tuple[str, ...] = ()
    #: process id of its worker
    pid: int = 0
    #: what it is evaluating
    task: HeadTask | None = None
    #: the latest monitored values, by name
    values: dict[str, HeadValue] = {}
    #: seconds that it has had a worker since the daemon started
    attended: float = 0.0
    #: the share of these, within the last hour, in which it was evaluating; 0 to 1
    utilisation: float = 0.0
    #: whether it has a safe state at all: of an instrument that does nothing to anybody, none is declared
    has_safe_state: bool = True
    #: the last thing that went wrong with it or a task of it, and when that was first said, seconds since 1970
    last_error: str = ""
    last_error_time: float = 0.0


class MasterStatus(_Record, frozen=True):
    """One Master."""

    name: str
    driver: str
    #: ``ready``, ``starting``, ``paused``, ``no workers``, ``crash loop``; ``waiting for people``; ``degraded`` (some
    #: of its devices cannot be used, it goes on with the others); of an instrument also ``no heads`` (none can evaluate
    #: at present) and ``stopped``
    state: str
    #: why, where the state is not a good one
    reason: str = ""
    #: evaluations at a time, over all workers; or requests that people may have taken
    slots: int = 0
    #: tasks waiting for a lease
    queued: int = 0
    #: tasks leased to workers, or taken by people
    leased: int = 0
    #: tasks in doubt
    held: int = 0
    #: tasks ended since the daemon started, by outcome
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    #: workers lost since the daemon started
    lost: int = 0
    #: bytes of inputs waiting in memory
    queued_bytes: int = 0
    #: mean seconds of one evaluation, exponentially weighted; 0 before the first
    task_seconds: float = 0.0
    #: open runs
    runs: int = 0
    workers: tuple[WorkerStatus, ...] = ()
    #: workers that are there beside these, where they are too many for one message
    unlisted: int = 0
    #: worker processes of the daemon's own that are about to be ready
    starting: int = 0
    #: tasks waiting for approval
    proposed: int = 0
    #: tasks waiting for heads none of which works at present, though others may; and what the most of them ask for
    unserved: int = 0
    unserved_where: Where | None = None


class JournalStatus(_Record, frozen=True):
    """The journal."""

    path: str
    durability: str
    #: ``ok``, ``full``
    state: str = "ok"
    #: bytes of database and write-ahead log
    size: int = 0
    #: bytes free on its file system
    free: int = 0
    #: transactions since the daemon started
    commits: int = 0
    #: median and 99th percentile of the last commits, in seconds
    commit_p50: float = 0.0
    commit_p99: float = 0.0
    #: seconds that all of them took together
    commit_seconds: float = 0.0
    #: bytes of the database that hold nothing any more, and are used before it grows
    unused: int = 0


class DaemonStatus(_Record, frozen=True):
    """The daemon."""

    name: str
    version: str
    epoch: int
    pid: int
    #: seconds since it was ready
    uptime: float
    #: resident memory in bytes
    memory: int
    journal: JournalStatus
    masters: tuple[MasterStatus, ...] = ()
    #: messages dropped because they did not fit the protocol
    dropped: int = 0
    #: turns of the broker loop
    turns: int = 0
    #: points of progress and monitored values recorded since it was ready
    points: int = 0
    #: such points that were dropped: too many, or not as they should be
    points_dropped: int = 0
    #: alarms that stand
    alarms: int = 0
    #: keys in force; None: the daemon has none, and listens to its own machine only
    keys: int | None = None
    #: connections over the network that were refused, and messages of keys that were in force when their owner came
    refused: int = 0
    strangers: int = 0


class RunInfo(_Record, frozen=True):
    """One run."""

    run: int
    master: str
    name: str
    #: seconds since 1970
    created: float
    tasks: int
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    held: int = 0
    events: int = 0
    closed: bool = False
    paused: bool = False
    priority: int = 0
    seed: int = 0
    metadata: dict[str, str] = {}
    #: tasks waiting for approval
    proposed: int = 0
    #: who made it: the name of their key, ``local`` on the daemon's own machine
    user: str = ""


class WriterInfo(_Record, frozen=True):
    """Somebody who has opened a run for writing."""

    #: his number; those of a run that it was forked from come first, with the numbers that they had there
    writer: int
    #: number of the first task that he may have put: how many there were
    first: int
    user: str
    #: seconds since 1970
    time: float
    #: what he said of himself: of a Loop its learner, where that is not as recorded with the run
    metadata: dict[str, str] = {}
    #: the run was forked from the one that he wrote to
    forked: bool = False


class HeldTask(_Record, frozen=True):
    """One task in doubt."""

    run: int
    master: str
    #: the run's
    name: str
    #: number of the task in its run
    index: int
    #: which evaluation of it was lost, from 1
    attempt: int
    #: who had it
    worker: str
    #: seconds since 1970
    since: float
    #: how its worker was lost
    reason: str
    #: what was to be evaluated; None where that is left out
    input: Any = None
    #: True where the input has no room in a list: it is with the run's events
    input_omitted: bool = False


class RequestInfo(_Record, frozen=True):
    """One task that waits for a person's answer."""

    run: int
    master: str
    #: the run's
    name: str
    #: number of the task in its run
    index: int
    #: when it was put, seconds since 1970; 0 where it is not listed but taken
    since: float
    #: what is to be evaluated; None where that is left out
    input: Any = None
    #: True where the input has no room in a list: it is with the run's events
    input_omitted: bool = False
    #: who has taken it; empty: nobody has
    claimed: str = ""
    #: when it is free again, seconds since 1970
    until: float = 0.0
    #: what it was taken under, told to whoever has
    claim: str = ""


class ProposedTask(_Record, frozen=True):
    """One task that waits for approval."""

    run: int
    master: str
    #: the run's
    name: str
    #: number of the task in its run
    index: int
    #: when it was put, seconds since 1970
    since: float
    #: what is to be evaluated, as it was edited last; None where that is left out
    input: Any = None
    #: True where the input has no room in a list
    input_omitted: bool = False
    #: how often it was edited, and by whom last
    edits: int = 0
    edited_by: str = ""
