"""Instruments of PyMeasure, QCoDeS and ophyd-async, with no line of Python, through a real daemon: shipped examples."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from helpers.places import short_folder, starter
from helpers.waiting import eventually

from taskmaster.bus import messages as m
from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.status import HeadInfo, HeldTask
from taskmaster.config.shipped import example
from taskmaster.learners.client import Lab
from taskmaster.learners.results import Result


@contextmanager
def daemon_of(name: str, **more: dict[str, Any]) -> Iterator[Lab]:
    """A client of a daemon with the Masters of an example, as they are, and ``more``; its heads are ready."""
    file = example(name)
    masters = tomllib.loads(file.read_text(encoding="utf-8"))["masters"] | more
    with short_folder() as folder, starter(folder) as start:
        (folder / "d").mkdir()
        for beside in file.parent.glob("*.yaml"):
            shutil.copy(beside, folder / "d")
        with start(masters).connect() as lab:
            eventually(
                lambda: all(head.state == "ready" for head in heads(lab)), "all heads to be ready", timeout=120.0
            )
            yield lab


@pytest.fixture(scope="module")
def pymeasure() -> Iterator[Lab]:
    slow = {
        "driver": "instrument",
        "class": "pymeasure.instruments.fakes:SwissArmyFake",
        "kwargs": {"wait": 600},
        "read": {"voltage": "voltage"},
        "outputs": {"voltage": {}},
        "reconnect": {"first": "20 ms", "longest": "100 ms"},
    }
    unlimited = {
        "driver": "instrument",
        "class": "pymeasure.instruments.hp:HP34401A",
        "backend": "bench.yaml@sim",
        "resource": "GPIB0::22::INSTR",
        "set": {"what": "function_"},
        "read": {"reading": "reading"},
        "parameters": {"what": {"kind": "str"}},
        "outputs": {"reading": {}},
    }
    with daemon_of("pymeasure", slow=slow, unlimited=unlimited) as lab:
        yield lab


@pytest.fixture(scope="module")
def qcodes() -> Iterator[Lab]:
    attenuator = {
        "driver": "instrument",
        "class": "qcodes.instrument_drivers.weinschel:Weinschel8320",
        "resource": "GPIB::1::INSTR",
        "kwargs": {"pyvisa_sim_file": "Weinschel_8320.yaml"},
        "set": {"attenuation": "attenuation"},
        "read": {"attenuation": "attenuation"},
        "safe": {"attenuation": 60},
        "parameters": {"attenuation": {"unit": "dB", "kind": "int", "choices": [0, 2, 4, 8, 16, 30, 60]}},
        "outputs": {"attenuation": {"unit": "dB"}},
    }
    motor = {
        "driver": "instrument",
        "class": "ophyd_async.sim:SimMotor",
        "init": {"velocity": 1000.0, "acceleration_time": 0.01},
        "set": {"position": {"method": "set"}},
        "read": {"position": "user_readback"},
        "safe": ["stop"],
        "parameters": {"position": {"unit": "mm"}},
        "outputs": {"position": {"unit": "mm"}},
    }
    with daemon_of("qcodes", attenuator=attenuator, motor=motor) as lab:
        yield lab


def heads(lab: Lab, master: str = "") -> list[HeadInfo]:
    return [head for head in lab.ask(m.ListHeads(0)).heads if master in ("", head.master)]


def results(lab: Lab, master: str, points: list[Any]) -> list[Result]:
    """What becomes of these tasks, in their order."""
    run = lab[master].open()
    run.tasks.put_many(points)
    return sorted(run.results, key=lambda result: result.index)


def outputs(lab: Lab, master: str, points: list[Any]) -> list[Any]:
    return [result.output for result in results(lab, master, points)]


# -- PyMeasure ---------------------------------------------------------------------------------------------------------


def test_two_generators_of_pymeasure_share_the_tasks(pymeasure: Lab) -> None:
    points = [{"frequency": 1e3 * (k + 1), "amplitude": round(0.01 * k, 4)} for k in range(40)]
    ended = results(pymeasure, "generator", points)
    assert [result.output for result in ended] == [point["amplitude"] for point in points]
    assert {result.worker for result in ended} == {"left", "right"}
    assert {head.identity for head in heads(pymeasure, "generator")} == {"Agilent Technologies,33220A,MY44000001,2.00"}
    assert sum(head.tasks for head in heads(pymeasure, "generator")) == 40


def test_what_the_file_does_not_allow_is_not_even_queued(pymeasure: Lab) -> None:
    with pytest.raises(InvalidTask, match="amplitude"):
        results(pymeasure, "generator", [{"frequency": 1e3, "amplitude": 11.0}])


def test_what_only_the_library_refuses_fails_its_task_and_no_other(pymeasure: Lab) -> None:
    wrong, right = results(pymeasure, "unlimited", [{"what": "SMELL"}, {"what": "DCI"}])
    assert "is not in the discrete set" in str(wrong.error)
    assert right.output == 1.25
    assert [head.state for head in heads(pymeasure, "unlimited")] == ["ready"]


def test_a_meter_and_a_camera_of_pymeasure(pymeasure: Lab) -> None:
    assert outputs(pymeasure, "meter", [{"what": "DCV"}, {"what": "DCI"}]) == [1.25] * 2
    (seen,) = outputs(pymeasure, "camera", [{"voltage": 2.5}])
    assert seen["voltage"] == 10.0, "PyMeasure's fake measures nothing else"
    assert (seen["frame"].shape, seen["frame"].dtype.kind) == ((48, 64), "i")
    assert np.unique(seen["frame"]).size > 100


def test_a_call_into_a_library_that_is_killed_leaves_its_task_in_doubt(pymeasure: Lab) -> None:
    """Nobody can tell what the library had said to the instrument: it is not done again."""
    run = pymeasure["slow"].open()
    run.tasks.put(None)

    def killed_amid_it() -> Sequence[HeldTask]:
        (head,) = heads(pymeasure, "slow")
        if head.state == "busy":  # it may not have got as far as the library, and is evaluated again then
            with contextlib.suppress(ProcessLookupError):
                os.kill(head.pid, signal.SIGKILL)
        return pymeasure.held()

    (held,) = eventually(killed_amid_it, "the task to be in doubt")
    assert held.run == run.number
    pymeasure.resolve(held.run, held.index, "fail", reason="nobody knows")
    (result,) = run.results
    assert result.error is not None
    assert "nobody knows" in str(result.error)


@pytest.mark.parametrize(("name", "how"), [("pymeasure", "--connect"), ("qcodes", "--simulate")])
def test_an_example_is_right_by_its_own_check(name: str, how: str) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "taskmaster", "check", str(example(name)), how],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


# -- QCoDeS ------------------------------------------------------------------------------------------------------------


def test_a_dummy_of_qcodes(qcodes: Lab) -> None:
    points = [{"plunger": 10.0 * k} for k in range(20)]
    assert outputs(qcodes, "dot", points) == [{"plunger": point["plunger"], "barrier": 50.0} for point in points]


def test_simulated_instruments_of_qcodes(qcodes: Lab) -> None:
    (microwaves,) = heads(qcodes, "microwaves")
    assert microwaves.identity == "QCoDeS, SGS100A_simulated, simulated, 0.0.1"
    assert outputs(qcodes, "microwaves", [{"frequency": 5e9, "power": -10.0}]) == [
        {"frequency": 5e9, "power": -10.0, "status": True}
    ]
    assert outputs(qcodes, "attenuator", [{"attenuation": 8}, {"attenuation": 30}]) == [8.0, 30.0]
    assert outputs(qcodes, "cryostat", [None]) == [{"stage": 100.0, "shield": 100.0}]


def test_a_motor_of_ophyd_async_is_waited_for(qcodes: Lab) -> None:
    wanted = [1.0, -2.0, 0.5]
    assert outputs(qcodes, "motor", [{"position": value} for value in wanted]) == pytest.approx(wanted)


def test_a_stop_makes_instruments_of_qcodes_safe_and_a_reset_lets_them_go_on(qcodes: Lab) -> None:
    qcodes.ask(m.Stop(0, None, "a try"))
    eventually(lambda: all(head.safe for head in heads(qcodes)), "all to be safe")
    qcodes.ask(m.Reset(0))
    assert outputs(qcodes, "dot", [{"plunger": 1.0}]) == [{"plunger": 1.0, "barrier": 50.0}]
    assert outputs(qcodes, "attenuator", [{"attenuation": 4}]) == [4.0]
