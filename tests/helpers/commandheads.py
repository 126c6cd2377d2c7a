"""Heads of commands for the simulated laboratory, what they have told it, and how to stop one in the midst of that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from helpers.waiting import eventually
from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments import CommandHead, HeadContext
from taskmaster.drivers.instruments.errors import Stopped
from taskmaster.drivers.simulated import HeadAddress, Laboratory

__all__ = [
    "AT_ONCE",
    "LONG",
    "PROBE",
    "TIP",
    "WAYS",
    "Counted",
    "at",
    "probe_head",
    "resource",
    "stopped_when",
    "truth",
]

TIP = "tip-1"
#: Seconds within which a stop must have taken effect, on a machine that does much else; benchmarks tell how fast it is.
AT_ONCE = 0.5
#: Seconds that no test would take.
LONG = 20.0
#: How a head is reached: by PyVISA over a socket or a serial line, by pyserial.
WAYS = ("socket", "visa-tty", "tty")
OUTPUTS = Schema([Field(name="current", kind="float", unit="A")], "stm", "output")
#: The commands of a probe's head.
PROBE: Mapping[str, Any] = {
    "open": ("*CLS", "TIP:APPR"),
    "set": ("BIAS {bias:.4f}", "POS {x:.3f},{y:.3f}"),
    "wait": {"query": "*OPC?", "until": "1", "timeout": 10.0},
    "read": {"current": "MEAS:CURR?"},
    "safe": ("BIAS 0", "TIP:WITHDRAW"),
    "errors": {"query": "SYST:ERR?", "ok": "0,.*"},
}


def resource(address: HeadAddress, way: str) -> str:
    """The resource of a head by one of the :data:`WAYS`."""
    of = {"socket": address.resource, "visa-tty": address.pty_resource, "tty": address.pty}[way]
    assert of is not None
    return of


@contextmanager
def probe_head(
    address: HeadAddress,
    way: str = "socket",
    *,
    commands: Mapping[str, Any] | None = None,
    on_acting: Callable[[], None] = lambda: None,
    outputs: Schema = OUTPUTS,
    **options: Any,
) -> Iterator[CommandHead]:
    """A head of the probe, not yet open; ``commands`` and ``options`` go over the usual ones."""
    table = {
        "resource": resource(address, way),
        "identity": f"ACME,STM-HEAD,{int(address.name[4:]):04d},.*",
        "query_timeout": 0.3,
        **options,
        "commands": {**PROBE, **(commands or {})},
    }
    context = HeadContext(
        name=address.name, master="stm", options=table, outputs=outputs, on_acting=on_acting, stopping=threading.Event()
    )
    head = CommandHead(context)
    try:
        yield head
    finally:
        head.close()


class Counted:
    """What a head has been told since now."""

    def __init__(self, probe: Laboratory, head: str = TIP) -> None:
        self._control, self._head = probe.control, head
        self._before = self._control.actions(head)
        self._connected = self._control.statistics(head)["connected"]

    def __getitem__(self, command: str) -> int:
        return self._control.actions(self._head).counts.get(command, 0) - self._before.counts.get(command, 0)

    def sets(self, command: str) -> list[tuple[float, ...]]:
        """The arguments of a command, each time."""
        actions = self._control.actions(self._head, len(self._before.actions) + self._before.forgotten).actions
        return [action.arguments for action in actions if action.command == command]

    @property
    def connections(self) -> int:
        return self._control.statistics(self._head)["connected"] - self._connected


def at(x: float, y: float = 50.0, bias: float = 0.5) -> dict[str, float]:
    """A point."""
    return {"x": x, "y": y, "bias": bias}


def truth(probe: Laboratory, head: CommandHead, x: float) -> bool:
    """Evaluated anew, a point has the current that flows there."""
    head.begin_task()
    return bool(np.isclose(head.evaluate(at(x))["current"], probe.control.truth(TIP)["current"], rtol=1e-3))


def stopped_when(head: CommandHead, counted: Counted, command: str) -> float:
    """Evaluate, and stop when a command has arrived; returns when that was. Raises if it took too long."""
    stopped_at: list[float] = []

    def stop() -> None:
        eventually(lambda: counted[command], f"{command} has arrived")
        stopped_at.append(time.monotonic())
        head.stopping.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped):
        head.evaluate(at(100))
    assert time.monotonic() - stopped_at[0] < AT_ONCE
    stopper.join()
    return stopped_at[0]
