"""The daemon as a service of a really booted systemd: when it is ready, what restarts it, and what stays."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from helpers.booted import PYTHON, Machine
from helpers.installed import Installed, to_be_typed
from helpers.load import master
from helpers.waiting import PATIENCE, eventually

Install = Callable[..., Installed]

SQUARE = {"square": master(workers=1)}
#: A watchdog that need not be waited for long.
IMPATIENT = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n"
CONFIG = "/etc/taskmaster/taskmaster.toml"


def hinder(service: Installed, hindrance: str, *settings: str) -> None:
    """Have it run with a hindrance, see `helpers.hindered`, and with other settings in its unit."""
    program = f"{PYTHON} -m helpers.hindered {CONFIG}"
    lines = ["[Service]", f'Environment="HINDRANCE={hindrance}"', "ExecStart=", f"ExecStart={program}", *settings]
    service.drop_in("\n".join([*lines, ""]))


# -- its installation -------------------------------------------------------------------------------------------------


def test_it_is_installed_by_typing_what_it_says(install: Install, machine: Machine) -> None:
    service = install(SQUARE)
    typed = to_be_typed(service.said)
    for line in typed:
        if "NAME" not in line and not line.endswith("-f"):
            machine.run("sh", "-c", line)
    assert service.show("UnitFileState") == "enabled"
    assert service.show("StatusText").startswith("serving 1 Master with ")

    # Whoever is in the group finds it and may use it. Nobody else may, and nobody reads the journal behind its back.
    for name in ("ada", "bob"):
        machine.add_user(name)
    [grant] = [line for line in typed if "NAME" in line]
    machine.run("sh", "-c", grant.replace("NAME", "ada"))
    assert "9" in machine.taskmaster("submit", "square", "x=3", "--wait", user="ada").stdout
    assert machine.taskmaster("status", user="bob", check=False).returncode == 4
    assert machine.run("cat", f"{service.state}/journal.db", user="ada", check=False).returncode != 0


# -- ready ------------------------------------------------------------------------------------------------------------


def test_it_is_ready_when_it_serves(install: Install) -> None:
    service = install(SQUARE).start()
    for _ in range(2):
        service.control("restart")
        assert service.status()["name"], "a client need not wait or try again"


@pytest.mark.slow
def test_a_start_that_gets_on_is_waited_for_and_says_what_it_is_at(install: Install, machine: Machine) -> None:
    service = install(SQUARE)
    hinder(service, "busy /run/taskmaster/go-on", "TimeoutStartSec=6")
    service.prepare().control("start", "--no-block")
    service.await_shown("StatusText", "checking the journal")
    begun = int(service.show("ExecMainStartTimestampMonotonic"))
    eventually(lambda: machine.monotonic() - begun > 7e6, "more time to pass than it has")
    assert service.show("ActiveState") == "activating"
    assert not (machine.root / "run/taskmaster/control").exists()
    machine.write("/run/taskmaster/go-on", "")
    service.await_shown("ActiveState", "active")
    assert int(service.show("NRestarts")) == 0


def test_a_start_that_hangs_is_not(install: Install) -> None:
    service = install(SQUARE)
    hinder(service, "idle /run/taskmaster/go-on", "TimeoutStartSec=2", "Restart=no")
    assert service.prepare().control("start", check=False).returncode != 0
    assert service.show("Result") == "timeout"


def test_a_mistake_in_the_configuration_is_said_once(install: Install, machine: Machine) -> None:
    service = install(SQUARE).prepare()
    machine.write(CONFIG, "[daemon]\nnmae = 'x'\n")
    assert service.control("start", check=False).returncode != 0
    assert service.show("ActiveState") == "failed", "another start would not help"
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("3", "0")
    [said] = [entry for entry in service.entries() if "nmae" in entry["MESSAGE"]]
    assert said["PRIORITY"] == "3"
    assert said["MESSAGE"].startswith(f"taskmaster: {CONFIG}:2: ")


# -- ended and started again ------------------------------------------------------------------------------------------


def test_what_it_keeps_stays_through_a_restart_and_a_kill(install: Install, machine: Machine) -> None:
    service = install(SQUARE).start()
    assert "9" in service.evaluate("square", "x=3")
    epochs = [service.status()["epoch"]]
    service.control("restart")
    epochs.append(service.status()["epoch"])
    os.kill(service.pid, signal.SIGKILL)
    service.await_restarts(1)
    epochs.append(service.status()["epoch"])
    assert epochs == sorted(set(epochs)), "each start is a new epoch of the same journal"
    assert "square" in machine.taskmaster("runs", "list").stdout


def test_a_stopped_process_is_ended_and_started_again(install: Install) -> None:
    service = install(SQUARE)
    service.drop_in(IMPATIENT)
    service.start()
    first = service.pid
    os.kill(first, signal.SIGSTOP)
    service.await_restarts(1)
    assert service.pid != first
    assert "Watchdog timeout" in service.log
    assert "9" in service.evaluate("square", "x=3")


def test_a_loop_that_stands_still_says_where(install: Install) -> None:
    service = install(SQUARE)
    hinder(service, "stuck", *IMPATIENT.splitlines()[1:])
    service.start()
    os.kill(service.pid, signal.SIGUSR1)
    service.await_restarts(1)
    assert "Watchdog timeout" in service.log
    assert "in stand_still" in service.log
    assert "in turn" in service.log or "in _poll" in service.log


def test_a_commit_that_hangs_is_not_waited_for(install: Install, machine: Machine) -> None:
    service = install(SQUARE)
    hinder(service, "commit", *IMPATIENT.splitlines()[1:])
    service.start()
    os.kill(service.pid, signal.SIGUSR1)
    client = machine.start(PYTHON, "-m", "taskmaster", "submit", "square", "x=3", "--wait")
    service.await_restarts(1)
    assert "Watchdog timeout" in service.log
    assert "in commit" in service.log
    said, _ = client.communicate(timeout=2 * PATIENCE)
    assert client.returncode == 0
    assert "9" in said, "what could not be acknowledged is sent again"


def test_one_that_keeps_failing_waits_for_somebody(install: Install) -> None:
    service = install(SQUARE)
    service.drop_in("[Unit]\nStartLimitBurst=3\n[Service]\nRestartSec=10ms\n")
    service.start()
    for n in range(1, 3):
        os.kill(service.pid, signal.SIGKILL)
        service.await_restarts(n)
    os.kill(service.pid, signal.SIGKILL)
    service.await_shown("ActiveState", "failed")
    assert service.show("Result") == "signal"
