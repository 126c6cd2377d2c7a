"""What the service keeps from the functions it evaluates, and what it does not; and what is in the journal."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.booted import PYTHON, Machine
from helpers.daemon import function
from helpers.installed import Installed

from taskmaster.cli.journald import FIELDS

Install = Callable[..., Installed]

ALLOWED = (
    "compile",
    "be nice",
    "choose a processor",
    "use temporary files",
    "cache",
    "have processes",
    "look at the network",
    "look at the processors",
    "use many threads",
)
FORBIDDEN = (
    "write to /etc",
    "write to /usr",
    "write to /srv",
    "read homes",
    "raw socket",
    "become root",
    "see others",
    "read the kernel's log",
    "look at devices",
    "open a serial port",
    "open another device",
)
#: A serial port, and a device that no drop-in speaks of: major and minor numbers.
DEVICES = {"ttyS7": (4, 71), "other": (10, 237)}
NO_FILTERS = "systemd can filter neither packets nor devices in a container here"


def masters() -> dict[str, Any]:
    attempt = {**function("attempt"), "function": "confined:attempt"}
    return {"attempt": attempt, "score": {**attempt, "function": "confined:oom_score"}}


def evaluate(service: Installed, master: str, point: Any) -> Any:
    """Have one evaluated, as a program would."""
    code = (
        "import json, sys; from taskmaster.learners.client import connect\n"
        f"with connect({service.address!r}) as lab: print(json.dumps(lab[{master!r}].map([json.load(sys.stdin)])[0]))"
    )
    return json.loads(service.machine.run(PYTHON, "-c", code, stdin=json.dumps(point)).stdout)


def attempt(service: Installed, names: Sequence[str]) -> dict[str, str]:
    return dict(evaluate(service, "attempt", list(names)))


def test_what_functions_may_do_and_what_not(install: Install, machine: Machine) -> None:
    machine.write(Path("/home", "ada", "secret"), "x")
    service = install(masters()).start()
    came_of_it = attempt(service, [*ALLOWED, *FORBIDDEN])
    assert {name: came_of_it[name] for name in ALLOWED} == dict.fromkeys(ALLOWED, "done")
    assert {name for name in FORBIDDEN if came_of_it[name] == "done"} == set(), came_of_it

    scores = evaluate(service, "score", None)
    assert scores["worker"] == 0 or scores["daemon"] > 0, scores
    assert scores["daemon"] <= scores["worker"], "memory is taken back from workers first"


def test_what_is_allowed_besides(install: Install, machine: Machine) -> None:
    machine.run("install", "-d", "-m", "0777", "/srv")
    classes = ("--devices", "serial,usbtmc,gpib,gpu", "--allow", "internet,processors", "--writable", "/srv")
    service = install(masters(), *classes).start()
    assert attempt(service, ["write to /srv"]) == {"write to /srv": "done"}
    assert "done" not in attempt(service, FORBIDDEN[:2]).values()
    allowed = service.show("DeviceAllow")
    for group in ("ttyUSB", "ttyACM", "ttyS", "usb_device", "gpib", "nvidia*", "drm"):
        assert f"char-{group} rw" in allowed
    assert (service.show("PrivateDevices"), service.show("DevicePolicy")) == ("no", "closed")
    assert (service.show("IPAddressDeny"), service.show("IPAddressAllow")) == ("", "")


def test_a_class_of_devices_is_just_that(install: Install, machine: Machine) -> None:
    _require_filters(machine)
    service = install(masters(), "--devices", "serial").start()
    for name, numbers in DEVICES.items():
        path = machine.root / "dev" / name
        os.mknod(path, stat.S_IFCHR, os.makedev(*numbers))
        path.chmod(0o660)
        os.chown(path, 0, int(machine.run("getent", "group", "dialout").stdout.split(":")[2]))
    tries = ("open a serial port", "open another device")
    try:
        assert attempt(service, tries) == dict(zip(tries, ("done", "PermissionError")))
    finally:
        for name in DEVICES:
            (machine.root / "dev" / name).unlink()


def test_the_internet_is_out_of_reach(install: Install, machine: Machine) -> None:
    _require_filters(machine)
    # Nobody listens there, which is to be heard of where it may be reached.
    tries = ("reach a private network", "reach the internet")
    service = install(masters()).start()
    came_of_it = attempt(service, tries)
    assert came_of_it[tries[0]] == "ConnectionRefusedError"
    assert came_of_it[tries[1]] in ("PermissionError", "TimeoutError")
    service.drop_in("[Service]\nIPAddressDeny=\nIPAddressAllow=\n")
    service.control("restart")
    assert attempt(service, tries[1:]) == {tries[1]: "ConnectionRefusedError"}


def _require_filters(machine: Machine) -> None:
    """Two addresses of its own, one of them the Internet's; skip the test where systemd filters no packets."""
    if machine.run("sh", "-c", "command -v ip", check=False).returncode:
        pytest.skip("iproute2 is not installed: no address of the Internet can be put up here")
    for address in ("10.1.2.3", "203.0.113.7"):
        machine.run("ip", "address", "replace", f"{address}/32", "dev", "lo")
    code = "import socket; s = socket.socket(); s.settimeout(1); print(s.connect_ex(('203.0.113.7', 9)))"
    machine.write("/opt/reach.py", code)
    unit = "[Service]\nType=oneshot\nIPAddressDeny=any\nExecStart=/usr/bin/env python3 /opt/reach.py\n"
    machine.write("/etc/systemd/system/reach.service", unit)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "reach")
    if any(entry["MESSAGE"] == str(errno.ECONNREFUSED) for entry in machine.journal("reach")):
        pytest.skip(NO_FILTERS)


def test_entries_of_the_journal_have_fields(install: Install, machine: Machine) -> None:
    service = install({"broken": {**function("square"), "function": "confined:attempt"}}).start()
    [worker] = service.children()
    os.kill(worker, signal.SIGKILL)
    service.await_log("Master 'broken'")
    entries = service.entries()
    [ready] = [entry for entry in entries if " is ready at " in entry["MESSAGE"]]
    assert {
        field: ready.get(field) for field in ("PRIORITY", "SYSLOG_IDENTIFIER", "TASKMASTER_LOGGER", "CODE_FUNC")
    } == {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "taskmaster",
        "TASKMASTER_LOGGER": "daemon",
        "CODE_FUNC": "serve",
    }
    [lost, *_] = [entry for entry in entries if "TASKMASTER_MASTER" in entry]
    assert (lost["TASKMASTER_MASTER"], lost["PRIORITY"]) == ("broken", "4")
    assert FIELDS.keys() <= lost.keys()
    found = machine.run("journalctl", "--output=cat", "TASKMASTER_MASTER=broken").stdout
    assert lost["MESSAGE"] in found.splitlines()
