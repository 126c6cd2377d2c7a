"""Instruments of somebody who has never heard of TaskMaster, and one of somebody who has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from enum import Enum
from typing import Any, ClassVar

import numpy as np

from helpers.waiting import PATIENCE
from taskmaster.drivers.instruments import Head, HeadContext

__all__ = [
    "Channel",
    "Cold",
    "Dry",
    "Furnace",
    "Gate",
    "Growing",
    "Moody",
    "OwnHead",
    "Patient",
    "Probe",
    "Refused",
    "Wire",
]


class Gate(Enum):
    OPEN = 1
    SHUT = 2


class Refused(Exception):
    """What a library raises that has exceptions of its own."""


class Wire:
    """What an instrument is reached by; it keeps what was sent."""

    def __init__(self, sent: list[str] | None = None, *, baud: int = 9600) -> None:
        self.sent = [] if sent is None else sent
        self.baud = baud


class Channel:
    def __init__(self, wire: Wire, number: int) -> None:
        self._wire, self._number, self._voltage = wire, number, 0.0

    @property
    def voltage(self) -> float:
        self._wire.sent.append(f"voltage{self._number}?")
        return self._voltage

    @voltage.setter
    def voltage(self, value: float) -> None:
        self._wire.sent.append(f"voltage{self._number} {value}")
        self._voltage = value


class Probe:
    """Properties, methods, an attribute and a channel."""

    gate = Gate.OPEN
    __slots__ = ("ch1", "closed", "filter", "resource", "wire", "x", "y")

    def __init__(self, resource: str = "", wire: Wire | None = None) -> None:
        self.resource = resource
        self.wire = wire or Wire()
        self.ch1 = Channel(self.wire, 1)
        self.filter = 1
        self.x = self.y = 0.0
        self.closed = False

    @property
    def current(self) -> float:
        """It is asked only when it is wanted: a look at the name must not reach the instrument."""
        self.wire.sent.append("current?")
        return self.ch1._voltage * 2e-9

    @property
    def figure(self) -> object:
        """Something to look at, which is not to be sent."""
        return Figure()

    def move(self, x: float, y: float, *, speed: float = 1.0) -> None:
        self.wire.sent.append(f"move {x} {y} at {speed}")
        self.x, self.y = x, y

    def ramp(self, value: float, steps: int) -> None:
        self.wire.sent.append(f"ramp {value} in {steps}")

    def trigger(self) -> None:
        self.wire.sent.append("trigger")

    def trace(self, points: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        self.wire.sent.append(f"trace {points}")
        return np.linspace(0, 1, points)

    def withdraw(self) -> None:
        self.wire.sent.append("withdraw")

    def close(self) -> None:
        self.closed = True


class Figure:
    pass


class Furnace:
    """It evaluates by itself."""

    alive: ClassVar[list[str]] = []

    def open(self) -> None:
        self.alive.append("open")

    def identify(self) -> str:
        return "ACME,FURNACE,1"

    def evaluate(self, x: dict[str, float]) -> float:
        self.alive.append("evaluate")
        return x["setpoint"] * 0.9

    def safe(self) -> None:
        self.alive.append("safe")

    def close(self) -> None:
        self.alive.append("close")


class Growing:
    """A plant: it grows while it is looked at."""

    def __init__(self) -> None:
        self.tended: list[str] = []

    def evaluate(self, x: dict[str, float]) -> Iterator[dict[str, float]]:
        try:
            for day in range(3):
                yield {"height": day * x["water"]}
            return 3 * x["water"]  # type: ignore[return-value]
        finally:
            self.tended.append("watered off")


class Moody:
    """Raises the exception of its choice wherever it is asked to."""

    def __init__(self, where: str = "", error: BaseException | None = None) -> None:
        self._where, self._error = where, error
        self._raise("make")

    def _raise(self, where: str) -> None:
        if where == self._where and self._error is not None:
            raise self._error

    @property
    def level(self) -> float:
        self._raise("read")
        return 1.0

    @level.setter
    def level(self, value: float) -> None:
        self._raise("set")

    def ready(self) -> None:
        self._raise("init")

    def fire(self) -> None:
        self._raise("call")

    def rest(self) -> None:
        self._raise("safe")

    def close(self) -> None:
        self._raise("close")


class Cold:
    def nothing(self) -> None: ...


class Dry:
    """What cannot be waited for here."""

    async def evaluate(self, x: object) -> float:
        return 1.0


class Patient(Head):
    """Evaluates for as long as a test wants it to."""

    may_end = threading.Event()

    def evaluate(self, x: Any) -> float:
        assert self.may_end.wait(PATIENCE)
        return float(x)


class OwnHead(Head):
    def __init__(self, context: HeadContext, gain: float, *, offset: float = 0.0) -> None:
        super().__init__(context)
        self.gain, self.offset = gain, offset

    def evaluate(self, x: dict[str, float]) -> float:
        self.begin_acting()
        return self.gain * x["bias"] + self.offset
