"""A daemon in its own process, with its workers, on a state directory that can be used for a second start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import psutil

from benchmarks.evaluated.functions import PROFILE_FOLDER
from benchmarks.evaluated.tracing import TRACE_FOLDER
from taskmaster.bus.keys import new_pair, write_pair
from taskmaster.config.authorised import Grant, RoleName, edit
from taskmaster.learners.client import Lab, Master, connect

__all__ = ["WORKERS", "InstrumentTable", "MasterTable", "Rig", "Table"]

#: Workers of each Master, and of each rival.
WORKERS = 2
#: Longest that a daemon, or its workers, may take to come up or go down.
_PATIENCE = 60.0
#: Keys that are made, and their roles.
KEYS: dict[str, RoleName] = {"learner": "learner", "worker": "worker", "mad": "learner"}
_FUNCTIONS = Path(__file__).resolve().parent / "evaluated"


class Table(Protocol):
    """A Master of the daemon's configuration."""

    @property
    def name(self) -> str:
        """By which it is known."""

    @property
    def slots(self) -> int:
        """Evaluations at a time, when all are there."""

    def toml(self, setup: str = "") -> str:
        """The tables of the configuration file; ``setup``: a function for each worker to begin with."""


@dataclass(frozen=True)
class MasterTable:
    """One Master of the daemon's configuration. No parameters: inputs of any form."""

    name: str
    function: str
    parameters: Sequence[str] = ()
    batch: bool = False

    @property
    def slots(self) -> int:
        """Evaluations at a time, when all are there."""
        return WORKERS

    def toml(self, setup: str = "") -> str:
        """The tables of the configuration file; ``setup``: a function for each worker to begin with."""
        lines = [
            f"[masters.{self.name}]",
            'driver = "process"',
            f'function = "functions:{self.function}"',
            f'path = ["{_FUNCTIONS}"]',
            f"workers = {WORKERS}",
            f"batch = {str(self.batch).lower()}",
        ]
        if setup:
            lines.append(f'setup = "{setup}"')
        if self.parameters:
            lines.append(f"[masters.{self.name}.parameters]")
            lines += [f"{name} = {{ min = 0, max = 1e9 }}" for name in self.parameters]
            lines += [f"[masters.{self.name}.outputs]", "y = {}"]
        return "\n".join([*lines, ""])


@dataclass(frozen=True)
class InstrumentTable:
    """One Master with heads: ``text`` is its table in the configuration file, ``slots`` how many heads it has."""

    name: str
    slots: int
    text: str

    def toml(self, setup: str = "") -> str:
        """As it was given."""
        return self.text


