"""What a guardian that was killed has left in its folder: workers that live, and what those that do not have noted.

A worker whose guardian is gone makes its head safe and ends; one that has not soon is ended by the next guardian. What
they leave is told to the daemon until it has answered, and kept until then. Of workers from before the machine was
started, checkpoints are left: these alone were synced.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from taskmaster.bus import messages as m
from taskmaster.drivers.instruments.notes import NOTES, TOKEN, Noted, read_notes
from taskmaster.drivers.instruments.seats import HeadSeat

__all__ = ["Leftovers"]

#: What workers that a killed guardian has left behind may take to make their heads safe.
LEFTOVER_SECONDS = 5.0


class Leftovers:
    """Workers of an earlier guardian, and what is to be told of them."""

    def __init__(self, last_word: Callable[[HeadSeat, str, str], m.WorkerLost]) -> None:
        """``last_word`` is what the daemon is told of a worker, the kind of its end, and the reason in words."""
        self._last_word = last_word
        self._living: list[tuple[HeadSeat, Noted]] = []
        #: what the daemon is told, and may not have heard yet
        self._bequests: list[tuple[HeadSeat, m.WorkerLost]] = []
        self._adopted = 0.0

    def __bool__(self) -> bool:
        """Whether any of the workers may still have its head."""
        return bool(self._living)

    @property
    def heads(self) -> set[str]:
        """What these workers have, or may have."""
        return {seat.head for seat, _ in self._living}

    @property
    def to_tell(self) -> Iterator[m.WorkerLost]:
        """What the daemon is to be told, until :meth:`on_told`."""
        return (lost for _, lost in self._bequests)

    def on_told(self) -> None:
        """The daemon knows of those that have ended."""
        for seat, _ in self._bequests:
            seat.forget()
        self._bequests.clear()

    def adopt(self, folder: Path, now: float) -> None:
        """Find them by what is noted in the folder."""
        for progress in sorted({path.with_suffix("") for path in folder.glob("*") if path.suffix in (NOTES, TOKEN)}):
            noted = read_notes(progress.with_name(progress.name + NOTES))
            seat = HeadSeat(noted.head if noted is not None else "", progress.name, progress, now)
            if noted is not None:
                self._living.append((seat, noted))
            elif seat.checkpoint() is not None:
                self._bequests.append((seat, self._last_word(seat, "WorkerLost", "its machine went down")))
            else:
                seat.forget()
        self._adopted = now

    def look(self, now: float) -> Iterator[tuple[HeadSeat, m.WorkerLost]]:
        """Those that have ended since this was last asked; they are ended where they take too long."""
        for seat, noted in list(self._living):
            if noted.runs and now - self._adopted < LEFTOVER_SECONDS:
                continue
            if noted.runs:
                _end(noted)
            self._living.remove((seat, noted))
            lost = self._last_word(seat, "WorkerLost", f"worker process {noted.pid} ended with its guardian")
            self._bequests.append((seat, lost))
            yield seat, lost


def _end(noted: Noted) -> None:
    """Kill a process that was started by another, and await its end."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(noted.pid)
        try:
            if noted.runs:  # the descriptor is that of the very process
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                select.select([descriptor], [], [], LEFTOVER_SECONDS)
        finally:
            os.close(descriptor)
