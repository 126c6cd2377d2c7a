"""What the configuration says of one Master, as far as deciding needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from taskmaster import __version__
from taskmaster.bus import messages as m
from taskmaster.bus.fields import Schema
from taskmaster.bus.messages import HeadName

__all__ = ["InterlockSpec", "MasterSpec", "MonitorSpec"]


@dataclass(frozen=True)
class InterlockSpec:
    """What the configuration says of one interlock, as far as deciding needs it."""

    name: str
    #: what follows when it trips
    action: Literal["pause", "safe", "stop"] = "safe"
    every: float = 1.0
    #: where it is polled; None: at each head, for itself
    head: str | None = None
    #: heads whose values bound this one's
    below: str | None = None
    above: str | None = None

    @property
    def for_all(self) -> bool:
        """Whether all heads depend on what it is at one."""
        return self.head is not None and self.action != "safe"

    @property
    def bounding(self) -> tuple[str, ...]:
        """The heads whose values bound others'."""
        return tuple(name for name in (self.below, self.above) if name is not None)


@dataclass(frozen=True)
class MonitorSpec:
    """A value that is recorded as it goes."""

    unit: str = ""
    #: seconds that the journal keeps it
    retention: float = 7 * 86400.0


@dataclass(frozen=True)
class MasterSpec:
    """What the configuration says of one Master, as far as deciding needs it."""

    name: str
    driver: str
    parameters: Schema
    outputs: Schema
    on_lost: str = "retry"
    max_attempts: int = 3
    max_queued_tasks: int = 10_000_000
    max_queued_bytes: int = 4 << 30
    lost_after: float = 10.0
    #: bytes of one message from a worker at most
    max_message: int = 64 << 20
    heartbeat: float = 1.0
    #: longest time in seconds that one evaluation may take, which the hosts of its workers see to; None: any
    timeout: float | None = None
    #: tasks of one lease at most; None: any number
    largest_chunk: int | None = None
    description: str = ""
    #: tasks bring their own code
    code: bool = False
    #: tasks are calls of functions by name, of these: see :mod:`taskmaster.bus.calls`
    calls: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    #: what the processes of heads get beside the daemon's own
    environment: Mapping[str, str] = field(default_factory=dict)
    #: of an instrument: what evaluates, one task at a time each
    heads: tuple[HeadName, ...] = ()
    #: what is monitored at each of them, by its name
    monitors: Mapping[str, Mapping[str, MonitorSpec]] = field(default_factory=dict)
    #: lost connections in a row, without a task done in between, that take a head out of service
    quarantine_after: int = 3
    interlocks: tuple[InterlockSpec, ...] = ()

    #: whether tasks wait until somebody approves them
    approval: bool = False
    #: where people evaluate: how many tasks they may have taken at a time, 0 where others do
    people: int = 0
    #: what they are asked
    question: str = ""
    #: seconds after which a task that was taken and not answered is free again
    claim_expires: float = 1800.0

    def guardian_plan(self) -> m.GuardianPlan:
        """What a guardian of its heads has to know."""
        return m.GuardianPlan(
            self.name,
            __version__,
            self.driver,
            dict(self.options),
            dict(self.environment),
            self.parameters.fields,
            self.outputs.fields,
            tuple(head.name for head in self.heads),
            self.timeout,
            self.heartbeat,
            self.lost_after,
        )

    @property
    def deadman(self) -> float:
        """Seconds for which a head's worker goes on without the daemon."""
        return float(self.options.get("deadman") or 60.0)

    @property
    def resume_within(self) -> float:
        """Seconds of an interruption after which an evaluation goes on from its checkpoint."""
        return float(self.options.get("resume_within", 900.0))

    @property
    def resume_policy(self) -> str:
        """What becomes of it after a longer one: resume, restart, fail or ask."""
        return str(self.options.get("resume_policy", "ask"))

    @property
    def is_guarded_here(self) -> bool:
        """Whether the processes of its heads are started on this machine."""
        return bool(self.heads) and self.options.get("processes", "here") == "here"

    @property
    def outlives(self) -> bool:
        """Whether what its heads have in hand goes on while the daemon is stopped."""
        return bool(self.heads) and self.options.get("on_shutdown") == "continue"

    @property
    def repeatable(self) -> bool:
        """Whether evaluating a task twice does no harm."""
        return self.on_lost == "retry" and self.max_attempts > 1

    @property
    def units(self) -> dict[str, str]:
        """Of the monitored values, by name."""
        return {name: monitor.unit for own in self.monitors.values() for name, monitor in own.items() if monitor.unit}
