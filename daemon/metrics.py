"""Metrics for Prometheus, from the daemon's statistics: what there is, and the text in which it is told.

Everything is in base units and named by Prometheus' conventions; the format is its text format, version 0.0.4
(https://prometheus.io/docs/instrumenting/exposition_formats/). `docs/operations.md` has a table made from
:data:`METRICS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from taskmaster.bus.status import AlarmInfo, DaemonStatus, DeviceStatus, HeadInfo, MasterStatus
from taskmaster.daemon.alarms import KINDS
from taskmaster.daemon.effects import Publication

__all__ = ["CONTENT_TYPE", "METRICS", "Counts", "Metric", "Snapshot", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LEVELS = ("warning", "error", "critical")
_MASTER_STATES = (
    "ready",
    "starting",
    "paused",
    "no workers",
    "crash loop",
    "degraded",
    "waiting for people",
    "no heads",
    "stopped",
)
_HEAD_STATES = (
    "away",
    "connecting",
    "faulty",
    "ready",
    "busy",
    "parked",
    "tripped",
    "out",
    "quarantined",
    "stopped",
    "unsafe",
)
_WORKER_STATES = ("starting", "idle", "busy", "leaving", "absent")
_OUTCOMES = ("done", "failed", "cancelled")


class Counts:
    """Tasks that have ended since the daemon started, by Master and outcome. (A run takes its own along.)"""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()

    def note(self, publications: Sequence[Publication]) -> None:
        """Events that have become durable."""
        for publication in publications:
            head = publication.head
            if head.kind == "done":
                self.ended[publication.master, "done"] += head.n - len(head.errors)
                self.ended[publication.master, "failed"] += len(head.errors)
            elif head.kind == "cancelled":
                self.ended[publication.master, "cancelled"] += head.n


@dataclass(frozen=True)
class Snapshot:
    """The daemon at one moment."""

    status: DaemonStatus
    #: seconds since 1970
    wall: float
    alarms: Sequence[AlarmInfo] = ()
    heads: Sequence[HeadInfo] = ()
    ended: Mapping[tuple[str, str], int] = field(default_factory=dict)
    #: worker processes that the daemon is to keep, by Master
    wanted: Mapping[str, int] = field(default_factory=dict)


#: The values of its labels, and the value; a summary's first label is what follows its name.
Sample: TypeAlias = tuple[tuple[str, ...], float]
Read: TypeAlias = Callable[[Snapshot], Iterable[Sample]]


@dataclass(frozen=True)
class Metric:
    """One metric: its name, its type, the names of its labels, what it is, and its samples in a snapshot."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Read


def _one(read: Callable[[Snapshot], float]) -> Read:
    return lambda at: [((), read(at))]


def _each_master(read: Callable[[MasterStatus], float]) -> Read:
    return lambda at: [((master.name,), read(master)) for master in at.status.masters]


def _each_head(read: Callable[[HeadInfo], float]) -> Read:
    return lambda at: [((head.master, head.head), read(head)) for head in at.heads]


def _each_device(read: Callable[[DeviceStatus], float | None]) -> Read:
    def samples(at: Snapshot) -> Iterator[Sample]:
        for master in at.status.masters:
            for worker in master.workers:
                value = None if worker.device is None else read(worker.device)
                if worker.device is not None and value is not None:
                    yield (master.name, worker.name, worker.device.name), value

    return samples


def _alarms(at: Snapshot) -> Iterator[Sample]:
    counts = Counter((alarm.kind, alarm.level) for alarm in at.alarms)
    for kind in KINDS:
        for level in _LEVELS:
            yield (kind, level), counts[kind, level]


def _commits(at: Snapshot) -> Iterator[Sample]:
    journal = at.status.journal
    yield ("", "0.5"), journal.commit_p50
    yield ("", "0.99"), journal.commit_p99
    yield ("_sum",), journal.commit_seconds
    yield ("_count",), journal.commits


def _master_states(at: Snapshot) -> Iterator[Sample]:
    for master in at.status.masters:
        for state in _MASTER_STATES:
            yield (master.name, state), master.state == state


