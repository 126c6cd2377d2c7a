"""A process that has imported everything, and forks a daemon, a learner or a host of workers when it is asked to.

To start Python and import what a daemon needs takes most of a second, a fork a few milliseconds; and a suite that kills
hundreds of daemons has to start as many. Whoever is forked is a process of its own in every respect: its session,
files, memory and signals. The nursery has one thread and no sockets, so there is nothing that a fork would tear.

    python -m faults.nursery        (it is told by its standard input, in lines of JSON)
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from taskmaster.drivers.worker import die_with_parent

__all__ = ["Child", "Nursery"]

_TESTS = Path(__file__).resolve().parents[1]
#: What everybody is forked with.
_PRELOADED = (
    "numpy.random",
    "helpers.dialled",
    "helpers.mortal_daemon",
    "faults.learner",
    "faults.programs",
    "taskmaster.daemon.service",
    "taskmaster.learners.client",
)


class Child:
    """Somebody who was forked, as `subprocess.Popen` would show them."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None
        #: becomes readable when it has ended
        self.pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit status (minus the signal), None while it runs."""
        if self.returncode is None and select.select([self.pidfd], [], [], 0)[0]:
            self._collect()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self.pidfd], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self._collect()
        assert self.returncode is not None
        return self.returncode

    def _collect(self) -> None:
        self.returncode = int(self._nursery.ask({"collect": self.pid}))
        os.close(self.pidfd)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.returncode is None:
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """Such a process. ``environment`` is for it and for all whom it forks; ``command`` starts it, say, elsewhere."""

    def __init__(self, command: Sequence[str] = (), **environment: str) -> None:
        path = os.pathsep.join(filter(None, (str(_TESTS), os.environ.get("PYTHONPATH"))))
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads would not survive a fork
        self._process = subprocess.Popen(
            [*command, sys.executable, "-m", "faults.nursery"],
            env={**os.environ, "PYTHONPATH": path, **single, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def launch(self, entry: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None) -> Child:
        """Fork a process that calls ``module:function`` with these arguments for its command line."""
        request = {"entry": entry, "arguments": arguments, "log": str(log), "environment": dict(environment or {})}
        return Child(self, int(self.ask(request)))

    def ask(self, request: Any) -> Any:
        """Send a request, return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        return json.loads(line)

    def close(self) -> None:
        """End it, and whoever it has forked that still runs."""
        self._process.communicate(timeout=30)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- in the process ----------------------------------------------------------------------------------------------------


def _serve() -> None:
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "collect" in request:
            pid = request["collect"]
            answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            children.discard(pid)
        else:
            answer = _fork(request["entry"], request["arguments"], request["log"], request["environment"])
            children.add(answer)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _fork(entry: str, arguments: Sequence[str], log: str, environment: Mapping[str, str]) -> int:
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        die_with_parent(nursery)
        os.setsid()
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(descriptor, number)
        os.environ.update(environment)
        module, _, function = entry.partition(":")
        sys.argv = [entry, *arguments]
        getattr(importlib.import_module(module), function)()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would, which must not be gone back to
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
