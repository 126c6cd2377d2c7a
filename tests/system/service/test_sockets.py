"""The listening sockets stay while the daemon is started again: clients wait, and nobody takes the address."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from helpers.booted import Machine
from helpers.installed import Installed
from helpers.load import master
from helpers.waiting import PATIENCE

Install = Callable[..., Installed]

SQUARE = {"square": master(workers=1)}
#: It is started again only after so long; a test does not wait for that, but for the daemon.
LATE = "[Service]\nRestartSec=3\n"
PORT = 5570


def inode(machine: Machine, name: str) -> int:
    return (machine.root / "run/taskmaster" / name).stat().st_ino


def connect(machine: Machine, address: str) -> str:
    """What becomes of connecting to it, in the machine."""
    kind, place = ("AF_UNIX", repr(address)) if address.startswith("/") else ("AF_INET", f"('127.0.0.1', {address})")
    code = f"import socket as s; c = s.socket(s.{kind}); c.settimeout({PATIENCE}); c.connect({place})"
    said = machine.run("python3", "-c", code, check=False)
    return said.stderr.strip().splitlines()[-1] if said.returncode else "connected"


@pytest.mark.slow
def test_unix_sockets_are_kept_while_it_is_started_again(install: Install, machine: Machine) -> None:
    service = install(SQUARE)
    service.drop_in(LATE)
    service.start()
    before = [inode(machine, name) for name in ("control", "results", "workers")]
    assert service.show("NFileDescriptorStore") == "3"

    os.kill(service.pid, signal.SIGKILL)
    service.await_shown("ActiveState", "activating")
    assert connect(machine, "/run/taskmaster/control") == "connected", "it waits in the queue"
    # What is asked meanwhile is answered when the daemon is back.
    assert service.answers()
    service.control("restart")
    assert service.answers()
    assert [inode(machine, name) for name in ("control", "results", "workers")] == before
    assert service.show("NFileDescriptorStore") == "3", "none is kept twice"

    service.control("stop")
    assert "ConnectionRefusedError" in connect(machine, "/run/taskmaster/control"), "stopped is stopped"
    service.control("start")
    assert service.answers()


@pytest.mark.slow
def test_nobody_takes_its_ports_meanwhile(install: Install, machine: Machine) -> None:
    service = install(SQUARE, listen=f"tcp://127.0.0.1:{PORT}")
    service.address = f"tcp://127.0.0.1:{PORT}"
    service.drop_in(LATE)
    service.start()
    assert service.show("NFileDescriptorStore") == "4", "three ports, and a Unix socket for its own workers"
    os.kill(service.pid, signal.SIGKILL)
    service.await_shown("ActiveState", "activating")
    assert connect(machine, str(PORT)) == "connected"
    code = f"import socket; socket.create_server(('127.0.0.1', {PORT}))"
    assert "Address already in use" in machine.run("python3", "-c", code, check=False).stderr
    assert service.answers()
    assert "9" in service.evaluate("square", "x=3"), "its workers are there, too"


def test_an_address_that_is_given_up_is_free(install: Install, machine: Machine) -> None:
    service = install(SQUARE).start()
    service.configure(SQUARE, listen=f"tcp://127.0.0.1:{PORT}")
    service.control("restart")
    service.address = f"tcp://127.0.0.1:{PORT}"
    assert service.answers()
    assert "ConnectionRefusedError" in connect(machine, "/run/taskmaster/control")
    assert service.show("NFileDescriptorStore") == "4"


def test_a_socket_whose_file_was_taken_away_is_bound_anew(install: Install, machine: Machine) -> None:
    service = install(SQUARE).start()
    (machine.root / "run/taskmaster/control").unlink()
    service.control("restart")
    assert service.answers()
    assert service.show("NFileDescriptorStore") == "3"


def test_sockets_of_a_unit_of_ones_own_are_taken(install: Install, machine: Machine) -> None:
    service = install(SQUARE).prepare()
    unit = "/etc/systemd/system/taskmaster.socket"
    names = ("control", "results", "workers")
    streams = "".join(f"ListenStream=/run/taskmaster/{name}\n" for name in names)
    machine.write(unit, f"[Socket]\n{streams}SocketMode=0660\nSocketUser=taskmaster\nSocketGroup=taskmaster-users\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "taskmaster.socket")
    before = [inode(machine, name) for name in names]
    # Whoever connects starts it.
    assert service.answers()
    service.await_shown("ActiveState", "active")
    assert [inode(machine, name) for name in names] == before
    assert service.show("NFileDescriptorStore") == "0"

    # It has to name the same as the configuration.
    machine.run("systemctl", "stop", service.unit, "taskmaster.socket")
    machine.write(unit, f"[Socket]\n{streams}ListenStream=127.0.0.1:5599\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "taskmaster.socket")
    assert service.control("start", check=False).returncode != 0
    assert (
        "systemd passes what the daemon does not listen on: tcp://127.0.0.1:5599 (of taskmaster.socket)" in service.log
    )
    machine.run("systemctl", "stop", "taskmaster.socket")
    (machine.root / unit.lstrip("/")).unlink()
