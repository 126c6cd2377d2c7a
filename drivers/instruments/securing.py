"""Bringing heads to their safe state from processes of their own, for a guardian: start them, watch them, tell of them.

Each head is tried for until it is safe. A process that hangs is ended and replaced: that is what they are for. Heads of
one controller have one process at a time, or they would lock each other out.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.text import shortened
from taskmaster.drivers.host import start
from taskmaster.drivers.instruments.safe import Attempt, SafePlan

__all__ = ["Securing"]

#: A process that has made no head safe in so many seconds is replaced: it may hang.
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
    #: what is wrong
    trouble: str = ""
    #: when to start a process for it
    due: float = 0.0
    said: float = float("-inf")


@dataclass
class _Process:
    """Makes heads safe, one after the other."""

    process: subprocess.Popen[bytes]
    #: whose instruments it has to itself
    heads: frozenset[str]
    #: those of them that it has left to do
    cases: dict[str, _Case]
    #: what it reports, and what it says besides
    reports: IO[bytes]
    words: IO[bytes]
    #: when to end it
    due: float
    #: bytes of the reports that were heard
    heard: int = 0
    #: the head that it is at
    at: str = ""

    def hear(self) -> Iterator[Attempt]:
        """What it has reported since."""
        data = os.pread(self.reports.fileno(), os.fstat(self.reports.fileno()).st_size - self.heard, self.heard)
        whole = data[: data.rfind(b"\n") + 1]
        self.heard += len(whole)
        for line in whole.splitlines():
            yield msgspec.json.decode(line, type=Attempt)

    def last_words(self) -> str:
        """The last line that it has said, if it has said anything."""
        length = os.fstat(self.words.fileno()).st_size
        lines = os.pread(self.words.fileno(), 4096, max(0, length - 4096)).decode(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def end(self) -> None:
        """Kill it, if it runs."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.reports.close()
        self.words.close()


class Securing:
    """The heads of a Master that are being made safe. ``tell`` is told what has come of each, and what has not."""

    def __init__(self, tell: Callable[[m.Guarded], None]) -> None:
        self._tell = tell
        self._cases: dict[str, _Case] = {}
        self._processes: list[_Process] = []

    def __contains__(self, head: str) -> bool:
        """Whether nobody else may have its instrument now."""
        return head in self._cases or head in self._taken

    def __bool__(self) -> bool:
        return bool(self._cases or self._processes)

    def add(self, head: str, reason: str) -> None:
        """Make this head safe; nobody else may have its resource any more."""
        self._cases.setdefault(head, _Case(head, shortened(reason)))

    def look(self, now: float, plan: m.GuardianPlan) -> None:
        """Do what is due: hear of those that have ended, start, end."""
        for process in list(self._processes):
            has_ended = process.process.poll() is not None  # what it has said by then is all
            self._hear(process, now, plan)
            if has_ended:
                self._on_end(process, now, plan)
            elif now >= process.due:
                self._on_delay(process, now, plan)
        for heads in self._startable(now, plan):
            self._start(heads, now, plan)

    def due(self) -> Iterator[float]:
        """When :meth:`look` wants to be called."""
        now = time.monotonic()
        yield from (min(process.due, now + 0.02) for process in self._processes)
        if not (self._processes and self._is_shared):
            yield from (case.due for case in self._waiting)

    # -- processes ----------------------------------------------------------------------------------------------------

    #: whether all heads are parts of one instrument
    _is_shared = False

    @property
    def _taken(self) -> set[str]:
        return {head for process in self._processes for head in process.heads}

    @property
    def _waiting(self) -> list[_Case]:
        """Those that no process is at."""
        taken = self._taken
        return [case for case in self._cases.values() if case.head not in taken]

    def _startable(self, now: float, plan: m.GuardianPlan) -> list[list[_Case]]:
        """The heads of each process that is to be started now."""
        self._is_shared = bool(plan.options.get("shared"))
        known = []
        for case in self._waiting:
            if case.head not in plan.heads:  # nobody knows any more how it is reached
                self._say(case, now, plan, "it is not in the configuration any more")
                del self._cases[case.head]
            elif now >= case.due:
                known.append(case)
        if not self._is_shared:
            return [[case] for case in known]
        return [known] if known and not self._processes else []

    def _start(self, cases: list[_Case], now: float, plan: m.GuardianPlan) -> None:
        order = msgspec.msgpack.encode(SafePlan(plan, tuple(case.head for case in cases)))
        reports, words = _memory(), _memory()
        try:
            with _memory(order) as stdin:
                process = start(
                    "taskmaster.drivers.instruments.safe",
                    environment=plan.environment.items(),
                    stdin=stdin,
                    stdout=reports.fileno(),
                    stderr=words.fileno(),
                )
        except OSError as error:
            reports.close()
            words.close()
            for case in cases:
                self._retry(case, now, plan, f"no process can be started: {error}")
            return
        by_name = {case.head: case for case in cases}
        due = now + PATIENCE_SECONDS
        self._processes.append(_Process(process, frozenset(by_name), by_name, reports, words, due))

    def _hear(self, process: _Process, now: float, plan: m.GuardianPlan) -> None:
        for attempt in process.hear():
            case = process.cases.get(attempt.head)
            if case is None:
                continue
            if attempt.state == "trying":
                process.at = attempt.head
            elif attempt.state == "failed":
                case.trouble = attempt.error
                process.at = ""
            else:
                process.at = ""
                process.due = now + PATIENCE_SECONDS
                self._tell(m.Guarded(time.time(), plan.master, case.head, case.reason))
                del process.cases[case.head], self._cases[case.head]
        for case in process.cases.values():
            if case.trouble:
                self._say(case, now, plan, case.trouble)

    def _on_end(self, process: _Process, now: float, plan: m.GuardianPlan) -> None:
        words = process.last_words() or f"it ended with status {process.process.returncode}"
        self._bury(process)
        for case in process.cases.values():
            self._retry(case, now, plan, case.trouble or words)

    def _on_delay(self, process: _Process, now: float, plan: m.GuardianPlan) -> None:
        """It hangs, or fails again and again. The others are not to wait for one head that it hangs at."""
        process.end()
        self._bury(process)
        for case in process.cases.values():
            if case.head == process.at or not process.at:
                why = f"no success within {PATIENCE_SECONDS:g} s, its process was ended"
                self._retry(case, now, plan, why)

    def _bury(self, process: _Process) -> None:
        process.process.wait()
        process.close()
        self._processes.remove(process)

    def _retry(self, case: _Case, now: float, plan: m.GuardianPlan, why: str) -> None:
        case.due = now + AGAIN_SECONDS
        self._say(case, now, plan, why)

    def _say(self, case: _Case, now: float, plan: m.GuardianPlan, why: str) -> None:
        if now - case.said > SAY_AGAIN_SECONDS:
            case.said = now
            self._tell(m.Guarded(time.time(), plan.master, case.head, case.reason, shortened(why)))

    def abandon(self) -> Iterable[str]:
        """Give up; returns the heads that are not known to be safe."""
        left = list(self._cases)
        for process in self._processes:
            process.end()
            process.close()
        self._processes.clear()
        self._cases.clear()
        return left


def _memory(data: bytes = b"") -> IO[bytes]:
    """A file that has no need of a disk, and gives ``data`` to whoever is started with it."""
    file = os.fdopen(os.memfd_create("securing", os.MFD_CLOEXEC), "w+b", buffering=0)
    file.write(data)
    file.seek(0)
    return file