def _tasks(at: Snapshot) -> Iterator[Sample]:
    for master in at.status.masters:
        for state in ("queued", "leased", "held", "proposed"):
            yield (master.name, state), getattr(master, state)


def _ended(at: Snapshot) -> Iterator[Sample]:
    for master in at.status.masters:
        for outcome in _OUTCOMES:
            yield (master.name, outcome), at.ended.get((master.name, outcome), 0)


def _workers(at: Snapshot) -> Iterator[Sample]:
    for master in at.status.masters:
        counts = Counter(worker.state for worker in master.workers)
        for state in _WORKER_STATES:
            yield (master.name, state), counts[state]


def _head_states(at: Snapshot) -> Iterator[Sample]:
    for head in at.heads:
        for state in _HEAD_STATES:
            yield (head.master, head.head, state), head.state == state


#: All there are, in the order in which they are told.
METRICS: Sequence[Metric] = (
    Metric(
        "taskmaster_build_info", "gauge", "The release of the daemon; always 1.", ("version", "name"),
        lambda at: [((at.status.version, at.status.name), 1)],
    ),
    Metric(
        "taskmaster_start_time_seconds", "gauge", "When the daemon was ready, in seconds since 1970.", (),
        _one(lambda at: at.wall - at.status.uptime),
    ),
    Metric(
        "taskmaster_resident_memory_bytes", "gauge", "Resident memory of the daemon's process.", (),
        _one(lambda at: at.status.memory),
    ),
    Metric("taskmaster_loop_turns_total", "counter", "Turns of the broker loop.", (), _one(lambda at: at.status.turns)),
    Metric(
        "taskmaster_protocol_errors_total", "counter", "Messages dropped because they did not fit the protocol.", (),
        _one(lambda at: at.status.dropped),
    ),
    Metric(
        "taskmaster_series_points_total", "counter", "Points of progress and monitored values recorded.", (),
        _one(lambda at: at.status.points),
    ),
    Metric(
        "taskmaster_series_points_dropped_total", "counter", "Such points dropped: too many, or not as they should be.",
        (), _one(lambda at: at.status.points_dropped),
    ),
    Metric(
        "taskmaster_keys", "gauge", "Keys in force; without a sample where the daemon has no file of keys.", (),
        lambda at: [] if at.status.keys is None else [((), at.status.keys)],
    ),
    Metric(
        "taskmaster_connections_refused_total", "counter", "Connections over the network that no key in force was for.",
        (), _one(lambda at: at.status.refused),
    ),
    Metric(
        "taskmaster_messages_refused_total", "counter", "Messages of keys that were in force when their owner came.",
        (), _one(lambda at: at.status.strangers),
    ),
    Metric("taskmaster_alarms", "gauge", "Alarms that stand, by kind and level.", ("kind", "level"), _alarms),
    Metric(
        "taskmaster_journal_size_bytes", "gauge", "Database and write-ahead log, without payload files.", (),
        _one(lambda at: at.status.journal.size),
    ),
    Metric(
        "taskmaster_journal_unused_bytes", "gauge", "Pages of the database that hold nothing and are used next.", (),
        _one(lambda at: at.status.journal.unused),
    ),
    Metric(
        "taskmaster_journal_disk_free_bytes", "gauge", "Room left on the disk of the state directory.", (),
        _one(lambda at: at.status.journal.free),
    ),
    Metric(
        "taskmaster_journal_full", "gauge", "1 while submissions are refused for lack of room, else 0.", (),
        _one(lambda at: at.status.journal.state == "full"),
    ),
    Metric(
        "taskmaster_journal_commit_duration_seconds", "summary", "Commits; the quantiles are of the latest 1024.",
        ("quantile",), _commits,
    ),
    Metric(
        "taskmaster_master_info", "gauge", "The driver of a Master; always 1.", ("master", "driver"),
        lambda at: [((master.name, master.driver), 1) for master in at.status.masters],
    ),
    Metric(
        "taskmaster_master_state", "gauge", "1 for the state that a Master is in, 0 for the others.",
        ("master", "state"), _master_states,
    ),
    Metric(
        "taskmaster_master_slots", "gauge", "Evaluations at a time, over all workers.", ("master",),
        _each_master(lambda master: master.slots),
    ),
    Metric(
        "taskmaster_master_tasks", "gauge", "Tasks without an outcome: queued, leased, held (in doubt), proposed.",
        ("master", "state"), _tasks,
    ),
    Metric(
        "taskmaster_master_unserved_tasks", "gauge", "Queued tasks for heads none of which works, though others may.",
        ("master",), _each_master(lambda master: master.unserved),
    ),
    Metric(
        "taskmaster_master_tasks_ended_total", "counter", "Tasks ended since the daemon started, by outcome.",
        ("master", "outcome"), _ended,
    ),
    Metric(
        "taskmaster_master_queued_bytes", "gauge", "Inputs of open tasks in memory.", ("master",),
        _each_master(lambda master: master.queued_bytes),
    ),
    Metric(
        "taskmaster_master_task_duration_seconds", "gauge", "What one evaluation takes, as a moving mean; 0 at first.",
        ("master",), _each_master(lambda master: master.task_seconds),
    ),
    Metric(
        "taskmaster_master_open_runs", "gauge", "Runs that are not closed.", ("master",),
        _each_master(lambda master: master.runs),
    ),
    Metric(
        "taskmaster_master_workers", "gauge", "Workers that are connected, by state.", ("master", "state"), _workers
    ),
    Metric(
        "taskmaster_master_workers_wanted", "gauge", "Worker processes that the daemon is to keep.", ("master",),
        lambda at: [((name,), count) for name, count in at.wanted.items()],
    ),
    Metric(
        "taskmaster_master_workers_lost_total", "counter", "Workers lost since the daemon started.", ("master",),
        _each_master(lambda master: master.lost),
    ),
    Metric(
        "taskmaster_device_utilisation", "gauge", "The share of the latest second in which a device was evaluating.",
        ("master", "worker", "device"), _each_device(lambda device: device.utilisation),
    ),
    Metric(
        "taskmaster_device_batch_rows", "gauge", "Rows that a batch on a device may have at present.",
        ("master", "worker", "device"), _each_device(lambda device: device.batch),
    ),
    Metric(
        "taskmaster_device_memory_free_bytes", "gauge", "Memory of a device that is free; none where it has no own.",
        ("master", "worker", "device"), _each_device(lambda device: device.free if device.memory else None),
    ),
    Metric(
        "taskmaster_head_state", "gauge", "1 for the state that a head is in, 0 for the others.",
        ("master", "head", "state"), _head_states,
    ),
    Metric(
        "taskmaster_head_safe", "gauge", "1 while a head is known to be in its safe state, else 0.", ("master", "head"),
        _each_head(lambda head: head.safe),
    ),
    Metric(
        "taskmaster_head_tasks_total", "counter", "Tasks that a head has ended, ever.", ("master", "head"),
        _each_head(lambda head: head.tasks),
    ),
    Metric(
        "taskmaster_head_busy_seconds_total", "counter", "Seconds that these took.", ("master", "head"),
        _each_head(lambda head: head.busy),
    ),
)  # fmt: skip


def render(at: Snapshot) -> str:
    """All metrics in Prometheus' text format."""
    lines: list[str] = []
    for metric in METRICS:
        samples = list(metric.read(at))
        if not samples:
            continue
        lines += [f"# HELP {metric.name} {_escaped(metric.help)}", f"# TYPE {metric.name} {metric.kind}"]
        for values, value in samples:
            name = metric.name
            if metric.kind == "summary":
                suffix, *values = values  # type: ignore[assignment]
                name += suffix
            labels = ",".join(f'{label}="{_quoted(text)}"' for label, text in zip(metric.labels, values))
            lines.append(f"{name}{{{labels}}} {_number(value)}" if labels else f"{name} {_number(value)}")
    return "\n".join([*lines, ""])


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
