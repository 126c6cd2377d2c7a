"""A daemon in its own process, started from a configuration file: to be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.waiting import PATIENCE, all_ended
from taskmaster.learners.client import Lab, connect

__all__ = ["EVALUATIONS", "Daemon", "function", "tcp", "toml"]

#: Where the functions are that the tests' Masters evaluate.
EVALUATIONS = Path(__file__).resolve().parent / "work"

_TESTS = Path(__file__).resolve().parents[1]
_PLAIN = ("-m", "taskmaster.daemon")


def toml(daemon: Mapping[str, Any], masters: Mapping[str, Mapping[str, Any]]) -> str:
    """A configuration file's text."""
    lines = ["[daemon]", *(f"{key} = {_value(value)}" for key, value in daemon.items())]
    for name, master in masters.items():
        lines += [f"[masters.{name}]", *(f"{key} = {_value(value)}" for key, value in master.items())]
    return "\n".join([*lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def function(name: str, **keys: Any) -> dict[str, Any]:
    """A Master of driver ``process`` with one worker that evaluates a function of `work/evaluations.py`."""
    known = {"driver": "process", "function": f"evaluations:{name}", "path": [str(EVALUATIONS)], "workers": 1}
    return {**known, **keys}


def tcp() -> dict[str, str]:
    """Settings of a daemon that listens on three free ports, the same at each start."""
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        ports = []
        for free in (a, b, c):
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    return {key: f"tcp://127.0.0.1:{port}" for key, port in zip(("listen", "results", "workers"), ports)}


class Daemon:
    """One state directory and the daemon that serves it, if any does at the moment.

    It runs in a session of its own, so that nothing of it can be left behind unnoticed: see :meth:`close`.
    """

    def __init__(self, folder: Path, masters: Mapping[str, Mapping[str, Any]], **daemon: Any) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.notes: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._sessions: list[int] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.configure(masters, **daemon)
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        (folder / "notify").unlink(missing_ok=True)
        self._notified.bind(str(folder / "notify"))

    def configure(self, masters: Mapping[str, Mapping[str, Any]], **daemon: Any) -> None:
        """Write the configuration that the next start reads."""
        settings = {"name": "tested", "state": "state", "durability": "crash", "keep_free": 0, **daemon}
        listen = settings.get("listen", f"ipc://{self.state}/control")
        self.address = str(listen)
        listening = (str(settings.get(key, "")) for key in ("listen", "results", "workers"))
        #: on which it listens, with :func:`tcp`
        ports = [address.rpartition(":")[2] for address in listening if address.startswith("tcp://")]
        self.ports = [int(port) for port in ports if port.isdecimal()]
        (self.folder / "daemon.toml").write_text(toml(settings, masters), encoding="utf-8")

    # -- its life -----------------------------------------------------------------------------------------------------

    def start(self, **environment: str) -> Daemon:
        """Start it and wait until it says that it is ready. Raises AssertionError with its log if it is not."""
        self.launch(**environment)
        self.await_note("READY=1")
        return self

    def launch(self, *, program: Sequence[str] = _PLAIN, **environment: str) -> None:
        """Start it, without waiting: ``program`` in its place, with more in its environment."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self._drain_notes()
        self.notes.clear()
        around = {
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_TESTS), os.environ.get("PYTHONPATH")))),
            **environment,
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, str(self.folder / "daemon.toml")],
                env={**os.environ, **around},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._sessions.append(self.process.pid)

    def await_note(self, note: str, timeout: float = PATIENCE) -> None:
        """Wait for a word of the daemon's to systemd (READY=1, WATCHDOG=1, STOPPING=1)."""
        assert self.process is not None
        pidfd = os.pidfd_open(self.process.pid)
        try:
            deadline = time.monotonic() + timeout
            while note not in self.notes:
                left = deadline - time.monotonic()
                ready = select.select([self._notified.fileno(), pidfd], [], [], max(0.0, left))[0]
                self._drain_notes()
                if note not in self.notes and (pidfd in ready or not ready):
                    raise AssertionError(f"no {note} of the daemon's within {timeout:g} s; its log:\n{self.log}")
        finally:
            os.close(pidfd)

    def _drain_notes(self) -> None:
        while select.select([self._notified], [], [], 0)[0]:
            self.notes += self._notified.recv(4096).decode().splitlines()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer would; returns when the process is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait until it has ended; returns its exit status."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> int:
        """Stop it in order; returns its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def restart(self) -> Daemon:
        """Kill it if it runs, and start it again."""
        if self.is_running:
            self.kill()
        return self.start()

    # -- looking ------------------------------------------------------------------------------------------------------

    def connect(self) -> Lab:
        """A client of it, in this process."""
        return connect(self.address, timeout=PATIENCE)

    @property
    def log(self) -> str:
        """What it and its workers have said so far, over all starts."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def memory(self) -> int:
        """Resident bytes of the daemon's process, without the pages of files."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) * 1024

    @property
    def descriptors(self) -> int:
        """How many files and connections its process has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def cpu(self) -> float:
        """Seconds of processor time that its process has had."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def workers(self) -> set[int]:
        """Process ids of its living worker processes."""
        return {pid for pid in _members(self.pid) if pid != self.pid}

    def guardians(self) -> dict[str, int]:
        """Process ids of its instruments' guardians, which outlive it, by Master."""
        found = {}
        for lock in self.state.glob("guardians/*/lock"):
            pid = int(lock.read_text() or "0")
            if pid and _session(pid) == pid:
                found[lock.parent.name] = pid
        return found

    def close(self) -> None:
        """End it, and see to it that no process of any of its starts is left. Raises AssertionError if one stays."""
        if self.is_running:
            self.kill()
        guardians = self.guardians()
        for pid in guardians.values():
            os.kill(pid, signal.SIGTERM)
        left = {pid for session in (*self._sessions, *guardians.values()) for pid in _members(session)}
        descriptors = [descriptor for pid in left if (descriptor := _pidfd(pid)) is not None]
        gone = all_ended(descriptors, timeout=10.0)
        for descriptor in descriptors:
            if not gone:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
        self._notified.close()
        assert gone, f"processes were left behind by a daemon that had ended: {sorted(left)}"


def _session(pid: int) -> int:
    """The session of a living process; 0 where there is none."""
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(session) if state != "Z" else 0


def _members(session: int) -> set[int]:
    """Living processes of a session."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid for pid in pids if _session(pid) == session}


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
