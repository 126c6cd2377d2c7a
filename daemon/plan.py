"""From the configuration to what the daemon runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskmaster.bus.fields import Schema
from taskmaster.bus.messages import HeadName
from taskmaster.config.gpu import GpuOptions
from taskmaster.config.heads import has_safe_state, heads_of
from taskmaster.config.instruments import HumanOptions, InstrumentOptions
from taskmaster.config.load import Config
from taskmaster.config.options import DriverOptions
from taskmaster.config.settings import DaemonSettings, MasterSettings
from taskmaster.daemon.devices import DeviceChoice
from taskmaster.daemon.operating import Operations
from taskmaster.daemon.retention import Retention
from taskmaster.daemon.service import DaemonPlan, MasterPlan, options_for_wire
from taskmaster.daemon.spec import InterlockSpec, MasterSpec, MonitorSpec

__all__ = ["plan", "retention"]

#: Keys of function drivers that are the daemon's business, not the worker's.
_SUPERVISION = ("workers", "env", "restarts", "restart_window", "devices")


def plan(config: Config) -> DaemonPlan:
    """What :func:`~taskmaster.daemon.service.serve` does for a configuration."""
    daemon = config.daemon
    addresses = daemon.addresses
    return DaemonPlan(
        name=daemon.name,
        state=daemon.state,
        control=addresses.control,
        results=addresses.results,
        workers=addresses.workers,
        masters=tuple(_master(master, daemon) for master in config.masters.values()),
        durability=daemon.durability,
        max_message=daemon.max_message,
        keep_free=daemon.keep_free,
        grace=daemon.grace,
        operations=_operations(config),
        group=daemon.group,
        keys=daemon.keys,
        key=daemon.own_key,
        max_rate=daemon.max_rate,
        max_connections=daemon.max_connections,
    )


def _operations(config: Config) -> Operations:
    alarms = config.alarms
    return Operations(
        alarms.command or (),
        alarms.timeout,
        alarms.disk_low,
        config.metrics.listen,
        retention(config),
        config.retention.audit,
    )


def retention(config: Config) -> Retention:
    """How long closed runs are kept."""
    rules = config.retention
    folder = str(rules.folder or config.daemon.state / "archive") if rules.archive == "parquet" else None
    return Retention(rules.closed, rules.size, folder, rules.every)


def _master(settings: MasterSettings, daemon: DaemonSettings) -> MasterPlan:
    options = settings.options.model_dump(by_alias=True)
    heads = heads_of(options) if isinstance(settings.options, InstrumentOptions) else ()
    people = settings.options.people if isinstance(settings.options, HumanOptions) else 0
    spec = MasterSpec(
        name=settings.name,
        driver=settings.driver,
        parameters=Schema(settings.parameter_fields, settings.name),
        outputs=Schema(settings.output_fields, settings.name, "output"),
        on_lost=settings.on_lost,
        max_attempts=settings.max_attempts,
        max_queued_tasks=settings.max_queued_tasks,
        max_queued_bytes=settings.max_queued_bytes,
        lost_after=daemon.lost_after,
        max_message=daemon.max_message,
        heartbeat=daemon.heartbeat,
        timeout=settings.timeout,
        largest_chunk=options.get("recycle_after"),  # or a process would evaluate many more than that
        description=settings.description,
        code=bool(options.get("code")),
        calls=tuple(options.get("calls") or ()),
        options=options_for_wire(_for_driver(options)),
        environment=options.get("env", {}) if heads else {},
        heads=tuple(HeadName(str(head["name"]), tuple(head["capabilities"]), has_safe_state(head)) for head in heads),
        monitors={str(head["name"]): _monitors(head) for head in heads},
        quarantine_after=int(options.get("quarantine_after", 3)),
        interlocks=tuple(
            InterlockSpec(name, table["action"], table["every"], table["head"], table["below"], table["above"])
            for name, table in (options.get("interlocks") or {}).items()
        ),
        approval=settings.approval,
        people=people,
        question=options.get("question", "") if people else "",
        claim_expires=float(options.get("claim_expires", 1800.0)),
    )
    return MasterPlan(
        spec=spec,
        workers=0 if heads or people else int(options.get("workers", 1)),
        environment=options.get("env", {}),
        restarts=int(options.get("restarts", 5)),
        restart_window=float(options.get("restart_window", 60.0)),
        devices=_devices(settings.options),
    )


def _devices(options: DriverOptions) -> DeviceChoice | None:
    """Which devices get a worker each; None where workers have none."""
    return DeviceChoice(options.places, options.device == "cuda") if isinstance(options, GpuOptions) else None


def _for_driver(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the driver gets of its keys; how it is to call what it evaluates is one of them."""
    own = {key: value for key, value in options.items() if key not in _SUPERVISION}
    if own.pop("code", False):
        own["call"] = "task"
    elif own.get("calls"):
        own["call"] = "named"
    return own


def _monitors(head: Mapping[str, Any]) -> dict[str, MonitorSpec]:
    return {
        name: MonitorSpec(str(monitor["unit"]), float(monitor["retention"]))
        for name, monitor in head["monitor"].items()
    }
