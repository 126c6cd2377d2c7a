"""Instruments of other libraries as heads, from options as a configuration gives them: PyMeasure, QCoDeS, ophyd-async.

Nobody here wrote their classes. They talk to simulated instruments (pyvisa-sim, and what the libraries ship); where a
library is not installed, its tests are skipped.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.fields import Field, Schema
from taskmaster.config.shipped import example
from taskmaster.drivers.instruments.classes import ClassHead, make_head
from taskmaster.drivers.instruments.errors import Stopped, TimedOut, Unreachable, WrongIdentity
from taskmaster.drivers.instruments.head import HeadContext

#: The bench of the example `pymeasure`, and one with a meter that takes questions and has lost its tongue.
BENCH = f"{example('pymeasure').with_name('bench.yaml')}@sim"
MUTE = """
spec: "1.1"
devices:
  mute:
    eom:
      GPIB INSTR: {q: "\\r\\n", r: "\\n"}
    dialogues:
      - {q: "READ?"}
      - {q: "*IDN?", r: "HEWLETT-PACKARD,34401A,0,10-5-2"}
resources:
  GPIB0::23::INSTR: {device: mute}
"""
GENERATOR = "pymeasure.instruments.agilent:Agilent33220A"
METER = "pymeasure.instruments.hp:HP34401A"

pytestmark = [
    # PyMeasure says of most of its instruments that nobody told whether they speak SCPI.
    pytest.mark.filterwarnings("ignore:It is not known whether this device support SCPI:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def head(parameters: str, outputs: str, options: dict[str, Any], name: str = "tip-1") -> ClassHead:
    """A head that is not open yet."""
    made = make_head(
        HeadContext(
            name,
            "stm",
            options,
            Schema([Field(field, "any") for field in parameters.split()], "stm"),
            Schema([Field(field, "any") for field in outputs.split()], "stm", "output"),
        )
    )
    assert isinstance(made, ClassHead)
    return made


# -- PyMeasure --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pymeasure() -> None:
    pytest.importorskip("pymeasure", reason="PyMeasure is not installed")


@pytest.fixture
def sim(pymeasure: None) -> None:
    pytest.importorskip("pyvisa_sim", reason="pyvisa-sim is not installed")


def generator(**more: Any) -> dict[str, Any]:
    return {
        "class": GENERATOR,
        "resource": "GPIB0::10::INSTR",
        "backend": BENCH,
        "identity": r"Agilent Technologies,33220A,MY44000001,.*",
        "init": [{"output": True}],
        "set": {"frequency": "frequency", "amplitude": "amplitude"},
        "read": {"amplitude": "amplitude"},
        "safe": [{"output": False, "amplitude": 0}],
        **more,
    }


def test_a_generator_of_pymeasure(sim: None) -> None:
    wave = head("frequency amplitude", "amplitude", generator())
    wave.open()
    assert wave.identify() == "Agilent Technologies,33220A,MY44000001,2.00"
    assert wave.evaluate({"frequency": 2000.0, "amplitude": 0.5}) == {"amplitude": 0.5}
    assert wave.acting
    assert (wave.instrument.frequency, wave.instrument.output) == (2000.0, True)
    wave.safe()
    assert wave.read() == {"amplitude": 0.0}
    assert wave.instrument.output is False
    instrument = wave.instrument
    wave.close()
    assert instrument.isShutdown
    wave.open()  # the resource was let go of
    assert wave.evaluate({"frequency": 1.0, "amplitude": 0.1}) == {"amplitude": 0.1}
    wave.close()


def test_a_meter_of_pymeasure(sim: None) -> None:
    meter = head(
        "what",
        "reading",
        {
            "class": METER,
            "resource": "GPIB0::22::INSTR",
            "backend": BENCH,
            "set": {"what": "function_"},
            "read": {"reading": "reading"},
        },
    )
    meter.open()
    assert meter.evaluate({"what": "DCI"}) == {"reading": 1.25}
    with pytest.raises(ValueError, match="not in the discrete set"):  # the library's own check: this task has failed
        meter.evaluate({"what": "SMELL"})
    assert meter.evaluate({"what": "DCV"}) == {"reading": 1.25}
    meter.close()


def test_an_instrument_that_falls_silent_is_opened_anew(sim: None, tmp_path: Path) -> None:
    (tmp_path / "mute.yaml").write_text(MUTE)
    mute = head(
        "",
        "reading",
        {
            "class": METER,
            "resource": "GPIB0::23::INSTR",
            "backend": f"{tmp_path / 'mute.yaml'}@sim",
            "kwargs": {"timeout": 50},
            "read": {"reading": "reading"},
        },
    )
    mute.open()
    with pytest.raises(TimedOut, match=r"stm/tip-1: reading HP34401A\.reading: VisaIOError: VI_ERROR_TMO"):
        mute.evaluate({})
    first = mute.instrument
    mute.close()
    assert not first.isShutdown  # nothing is said to one that does not answer
    mute.open()
    assert mute.identify().startswith("HEWLETT-PACKARD,34401A")
    mute.close()


def test_another_instrument_at_the_address(sim: None) -> None:
    wave = head("frequency amplitude", "amplitude", generator(resource="GPIB0::22::INSTR"))
    with pytest.raises(WrongIdentity, match=r"GPIB0::22::INSTR is 'HEWLETT-PACKARD,34401A,0,10-5-2', not 'Agilent"):
        wave.open()
    with pytest.raises(WrongIdentity):  # not even what would make the right one safe is for this one
        wave.safe()
    wave.close()


def test_one_that_was_not_meant_is_not_even_shut_down(pymeasure: None) -> None:
    fakes = pytest.importorskip("pymeasure.instruments.fakes")
    heard: list[str] = []
    kind = type("Loud", (fakes.SwissArmyFake,), {"id": "LOUD", "shutdown": lambda self: heard.append("shutdown")})
    wanted = {"identity": "QUIET", "kwargs": {"wait": 0}, "read": {"voltage": "voltage"}}
    outputs = Schema([Field("voltage")], "stm", "output")
    for options, error in ((wanted, WrongIdentity), ({**wanted, "read": {"voltage": "voltag"}}, ConfigError)):
        loud = ClassHead(HeadContext("tip-1", "stm", options, None, outputs), kind)
        with pytest.raises(error):
            loud.open()
        loud.close()
    assert not heard
    loud = ClassHead(HeadContext("tip-1", "stm", {**wanted, "identity": "LOUD"}, None, outputs), kind)
    loud.open()
    loud.close()
    assert heard == ["shutdown"]


def test_nothing_at_the_address(pymeasure: None) -> None:
    pytest.importorskip("pyvisa_py", reason="pyvisa-py is not installed")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        resource = f"TCPIP0::127.0.0.1::{nobody.getsockname()[1]}::SOCKET"
        wave = head("frequency amplitude", "amplitude", generator(resource=resource, backend="@py"))
        for _ in range(2):  # and the claim on the resource is given up each time
            with pytest.raises(Unreachable, match=r"stm/tip-1: .*Connection refused"):
                wave.open()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"read": {"amplitude": "amplitud"}}, r"Agilent33220A has no attribute 'amplitud'; did you mean 'amplitude'\?"),
        ({"init": ["beep_"]}, r"Agilent33220A has no attribute 'beep_'; did you mean 'beep'\?"),
        ({"resource": ""}, r"cannot be made so: missing a required argument: 'adapter' .* declare one"),
    ],
)
def test_names_that_pymeasure_would_take_in_silence(more: dict[str, Any], says: str, sim: None) -> None:
    wave = head("frequency amplitude", "amplitude", generator(**more))
    with pytest.raises(ConfigError, match=says):
        wave.open()


def test_a_fake_of_pymeasure_gives_an_image(pymeasure: None) -> None:
    camera = head(
        "width height voltage",
        "frame voltage",
        {
            "class": "pymeasure.instruments.fakes:SwissArmyFake",
            "kwargs": {"wait": 0},
            "init": [{"frame_format": "mono_16"}],
            "set": {"width": "frame_width", "height": "frame_height", "voltage": "output_voltage"},
            "read": {"frame": "frame", "voltage": "output_voltage"},
        },
    )
    camera.open()
    output = camera.evaluate({"width": 32, "height": 16, "voltage": 1.5})
    assert output["frame"].shape == (16, 32)
    assert output["frame"].dtype == np.uint16
    assert output["voltage"] == 1.5
    assert camera.identify() == ""
    camera.safe()  # shutdown(), as PyMeasure has it
    assert camera.instrument.isShutdown
    camera.close()


def test_an_adapter_of_pymeasure_from_the_file(pymeasure: None) -> None:
    echo = head(
        "",
        "reading",
        {
            "class": METER,
            "args": [{"class": "pymeasure.adapters:FakeAdapter"}],
            "init": [{"method": "write", "args": ["7"]}],
            "read": {"reading": "read"},
        },
    )
    with pytest.warns(FutureWarning, match="SCPI"):
        echo.open()
    assert echo.evaluate({}) == {"reading": "7"}


def test_what_is_missing_is_said_with_how_to_get_it() -> None:
    if find_spec("qcodes") is not None:
        pytest.skip("QCoDeS is installed")
    with pytest.raises(ConfigError, match=r"needs qcodes: pip install qcodes \(it is in the extra 'qcodes'\)"):
        make_head(HeadContext(options=DUMMY))


# -- QCoDeS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def qcodes() -> Iterator[Any]:
    """QCoDeS; no instrument may be left in its registry."""
    library = pytest.importorskip("qcodes.instrument", reason="QCoDeS is not installed")
    yield library
    assert not library.Instrument._all_instruments


DUMMY: dict[str, Any] = {
    "class": "qcodes.instrument_drivers.mock_instruments:DummyInstrument",
    "kwargs": {"gates": ["plunger", "barrier"]},
    "set": {"plunger": "plunger"},
    "read": {"plunger": "plunger", "barrier": "barrier"},
    "safe": [{"plunger": 0, "barrier": 0}],
}


def test_the_dummy_of_qcodes(qcodes: Any) -> None:
    dot = head("plunger", "plunger barrier", {**DUMMY, "init": [{"barrier": 3}], "identity": "QCoDeS,.*"})
    for value in (1.0, 2.0):  # a name that is still in the registry could not be made again
        dot.open()
        assert dot.instrument.name == "tip_1"
        assert dot.evaluate({"plunger": value}) == {"plunger": value, "barrier": 3}
        dot.safe()
        assert dot.read() == {"plunger": 0, "barrier": 0}
        dot.close()
    dot.open()
    with pytest.raises(ValueError, match="must be between -800 and 400"):  # what a parameter takes, QCoDeS knows
        dot.evaluate({"plunger": 1e6})
    dot.close()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"read": {"plunger": "plungr", "barrier": "barrier"}}, r"no attribute 'plungr'; did you mean 'plunger'\?"),
        ({"init": [{"IDN": "me"}]}, r"DummyInstrument\.IDN cannot be set: the parameter is not settable"),
    ],
)
def test_parameters_that_qcodes_does_not_have(more: dict[str, Any], says: str, qcodes: Any) -> None:
    dot = head("plunger", "plunger barrier", {**DUMMY, **more})
    with pytest.raises(ConfigError, match=says):
        dot.open()


def test_an_attenuator_of_qcodes_over_a_simulated_bus(qcodes: Any) -> None:
    attenuator = head(
        "attenuation",
        "attenuation",
        {
            "class": "qcodes.instrument_drivers.weinschel:Weinschel8320",
            "resource": "GPIB::1::INSTR",
            "kwargs": {"pyvisa_sim_file": "Weinschel_8320.yaml"},
            "identity": r"QCoDeS, Weinschel 8320 \(Simulated\), 1337, .*",
            "set": {"attenuation": "attenuation"},
            "read": {"attenuation": "attenuation"},
        },
    )
    for _ in range(2):
        attenuator.open()
        assert attenuator.evaluate({"attenuation": 8}) == {"attenuation": 8.0}
        attenuator.close()


def test_a_submodule_of_qcodes(qcodes: Any) -> None:
    controller = head(
        "",
        "temperature",
        {
            "class": "qcodes.instrument_drivers.mock_instruments:DummyChannelInstrument",
            "init": [{"A.temperature": 4.2}],
            "read": {"temperature": "A.temperature"},
        },
    )
    controller.open()
    assert controller.evaluate({}) == {"temperature": 4.2}
    controller.close()


# -- ophyd-async ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ophyd() -> Iterator[None]:
    """ophyd-async; no thread of a device may be left."""
    pytest.importorskip("ophyd_async.sim", reason="ophyd-async is not installed")
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def motor(**more: Any) -> ClassHead:
    return head(
        "position",
        "position",
        {
            "class": "ophyd_async.sim:SimMotor",
            "kwargs": {"instant": True},
            "set": {"position": "user_setpoint"},
            "read": {"position": "user_readback"},
            **more,
        },
    )


def test_a_motor_of_ophyd_async_is_driven_by_its_own_loop(ophyd: None) -> None:
    stage = head(
        "x y",
        "x y velocity",
        {
            "class": "ophyd_async.sim:SimStage",
            "kwargs": {"pattern_generator": {"class": "ophyd_async.sim:PatternGenerator"}},
            "init": [{"x.velocity": 100.0, "y.velocity": 100.0}],
            "set": {"x": "x", "y": "y"},
            "read": {"x": "x.user_readback", "y": "y.user_readback", "velocity": "x.velocity"},
        },
    )
    for _ in range(2):
        stage.open()
        output = stage.evaluate({"x": 1.0, "y": -1.0})
        assert (output["x"], output["y"], output["velocity"]) == pytest.approx((1.0, -1.0, 100.0))
        stage.close()


def test_a_stop_ends_the_wait_for_a_motion(ophyd: None) -> None:
    slow = motor(
        kwargs={"instant": False},
        init=[{"velocity": 0.01, "acceleration_time": 0.0}],
        set={"position": {"method": "set"}},
        safe=[{"method": "stop"}],
    )
    slow.open()
    stopper = threading.Timer(0.2, slow.stopping.set)
    stopper.start()
    with pytest.raises(Stopped):
        slow.evaluate({"position": 100.0})
    stopper.join()
    slow.safe()
    slow.stopping.clear()
    assert slow.read()["position"] < 1.0
    slow.close()


def test_signals_that_a_device_does_not_have(ophyd: None) -> None:
    with pytest.raises(ConfigError, match=r"SimMotor has no attribute 'user_readbak'; did you mean 'user_readback'\?"):
        motor(read={"position": "user_readbak"}).open()
