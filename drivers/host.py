"""Hosting worker processes: start, watch, kill. Used by the daemon for its own and by ``taskmaster worker``.

A host never runs a user's code, so it can always say whether its workers live; and it reads how far each has come, so
it can say which task was being evaluated when one died or hung.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TypeVar

from taskmaster.bus.messages import Interrupt, LeaseId
from taskmaster.drivers.progress import Position, ProgressReader
from taskmaster.drivers.worker import EXIT_BROKEN, EXIT_GOODBYE

__all__ = [
    "CANCELLED",
    "HostedProcess",
    "HostedWorker",
    "Interrupts",
    "Seat",
    "new_token",
    "spawn",
    "start",
    "watched",
]

T = TypeVar("T")

log = logging.getLogger("taskmaster.host")

#: What a worker that was asked to go may take before it is killed.
TERMINATE_SECONDS = 5.0
#: Workers are as many as there are processors: where each starts as many threads again for its linear algebra, they
#: only stand in each other's way. What the daemon's environment or the Master's ``env`` says goes before this.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")}


#: What a worker may still take to end a task that was cancelled, in seconds.
INTERRUPT_SECONDS = 0.25
#: Of what kind the end of one is that took longer.
CANCELLED = "TaskCancelled"


class HostedProcess:
    """A process that evaluates, and what its host knows of it."""

    #: it was asked to finish and go
    was_told_to_go = False

    def __init__(self, process: subprocess.Popen[bytes], now: float) -> None:
        self.process = process
        self.started = now
        #: becomes readable when the process has ended
        self.pidfd = os.pidfd_open(process.pid)
        #: why its host killed it: (kind, reason)
        self.sentence: tuple[str, str] | None = None

    @property
    def seats(self) -> Sequence[Seat]:
        """What in it takes tasks."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def exit_status(self) -> int | None:
        """The process's exit status once it has ended."""
        return self.process.poll()

    @property
    def worked(self) -> bool:
        """Whether it has begun any task, as far as that is known."""
        return any(at.started for seat in self.seats for at in seat.progress.positions() or [])

    def kill(self, kind: str, reason: str) -> None:
        """End it now, for this reason."""
        if self.sentence is None:
            self.sentence = (kind, reason)
            self.process.kill()

    def terminate(self) -> None:
        """Ask it to finish what it has in hand and go. The daemon has to be told that it leaves: it may be busy."""
        self.was_told_to_go = True
        self.process.terminate()

    def epitaph(self) -> tuple[str, str]:
        """Of what kind its end was, and in words."""
        if self.sentence is not None:
            return self.sentence
        status = self.exit_status
        if status == EXIT_BROKEN:
            for kind, reason in filter(None, (seat.progress.last_words() for seat in self.seats)):
                return kind, f"worker process {self.pid} ended: {reason}"
        if status is not None and status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
            hint = "; out of memory?" if name == "SIGKILL" else ""
            return "WorkerLost", f"worker process {self.pid} was killed by {name}{hint}"
        return "WorkerLost", f"worker process {self.pid} ended with status {status}"

    def bury(self) -> None:
        """Let go of its process. How far it had come stays noted, until :meth:`forget`."""
        self.process.wait()
        os.close(self.pidfd)

    def forget(self) -> None:
        """How far it had come is accounted for."""
        for seat in self.seats:
            seat.progress.remove()

    @property
    def left_as_agreed(self) -> bool:
        # Told before it could listen, it has died of being told.
        fine = (EXIT_GOODBYE, -signal.SIGTERM) if self.was_told_to_go else (EXIT_GOODBYE,)
        return self.sentence is None and self.exit_status in fine


class Seat:
    """A worker as the daemon knows it: by its token. It notes its progress in a file that its host reads."""

    def __init__(self, token: str, progress: ProgressReader, now: float) -> None:
        self.token = token
        self.progress = progress
        self._seen: list[Position] = []
        self._since = now

    def stands_since(self, now: float) -> float:
        """When its progress last changed, as far as this was looked at."""
        positions = self.progress.positions() or []
        if positions != self._seen:
            self._seen = positions
            self._since = now
        return self._since

    def hangs(self, now: float, timeout: float) -> bool:
        """Whether it has been in one evaluation for more than ``timeout`` seconds, as far as this was looked at."""
        return now - self.stands_since(now) > timeout and any(at.busy for at in self._seen)

    def is_in(self, lease: LeaseId, low: int, high: int) -> bool:
        """Whether the task it is evaluating is one of positions ``low ≤ p < high`` of a lease."""
        return any(at.busy and at.lease == lease and low < at.started <= high for at in self.progress.positions() or [])


