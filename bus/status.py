"""What the daemon tells about itself: frozen records that ``status``, ``top`` and metrics read."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["DaemonStatus", "HeadInfo", "HeldTask", "MasterStatus", "RunInfo", "WorkerStatus"]


class _Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    pass


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
    #: tasks that it has ended since the daemon started, and the seconds they took
    tasks: int = 0
    busy: float = 0.0
    #: tasks in doubt that it had: (number of the run, index)
    doubts: tuple[tuple[int, int], ...] = ()
    capabilities: tuple[str, ...] = ()
    #: process id of its worker
    pid: int = 0


class MasterStatus(_Record, frozen=True):
    """One Master."""

    name: str
    driver: str
    #: ``ready``, ``starting``, ``paused``, ``no workers``, ``crash loop``
    state: str
    #: why, where the state is not a good one
    reason: str = ""
    #: evaluations at a time, over all workers
    slots: int = 0
    #: tasks waiting for a lease
    queued: int = 0
    #: tasks leased to workers
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
    #: worker processes of the daemon's own that are about to be ready
    starting: int = 0


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
