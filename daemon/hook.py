"""Runs an operator's program for each alarm, in a thread of its own, one after the other.

What it costs is bounded: so many alarms wait at most (of further ones the oldest are let go, and counted in the log),
each run may take so long, and of what the program writes only the end of its standard error is kept, for the log, where
it fails. The daemon never waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from taskmaster.bus import messages as m

__all__ = ["AlarmHook", "environment_of", "json_of"]

log = logging.getLogger("taskmaster.daemon")

#: Alarms that wait at most.
WAITING = 100
#: Bytes of its standard error that are kept.
_KEPT = 500
#: Bytes of it that are read.
_READ = 1 << 20
#: What is waited for at the daemon's end, and how often it is looked whether that has come.
_END_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_PREFIX = "TASKMASTER_ALARM_"
#: What concerns this process alone.
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def json_of(daemon: str, alarm: m.Alarm) -> bytes:
    """An alarm as the program reads it on its standard input, on one line."""
    return msgspec.json.encode({"daemon": daemon, **_fields(alarm)}) + b"\n"


def environment_of(daemon: str, alarm: m.Alarm) -> dict[str, str]:
    """The same in environment variables."""
    fields = {"daemon": daemon, **_fields(alarm)}
    return {f"{_PREFIX}{name.upper()}": str(value).replace("\0", "") for name, value in fields.items()}


def _fields(alarm: m.Alarm) -> Mapping[str, str | float]:
    return {
        "state": alarm.state or "event",
        "kind": alarm.kind,
        "level": alarm.level,
        "subject": alarm.subject,
        "about": alarm.about,
        "message": alarm.message,
        "time": alarm.time,
    }


class AlarmHook:
    """The program ``command``, which may take ``timeout`` seconds; it makes files by ``umask``."""

    def __init__(self, command: Sequence[str], timeout: float, daemon: str, umask: int = -1) -> None:
        self._command = list(command)
        self._timeout = timeout
        self._daemon = daemon
        self._umask = umask
        self._waiting: deque[m.Alarm] = deque()
        self._changed = threading.Condition()
        #: until when anything may go on, once the daemon ends
        self._end = math.inf
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def __call__(self, alarm: m.Alarm) -> None:
        """Have it run for an alarm, soon."""
        with self._changed:
            self._waiting.append(alarm)
            if len(self._waiting) > WAITING:
                self._waiting.popleft()
                self._dropped += 1
                if self._dropped & (self._dropped - 1) == 0:
                    log.warning("%d alarms were not told to %s: it is too slow", self._dropped, self._command[0])
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="taskmaster-alarms", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Give it a moment for what waits; then what runs is ended."""
        with self._changed:
            self._end = time.monotonic() + _END_SECONDS
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(2 * _END_SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._end < math.inf)
                if not self._waiting or time.monotonic() > self._end:
                    return
                alarm = self._waiting.popleft()
            self._run(alarm)

    def _run(self, alarm: m.Alarm) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
        try:
            with tempfile.TemporaryFile() as given:
                given.write(json_of(self._daemon, alarm))
                given.seek(0)
                process = subprocess.Popen(
                    self._command,
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={**inherited, **environment_of(self._daemon, alarm)},
                    start_new_session=True,
                    umask=self._umask,
                )
        except (OSError, ValueError) as error:
            log.error("the program for alarms %s cannot be run: %s", self._command[0], error)
            return
        with process:
            said, in_time = self._listen(process)
            if not in_time:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
            status = process.wait()
            if in_time and not status:
                return
            why = f"ended with status {status}" if in_time else f"took more than {self._timeout:g} s, and was killed"
            text = " ".join(said.decode(errors="replace").split())
            log.error("the program for alarms %s %s%s", self._command[0], why, f": {text}" if text else "")

    def _listen(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bool]:
        """The end of what it says until it has ended, and whether that was in time."""
        assert process.stderr is not None
        descriptor, pidfd = process.stderr.fileno(), os.pidfd_open(process.pid)
        os.set_blocking(descriptor, False)
        said, read, deadline = b"", 0, time.monotonic() + self._timeout
        watched = [descriptor, pidfd]
        try:
            while pidfd in watched:
                left = min(deadline, self._end) - time.monotonic()
                ready = select.select(watched, [], [], max(0.0, min(left, _LOOK_SECONDS)))[0]
                if left <= 0:
                    return said, False
                if descriptor in ready:
                    part = _read(descriptor)
                    said, read = (said + part)[-_KEPT:], read + len(part)
                    if not part or read > _READ:  # who says more than that waits until its time is over
                        watched.remove(descriptor)
                elif pidfd in ready:
                    return said, True
        finally:
            os.close(pidfd)
        return said, True


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""
