"""How ``status`` and ``top`` show a daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from taskmaster.bus.status import DaemonStatus, MasterStatus
from taskmaster.bus.text import count, format_duration, format_size
from taskmaster.cli.output import Cell, Table, duration

__all__ = ["Rates", "devices_table", "facts", "masters_table", "rate_text", "troubles", "workers_table"]

_STYLES = {
    "ready": "green",
    "busy": "green",
    "idle": "",
    "starting": "yellow",
    "leaving": "yellow",
    "paused": "yellow",
    "degraded": "bold yellow",
    "waiting for people": "yellow",
    "absent": "yellow",
    "no workers": "bold red",
    "no heads": "bold red",
    "stopped": "bold red",
    "crash loop": "bold red",
}
#: How the reason of a state is put, and what is to be done.
_WHY = {"stopped": "stopped {}", "paused": "paused {}", "no heads": "no head works: {}"}
_AGAIN = {
    "paused": "; when it may go on: taskmaster resume {}",
    "no heads": "; see taskmaster heads {}",
    "crash loop": "; when that is mended: taskmaster resume {}",
    "stopped": "; when it may go on: taskmaster reset {}",
}
#: How much the latest interval counts in a rate: it follows a change soon, and is steady enough to read.
_SMOOTHING = 0.5


@dataclass
class Rates:
    """Tasks a second, of each Master and worker, from one look at the daemon to the next."""

    masters: dict[str, float] = field(default_factory=dict)
    workers: dict[str, float] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _at: float = 0.0

    def look(self, status: DaemonStatus, now: float) -> None:
        """Take what the daemon said at ``now`` (seconds, monotonic) into account."""
        elapsed, self._at = now - self._at, now
        counts: dict[str, int] = {}
        for master in status.masters:
            counts[master.name] = master.done + master.failed
            self._update(self.masters, master.name, counts, elapsed)
            for worker in master.workers:
                key = f"{master.name}/{worker.name}"
                counts[key] = worker.tasks
                self._update(self.workers, key, counts, elapsed)
        for rates in (self.masters, self.workers):
            for key in rates.keys() - counts.keys():
                del rates[key]
        self._counts = counts

    def _update(self, rates: dict[str, float], key: str, counts: Mapping[str, int], elapsed: float) -> None:
        before = self._counts.get(key)
        if before is None or elapsed <= 0:
            return
        rate = max(0, counts[key] - before) / elapsed
        known = rates.get(key)
        rates[key] = rate if known is None else known + _SMOOTHING * (rate - known)


def facts(status: DaemonStatus, address: str) -> list[str]:
    """Who the daemon is, and how its journal is: lines that fit on a terminal of 80 columns."""
    journal = status.journal
    figures = [f"{format_size(journal.size)}, {format_size(journal.free)} free, durability {journal.durability}"]
    if journal.state == "full":
        figures.insert(0, "FULL: no submissions are taken until there is room")
    if journal.commit_p50:
        figures.append(f"commits {format_duration(journal.commit_p50)} (99 %: {format_duration(journal.commit_p99)})")
    return [
        (
            f"daemon   {status.name}, TaskMaster {status.version}, process {status.pid}, "
            f"up {format_duration(status.uptime)}, {format_size(status.memory)}"
        ),
        f"address  {address}",
        f"journal  {journal.path}",
        f"         {', '.join(figures)}",
    ]


def _state(state: str) -> Cell:
    return Cell(state, _STYLES.get(state, ""))


def masters_table(masters: Sequence[MasterStatus], rates: Rates | None = None) -> Table:
    """A row for each Master; with ``rates``, how many tasks a second it does."""
    headings = ["master", "state", ">slots", ">queued", ">running", ">done", ">failed", ">a task"]
    if rates is not None:
        headings.insert(5, ">tasks/s")
    table = Table(headings, [], ("master",), ("a task", "slots", "running", "done"))
    for master in masters:
        row: list[str | Cell] = [
            master.name,
            _state(master.state),
            str(master.slots),
            str(master.queued),
            str(master.leased),
            str(master.done),
            Cell(str(master.failed), "red" if master.failed else ""),
            duration(master.task_seconds),
        ]
        if rates is not None:
            row.insert(5, rate_text(rates.masters.get(master.name)))
        table.rows.append(row)
    return table


def workers_table(masters: Sequence[MasterStatus], rates: Rates | None = None) -> Table:
    """A row for each worker of these Masters."""
    headings = ["master", "worker", "state", ">slots", ">running", ">done", ">here for"]
    if rates is not None:
        headings.insert(5, ">tasks/s")
    table = Table(headings, [], ("worker", "master"), ("here for", "slots", "running", "done"))
    for master in masters:
        for worker in master.workers:
            row: list[str | Cell] = [
                master.name,
                worker.name,
                _state(worker.state),
                str(worker.slots),
                str(worker.leased),
                str(worker.tasks),
                duration(worker.age),
            ]
            if rates is not None:
                row.insert(5, rate_text(rates.workers.get(f"{master.name}/{worker.name}")))
            table.rows.append(row)
        if master.unlisted:
            table.rows.append([master.name, f"… and {master.unlisted} more", *[""] * (len(headings) - 2)])
    return table


def devices_table(masters: Sequence[MasterStatus]) -> Table:
    """A row for each device that a worker of these Masters evaluates on: what it has done in the latest second."""
    headings = ["master", "worker", "device", ">busy", ">batch", ">batches", ">rows", ">kernel", ">copies", ">memory"]
    table = Table(headings, [], ("device", "worker", "master"), ("copies", "batches", "memory"))
    for master in masters:
        for worker in master.workers:
            device = worker.device
            if device is None:
                continue
            used = f"{format_size(device.memory - device.free)} of {format_size(device.memory)}"
            table.rows.append(
                [
                    master.name,
                    worker.name,
                    device.name,
                    f"{device.utilisation:.0%}",
                    str(device.batch),
                    str(device.batches),
                    str(device.rows),
                    duration(device.kernel),
                    duration(device.copying),
                    used if device.memory else "–",
                ]
            )
    return table


def rate_text(rate: float | None) -> str:
    """Tasks a second in a few characters."""
    if rate is None:
        return "–"
    return f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def unserved_text(master: MasterStatus) -> str:
    """That tasks of a Master wait for heads that do not work."""
    where = master.unserved_where
    asked = (
        ((f"head {where.head!r}", where.head), (f"capability {where.capability!r}", where.capability)) if where else ()
    )
    wanted = " and ".join(text for text, name in asked if name)
    wait = count(master.unserved, "task waits", "tasks wait")
    return (
        f"Master {master.name!r}: {wait} for heads that do not work at present ({wanted}): taskmaster heads "
        f"{master.name}"
    )


def troubles(status: DaemonStatus) -> list[str]:
    """What somebody should see to."""
    lines = [
        f"Master {master.name!r}: {_WHY.get(master.state, '{}').format(master.reason).rstrip()}"
        + _AGAIN.get(master.state, "").format(master.name)
        for master in status.masters
        if master.reason or master.state == "paused"
    ]
    lines += [
        f"Master {master.name!r}: {count(master.held, 'task is', 'tasks are')} in doubt: taskmaster held {master.name}"
        for master in status.masters
        if master.held
    ]
    lines += [unserved_text(master) for master in status.masters if master.unserved and master.state == "ready"]
    lines += [
        f"Master {master.name!r}: {count(master.proposed, 'task waits', 'tasks wait')} for approval: taskmaster "
        f"proposed {master.name}"
        for master in status.masters
        if master.proposed
    ]
    lines += [
        f"Master {master.name!r}: {count(master.queued, 'request waits', 'requests wait')} for people: taskmaster "
        f"answer {master.name}"
        for master in status.masters
        if master.state == "waiting for people" and master.queued
    ]
    if status.alarms:
        lines.append(f"{count(status.alarms, 'alarm stands', 'alarms stand')}: taskmaster alarms")
    return lines
