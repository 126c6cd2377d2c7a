"""VISA resources of other kinds, by pyvisa-sim; what is said where a package, a library or a permission is missing."""

from __future__ import annotations

import grp
import os
import pty
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskmaster.bus.errors import WorkerError
from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments import CommandHead, HeadContext
from taskmaster.drivers.instruments.errors import Claimed, DeviceError, PermissionDenied, TimedOut, Unreachable
from taskmaster.drivers.instruments.permissions import denied_usb, not_opened
from taskmaster.drivers.instruments.serialport import SerialTransport
from taskmaster.drivers.instruments.visa import VisaTransport, resource_manager

#: In pyvisa-sim's own language: a power supply.
SUPPLY = """
spec: "1.1"
devices:
  supply:
    eom:
      ASRL INSTR: {q: "\\r\\n", r: "\\n"}
      GPIB INSTR: {q: "\\n", r: "\\n"}
      USB INSTR: {q: "\\n", r: "\\n"}
      TCPIP INSTR: {q: "\\n", r: "\\n"}
      TCPIP SOCKET: {q: "\\r\\n", r: "\\n"}
    error: {status_register: [{q: "*ESR?", command_error: 32, query_error: 4}]}
    dialogues:
      - {q: "*IDN?", r: "SIM,SUPPLY,1,0"}
      - {q: "CURVE?", r: "1,2.5,4"}
    properties:
      voltage:
        default: 1.0
        getter: {q: "VOLT?", r: "{:.3f}"}
        setter: {q: "VOLT {:.3f}"}
        specs: {min: 0, max: 6, type: float}
resources:
  "ASRL1::INSTR": {device: supply}
  "GPIB0::8::INSTR": {device: supply}
  "USB0::0x1111::0x2222::0x1234::0::INSTR": {device: supply}
  "TCPIP0::192.0.2.1::inst0::INSTR": {device: supply}
  "TCPIP0::192.0.2.1::5025::SOCKET": {device: supply}
"""
TERMINATORS = {"ASRL1::INSTR": "\r\n", "TCPIP0::192.0.2.1::5025::SOCKET": "\r\n"}
OUTPUTS = Schema([Field(name="volt"), Field(name="curve", shape=(3,))], "supply", "output")
COMMANDS = {
    "set": ("VOLT {volt:.3f}",),
    "read": {"volt": "VOLT?", "curve": "CURVE?"},
    "errors": {"query": "*ESR?", "ok": "0"},
}


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> str:
    description = tmp_path_factory.mktemp("sim") / "supply.yaml"
    description.write_text(SUPPLY)
    return f"{description}@sim"


@pytest.fixture
def terminal() -> Iterator[str]:
    """A tty at which nobody is."""
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def supply(resource: str, backend: str, **options: Any) -> CommandHead:
    table = {
        "resource": resource,
        "backend": backend,
        "identity": "SIM,SUPPLY,.*",
        "query_timeout": 0.5,
        "write_terminator": TERMINATORS.get(resource, "\n"),
        "commands": COMMANDS,
        **options,
    }
    return CommandHead(HeadContext("", "supply", table, outputs=OUTPUTS))


@pytest.mark.parametrize(
    "resource",
    [
        "ASRL1::INSTR",
        "GPIB0::8::INSTR",
        "USB0::0x1111::0x2222::0x1234::0::INSTR",
        "TCPIP0::192.0.2.1::inst0::INSTR",
        "TCPIP0::192.0.2.1::5025::SOCKET",
    ],
)
def test_any_kind_of_resource(resource: str, backend: str) -> None:
    head = supply(resource, backend)
    head.open()
    for volt in (2.5, 3.125):
        output = head.evaluate({"volt": volt})
        assert (output["volt"], output["curve"].tolist()) == (volt, [1, 2.5, 4])
    with pytest.raises(DeviceError, match="the instrument says 32"):
        head.evaluate({"volt": 7.0})
    assert head.evaluate({"volt": 1.0})["volt"] == 1.0
    head.close()


@pytest.mark.parametrize("resource", ["ASRL1::INSTR", "GPIB0::8::INSTR"])
def test_no_answer_is_a_time_out(resource: str, backend: str) -> None:
    head = supply(resource, backend, identity=None, query_timeout=0.1, commands={"read": {"volt": "NOTHING?"}})
    head.open()
    with pytest.raises(TimedOut, match=r"'NOTHING\?' for 'volt': .*received "):
        head.read()
    head.close()


def test_nobody_there(backend: str) -> None:
    for resource, library in (("GPIB0::9::INSTR", backend), ("TCPIP0::127.0.0.1::1::SOCKET", "@py")):
        with pytest.raises(Unreachable, match="is the instrument on"):
            VisaTransport(resource, backend=library).open(threading.Event())
    with pytest.raises(Unreachable, match="there is no /dev/ttyNOTHING; is the instrument plugged in"):
        SerialTransport("/dev/ttyNOTHING").open(threading.Event())
    with pytest.raises(Unreachable, match=r"^ASRL/dev/ttyNOTHING::INSTR: there is no /dev/ttyNOTHING; is the instr"):
        VisaTransport("ASRL/dev/ttyNOTHING::INSTR").open(threading.Event())


@pytest.mark.parametrize("what", ["a file", "/dev/null", "/dev"])
def test_what_is_no_serial_port(what: str, tmp_path: Path) -> None:
    path = what if what.startswith("/") else str(tmp_path / "file")
    if path != what:
        (tmp_path / "file").touch()
    for transport in (SerialTransport(path), VisaTransport(f"ASRL{path}::INSTR")):
        with pytest.raises(Unreachable, match=f": {path} is no serial port; `taskmaster scan` lists what is there$"):
            transport.open(threading.Event())


