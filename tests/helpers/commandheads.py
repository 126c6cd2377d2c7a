"""Heads of commands for the simulated laboratory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments import CommandHead, HeadContext
from taskmaster.drivers.simulated import HeadAddress

__all__ = ["PROBE", "WAYS", "probe_head", "resource"]

#: How a head is reached: by PyVISA over a socket or a serial line, by pyserial.
WAYS = ("socket", "visa-tty", "tty")
OUTPUTS = Schema([Field(name="current", kind="float", unit="A")], "stm", "output")
#: The commands of a probe's head, as the first issue of instruments has them.
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
