"""A machine that systemd has really booted: this one's programs in a container, with folders of its own for the rest.

Its root is a file system in memory with this machine's /usr in it, read-only, and the folders of the program that is
tested. So nothing is downloaded and nothing of this machine is changed, and it is there in half a second.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import taskmaster
from helpers.documents import ROOT
from helpers.waiting import PATIENCE, eventually

__all__ = ["PYTHON", "SOURCE", "Machine", "booted"]

_NSPAWN = (
    "systemd-nspawn", "--directory=/", "--volatile=yes", "--register=no", "--keep-unit", "--boot", "--console=pipe",
    "--quiet", "--private-network", "--kill-signal=SIGRTMIN+3",
    # For systemd to filter a service's packets and devices.
    "--capability=CAP_BPF,CAP_SYS_ADMIN", "--system-call-filter=bpf",
)  # fmt: skip
#: What PID 1 is told: no further than where services can be started, and none of what this machine would start.
_BOOT = ("systemd.unit=basic.target", "systemd.mask=systemd-firstboot.service", "systemd.mask=systemd-resolved.service")
#: Go into the control groups that are named first, as many as $0 says, then be the program that is named after.
_ENTER_GROUPS = 'for _ in $(seq "$0"); do echo $$ >"$1/cgroup.procs" || exit; shift; done; exec "$@"'
_ENTER = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")


#: How long processes of a machine that has ended may be waited for.
_EMPTY_SECONDS = 5.0

#: Where the program that is tested is there: not in /tmp, of which a service has its own, wherever it is here.
SOURCE, _ENVIRONMENT = Path("/opt/taskmaster"), Path("/opt/environment")
_PYTHON_PATH = (SOURCE / "tests", SOURCE / "src")
PYTHON = _ENVIRONMENT / "bin" / Path(sys.executable).name


class Machine:
    """One that runs. Commands are root's, in it."""

    def __init__(self, process: subprocess.Popen[bytes], init: int, console: Path) -> None:
        self._process = process
        self._init = init
        self._console = console

    @property
    def root(self) -> Path:
        """Its file system, as this machine sees it."""
        return Path(f"/proc/{self._init}/root")

    @property
    def console(self) -> str:
        """What it said while it booted."""
        return self._console.read_text(encoding="utf-8", errors="replace")

    def command(self, *words: str | Path, user: str = "") -> list[str]:
        """A command line here that runs ``words`` there."""
        enter = ["nsenter", f"--target={self._init}", *_ENTER, "--"]
        return [
            *enter,
            *(["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []),
            *map(str, words),
        ]

    def run(
        self, *words: str | Path, check: bool = True, user: str = "", stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises AssertionError, with what it said, where that is a failure."""
        done = subprocess.run(
            self.command(*words, user=user),
            input=stdin, capture_output=True, text=True, check=False, env=_environment(), timeout=2 * PATIENCE,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{shlex.join(map(str, words))}: {done.stdout}{done.stderr}"
        return done

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Run a command that is talked to over its standard input and output."""
        return subprocess.Popen(
            self.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )

    def taskmaster(self, *words: str | Path, check: bool = True, user: str = "") -> subprocess.CompletedProcess[str]:
        """The program that is tested."""
        return self.run(PYTHON, "-m", "taskmaster", *words, check=check, user=user)

    def add_user(self, name: str, *options: str) -> None:
        """Somebody with an account there, in whose name commands can be run."""
        self.run("useradd", "--user-group", *options, name)

    def write(self, path: str | Path, text: str) -> None:
        """Write a file there."""
        file = self.root / str(path).lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    @staticmethod
    def monotonic() -> int:
        """The clock that systemd's monotonic times are of, in microseconds: this machine's."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    # -- units --------------------------------------------------------------------------------------------------------

    def show(self, unit: str, *properties: str) -> Mapping[str, str]:
        """Properties of a unit; what one has several of is in several lines."""
        said = self.run("systemctl", "show", unit, f"--property={','.join(properties)}").stdout
        found: dict[str, str] = {}
        for name, _, value in (line.partition("=") for line in said.splitlines()):
            found[name] = f"{found[name]}\n{value}" if name in found else value
        return found

    def pid(self, unit: str) -> int:
        """The main process of a unit, as this machine numbers it; 0 where it has none."""
        inside = int(self.show(unit, "MainPID")["MainPID"])
        return next(iter(self._here(inside)), 0) if inside else 0

    def _here(self, inside: int) -> Iterator[int]:
        """Numbers of a process there in this machine: the last of those in its status is the one there."""
        namespace = os.readlink(f"/proc/{self._init}/ns/pid")
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, StopIteration):
                if entry.name.isdigit() and os.readlink(entry / "ns/pid") == namespace:
                    status = (entry / "status").read_text()
                    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
                    if int(numbers[-1]) == inside:
                        yield int(entry.name)

    def journal(self, unit: str) -> list[dict[str, Any]]:
        """What the journal has of a unit, its own entries and systemd's, with all fields."""
        said = self.run("journalctl", "--unit", unit, "--output=json", "--no-pager", "--all").stdout
        return [json.loads(line) for line in said.splitlines()]

    def log(self, unit: str) -> str:
        """The same as text, for people."""
        return self.run("journalctl", "--unit", unit, "--output=short-monotonic", "--no-pager", "--quiet").stdout

    def await_active(self, unit: str, *, start: bool = False) -> None:
        """Wait until it is; ``start`` it first."""
        if start:
            started = self.run("systemctl", "start", unit, check=False)
            assert started.returncode == 0, f"{started.stderr}\n{self.log(unit)}"
        eventually(lambda: self.show(unit, "ActiveState")["ActiveState"] == "active", f"{unit} to be active")


def _environment() -> dict[str, str]:
    """Of commands there: nothing of this machine's but where the program is."""
    path = os.pathsep.join(map(str, _PYTHON_PATH))
    return {"PATH": "/usr/sbin:/usr/bin", "LANG": "C.UTF-8", "HOME": "/root", "PYTHONPATH": path}


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """A machine. Skips the test where none can be booted, and says why."""
    reason = _unbootable()
    if reason:
        pytest.skip(reason)
    _compile()
    shown = {ROOT: SOURCE, Path(sys.prefix).resolve(): _ENVIRONMENT}
    also = (Path(sys.base_prefix), Path("/etc/ld.so.cache"))
    shown |= {path: path for path in also if path.exists() and not path.is_relative_to("/usr")}
    binds = [f"--bind-ro={here}:{there}" for here, there in shown.items()]
    console = folder / "console"
    try:
        groups = _new_groups()
    except OSError as error:
        pytest.skip(f"no control group can be made here, which a machine would have its services in: {error}")
    start = ["sh", "-c", _ENTER_GROUPS, str(len(groups)), *map(str, groups)]
    with console.open("wb") as output:
        process = subprocess.Popen(
            # It ends with this process, however that ends.
            [*start, "setpriv", "--pdeathsig", "KILL", *_NSPAWN, *binds, *_BOOT],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, "UNIFIED_CGROUP_HIERARCHY": "1"},
        )  # fmt: skip
    try:
        machine = _await_boot(process, console)
        if machine is None:
            said = console.read_text(encoding="utf-8", errors="replace").strip()
            pytest.skip(f"systemd cannot be booted in a container here: {said[-500:] or 'it does not come up'}")
        for path in shown.values():  # the program's folders may be in a home here
            for folder in (path, *path.parents)[1:-1]:
                machine.run("chmod", "o+x", folder)
        yield machine
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
        for group in groups:
            with contextlib.suppress(AssertionError):  # it stays, empty
                eventually(partial(_is_removed, group), "a control group to be empty", _EMPTY_SECONDS)


def _compile() -> None:
    """In the machine the program cannot be written beside: each start of it would compile it anew."""
    for package in (Path(taskmaster.__path__[0]), ROOT / "tests" / "helpers"):
        compileall.compile_dir(package, quiet=2)
        for folder in package.iterdir():
            if folder.is_symlink():  # which are not followed
                compileall.compile_dir(folder.resolve(), quiet=2)


def _control_groups() -> Iterator[Path]:
    """The control groups of this process in which systemd would make its own, for services."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd"):
            below = ("systemd",) if controllers else ("unified", "")
            places = [Path("/sys/fs/cgroup", name) / path.lstrip("/") for name in below]
            yield from [place for place in places if (place / "cgroup.procs").exists()][:1]


def _new_groups() -> list[Path]:
    """For a machine alone: in a common one two would put their services, and what these may do, into the same.

    They have one name everywhere, as systemd-nspawn makes those that are missing.
    """
    places = list(_control_groups())
    if not places:
        return []
    first = Path(tempfile.mkdtemp(prefix="taskmaster-", dir=places[0]))
    others = [place / first.name for place in places[1:]]
    for group in others:
        group.mkdir()
    return [first, *others]


def _is_removed(group: Path) -> bool:
    """Remove it, if nothing is in it any more; the files in it are the kernel's."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not group.exists()


def _unbootable() -> str:
    if os.geteuid() != 0:
        return "only root may boot a machine in a container"
    for program in ("systemd-nspawn", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: systemd-container, util-linux)"
    return ""


def _await_boot(process: subprocess.Popen[bytes], console: Path) -> Machine | None:
    """The machine when it is up; None if it does not come up."""

    def look() -> Machine | bool | None:
        if process.poll() is not None:
            return True
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    machine = Machine(process, int(child), console)
                    up = machine.run("systemctl", "is-active", "--quiet", "basic.target", check=False)
                    return machine if up.returncode == 0 else None
        return None

    try:
        found = eventually(look, "a machine to boot")
    except AssertionError:
        return None
    return found if isinstance(found, Machine) else None
