"""The workers of an instrument's heads as their guardian sees them: by what they note, and whether they do as told."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from taskmaster.bus import messages as m
from taskmaster.drivers.host import HostedProcess, Seat
from taskmaster.drivers.instruments.notes import NOTES, HeadState, Noted, are_missing, forget, read_notes, read_token
from taskmaster.drivers.progress import ProgressReader

__all__ = ["SECURE_SECONDS", "STOP_SECONDS", "HeadProcess", "HeadSeat"]

#: A worker that has been told to stop has to have begun to make its head safe within this …
STOP_SECONDS = 2.0
#: … and to have done it within this; else it is ended, and the head made safe from elsewhere.
SECURE_SECONDS = 30.0


class HeadSeat(Seat):
    """A head's worker, as its guardian sees it."""

    def __init__(self, head: str, token: str, progress: Path, now: float) -> None:
        super().__init__(token, ProgressReader(progress), now)
        self.head = head
        self._path = progress
        #: since when it has to be safe, if it has to; monotonic
        self.stopped_since: float | None = None

    def noted(self) -> Noted | None:
        """What it has noted of itself and its head."""
        return read_notes(self._notes_path)

    @property
    def may_be_unsafe(self) -> bool:
        """Whether something has to be done for its head, now that it is gone."""
        noted = self.noted()
        return (
            are_missing(self._notes_path) if noted is None else noted.state in (HeadState.WORKING, HeadState.SECURING)
        )

    @property
    def _notes_path(self) -> Path:
        return self._path.with_name(self._path.name + NOTES)

    def checkpoint(self) -> m.Checkpoint | None:
        """The last one of the task that it is, or was, in, as far as that can be told."""
        checkpoint, positions = read_token(self._path), self.progress.positions()
        if checkpoint is None or positions is None:  # the daemon knows whether it is of a task that still matters
            return checkpoint
        return checkpoint if checkpoint.lease in [at.lease for at in positions] else None

    @property
    def is_busy(self) -> bool:
        """Whether it is in a task."""
        return any(at.busy for at in self.progress.positions() or [])

    def fault(self, now: float, silence: float, alone_since: float) -> str:
        """Why its process has to be ended: what it should have done and has not. Empty if nothing.

        It may be still for ``silence`` seconds; from ``alone_since`` on it has to be safe, because nobody is there.
        """
        noted = self.noted()
        if noted is None:
            return ""
        if now - noted.alive > silence:
            return f"it has not moved for {now - noted.alive:.0f} s"
        if noted.state in (HeadState.UNTOUCHED, HeadState.SAFE):
            # It has stopped. That it works again is by a later order, which may reach it before this process hears.
            self.stopped_since = None
            return ""
        since = min(alone_since, self.stopped_since if self.stopped_since is not None else alone_since)
        if since < now:
            late = now - since
            if late > SECURE_SECONDS or (late > STOP_SECONDS and noted.state is HeadState.WORKING):
                return f"it was told to stop and head {self.head!r} is not safe after {late:.1f} s"
        return ""

    def forget(self) -> None:
        self.progress.remove()
        forget(self._path)


class HeadProcess(HostedProcess):
    """The worker process of a head, or of all heads of one controller."""

    def __init__(self, process: subprocess.Popen[bytes], seats: Sequence[HeadSeat], digest: bytes, now: float) -> None:
        super().__init__(process, now)
        self._seats = tuple(seats)
        #: of what it was started with
        self.digest = digest
        self.was_hurried = False

    @property
    def seats(self) -> Sequence[HeadSeat]:
        return self._seats

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(seat.head for seat in self._seats)

    def hurry(self) -> None:
        """Have it break off what it does, make its heads safe, and go."""
        if not self.was_hurried:
            self.was_hurried = self.was_told_to_go = True
            self.process.send_signal(signal.SIGUSR1)

    def forget(self) -> None:
        for seat in self._seats:
            seat.forget()
