"""What the Masters of the system tests evaluate. Imported by worker processes, not by tests."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import time
from pathlib import Path
from typing import Any


def square(point: dict[str, float]) -> float:
    """One declared parameter ``x``, one output."""
    return point["x"] ** 2


def square_or_raise(point: dict[str, float]) -> float:
    """The same, but for large numbers."""
    x = point["x"]
    if abs(x) > 1e6:
        raise ValueError(f"{x} is too large")
    return x * x


def square_batch(columns: dict[str, Any]) -> Any:
    """The same for many points at once."""
    return columns["x"] ** 2


def echo(point: Any) -> Any:
    """Return whatever was sent."""
    return point


def wait(point: dict[str, float]) -> float:
    """Take as long as it says, in seconds."""
    time.sleep(point["seconds"])
    return point["seconds"]


def spin(point: dict[str, float]) -> float:
    """The same, with a busy processor."""
    until = time.perf_counter() + point["seconds"]
    while time.perf_counter() < until:
        pass
    return point["seconds"]


def visit(point: Any) -> Any:
    """Call the test, do as it says; see `helpers/visits.py`. Returns the point if nobody is there (any more)."""
    order = _call(point)
    if order.startswith("raise "):
        raise RuntimeError(order.removeprefix("raise "))
    if order == "segfault":
        ctypes.string_at(0)
    if order == "exit":
        os._exit(7)
    if order == "hang":
        _hang()
    return point


def visit_if_asked(point: dict[str, Any]) -> Any:
    """Of the points, only those that say so."""
    return visit(point) if point["visit"] else point


def _call(point: Any) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ["VISITS"])
        except (FileNotFoundError, ConnectionRefusedError):
            return ""
        connection.sendall(json.dumps({"pid": os.getpid(), "point": point}).encode() + b"\n")
        return connection.recv(4096).decode()


def _hang() -> None:
    while True:
        time.sleep(3600)


def note(point: Any) -> Any:
    """Write down that the point is being evaluated, in one write to the end of a file that survives everything."""
    descriptor = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{json.dumps(point)}\n".encode())
    finally:
        os.close(descriptor)
    return point


def allocate(megabytes: int) -> int:
    """Need that much memory, for real."""
    return len(bytearray(megabytes << 20))


def pid(point: Any) -> int:
    """Which process this is evaluated in."""
    return os.getpid()


def set_up() -> None:
    """Fail as long as the file that ``BROKEN`` names exists."""
    broken = Path(os.environ["BROKEN"])
    if broken.exists():
        raise OSError(f"the instrument says: {broken.read_text()}")
