"""What the Masters of the system tests evaluate. Imported by worker processes, not by tests."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np


def square(point: dict[str, float]) -> float:
    """One declared parameter ``x``, one output."""
    return point["x"] ** 2


def square_or_raise(point: dict[str, float]) -> float:
    """The same, but for large numbers."""
    x = point["x"]
    if abs(x) > 1e6:
        raise ValueError(f"{x} is too large")
    return x * x


def square_or_raise_slowly(point: dict[str, float]) -> float:
    """The same, so slowly that there is time to be killed in it."""
    time.sleep(0.001)
    return square_or_raise(point)


def echo(point: Any) -> Any:
    """Return whatever was sent."""
    return point


def wait(point: dict[str, float]) -> float:
    """Take as long as it says, in seconds."""
    time.sleep(point["seconds"])
    return point["seconds"]


def train(point: dict[str, Any]) -> Generator[Any, None, dict[str, Any]]:
    """So many epochs, or without an end; says in a file how that came."""
    how, loss = "ended", 1.0
    try:
        for epoch in range(point["epochs"]) if point["epochs"] else itertools.count():
            time.sleep(point["seconds"])
            loss *= 0.5
            yield {"epoch": epoch, "loss": loss}
        return {"loss": loss, "pid": os.getpid()}
    except GeneratorExit:
        how = "broken off"
        raise
    finally:
        if point["file"]:
            Path(point["file"]).write_text(how)


def train_by_name(epochs: int, seconds: float, file: str) -> Any:
    """The same, of keywords; it returns a generator, and is none itself."""
    return train({"epochs": epochs, "seconds": seconds, "file": file})


def stall(point: Any) -> Generator[int, None, None]:
    """It has begun, and never comes to its next step."""
    yield 1
    time.sleep(1e6)


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
    _append(f"{json.dumps(point)}\n")
    return point


def note_and_work(point: int) -> int:
    """The same with the time, and some milliseconds left in which to be killed before it returns."""
    _append(f"{point} {time.monotonic()}\n")
    time.sleep(0.003)
    return point


def note_many(points: Any) -> Any:
    """The same for many points at once."""
    now = time.monotonic()
    _append("".join(f"{point} {now}\n" for point in points))
    return points


def _append(text: str) -> None:
    descriptor = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def allocate(megabytes: int) -> int:
    """Need that much memory, for real."""
    return len(bytearray(megabytes << 20))


def pid(point: Any) -> int:
    """Which process this is evaluated in."""
    return os.getpid()


def ended_child(point: Any) -> int:
    """Fork a process, as `multiprocessing` does, and send it SIGTERM; returns the signal that has ended it."""
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    os.kill(child, signal.SIGTERM)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


class Unfit:
    """What no message can carry."""


class Odd(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words for it")


def complain(point: Any) -> Any:
    """Raise an error with more to say than most."""
    raise ValueError(f"nothing to be done about {point}: " + "." * 1500)


def behave(how: Any) -> Any:
    """Return, or raise, as ``how`` asks."""
    if isinstance(how, dict):
        how = how["how"]
    return _WAYS[how]() if how in _WAYS else float(how)


def _raise(error: BaseException) -> Any:
    raise error


_WAYS: dict[str, Callable[[], Any]] = {
    "raise": lambda: _raise(ValueError("the sample is gone")),
    "raise odd": lambda: _raise(Odd()),
    "raise long": lambda: _raise(ValueError("long " * 100_000)),
    "exit": lambda: sys.exit("I would rather go"),
    "recurse": lambda: behave("recurse"),
    "unfit": Unfit,
    "unfit inside": lambda: {"deep": [Unfit()]},
    "nothing": lambda: None,
    "nan": lambda: math.nan,
    "text": lambda: "text",
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "picture": lambda: {"picture": np.ones((2, 3)), "count": 3},
    "flat picture": lambda: {"picture": np.ones(6), "count": 3},
    "no count": lambda: {"picture": np.ones((2, 3))},
    "half a count": lambda: {"picture": np.ones((2, 3)), "count": 0.5},
    "one too many": lambda: {"picture": np.ones((2, 3)), "count": 3, "time": 1.0},
}


def die(point: Any) -> Any:
    """End the process, if asked to."""
    if point == "die":
        os._exit(1)
    return point


def zeros(n: int) -> bytes:
    """That many bytes; fewer than none raises, with as long a message."""
    return bytes(n) if n >= 0 else _raise(ValueError("x" * -n))


def many_zeros(points: Any) -> list[bytes]:
    """The same for many at once."""
    return [zeros(n) for n in points]


def doomed() -> None:
    """A set-up that leaves something behind which ends the process when that is at work already."""
    threading.Timer(0.05, os._exit, (7,)).start()


def hypotenuse(a: float, b: float) -> float:
    """Two keyword arguments."""
    return math.hypot(a, b)


def roots(columns: dict[str, Any]) -> Any:
    """Many points at once; raises if one is negative."""
    x = columns["x"]
    if (x < 0).any():
        raise ValueError(f"{x.min()} has no root")
    return np.sqrt(x)


def lengths(points: Any) -> list[int]:
    """Many points of any form at once; one result too few for points that say so."""
    return [len(point) for point in points if point != "skip"]


_together = threading.Barrier(4)


def meet(point: Any) -> int:
    """Return only when four evaluations are here at the same time."""
    _together.wait(timeout=20)
    return threading.get_ident()


def _mark(what: str) -> None:
    with open(os.environ["MARKS"], "a") as file:
        file.write(f"{what} {os.getpid()}\n")


def mark_setup() -> None:
    """Leave a mark."""
    _mark("setup")


def mark_teardown() -> None:
    """Leave another."""
    _mark("teardown")


def marks(point: Any) -> list[str]:
    """What this process has left."""
    return [
        line.split()[0]
        for line in Path(os.environ["MARKS"]).read_text().splitlines()
        if line.endswith(str(os.getpid()))
    ]


def set_up() -> None:
    """Fail as long as the file that ``BROKEN`` names exists: as it says."""
    broken = Path(os.environ["BROKEN"])
    if not broken.exists():
        return
    how = broken.read_text()
    if how == "segfault":
        ctypes.string_at(0)
    raise OSError(how)


def plane(point: dict[str, float]) -> float:
    """Two declared parameters ``x`` and ``y``, one output."""
    return point["x"] + point["y"]


def spectrum(point: dict[str, float]) -> dict[str, Any]:
    """A number, and an array."""
    if point["x"] < 0:
        raise ValueError(f'{point["x"]} is negative, and that is "bad"')
    return {"peak": point["x"] ** 2, "trace": np.linspace(0.0, point["x"], 3)}


def height_and_cost(point: dict[str, float]) -> dict[str, float]:
    """Two outputs, of which there is none of the first above 0.9."""
    x = point["x"] / 10
    return {"height": x if x <= 0.9 else float("nan"), "cost": x * x}


def peak(point: float | tuple[float, ...]) -> float:
    """A narrow peak at the origin, in any number of dimensions."""
    r2 = float(np.sum(np.square(point)))
    return 0.01 / (0.01 + r2)


def doubled_array(point: dict[str, Any]) -> dict[str, Any]:
    """Of a large array the double, and whether that array lies in memory that is shared with the daemon."""
    array = point["array"]
    with open("/proc/self/maps", encoding="ascii") as maps:
        spans = [line.split()[0].split("-") for line in maps if "memfd:taskmaster" in line]
    where = array.__array_interface__["data"][0]
    shared = any(int(low, 16) <= where < int(high, 16) for low, high in spans)
    time.sleep(point["seconds"])
    return {"array": array * 2, "shared": shared}
