"""Devices that nobody here wrote, described by commands, through a real daemon: of lewis over TCP, of PyVISA-sim.

All of them answer what they are told to do, in their own ways: with an empty line, the value, ``OK``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.foreign import lewis
from helpers.instruments import Line
from helpers.places import StartDaemon
from helpers.waiting import eventually

from taskmaster.bus import messages as m
from taskmaster.bus.status import HeadInfo
from taskmaster.learners.client import Lab

#: A temperature circulator (lewis.devices.julabo): what sets it is answered with an empty line.
CIRCULATOR: dict[str, Any] = {
    "driver": "visa",
    "write_terminator": "\r",
    "read_terminator": "\r\n",
    "identify": "VERSION",
    "identity": "JULABO .*",
    "parameters": {"temperature": {"unit": "°C", "min": 5, "max": 80}},
    "outputs": {"setpoint": {"unit": "°C"}, "bath": {"unit": "°C"}},
    "commands": {
        "open": [{"command": "OUT_MODE_05 1", "answer": ""}],
        "set": [{"command": "OUT_SP_00 {temperature:.1f}", "answer": ""}],
        "read": {"setpoint": "IN_SP_00", "bath": "IN_PV_00"},
        "safe": [{"command": "OUT_MODE_05 0", "answer": ""}],
    },
    "monitor": {"bath": {"query": "IN_PV_00", "every": "100 ms"}},
}
#: A motor (lewis.examples.example_motor), which says to where it goes, and where it stopped; for a moment after it was
#: told to go it still says that it is idle.
MOTOR: dict[str, Any] = {
    "driver": "visa",
    "write_terminator": "\r\n",
    "read_terminator": "\r\n",
    # It cannot say who it is; but lewis 1.4 ends when somebody leaves who has asked it nothing.
    "identify": "S?",
    "identity": "idle|moving",
    "parameters": {"position": {"unit": "mm", "min": 0, "max": 250}},
    "outputs": {"position": {"unit": "mm"}, "target": {"unit": "mm"}},
    "commands": {
        "set": [{"command": "T={position:.2f}", "answer": "T=.*"}],
        "wait": {"query": "S?", "until": "idle", "timeout": "200 s", "every": "20 ms"},
        "read": {"position": "P?", "target": "T?"},
        "safe": [{"command": "H", "answer": "T=.*,P=.*"}],
        "delay": "200 ms",
    },
}
#: The first device of PyVISA-sim's own description: a function generator; it refuses what is out of its range.
GENERATOR: dict[str, Any] = {
    "driver": "visa",
    "backend": "@sim",
    "resource": "ASRL1::INSTR",
    "write_terminator": "\r\n",
    "identify": "?IDN",
    "identity": "LSG Serial #1234",
    "parameters": {"frequency": {"unit": "Hz"}},
    "outputs": {"frequency": {"unit": "Hz"}, "amplitude": {"unit": "V"}},
    "commands": {
        "open": [{"command": "!CAL", "answer": "OK"}],
        "set": [{"command": "!FREQ {frequency:.2f}", "answer": "OK"}],
        "read": {"frequency": "?FREQ", "amplitude": "?AMP"},
        "safe": [{"command": "!OUT 0", "answer": "OK"}],
    },
}


@pytest.fixture(scope="module")
def motor() -> Iterator[str]:
    with lewis("example_motor", "stream", "-k", "lewis.examples") as motor:
        yield motor


@pytest.fixture(scope="module")
def circulator() -> Iterator[str]:
    with lewis("julabo", "julabo-version-1") as circulator:
        yield circulator


# The devices outlive the daemon, so that they can be made safe when it goes.
@pytest.fixture(scope="module")
def lab(motor: str, circulator: str, start_shared_daemon: StartDaemon) -> Iterator[Lab]:
    masters = {
        "bath": {**CIRCULATOR, "resource": circulator},
        "motor": {**MOTOR, "resource": motor},
        "generator": GENERATOR,
    }
    with start_shared_daemon(masters).connect() as lab:
        eventually(lambda: [head.state for head in heads(lab)] == ["ready"] * 3, "all heads to be ready")
        yield lab


def heads(lab: Lab) -> tuple[HeadInfo, ...]:
    found: tuple[HeadInfo, ...] = lab.ask(m.ListHeads(0)).heads
    return found


def outcomes(lab: Lab, master: str, points: list[dict[str, Any]]) -> list[Any]:
    """The output of each task, or what went wrong."""
    run = lab[master].open()
    run.tasks.put_many(points)
    ended = sorted(run.results, key=lambda result: result.index)
    return [result.output if result.error is None else str(result.error) for result in ended]


def test_a_circulator(lab: Lab) -> None:
    wanted = [20.0 + k / 2 for k in range(10)]
    seen = outcomes(lab, "bath", [{"temperature": value} for value in wanted])
    assert [output["setpoint"] for output in seen] == wanted
    assert all(0 < output["bath"] < 100 for output in seen)
    assert "JULABO FP50_MH Simulator, ISIS" in {head.identity for head in heads(lab)}


def test_a_motor_is_waited_for(lab: Lab) -> None:
    for output, wanted in zip(outcomes(lab, "motor", [{"position": 1.5}, {"position": 0.5}]), (1.5, 0.5)):
        assert output["target"] == wanted
        assert output["position"] == pytest.approx(wanted)


def test_what_a_device_refuses_fails_its_task_and_the_next_one_is_right(lab: Lab) -> None:
    fine, refused, last = outcomes(lab, "generator", [{"frequency": 50.0}, {"frequency": 1e6}, {"frequency": 1000.0}])
    assert fine == {"frequency": 50.0, "amplitude": 1.0}
    assert "'!FREQ 1000000.00' is answered with 'FREQ_ERROR', not with 'OK'" in refused
    assert last == {"frequency": 1000.0, "amplitude": 1.0}


def test_a_stop_halts_the_motor_on_its_way(lab: Lab, motor: str) -> None:
    run = lab["motor"].open()
    run.tasks.put({"position": 200.0})
    with Line(motor) as line:
        eventually(lambda: line.ask("S?") == "moving", "it to be on its way")
    lab.ask(m.Stop(0, "motor", "far enough"))
    eventually(lambda: any(head.safe for head in heads(lab)), "it to be safe")
    with Line(motor) as line:
        assert line.ask("S?") == "idle"
        assert float(line.ask("P?")) < 100.0
    for held in eventually(lab.held, "its task to be in doubt"):
        lab.resolve(held.run, held.index, "fail", reason="it was stopped")
    lab.ask(m.Reset(0, "motor"))
    (near,) = outcomes(lab, "motor", [{"position": 1.0}])
    assert near["position"] == pytest.approx(1.0)
