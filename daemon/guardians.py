"""The guardians of the daemon's instruments: a process each, which outlives it (`drivers.instruments.guardian`)."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import select
import signal
import socket as sockets_
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taskmaster.bus import messages as m
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.master import Master
from taskmaster.daemon.workforce import LEAST_SILENCE_SECONDS
from taskmaster.drivers.host import start
from taskmaster.drivers.instruments.guardian import EXIT_LOCKED

__all__ = ["Guardians", "end_guardians"]

log = logging.getLogger("taskmaster.supervision")

#: Pauses between starts of one that ends at once.
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
#: What one may take that has been told to go as it is.
_GOING_SECONDS = 5.0
#: One that has lived so long did not end at once.
_LIVED_SECONDS = 10.0
#: What one may take to say its first word, which a machine that starts many things at a time delays.
_FIRST_WORD_SECONDS = 30.0
#: How often it is looked whether they live; a daemon that was still for longer than that and this blames nobody.
_LOOK_SECONDS = 1.0
_STALL_SECONDS = 3.0


@dataclass
class _Ward:
    """One Master's guardian, as far as it is known."""

    master: Master
    folder: Path
    #: its process, if this daemon has started it
    process: subprocess.Popen[bytes] | None = None
    #: becomes readable when it has ended; -1: none is known
    pidfd: int = -1
    pid: int = 0
    started: float = 0.0
    next_start: float = 0.0
    pause: float = _FIRST_PAUSE
    #: it was silent for too long, and was ended: when
    ended: float | None = None


class Guardians:
    """Keeps one for each Master that has heads: one that has outlived the last daemon, or a new one.

    ``watch`` and ``unwatch`` tell the loop which processes to heed. ``heard`` says when a Master's guardian of a host
    and process id was heard of last, if ever: one that hangs is ended and replaced.
    """

    def __init__(self, folder: Path, address: str, daemon: str) -> None:
        self._folder = folder
        self._address = address
        self._daemon = daemon
        self._wards: list[_Ward] = []
        self.watch: Callable[[int], None] = lambda descriptor: None
        self.unwatch: Callable[[int], None] = lambda descriptor: None
        self.heard: Callable[[str, str, int], float | None] = lambda master, host, pid: None
        self.next_look = 0.0
        #: when this daemon last looked, and when it was last known to have been still itself
        self._looked = self._stalled = -math.inf

    def add(self, master: Master) -> None:
        """See to it from now on that this Master has one."""
        folder = self._folder / master.spec.name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._wards.append(_Ward(master, folder))

    def look(self, now: float, ready: Mapping[int, int], out: Effects) -> None:
        """Find, start, hear of the ends of."""
        for ward in self._wards:
            if ward.pidfd in ready:
                self._on_end(ward, now, out)
        if now - self._looked > _STALL_SECONDS:
            self._stalled = now
        self._looked = now
        if now < self.next_look:
            return
        self.next_look = now + (_LOOK_SECONDS if self._wards else 3600.0)
        for ward in self._wards:
            self._see_whether_it_hangs(ward, now, out)
            if ward.pidfd < 0 and now >= ward.next_start:
                self._provide(ward, now)
            if ward.pidfd < 0:
                self.next_look = min(self.next_look, ward.next_start)

    def _provide(self, ward: _Ward, now: float) -> None:
        name = ward.master.spec.name
        ward.started = now
        try:
            ward.process, ward.pid = None, _living(ward.folder)
            if not ward.pid:
                ward.process = start(
                    "taskmaster.drivers.instruments.guardian",
                    "--daemon", self._daemon, "--address", self._address, "--master", name,
                    "--folder", str(ward.folder),
                    session=True,
                )  # fmt: skip
                ward.pid = ward.process.pid
            ward.pidfd = os.pidfd_open(ward.pid)
        except ProcessLookupError:  # it has ended in this very moment
            ward.next_start = now + _FIRST_PAUSE
        except OSError as error:
            log.warning("Master %r: no guardian can be started for its heads: %s", name, error)
            self._pause(ward, now)
        else:
            self.watch(ward.pidfd)

    def _see_whether_it_hangs(self, ward: _Ward, now: float, out: Effects) -> None:
        """End one that does. Its workers notice, and make their heads safe; the next one ends those that have not."""
        if ward.pidfd < 0 or (ward.ended is not None and now - ward.ended < _FIRST_WORD_SECONDS):
            return
        name = ward.master.spec.name
        heard = self.heard(name, sockets_.gethostname(), ward.pid)
        limit = max(ward.master.spec.lost_after, LEAST_SILENCE_SECONDS if heard is not None else _FIRST_WORD_SECONDS)
        silence = now - max(heard if heard is not None else -math.inf, ward.started, self._stalled)
        if silence > limit:
            ward.ended = now
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(ward.pidfd, signal.SIGKILL)
            text = (
                f"the guardian of Master {name!r} (process {ward.pid}) was not heard of for {silence:.0f} s, and is "
                "killed: its workers bring their heads to the safe state, and another is started"
            )
            out.alarms.append(m.Alarm("error", name, text, out.wall))

    def _on_end(self, ward: _Ward, now: float, out: Effects) -> None:
        self.unwatch(ward.pidfd)
        os.close(ward.pidfd)
        ward.pidfd = -1
        ward.ended = None
        status = ward.process.wait() if ward.process is not None else None
        if now - ward.started > _LIVED_SECONDS or status == EXIT_LOCKED:
            ward.pause = _FIRST_PAUSE
        self._pause(ward, now)
        if status not in (0, EXIT_LOCKED):
            text = (
                f"the guardian of Master {ward.master.spec.name!r} (process {ward.pid}) has ended; its workers bring "
                f"their heads to the safe state, and another is started. What it said is in {ward.folder / 'log'}"
            )
            out.alarms.append(m.Alarm("warning", ward.master.spec.name, text, out.wall))

    def _pause(self, ward: _Ward, now: float) -> None:
        ward.next_start = now + ward.pause
        ward.pause = min(2 * ward.pause, _LONGEST_PAUSE)
        self.next_look = min(self.next_look, ward.next_start)

    def await_end(self, patience: float) -> None:
        """Wait so long for those whose heads are to be safe when the daemon has gone, and say which are not."""
        waiting = {ward.pidfd: ward for ward in self._wards if ward.pidfd >= 0 and not ward.master.spec.outlives}
        deadline = time.monotonic() + patience
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor in select.select(list(waiting), [], [], left)[0]:
                ward = waiting.pop(descriptor)
                if ward.process is not None:
                    ward.process.wait()
        for ward in waiting.values():
            log.warning(
                "Master %r: its guardian (process %d) is still bringing heads to their safe state; see %s",
                ward.master.spec.name,
                ward.pid,
                ward.folder / "log",
            )


def end_guardians(folder: Path, patience: float) -> None:
    """Have those that a daemon has left in ``folder`` bring their heads to the safe state, and go.

    For programs whose instruments end with them. After ``patience`` seconds they are told to go as they are.
    """
    waiting = []
    for lock in folder.glob("*/lock"):
        with contextlib.suppress(ProcessLookupError):
            if pid := _living(lock.parent):
                waiting.append(os.pidfd_open(pid))
    for grace in (patience, _GOING_SECONDS):
        for descriptor in waiting:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor in select.select(waiting, [], [], left)[0]:
                waiting.remove(descriptor)
                os.close(descriptor)
    for descriptor in waiting:
        os.close(descriptor)


def _living(folder: Path) -> int:
    """Process id of the guardian that has this folder; 0 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 32) or b"0")
        finally:
            os.close(descriptor)
    return 0
