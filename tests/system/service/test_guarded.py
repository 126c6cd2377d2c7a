"""Instruments under the service: guardians outlive it, have heads go on, and make them safe when it is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from helpers.booted import PYTHON, Machine
from helpers.daemon import EVALUATIONS
from helpers.installed import Installed
from helpers.waiting import eventually

Install = Callable[..., Installed]

#: Where the chamber's record is, and its days.
ROOM = "/srv/room"


def chambers(**keys: Any) -> dict[str, Any]:
    chamber = {
        "driver": "instrument",
        "class": "growing:Chamber",
        "path": [str(EVALUATIONS)],
        "kwargs": {"folder": ROOM},
        "heads": [{"name": "chamber-1"}],
        "parameters": {"light": {"min": 0, "max": 100}},
        "outputs": {"mass": {"unit": "g"}},
        **keys,
    }
    return {"chambers": chamber}


@pytest.fixture
def room(machine: Machine) -> Any:
    machine.run("install", "-d", "-m", "0777", ROOM)
    yield machine.root / ROOM.lstrip("/")
    machine.run("rm", "-rf", ROOM)


def record(room: Any) -> list[str]:
    path = room / "record"
    return path.read_text().splitlines() if path.exists() else []


def await_note(room: Any, note: str) -> None:
    eventually(lambda: note in record(room), f"{note!r} in {record(room)}")


def guardian(service: Installed) -> int:
    """The guardian's number there; 0 where there is none."""
    lock = service.machine.root / service.state.lstrip("/") / "guardians/chambers/lock"
    pid = int(lock.read_text() or "0")
    alive = pid and service.machine.run("kill", "-0", str(pid), check=False).returncode == 0
    return pid if alive else 0


def sow(service: Installed) -> None:
    code = (
        "from taskmaster.learners.client import connect\n"
        f"with connect({service.address!r}) as lab: lab['chambers'].open('plant').tasks.put({{'light': 10.0}})"
    )
    service.machine.run(PYTHON, "-c", code)


def harvest(service: Installed) -> str:
    code = (
        "from taskmaster.learners.client import connect\n"
        f"with connect({service.address!r}, patience=None) as lab: print(lab['chambers'].open('plant').results.get())"
    )
    return service.machine.run(PYTHON, "-c", code).stdout


@pytest.mark.slow
def test_heads_go_on_while_the_service_is_killed_and_restarted(install: Install, room: Any) -> None:
    service = install(chambers(on_shutdown="continue", deadman="60 s"), "--writable", ROOM).start()
    sow(service)
    await_note(room, "chamber-1 sow 10")
    first = guardian(service)
    (room / "1").touch()
    await_note(room, "chamber-1 day 1")

    os.kill(service.pid, signal.SIGKILL)
    (room / "2").touch()
    await_note(room, "chamber-1 day 2")
    service.await_restarts(1)
    service.control("restart")
    (room / "3").touch()
    (room / "4").touch()
    assert "40.0" in harvest(service)
    assert guardian(service) == first, "the same guardian all the time"
    notes = record(room)
    assert "chamber-1 safe" not in notes[: notes.index("chamber-1 day 4")], "that is for the end of the programme"
    service.machine.run("nsenter", f"--target={first}", "--mount", "touch", "/tmp/a", "/var/tmp/b")
    assert [note for note in record(room) if "sow" in note or "resume" in note] == ["chamber-1 sow 10"]


@pytest.mark.slow
def test_heads_are_made_safe_when_the_service_is_stopped(install: Install, room: Any) -> None:
    service = install(chambers(), "--writable", ROOM, grace="0 s").start()
    sow(service)
    await_note(room, "chamber-1 sow 10")
    service.control("stop")
    await_note(room, "chamber-1 safe")
    eventually(lambda: not guardian(service), "the guardian to go")