class HostedWorker(HostedProcess, Seat):
    """A process that is one worker."""

    def __init__(self, process: subprocess.Popen[bytes], token: str, progress: ProgressReader, now: float) -> None:
        HostedProcess.__init__(self, process, now)
        Seat.__init__(self, token, progress, now)

    @property
    def seats(self) -> Sequence[Seat]:
        return (self,)


class Interrupts:
    """Tasks that nobody wants any more, which some worker is perhaps in."""

    def __init__(self, grace: float = INTERRUPT_SECONDS) -> None:
        """A worker may be in one for ``grace`` seconds more."""
        self._grace = grace
        self._waiting: deque[tuple[float, Interrupt]] = deque()

    def add(self, interrupt: Interrupt, now: float) -> None:
        """See in a moment whether the worker is still at it."""
        self._waiting.append((now + self._grace, interrupt))

    @property
    def due(self) -> float:
        """When to call :meth:`enforce`."""
        return self._waiting[0][0] if self._waiting else math.inf

    def enforce(self, now: float, find: Callable[[str], tuple[HostedProcess, Seat] | None]) -> None:
        """Kill the processes that are still in such a task; ``find`` says who has a token."""
        while self.due <= now:
            _, interrupt = self._waiting.popleft()
            found = find(interrupt.token)
            if found is not None and found[1].is_in(interrupt.lease, interrupt.low, interrupt.high):
                found[0].kill(CANCELLED, f"its task was cancelled, worker process {found[0].pid} was killed")


def spawn(
    address: str,
    master: str,
    folder: Path,
    now: float,
    environment: Iterable[tuple[str, str]] = (),
    working_directory: Path | None = None,
    path: Iterable[Path] = (),
    umask: int = -1,
) -> HostedWorker:
    """Start a worker process for a Master; its progress file lies in ``folder``.

    It imports from the folders in ``path`` before those that the daemon names, and makes files by ``umask`` (-1: this
    process's). Raises OSError where there can be no further process.
    """
    token = new_token(master)
    progress = folder / token
    process = start(
        "taskmaster.drivers.worker",
        "--address", address, "--master", master, "--token", token, "--progress", str(progress),
        "--parent", str(os.getpid()), *(f"--path={entry}" for entry in path),
        environment=environment, working_directory=working_directory, umask=umask,
    )  # fmt: skip
    return watched(process, lambda: HostedWorker(process, token, ProgressReader(progress), now))


def new_token(master: str) -> str:
    """A name for a worker that no other has had."""
    return f"{master}-{uuid.uuid4().hex}"


def start(
    module: str,
    *arguments: str,
    environment: Iterable[tuple[str, str]] = (),
    working_directory: Path | None = None,
    umask: int = -1,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
    session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a module of this package as a process. Raises OSError where there can be no further one.

    With a ``session`` of its own it outlives this process and its terminal.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={**ONE_THREAD, **os.environ, "PYTHONUNBUFFERED": "1", **dict(environment)},
        cwd=working_directory,
        process_group=None if session else 0,  # a Ctrl-C at the terminal is the host's business
        start_new_session=session,
        umask=umask,
    )
    if not session:
        _expose(process.pid)
    return process


def _expose(pid: int) -> None:
    """Have the kernel that needs memory not spare a worker where it is to spare this process: it may be what has it."""
    with contextlib.suppress(OSError):  # it has ended, or there is no such thing here: nothing depends on it
        if int(Path("/proc/self/oom_score_adj").read_text()) < 0:
            Path(f"/proc/{pid}/oom_score_adj").write_text("0")


def watched(process: subprocess.Popen[bytes], watch: Callable[[], T]) -> T:
    """What ``watch`` makes of a process that was just started, which is ended where there is no descriptor for that."""
    try:
        return watch()
    except OSError:
        process.kill()
        process.wait()
        raise