def _free_ports(n: int) -> list[int]:
    """Ports of loopback that nobody has."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [int(server.getsockname()[1]) for server in taken]


class Rig:
    """Starts, watches and stops one daemon. A context manager: the daemon does not outlive it.

    Args:
        folder: where its configuration and state are kept; made if missing.
        masters: what it exposes.
        durability: ``"power"`` or ``"crash"``.
        profile: ``"daemon"`` or ``"worker"`` to have that process profiled, see :meth:`profile`; ``"trace"`` to
            have both note what they send and receive, see :meth:`marks`.
        network: ``"plain"`` to listen on loopback, ``"keys"`` to listen there with CurveZMQ and a key for each role;
            empty for a Unix socket.
        settings: further keys of ``[daemon]``, as lines.
    """

    def __init__(
        self,
        folder: Path,
        masters: Sequence[Table],
        durability: str = "power",
        profile: str = "",
        network: str = "",
        settings: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.address = f"ipc://{folder / 'state' / 'control'}"
        self.credentials: dict[str, Any] = {}
        self.daemon_key = b""
        #: of control, workers and results, where it listens on the network
        self.addresses = ("", "", "")
        self._masters = {master.name: master.slots for master in masters}
        self._profile = profile
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        daemon = f'[daemon]\nname = "benchmark"\nstate = "state"\ndurability = "{durability}"\n'
        if network:
            daemon += self._listen(keyed=network == "keys")
        daemon += "".join(f"{line}\n" for line in settings)
        setup = {"worker": "functions:start_profile", "trace": "tracing:start"}.get(profile, "")
        tables = [daemon, *(master.toml(setup) for master in masters)]
        (folder / "daemon.toml").write_text("\n".join(tables), encoding="utf-8")

    def _listen(self, *, keyed: bool) -> str:
        """What the configuration says of addresses, and of keys, which are made."""
        ports = _free_ports(3)
        results, workers = (f"tcp://127.0.0.1:{port}" for port in ports[1:])
        self.address = f"tcp://127.0.0.1:{ports[0]}"
        self.addresses = (self.address, workers, results)
        text = f'listen = "{self.address}"\nresults = "{results}"\nworkers = "{workers}"\n'
        if not keyed:
            return text
        own = new_pair()
        write_pair(self.folder / "daemon.key", own, "the daemon")
        grants = {}
        for name, role in KEYS.items():
            pair = new_pair()
            write_pair(self.folder / f"{name}.key", pair, name)
            grants[name] = Grant(name, pair.public, role)
        (self.folder / "keys.toml").write_text("", encoding="utf-8")
        edit(self.folder / "keys.toml", grants)
        self.credentials = {"key": self.folder / "learner.key", "daemon_key": own.text}
        self.daemon_key = own.public
        return text + 'keys = "keys.toml"\n'

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start the daemon; returns the seconds until it says that it is ready. Raises RuntimeError if it fails."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            path = self.folder / "notify"
            path.unlink(missing_ok=True)
            notified.bind(str(path))
            notified.settimeout(0.5)
            kept = {PROFILE_FOLDER: str(self.folder), TRACE_FOLDER: str(self.folder)}
            environment = {**os.environ, "NOTIFY_SOCKET": str(path), **kept}
            command = ["-m", "taskmaster.daemon", str(self.folder / "daemon.toml")]
            if self._profile == "daemon":
                command = ["-m", "cProfile", "-o", str(self.folder / "daemon-profile"), *command]
            elif self._profile == "trace":
                command[:2] = [str(_FUNCTIONS / "tracing.py")]
            began = time.perf_counter()
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen([sys.executable, *command], env=environment, stderr=log)
            self._await_ready(notified, began + _PATIENCE)
            return time.perf_counter() - began

    def _await_ready(self, notified: socket.socket, deadline: float) -> None:
        assert self._process is not None
        while time.perf_counter() < deadline:
            try:
                if b"READY=1" in notified.recv(4096).splitlines():
                    return
            except TimeoutError:
                if self._process.poll() is not None:
                    break
        raise RuntimeError(f"the daemon did not come up:\n{(self.folder / 'log').read_text(encoding='utf-8')}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon: in order, or with SIGKILL as a power cut would."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE)
            self._process = None

    def connect(self) -> Lab:
        """A client, once every worker of every Master is there."""
        lab = connect(self.address, **self.credentials)
        deadline = time.monotonic() + _PATIENCE
        while any(lab[name].slots < slots for name, slots in self._masters.items()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"workers did not come up: {lab.status().masters}")
            time.sleep(0.01)
        return lab

    def master(self, lab: Lab) -> Master:
        """Its first Master."""
        return lab[next(iter(self._masters))]

    def memory(self) -> int:
        """Resident bytes of the daemon's process, without its workers'."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def cpu(self) -> float:
        """Seconds of processor time that the daemon's threads have had, to the nanosecond."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9

    def profile(self) -> Path:
        """Where the profile of the process that was chosen lies, once that has ended: one worker stands for all."""
        return min(self.folder.glob(f"{self._profile}-*"))

    def marks(self) -> dict[str, list[tuple[int, str]]]:
        """What daemon and workers have noted, by the names of their files, once they have ended."""
        paths = [*self.folder.glob("daemon-*"), *self.folder.glob("worker-*")]
        return {path.name: [(at, what) for at, what in json.loads(path.read_bytes())] for path in paths}

    def __enter__(self) -> Rig:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGTERM if error is None else signal.SIGKILL)
