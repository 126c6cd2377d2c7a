"""Hosting worker processes: start, watch, kill. Used by the daemon for its own and by ``taskmaster worker``.

A host never runs a user's code, so it can always say whether its workers live; and it reads how far each has come, so
it can say which task was being evaluated when one died or hung.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from taskmaster.bus.messages import Interrupt, LeaseId
from taskmaster.drivers.progress import Position, ProgressReader
from taskmaster.drivers.worker import EXIT_GOODBYE

__all__ = ["CANCELLED", "HostedWorker", "Interrupts", "spawn"]

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


class HostedWorker:
    """One worker process and what its host knows of it."""

    #: it was asked to finish and go
    was_told_to_go = False

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        token: str,
        progress: ProgressReader,
        now: float,
        head: str | None = None,
    ) -> None:
        self.process = process
        #: of an instrument: which it is the worker of
        self.head = head
        self.token = token
        self.progress = progress
        self.started = now
        #: becomes readable when the process has ended
        self.pidfd = os.pidfd_open(process.pid)
        #: why its host killed it: (kind, reason)
        self.sentence: tuple[str, str] | None = None
        self._seen: list[Position] = []
        self._since = now

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def exit_status(self) -> int | None:
        """The process's exit status once it has ended."""
        return self.process.poll()

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

    def kill(self, kind: str, reason: str) -> None:
        """End it now, for this reason."""
        if self.sentence is None:
            self.sentence = (kind, reason)
            self.process.kill()

    def terminate(self) -> None:
        """Ask it to finish what it has in hand and go. The daemon has to be told that it leaves: it may be busy."""
        self.was_told_to_go = True
        self.process.terminate()

    @property
    def worked(self) -> bool:
        """Whether it has begun any task, as far as that is known."""
        return any(at.started for at in self.progress.positions() or [])

    def epitaph(self) -> tuple[str, str]:
        """Of what kind its end was, and in words."""
        if self.sentence is not None:
            return self.sentence
        status = self.exit_status
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
        self.progress.remove()

    @property
    def left_as_agreed(self) -> bool:
        # Told before it could listen, it has died of being told.
        fine = (EXIT_GOODBYE, -signal.SIGTERM) if self.was_told_to_go else (EXIT_GOODBYE,)
        return self.sentence is None and self.exit_status in fine


class Interrupts:
    """Tasks that nobody wants any more, which some worker is perhaps in."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Interrupt]] = deque()

    def add(self, interrupt: Interrupt, now: float) -> None:
        """See in a moment whether the worker is still at it."""
        self._waiting.append((now + INTERRUPT_SECONDS, interrupt))

    @property
    def due(self) -> float:
        """When to call :meth:`enforce`."""
        return self._waiting[0][0] if self._waiting else math.inf

    def enforce(self, now: float, find: Callable[[str], HostedWorker | None]) -> None:
        """Kill the workers that are still in such a task; ``find`` says which has a token."""
        while self.due <= now:
            _, interrupt = self._waiting.popleft()
            worker = find(interrupt.token)
            if worker is not None and worker.is_in(interrupt.lease, interrupt.low, interrupt.high):
                worker.kill(CANCELLED, f"its task was cancelled, worker process {worker.pid} was killed")


def spawn(
    address: str,
    master: str,
    folder: Path,
    now: float,
    environment: Iterable[tuple[str, str]] = (),
    working_directory: Path | None = None,
    path: Iterable[Path] = (),
    umask: int = -1,
    head: str | None = None,
) -> HostedWorker:
    """Start a worker process for a Master; its progress file lies in ``folder``.

    It imports from the folders in ``path`` before those that the daemon names, and makes files by ``umask`` (-1: this
    process's). ``head`` makes it the worker of an instrument's head of that name. Raises OSError where there can be no
    further process.
    """
    token = f"{master}-{uuid.uuid4().hex}"
    progress = folder / token
    module = "taskmaster.drivers.worker" if head is None else "taskmaster.drivers.instruments.worker"
    command = [
        sys.executable, "-m", module,
        "--address", address, "--master", master, "--token", token, "--progress", str(progress),
        "--parent", str(os.getpid()), *(f"--path={entry}" for entry in path),
        *(() if head is None else (f"--head={head}",)),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={**ONE_THREAD, **os.environ, "PYTHONUNBUFFERED": "1", **dict(environment)},
        cwd=working_directory,
        process_group=0,  # a Ctrl-C at the terminal is the host's business
        umask=umask,
    )
    try:
        return HostedWorker(process, token, ProgressReader(progress), now, head)
    except OSError:  # no descriptor left to watch it by
        process.kill()
        process.wait()
        raise