def test_a_tty_that_another_program_has(terminal: str) -> None:
    one, other = SerialTransport(terminal), SerialTransport(f"ASRL{terminal}::INSTR")
    one.open(threading.Event())
    with pytest.raises(Claimed, match="in use by another program"):
        other.open(threading.Event())
    one.close()
    other.open(threading.Event())
    other.close()


@pytest.mark.parametrize(
    ("missing", "make", "says"),
    [
        ("pyvisa", "visa.VisaTransport('ASRL1::INSTR')", "needs pyvisa and pyvisa-py .* in the extra 'instruments'"),
        ("pyvisa_py", "visa.VisaTransport('ASRL1::INSTR')", "backend '@py' needs pyvisa-py .* extra 'instruments'"),
        ("serial", "serialport.SerialTransport('/dev/null')", "needs pyserial .* pip install pyserial .*'instruments'"),
        ("serial", "visa.VisaTransport('ASRL/dev/null::INSTR')", "needs pyserial .*'instruments'"),
    ],
)
def test_a_missing_package_is_named(missing: str, make: str, says: str) -> None:
    """The whole of `taskmaster.drivers.instruments` imports without it."""
    program = f"""
import sys, threading
sys.modules[{missing!r}] = None
import taskmaster.drivers.instruments
from taskmaster.drivers.instruments import serialport, visa
assert "pyvisa" not in sys.modules or sys.modules["pyvisa"] is None
try:
    {make}.open(threading.Event())
except Exception as error:
    print(type(error).__name__, error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.startswith("WorkerError "), ran.stdout
    with pytest.raises(WorkerError, match=says):
        raise WorkerError(ran.stdout)


def test_a_missing_library_of_a_vendor_is_named() -> None:
    with pytest.raises(WorkerError, match=r"the VISA library of backend '/nowhere/libvisa\.so' cannot be loaded"):
        resource_manager("/nowhere/libvisa.so")


def test_a_manager_that_somebody_else_has_closed_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "supply.yaml").write_text(SUPPLY, encoding="utf-8")
    backend = f"{tmp_path / 'supply.yaml'}@sim"
    resource_manager(backend).close()
    transport = VisaTransport("GPIB0::8::INSTR", backend=backend)
    transport.open(threading.Event())
    transport.close()


def test_an_instrument_that_is_switched_off_for_weeks_costs_no_memory() -> None:
    pytest.importorskip("pyvisa_py")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    transport = VisaTransport(f"TCPIP0::127.0.0.1::{port}::SOCKET")
    sessions = resource_manager("@py").visalib.sessions
    before = len(sessions)
    for _ in range(3):
        with pytest.raises(Unreachable):
            transport.open(threading.Event())
    assert len(sessions) == before


@contextmanager
def another_user() -> Iterator[None]:
    """Somebody who may not open what is ours; where we are nobody special ourselves, our own terminal will do."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("by", ["pyserial", "PyVISA"])
def test_a_tty_that_somebody_else_may_open(by: str, terminal: str) -> None:
    made = SerialTransport(terminal) if by == "pyserial" else VisaTransport(f"ASRL{terminal}::INSTR")
    made.open(threading.Event())  # now all modules are loaded, which that somebody may perhaps not read
    made.close()
    os.chmod(terminal, 0o600 if os.geteuid() == 0 else 0)
    with another_user(), pytest.raises(PermissionDenied, match=rf"user '\w+' may not open {terminal} .* (group|rule)"):
        made.open(threading.Event())


def test_a_line_that_does_not_take_its_settings(terminal: str) -> None:
    """A pseudo-terminal knows no parity."""
    line = VisaTransport(f"ASRL{terminal}::INSTR", line={"data_bits": 7, "parity": "even"})
    with pytest.raises(Unreachable, match=r"the line does not take data_bits = 7, parity = even \(Invalid argument\)"):
        line.open(threading.Event())
    assert not line.is_open


def test_permission_denied_says_which_group_or_rule(tmp_path: Path) -> None:
    device = tmp_path / "ttyUSB0"
    device.touch()
    error = PermissionError(13, "Permission denied", str(device))
    group = grp.getgrgid(device.stat().st_gid).gr_name
    told = str(not_opened(str(device), str(device), error))
    if group == "root":  # nobody should be added to that one
        assert 'udev rule: KERNEL=="ttyUSB0", MODE="0660", GROUP="dialout"' in told
    else:
        assert f"sudo usermod -aG {group} " in told
    usb = denied_usb("USB0::0x0957::6039::MY1::INSTR")
    assert isinstance(usb, PermissionDenied)
    assert 'ATTR{idVendor}=="0957", ATTR{idProduct}=="1797"' in str(usb)


@pytest.mark.parametrize(
    ("resource", "remedy"),
    [
        (
            "GPIB0::22::INSTR",
            'pip install gpib-ctypes; or leave that to the vendor\'s VISA library, by backend = "@ivi"',
        ),
        ("USB0::1::2::3::0::INSTR", "needs pyusb (Please install PyUSB): pip install pyusb (it is in the extra 'usb')"),
        ("VICP::10.0.0.7::INSTR", "needs a package that is not there: Please install PyUSB"),
    ],
)
def test_what_pyvisa_py_lacks_for_a_kind_of_resource(resource: str, remedy: str) -> None:
    error = VisaTransport(resource)._not_opened(ValueError("Please install PyUSB\nand more"))
    assert isinstance(error, WorkerError)
    assert str(error).endswith(remedy)
