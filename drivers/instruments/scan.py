"""What instruments could be reached from here, without saying anything to them: VISA resources and serial ports.

``python -m taskmaster.drivers.instruments.scan BACKEND [local]`` prints the VISA resources as JSON: a library that
hangs or crashes while it looks around takes a process of its own with it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskmaster.bus.text import lacking
from taskmaster.drivers.instruments.permissions import denied
from taskmaster.drivers.instruments.serialport import pyserial
from taskmaster.drivers.instruments.visa import resource_manager

__all__ = ["SerialPort", "identity_pattern", "main", "serial_port", "serial_ports", "visa_resources"]

_BY_ID = Path("/dev/serial/by-id")
#: What a resource ends with that is no instrument, but the way to some.
_INTERFACE = "::INTFC"
#: What means something else in a regular expression than itself.
_SPECIAL = re.compile(r"([.^$*+?{}\[\]\\|()])")


@dataclass(frozen=True)
class SerialPort:
    """A serial port of this machine."""

    path: str
    #: the path that stays with the device, if it has one
    by_id: str = ""
    description: str = ""
    #: why this user cannot open it, and what to do
    problem: str = ""


def serial_ports() -> list[SerialPort]:
    """All there are. Raises WorkerError where pyserial is missing."""
    pyserial()
    from serial.tools import list_ports

    lasting = {os.path.realpath(link): str(link) for link in sorted(_BY_ID.glob("*"))} if _BY_ID.is_dir() else {}
    ports = []
    for port in sorted(list_ports.comports(), key=lambda found: str(found.device)):
        described = port.description if port.description and port.description != "n/a" else ""
        ports.append(serial_port(port.device, lasting.get(os.path.realpath(port.device), ""), described))
    return ports


def serial_port(path: str, by_id: str = "", description: str = "") -> SerialPort:
    """One of them, with what keeps this user from it."""
    if not os.path.exists(path):
        problem = f"there is no {path}; is it plugged in?"
    else:
        allowed = os.access(path, os.R_OK | os.W_OK, effective_ids=True)
        problem = "" if allowed else str(denied(path, path))
    return SerialPort(path, by_id, description, problem)


def visa_resources(backend: str, *, local: bool = False) -> tuple[list[str], list[str]]:
    """The resources that a VISA library finds, and what it could not look for.

    PyVISA-py asks the whole network, which takes seconds, unless ``local``. Raises WorkerError, see `resource_manager`.
    """
    manager = resource_manager(backend)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # sockets that the library leaves to the collector
        if backend.endswith("@py") or not backend:
            found, notes = _of_pyvisa_py(local=local)
        else:
            found, notes = list(manager.list_resources("?*")), []
    notes += [" ".join(str(warning.message).split()) for warning in said]
    instruments = (resource for resource in found if not resource.endswith(_INTERFACE))
    return sorted(dict.fromkeys(instruments)), list(dict.fromkeys(notes))


def _of_pyvisa_py(*, local: bool) -> tuple[list[str], list[str]]:
    """Kind by kind, as one that cannot be looked for must not hide the others."""
    from pyvisa_py.sessions import Session

    found: list[str] = []
    notes: list[str] = []
    for (interface, _), kind in Session.iter_valid_session_classes():
        if local and interface.name not in ("usb", "gpib", "asrl"):
            continue
        try:
            found += kind.list_resources()
        except Exception as error:  # noqa: BLE001 - what the libraries below it raise, they do not say
            notes.append(f"{interface.name.upper()}: {type(error).__name__}: {error}")
    for (interface, _), issue in Session.iter_session_classes_issues():
        if interface.name in ("usb", "gpib"):
            notes.append(_not_looked_for(interface.name.upper(), str(issue).strip().splitlines()[0]))
    return found, notes


def _not_looked_for(kind: str, issue: str) -> str:
    """PyVISA-py names packages without saying how they come to be there, and those of other systems, too."""
    if "lease install" not in issue:
        return f"{kind} is not looked for: {issue}"
    if kind == "USB":
        return lacking("to look for instruments on USB, PyVISA-py needs", "pyusb", "usb")
    return (
        f"to look for instruments on {kind}, PyVISA-py needs gpib-ctypes: pip install gpib-ctypes; or have a vendor's "
        "VISA library do it, by --backend @ivi"
    )


def identity_pattern(identity: str) -> str:
    """A regular expression for `identity`: of maker, model, serial number and version, the version may change."""
    fields = identity.split(",")
    kept, rest = (fields[:3], ",.*") if len(fields) == 4 and all(fields[:3]) else (fields, "")
    return _SPECIAL.sub(r"\\\1", ",".join(kept)) + rest


def main(arguments: list[str]) -> int:
    """Entry point."""
    found, notes = visa_resources(arguments[0], local="local" in arguments[1:])
    answer: dict[str, Any] = {"resources": found, "notes": notes}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
