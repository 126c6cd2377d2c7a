"""The other units: one of several daemons, workers for one elsewhere, one of a user's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.booted import PYTHON, Machine
from helpers.installed import Installed, to_be_typed
from helpers.load import master
from helpers.waiting import eventually

Install = Callable[..., Installed]

SQUARE = {"square": master(workers=1)}
PORT = 5570
#: A watchdog that need not be waited for long.
IMPATIENT = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n"
HOME = Path("/home", "una")


def test_several_side_by_side(install: Install, machine: Machine) -> None:
    services = [install(SQUARE, name=name).start() for name in ("", "west", "east-2")]
    for service in services:
        assert "9" in service.evaluate("square", "x=3")
    assert len({service.status()["epoch"] for service in services}) == 3
    assert (machine.root / "run/taskmaster/west/control").stat().st_gid == _group(machine, "taskmaster-users")
    west = services[1]
    machine.add_user("eve", "--groups", "taskmaster-users")
    assert machine.taskmaster("status", "--address", west.address, user="eve").returncode == 0
    # What becomes of one is no business of the others.
    os.kill(west.pid, signal.SIGKILL)
    west.await_restarts(1)
    assert [service.show("NRestarts") for service in services] == ["0", "1", "0"]


def _group(machine: Machine, name: str) -> int:
    return int(machine.run("getent", "group", name).stdout.split(":")[2])


@pytest.mark.slow
def test_workers_for_a_daemon_elsewhere(install: Install, machine: Machine) -> None:
    daemon = install({"square": master(workers=0)}, listen=f"tcp://127.0.0.1:{PORT}", lost_after="3 s").start()
    daemon.address = f"tcp://127.0.0.1:{PORT}"
    said = machine.taskmaster("install-service", "--worker", "--name", "first").stdout
    assert "/etc/taskmaster/worker-first.conf is missing" in said
    folder = "/opt/taskmaster/tests/helpers/work"
    settings = f"ADDRESS={daemon.address}\nMASTER=square\nOPTIONS=--processes 2 --path {folder}\n"
    machine.write("/etc/taskmaster/worker-first.conf", settings)
    for line in to_be_typed(said):
        if "journalctl" not in line and "status" not in line:
            machine.run("sh", "-c", line)
    unit = "taskmaster-worker@first.service"
    try:
        assert machine.show(unit, "ActiveState")["ActiveState"] == "active"
        status = machine.show(unit, "StatusText")["StatusText"]
        assert status.startswith("2 worker processes for Master 'square' of "), status
        assert status.endswith(f" at tcp://127.0.0.1:{PORT + 2}"), status
        assert "9" in daemon.evaluate("square", "x=3")
        # The daemon goes and comes back; the workers stay.
        before = machine.show(unit, "MainPID")
        daemon.control("restart")
        assert "16" in daemon.evaluate("square", "x=4")
        assert machine.show(unit, "MainPID") == before
        # A host that stands still is ended and started again.
        machine.write(f"/etc/systemd/system/{unit}.d/50-test.conf", IMPATIENT)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", unit)
        os.kill(machine.pid(unit), signal.SIGSTOP)
        eventually(lambda: machine.show(unit, "NRestarts")["NRestarts"] == "1", "the host to be started again")
        assert "25" in daemon.evaluate("square", "x=5")
        [left] = [entry for entry in machine.journal(unit) if entry["MESSAGE"].startswith("left Master 'square'")]
        assert left["SYSLOG_IDENTIFIER"] == "taskmaster-worker"
    finally:
        print(machine.log(unit))
        machine.run("systemctl", "stop", unit)


@pytest.mark.slow
def test_one_of_a_users_own(machine: Machine) -> None:
    machine.add_user("una", "--create-home", "--uid", "1234")
    machine.write(
        HOME / ".config/taskmaster/taskmaster.toml",
        '[masters.square]\ndriver = "process"\nfunction = "evaluations:square"\nworkers = 1\n'
        'path = ["/opt/taskmaster/tests/helpers/work"]\n[masters.square.parameters.x]\n',
    )
    machine.run("chown", "-R", "una:", HOME)
    # As her login would have it, but for PAM, which is not set up in a container.
    machine.run("install", "-d", "-o", "una", "-m", "0700", "/run/user/1234")
    machine.write(
        "/etc/systemd/system/una.service",
        "[Service]\nUser=una\nType=notify\nDelegate=yes\nEnvironment=XDG_RUNTIME_DIR=/run/user/1234\n"
        "ExecStart=/lib/systemd/systemd --user\n",
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "una")

    def una(*words: str | Path) -> str:
        environment = ("env", f"HOME={HOME}", "XDG_RUNTIME_DIR=/run/user/1234")
        return machine.run(*environment, *words, user="una").stdout

    def property_of(name: str) -> str:
        return una("systemctl", "--user", "show", "taskmaster", f"--property={name}", "--value").strip()

    said = una(PYTHON, "-m", "taskmaster", "install-service", "--user")
    for line in to_be_typed(said):
        if line.startswith("systemctl"):
            una("sh", "-c", line)
    assert property_of("ActiveState") == "active"
    assert "9" in una(PYTHON, "-m", "taskmaster", "submit", "square", "x=3", "--wait"), (
        "it is found where she expects it"
    )
    before = property_of("MainPID")
    una("systemctl", "--user", "kill", "--signal=KILL", "taskmaster")
    eventually(lambda: property_of("NRestarts") == "1" and property_of("ActiveState") == "active", "a restart")
    assert property_of("MainPID") != before
    assert property_of("NFileDescriptorStore") == "3"
    una("systemctl", "--user", "disable", "--now", "taskmaster")
    una(PYTHON, "-m", "taskmaster", "install-service", "--user", "--uninstall")
    assert not (machine.root / "home/una/.config/systemd/user/taskmaster.service").exists()
    machine.run("systemctl", "stop", "una")
