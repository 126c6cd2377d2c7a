"""Bringing heads to their safe state from processes of their own, for a guardian: start them, watch them, tell of them.

Each head is tried for until it is safe. A process that hangs is ended and replaced: that is what they are for.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

import msgspec

from taskmaster.bus import messages as m
from taskmaster.drivers.host import start
from taskmaster.drivers.instruments.safe import SafePlan

__all__ = ["Securing"]

#: A process that has not made its head safe in so many seconds is replaced: it may hang.
PATIENCE_SECONDS = 30.0
#: Seconds before one is replaced that has ended without success.
AGAIN_SECONDS = 1.0
#: While it does not succeed, that is said so often.
SAY_AGAIN_SECONDS = 30.0


@dataclass
class _Case:
    """One head that is to be made safe."""

    head: str
    reason: str
    process: subprocess.Popen[bytes] | None = None
    #: what the process says
    errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    #: when to end the process, or to start the next
    due: float = 0.0
    said: float = float("-inf")

    def last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else ""


class Securing:
    """The heads of a Master that are being made safe. ``tell`` is told what has come of each, and what has not."""

    def __init__(self, tell: Callable[[m.Guarded], None]) -> None:
        self._tell = tell
        self._cases: dict[str, _Case] = {}

    def __contains__(self, head: str) -> bool:
        return head in self._cases

    def __bool__(self) -> bool:
        return bool(self._cases)

    def add(self, head: str, reason: str) -> None:
        """Make this head safe; nobody else may have its resource any more."""
        self._cases.setdefault(head, _Case(head, reason))

    def look(self, now: float, plan: m.GuardianPlan) -> None:
        """Do what is due: hear of those that have ended, start, end."""
        for case in list(self._cases.values()):
            if case.process is not None and case.process.poll() is not None:
                self._on_end(case, now, plan)
            elif case.process is not None and now >= case.due:
                case.process.kill()
                case.process.wait()
                self._retry(case, now, plan, f"no success within {PATIENCE_SECONDS:g} s, its process was ended")
            elif case.process is None and now >= case.due:
                self._start(case, now, plan)
            elif case.process is not None and now - case.said > SAY_AGAIN_SECONDS and (words := case.last_words()):
                self._say(case, now, plan, words)

    def due(self) -> Iterator[float]:
        """When :meth:`look` wants to be called."""
        now = time.monotonic()
        for case in self._cases.values():
            yield case.due if case.process is None else min(case.due, now + 0.02)

    def _start(self, case: _Case, now: float, plan: m.GuardianPlan) -> None:
        if case.head not in plan.heads:  # nobody knows any more how it is reached
            self._say(case, now, plan, "it is not in the configuration any more")
            del self._cases[case.head]
            return
        case.errors.seek(0)
        case.errors.truncate()
        order = msgspec.msgpack.encode(SafePlan(plan, case.head))
        try:
            case.process = start(
                "taskmaster.drivers.instruments.safe",
                environment=plan.environment.items(),
                stdin=_readable(order),
                stderr=case.errors.fileno(),
            )
        except OSError as error:
            self._retry(case, now, plan, f"no process can be started: {error}")
            return
        case.due = now + PATIENCE_SECONDS

    def _on_end(self, case: _Case, now: float, plan: m.GuardianPlan) -> None:
        assert case.process is not None
        if case.process.returncode == 0:
            self._tell(m.Guarded(time.time(), plan.master, case.head, case.reason))
            case.errors.close()
            del self._cases[case.head]
        else:
            self._retry(case, now, plan, case.last_words() or f"it ended with status {case.process.returncode}")

    def _retry(self, case: _Case, now: float, plan: m.GuardianPlan, why: str) -> None:
        case.process = None
        case.due = now + AGAIN_SECONDS
        self._say(case, now, plan, why)

    def _say(self, case: _Case, now: float, plan: m.GuardianPlan, why: str) -> None:
        if now - case.said > SAY_AGAIN_SECONDS:
            case.said = now
            self._tell(m.Guarded(time.time(), plan.master, case.head, case.reason, why))

    def abandon(self) -> Iterable[str]:
        """Give up; returns the heads that are not known to be safe."""
        left = list(self._cases)
        for case in self._cases.values():
            if case.process is not None:
                case.process.kill()
                case.process.wait()
            case.errors.close()
        self._cases.clear()
        return left


def _readable(data: bytes) -> IO[bytes]:
    """A file that gives ``data`` to whoever is started with it."""
    file = os.fdopen(os.memfd_create("plan", os.MFD_CLOEXEC), "w+b")
    file.write(data)
    file.flush()
    file.seek(0)
    return file
