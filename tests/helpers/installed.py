"""A daemon installed as a service in a booted machine, as the command that does it says, and a client there."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.booted import PYTHON, SOURCE, Machine
from helpers.daemon import toml
from helpers.documents import ROOT
from helpers.waiting import PATIENCE, eventually

__all__ = ["UNIT", "Client", "Installed", "to_be_typed"]

UNIT = "taskmaster.service"

#: What a client may take to end.
_END_SECONDS = 5.0

Masters = Mapping[str, Mapping[str, Any]]


def to_be_typed(said: str) -> list[str]:
    """The commands that `taskmaster install-service` has said to type, without the remarks."""
    lines = said.partition("\nNext:\n")[2].splitlines()
    return [line.partition(" # ")[0].strip() for line in lines if line.startswith("  ")]


class Installed:
    """A service of a name, or of none, and what it keeps."""

    def __init__(self, machine: Machine, masters: Masters, *options: str, name: str = "", **daemon: Any) -> None:
        self.machine = machine
        self.name = name
        self.options = [*(["--name", name] if name else []), *options]
        self.unit = f"taskmaster@{name}.service" if name else UNIT
        self.state = f"/var/lib/taskmaster{f'-{name}' if name else ''}"
        self.address = f"ipc:///run/taskmaster/{f'{name}/' if name else ''}control"
        self._since = machine.monotonic()
        self.configure(masters, **daemon)
        self.said = machine.taskmaster("install-service", *self.options).stdout

    def configure(self, masters: Masters, **daemon: Any) -> None:
        """Write its configuration."""
        settings = {"durability": "crash", "keep_free": 0, "grace": "2 s", **daemon}
        text = toml(settings, masters).replace(str(ROOT), str(SOURCE))
        self.machine.write(f"/etc/taskmaster/{self.name or 'taskmaster'}.toml", text)

    def prepare(self) -> Installed:
        """Type what it says to type, but for what starts it and what follows."""
        for line in to_be_typed(self.said):
            if " enable " in line:
                break
            # There is no udevd in a container, and no device.
            if not line.startswith("udevadm"):
                self.machine.run("sh", "-c", line)
        return self

    def start(self) -> Installed:
        """Install it and start it. Raises AssertionError with its log where it does not start."""
        self.prepare()
        self.control("start")
        return self

    def control(self, verb: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``systemctl VERB`` for its unit."""
        done = self.machine.run("systemctl", verb, *options, self.unit, check=False)
        assert not check or done.returncode == 0, f"{verb}: {done.stderr}\n{self.log}"
        return done

    def drop_in(self, text: str, name: str = "50-test.conf") -> None:
        """Change the unit, as somebody would by `systemctl edit`."""
        self.machine.write(f"/etc/systemd/system/{self.unit}.d/{name}", text)
        self.machine.run("systemctl", "daemon-reload")

    def show(self, name: str) -> str:
        """A property of its unit."""
        return self.machine.show(self.unit, name)[name]

    def await_shown(self, name: str, value: str, timeout: float = PATIENCE) -> None:
        """Wait until a property has a value, or has that in it."""
        try:
            eventually(lambda: value in self.show(name), f"{name} = {value}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}, which is {self.show(name)!r}:\n{self.log}") from None

    def await_restarts(self, n: int) -> None:
        """Wait until systemd has started it so many times by itself, and it is ready."""
        eventually(lambda: int(self.show("NRestarts")) >= n, f"restart {n}, after:\n{self.log}")
        self.await_shown("ActiveState", "active")

    @property
    def pid(self) -> int:
        """Its process, as this machine numbers it."""
        return self.machine.pid(self.unit)

    def children(self) -> list[int]:
        """The processes that its own has started, as this machine numbers them."""
        pid = self.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def entries(self) -> list[dict[str, Any]]:
        """What the journal has of it, and not of one that was installed before, with all fields."""
        entries = self.machine.journal(self.unit)
        return [entry for entry in entries if int(entry["__MONOTONIC_TIMESTAMP"]) >= self._since]

    @property
    def log(self) -> str:
        """The same as text."""
        return "".join(
            f"{int(entry['__MONOTONIC_TIMESTAMP']) / 1e6:.3f} {entry.get('SYSLOG_IDENTIFIER')} <{entry['PRIORITY']}> "
            f"{entry['MESSAGE']}\n"
            for entry in self.entries()
        )

    def await_log(self, text: str) -> None:
        """Wait until the journal has it."""
        eventually(lambda: text in self.log, f"{text!r} in the journal")

    def status(self) -> Any:
        """What ``taskmaster status`` says."""
        return json.loads(self.machine.taskmaster("status", "--json", "--address", self.address).stdout)

    def answers(self) -> bool:
        """Whether a client that has patience gets an answer, in the end."""
        code = f"from taskmaster.learners.client import connect; connect({self.address!r}, timeout={PATIENCE}).close()"
        return self.machine.run(PYTHON, "-c", code).returncode == 0

    def evaluate(self, master: str, point: str) -> str:
        """Have one point evaluated, and return what is printed."""
        words = ("submit", master, point, "--wait", "--address", self.address)
        return self.machine.taskmaster(*words).stdout

    def remove(self) -> None:
        """Stop it, take it away with what it keeps, and whatever guards its instruments."""
        machine = self.machine
        machine.run("systemctl", "stop", self.unit)
        machine.run("systemctl", "kill", "--signal=KILL", self.unit, check=False)
        machine.run("systemctl", "reset-failed", self.unit, check=False)
        folder = f"/etc/systemd/system/{self.unit}.d"
        machine.run("sh", "-c", f"rm -rf {shlex.quote(self.state)} {folder} /etc/taskmaster /run/taskmaster/*")
        machine.taskmaster(
            "install-service", *self.options[: 2 if self.name else 0], "--uninstall", "--force", check=False
        )
        machine.run("systemctl", "daemon-reload")

    @contextmanager
    def load(self, master: str, run: str) -> Iterator[Client]:
        """A client under load in the machine."""
        process = self.machine.start(PYTHON, "-m", "helpers.inside", master, run)
        try:
            yield Client(self, process)
        finally:
            try:  # told nothing further, it ends, where it has come to its end
                process.communicate(timeout=_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


class Client:
    """A client that keeps putting and taking, and keeps count, see `helpers.inside`."""

    def __init__(self, service: Installed, process: subprocess.Popen[str]) -> None:
        self._service = service
        self._process = process

    def ask(self, order: str) -> str:
        """Tell it something, and hear what it answers. Raises AssertionError where it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, f"the client has ended at {order!r}; what it said is above. The service:\n{self._service.log}"
        return answer

    def await_results(self, n: int) -> None:
        """Wait until so many more have come."""
        self.ask(f"results {n}")

    def longest_pause(self) -> float:
        """Seconds without any result, at most, since this was last asked."""
        return float(self.ask("pause"))

    def finish(self) -> int:
        """End the load, and have everything checked that there is to check; returns how many tasks it was."""
        return int(self.ask(f"finish {self._service.state}"))
