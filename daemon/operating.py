"""What a daemon does for those who keep it running: alarms that stand, and the program that hears of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taskmaster.daemon.broker import Broker
from taskmaster.daemon.conditions import ClockWatch, disk_condition, master_conditions
from taskmaster.daemon.hook import AlarmHook

__all__ = ["Operations", "operated"]


@dataclass(frozen=True)
class Operations:
    """What the configuration says of it."""

    #: the program that is run for each alarm, and what it may take
    alarm_command: Sequence[str] = ()
    alarm_timeout: float = 30.0
    #: bytes that are to be free on the disk; None: as many as are kept back
    disk_low: int | None = None


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
    with contextlib.ExitStack() as stack:
        if plan.alarm_command:
            hook = AlarmHook(plan.alarm_command, plan.alarm_timeout, name, umask)
            stack.callback(hook.close)
            broker.on_alarm = hook
        yield
