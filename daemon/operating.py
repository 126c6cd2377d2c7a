"""What a daemon does for those who keep it running: alarms that stand, the program that hears of them, metrics."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from taskmaster.daemon.broker import Broker
from taskmaster.daemon.conditions import ClockWatch, disk_condition, gate_conditions, master_conditions
from taskmaster.daemon.health import Crews
from taskmaster.daemon.hook import AlarmHook
from taskmaster.daemon.journal.audit import AuditRetention
from taskmaster.daemon.metrics import CONTENT_TYPE, Counts, Snapshot, render
from taskmaster.daemon.pruner import Errand
from taskmaster.daemon.pruning import Pruning
from taskmaster.daemon.retention import Retention
from taskmaster.daemon.web import Page, WebServer

__all__ = ["Observer", "Operations", "operated"]

log = logging.getLogger("taskmaster.daemon")


@dataclass(frozen=True)
class Operations:
    """What the configuration says of it."""

    #: the program that is run for each alarm, and what it may take
    alarm_command: Sequence[str] = ()
    alarm_timeout: float = 30.0
    #: bytes that are to be free on the disk; None: as many as are kept back
    disk_low: int | None = None
    #: HOST:PORT of metrics and health; None: they are not served
    metrics: str | None = None
    retention: Retention = field(default_factory=Retention)
    #: seconds that the record of who has done what is kept; None: for good
    audit: float | None = None


@contextlib.contextmanager
def operated(broker: Broker, plan: Operations, name: str, keep_free: int, umask: int) -> Iterator[None]:
    """Have a broker watched over while it runs."""
    low = keep_free if plan.disk_low is None else plan.disk_low
    clock = ClockWatch(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), broker.core.identity.epoch)
    broker.alarms.sources += [
        lambda now, wall: master_conditions(broker.core),
        lambda now, wall: disk_condition(broker.space, low),
        clock.look,
    ]
    if (gatehouse := broker.gatehouse) is not None:
        broker.alarms.sources.append(lambda now, wall: gate_conditions(gatehouse, now))
    with contextlib.ExitStack() as stack:
        if plan.alarm_command:
            hook = AlarmHook(plan.alarm_command, plan.alarm_timeout, name, umask)
            stack.callback(hook.close)
            broker.on_alarm = hook
        if plan.metrics is not None:
            observer = Observer(broker)
            server = WebServer(plan.metrics, observer.page)
            stack.callback(server.close)
            log.info("metrics are at %s/metrics, health is at %s/health", server.address, server.address)
        if plan.audit is not None:
            rules = plan.audit, plan.retention.every, lambda: not broker.alarms.stands("clock_jump")
            broker.keepers.append(AuditRetention(broker.journal, *rules))
        if plan.retention:
            fields = {
                name: (master.spec.parameters.fields, master.spec.outputs.fields)
                for name, master in broker.core.masters.items()
            }
            errand = Errand(str(broker.journal.folder), plan.retention, fields)
            pruning = Pruning(broker, errand, lambda: not broker.alarms.stands("clock_jump"))
            broker.keepers.append(pruning)
            broker.alarms.sources.append(pruning.conditions)
            stack.callback(pruning.close)
        yield


class Observer:
    """What is served of a broker: its thread leaves a snapshot once a second, another one makes pages of the latest."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._crews = Crews()
        self._counts = Counts()
        self._snapshot: Snapshot | None = None
        self._rendered: tuple[Snapshot, bytes] | None = None
        broker.on_events = self._counts.note
        broker.on_tick = self.look
        self.look(time.monotonic(), time.time())

    def look(self, now: float, wall: float) -> None:
        """Once a second, in the broker's thread."""
        broker = self._broker
        status = broker.status()
        wanted: Counter[str] = Counter()
        for pool in broker.supervisor.pools.values():
            wanted[pool.master.spec.name] += pool.count
        heads = tuple(head for master in broker.core.masters.values() for head in master.heads.infos(wall))
        self._snapshot = Snapshot(status, wall, broker.alarms.infos(), heads, dict(self._counts.ended), wanted)
        disk = () if broker.space.room else (str(broker.space.error()),)
        # Not whether it answers just now: once it has not, the daemon listens to the network no more.
        door = "" if broker.gatehouse is None else broker.gatehouse.trouble
        broker.pulse.troubles = (*disk, *filter(None, [door]), *self._crews.look(status, wanted, now))

    def page(self, path: str) -> Page | None:
        """The page of a path; None if there is none."""
        if path == "/metrics":
            return Page(self._metrics(), CONTENT_TYPE)
        if path == "/health":
            reasons = self._broker.pulse.reasons(time.monotonic())
            body = json.dumps({"status": "failing" if reasons else "ok", "reasons": reasons}, ensure_ascii=False)
            status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            return Page(f"{body}\n".encode(), "application/json", status)
        return Page(b"/metrics\n/health\n") if path == "/" else None

    def _metrics(self) -> bytes:
        snapshot, rendered = self._snapshot, self._rendered
        assert snapshot is not None, "the first was made before anybody could ask"
        if rendered is None or rendered[0] is not snapshot:
            rendered = self._rendered = snapshot, render(snapshot).encode()
        return rendered[1]
