"""Elapsed time that no change of the clock touches, and that goes on over restarts of process and machine.

Measured by CLOCK_BOOTTIME: it runs on while the machine sleeps, and nobody can set it. It begins anew with each start
of the machine, so what is kept of it says of which start it is, with the wall clock's time beside it. That has to do
only after another start of the machine; the interruption has lasted for at least as long as that is ago.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from taskmaster.bus.errors import InvalidTask
from taskmaster.drivers.progress import machine_start

__all__ = ["SYSTEM", "Clocks", "Kept", "Stopwatch"]


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Clocks:
    """What time is read from, in seconds."""

    boottime: Callable[[], float] = _boottime
    wall: Callable[[], float] = time.time
    #: identity of this start of the machine; 0 if it has none
    start: Callable[[], int] = machine_start


SYSTEM = Clocks()


class Kept(msgspec.Struct, frozen=True):
    """How far something had come, and when that was."""

    elapsed: float
    start: int
    boottime: float
    wall: float

    @classmethod
    def read(cls, token: bytes) -> Kept:
        """From a checkpoint. Raises InvalidTask for what is none of a programme's."""
        try:
            return msgspec.msgpack.decode(token, type=cls)
        except msgspec.MsgspecError as error:
            raise InvalidTask(f"{token[:40]!r} is no checkpoint of a programme: {error}") from error

    def since(self, clocks: Clocks) -> float:
        """Seconds that have passed since then."""
        start, now = clocks.start(), clocks.boottime()
        if start and start == self.start:
            return max(now - self.boottime, 0.0)
        return max(clocks.wall() - self.wall, now if start else 0.0)


class Stopwatch:
    """Counts elapsed time, ``speed`` seconds of it in a second."""

    def __init__(self, elapsed: float = 0.0, speed: float = 1.0, clocks: Clocks = SYSTEM) -> None:
        self._elapsed = elapsed
        self._speed = speed
        self._clocks = clocks
        self._begun = clocks.boottime()

    @classmethod
    def resumed(cls, kept: Kept, speed: float = 1.0, *, counts: bool = True, clocks: Clocks = SYSTEM) -> Stopwatch:
        """Going on from there; with ``counts`` the interruption has been elapsed time, too."""
        return cls(kept.elapsed + (kept.since(clocks) * speed if counts else 0.0), speed, clocks)

    @property
    def elapsed(self) -> float:
        """Seconds by now."""
        return self._elapsed + (self._clocks.boottime() - self._begun) * self._speed

    def until(self, elapsed: float) -> float:
        """Real seconds until so much has elapsed."""
        return (elapsed - self.elapsed) / self._speed

    def keep(self) -> bytes:
        """For a checkpoint: from what :meth:`Kept.read` makes of it, it goes on here."""
        clocks = self._clocks
        return msgspec.msgpack.encode(Kept(self.elapsed, clocks.start(), clocks.boottime(), clocks.wall()))
