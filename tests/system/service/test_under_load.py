"""The service is restarted, killed, stopped and upgraded while a client keeps putting and taking: that notices pauses.

`helpers.load` then checks all there is to check: each task has one outcome, the right one, in an order without gaps,
and so says whoever asks later, and the journal's file.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.booted import Machine
from helpers.installed import Client, Installed
from helpers.load import master

import taskmaster

Install = Callable[..., Installed]

SQUARE = {"square": master(workers=1)}
#: Results between two disturbances.
SOME = 300


def restart(service: Installed) -> None:
    service.control("restart")


def stop_and_start(service: Installed) -> None:
    service.control("stop")
    service.control("start")


def kill(service: Installed) -> None:
    restarts = int(service.show("NRestarts"))
    os.kill(service.pid, signal.SIGKILL)
    service.await_restarts(restarts + 1)


def hang(service: Installed) -> None:
    restarts = int(service.show("NRestarts"))
    os.kill(service.pid, signal.SIGSTOP)
    service.await_restarts(restarts + 1)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_whatever_is_done_to_the_service(install: Install) -> None:
    service = install(SQUARE)
    service.drop_in("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n")
    service.start()
    with service.load("square", "disturbed") as client:
        client.await_results(SOME)
        for disturb in (restart, kill, stop_and_start, hang, restart, kill):
            disturb(service)
            client.await_results(SOME)
            print(f"{disturb.__name__}: the longest pause was {client.longest_pause():.2f} s")
        assert client.finish() >= 7 * SOME


@pytest.mark.slow
def test_an_upgrade_and_a_downgrade_are_a_pause(install: Install, machine: Machine, tmp_path: Path) -> None:
    service = install(SQUARE).start()
    old = service.status()["version"]
    assert old == taskmaster.__version__
    _install_next(machine.root / "opt/next")
    with service.load("square", "upgraded") as client:
        client.await_results(SOME)
        service.drop_in("[Service]\nEnvironment=PYTHONPATH=/opt/next:/opt/next/tests\n", "90-upgrade.conf")
        _replaced(service, client, "99.0.0")
        machine.run("rm", f"/etc/systemd/system/{service.unit}.d/90-upgrade.conf")
        machine.run("systemctl", "daemon-reload")
        _replaced(service, client, old)
        assert client.finish() >= 3 * SOME


def _install_next(folder: Path) -> None:
    """A later version of the same, elsewhere."""
    source = Path(taskmaster.__path__[0])
    shutil.copytree(source, folder / "taskmaster", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "taskmaster/__init__.py"
    module.write_text(module.read_text().replace(taskmaster.__version__, "99.0.0"))


def _replaced(service: Installed, client: Client, version: str) -> None:
    service.control("restart")
    client.await_results(SOME)
    assert service.status()["version"] == version
    print(f"to {version}: the longest pause was {client.longest_pause():.2f} s")
