"""VISA resources by PyVISA: any of its backends, PyVISA-py without further software.

Sockets and serial lines are streams: their waits are cut into slices. Anything else (USB, GPIB, VXI-11, HiSLIP) has
messages, and a read that is given up in between loses what came or upsets the instrument. There an answer is awaited
in one call of the library: a stop takes effect when it has come or its time is up.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import termios
import threading
from collections.abc import Callable, Mapping
from typing import Any

from taskmaster.bus.errors import WorkerError
from taskmaster.bus.text import lacking
from taskmaster.config.heads import VISA_CLASSES
from taskmaster.drivers.instruments.errors import Stopped, TimedOut, Unreachable
from taskmaster.drivers.instruments.permissions import LISTED, denied_usb, not_opened
from taskmaster.drivers.instruments.streams import DescriptorStream, SocketStream, lost, unsuited
from taskmaster.drivers.instruments.transport import LARGEST, SLICE, Transport

__all__ = ["VisaTransport", "resource_manager"]

_CHUNK = 1 << 16
#: Seconds that the rest of a message may take where it cannot be awaited in slices.
_REST = 2.0
_STREAMS = re.compile(r"ASRL|.*::SOCKET$", re.IGNORECASE)
_FLOW = {"xonxoff": 1, "rtscts": 2, "dsrdtr": 4}


#: PyVISA's resource managers, of which a process has one for each backend.
_managers: dict[str, Any] = {}
_managing = threading.Lock()


def resource_manager(backend: str) -> Any:
    """PyVISA's resource manager of a backend, ``@py``, ``@ivi``, ``@sim``, …

    It is shared with whoever else uses PyVISA in this process; if they have closed it, there is a new one. Raises
    WorkerError, naming the package or library that is missing.
    """
    with _managing:
        manager = _managers.get(backend)
        if manager is None or not _is_open(manager):
            manager = _managers[backend] = _open_manager(backend)
        return manager


def _is_open(manager: Any) -> bool:
    from pyvisa.errors import InvalidSession

    try:
        return bool(manager.session)
    except InvalidSession:
        return False


def _open_manager(backend: str) -> Any:
    try:
        import pyvisa
    except ImportError as error:
        raise WorkerError(lacking("the driver 'visa' needs", "pyvisa pyvisa-py", "instruments", error)) from error
    try:
        return pyvisa.ResourceManager(backend)
    except (OSError, ValueError) as error:
        if backend.endswith("@py"):
            raise WorkerError(lacking("backend '@py' needs", "pyvisa-py", "instruments", error)) from error
        raise WorkerError(
            f"the VISA library of backend {backend!r} cannot be loaded ({error}); "
            "install it, or leave `backend` away to use PyVISA-py"
        ) from error


class VisaTransport(Transport):
    """A VISA resource. ``line`` has the settings of a serial one, named as by the serial driver."""

    def __init__(
        self,
        resource: str,
        *,
        backend: str = "@py",
        connect_timeout: float = 5.0,
        line: Mapping[str, Any] | None = None,
        read_terminator: bytes = b"\n",
        write_terminator: bytes = b"\n",
        write_timeout: float = 5.0,
        largest: int = LARGEST,
        on_acting: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            resource,
            read_terminator=read_terminator,
            write_terminator=write_terminator,
            write_timeout=write_timeout,
            largest=largest,
            on_acting=on_acting,
        )
        self._backend = backend
        self._connect_timeout = connect_timeout
        self._line = line or {}
        self._is_serial = self._survives_reopening = resource.upper().startswith("ASRL")
        self._is_stream = _STREAMS.match(resource) is not None
        self._sliced = self._is_stream
        self._resource: Any = None
        self._set_timeout_to = -1.0

    @property
    def is_open(self) -> bool:
        return self._resource is not None

    # -- connecting ---------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        manager = resource_manager(self._backend)
        self._resource = _Opening(lambda: self._opened(manager)).result(self.stopping, self.resource)
        self._set_timeout_to = -1.0
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _opened(self, manager: Any) -> Any:
        try:
            resource = manager.open_resource(
                _as_visa_has_it(self.resource), open_timeout=round(self._connect_timeout * 1e3)
            )
        except Exception as error:
            # PyVISA-py raises bare Exceptions, other backends whatever they like.
            raise self._not_opened(error) from error
        if not resource.session:  # VI_NULL, by which PyVISA-sim says so
            raise self._not_opened(LookupError("there is no such resource"))
        return resource

    def _not_opened(self, error: Exception) -> Exception:
        text = str(error)
        if "lease install" in text:
            return _lacking(self.resource, text.splitlines()[0])
        if path := re.match(r"ASRL(/[^:]*)", self.resource, re.IGNORECASE):
            return not_opened(self.resource, path[1], error)
        if isinstance(error, PermissionError) or getattr(error, "errno", None) in (errno.EACCES, errno.EPERM):
            return denied_usb(self.resource)
        return Unreachable(
            f"{self.resource} cannot be opened: {text or type(error).__name__}; is the instrument on, and the resource "
            f"right? {LISTED}"
        )

    def _prepare(self) -> None:
        """Settings, and the stream behind the session where PyVISA-py has one."""
        from pyvisa import constants

        resource = self._resource
        terminator = self._read_terminator[-1:]
        resource.set_visa_attribute(constants.ResourceAttribute.termchar_enabled, bool(terminator) and self._is_stream)
        if terminator:
            resource.set_visa_attribute(constants.ResourceAttribute.termchar, terminator[0])
        if self._is_serial:
            try:
                self._set_line(constants)
            except self._errors() as error:
                raise unsuited(self.resource, self._line, error.args[-1]) from error
        port: Any = getattr(getattr(resource.visalib, "sessions", {}).get(resource.session), "interface", None)
        if isinstance(port, socket.socket):
            self._stream = SocketStream(self.resource, port)
            self._joins = True
        elif self._is_serial and hasattr(port, "fileno"):
            port.exclusive = True
            self._stream = DescriptorStream(self.resource, port)
        elif not self._is_stream:
            # What an instrument with messages still had to say is forgotten by a device clear; not all have one.
            with contextlib.suppress(*self._errors(), NotImplementedError):
                resource.clear()

    def _set_line(self, constants: Any) -> None:
        resource, line = self._resource, self._line
        if "baud_rate" in line:
            resource.baud_rate = line["baud_rate"]
        if "data_bits" in line:
            resource.data_bits = line["data_bits"]
        if "parity" in line:
            resource.parity = constants.Parity[line["parity"]]
        if "stop_bits" in line:
            resource.stop_bits = constants.StopBits(round(line["stop_bits"] * 10))
        if flow := sum(bit for name, bit in _FLOW.items() if line.get(name)):
            resource.set_visa_attribute(constants.ResourceAttribute.asrl_flow_control, flow)

    def _disconnect(self) -> None:
        resource, self._resource = self._resource, None
        if resource is not None:
            with contextlib.suppress(*self._errors()):
                _close(resource)

    # -- bytes --------------------------------------------------------------------------------------------------------

    def _receive(self, seconds: float) -> tuple[bytes, bool]:
        if self._stream is not None:
            return self._stream.receive(seconds), False
        if not self._is_stream:
            return self._read(_CHUNK, seconds)
        # A time-out may lose what came before it: the wait is for a single byte, which has come or not.
        if not self._input:
            return self._read(1, seconds)
        data, _ = self._read(_CHUNK, max(seconds, _REST))
        if not data:
            raise self._timed_out()
        return data, False

    def _read(self, count: int, seconds: float) -> tuple[bytes, bool]:
        from pyvisa import constants

        self._set_timeout(seconds)
        resource, status = self._resource, constants.StatusCode
        try:
            with resource.ignore_warning(status.success_device_not_present, status.success_max_count_read):
                data, code = resource.visalib.read(resource.session, count)
        except self._errors() as error:
            if getattr(error, "error_code", None) == status.error_timeout:
                return b"", False
            raise lost(self.resource, error) from error
        return bytes(data), code == status.success and not self._is_stream

    def _send(self, data: bytes | memoryview, seconds: float) -> int:
        if self._stream is not None:
            return self._stream.send(data, seconds)
        from pyvisa import constants

        self._set_timeout(self._write_timeout)
        try:
            count, _ = self._resource.visalib.write(self._resource.session, bytes(data))
        except self._errors() as error:
            if getattr(error, "error_code", None) == constants.StatusCode.error_timeout:
                self.close()
                raise TimedOut(f"{self.resource}: did not take what was sent in {self._write_timeout:g} s") from error
            raise lost(self.resource, error) from error
        # A backend may count the terminator that it adds by itself.
        return min(int(count), len(data))

    def _set_timeout(self, seconds: float) -> None:
        if seconds != self._set_timeout_to:
            self._resource.timeout = max(1, round(seconds * 1e3))
            self._set_timeout_to = seconds

    @staticmethod
    def _errors() -> tuple[type[Exception], ...]:
        """What a backend raises when the way to the instrument is gone."""
        from pyvisa import errors

        return (errors.VisaIOError, errors.InvalidSession, OSError, termios.error)  # the last is no OSError


def _close(resource: Any) -> None:
    session = resource.session
    resource.close()
    # PyVISA-py (0.8) remembers every session for ever; there is one for each attempt at an instrument that is off.
    getattr(resource.visalib, "sessions", {}).pop(session, None)


def _as_visa_has_it(resource: str) -> str:
    """With its class in capitals, which PyVISA insists on; VISA itself does not mind (VPP-4.3, 4.3.1)."""
    head, colons, last = resource.rpartition("::")
    return f"{head}::{last.upper()}" if colons and last.upper() in VISA_CLASSES else resource


def _lacking(resource: str, said: str) -> WorkerError:
    """PyVISA-py says that it needs a package for a resource of this kind; which one, it says for people only."""
    for kind, package, extra in (("USB", "pyusb", "usb"), ("ASRL", "pyserial", "instruments")):
        if resource.upper().startswith(kind):
            return WorkerError(lacking(f"{resource} needs", package, extra, said))
    if resource.upper().startswith("GPIB"):
        return WorkerError(
            f"{resource} needs what PyVISA-py talks to GPIB by: pip install gpib-ctypes; or leave that to the vendor's "
            'VISA library, by backend = "@ivi"'
        )
    return WorkerError(f"{resource} needs a package that is not there: {said}")


class _Opening:
    """A call in a thread of its own: libraries may take many seconds to find out that nobody answers.

    Who stops waiting leaves it to itself; what it then opens is closed at once.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._abandoned = False
        self._result: Any = None
        self._error: BaseException | None = None

    def result(self, stopping: threading.Event, resource: str) -> Any:
        """What the call returns or raises. Raises Stopped."""
        threading.Thread(target=self._run, name="open-visa", daemon=True).start()
        while not self._ended.wait(SLICE):
            if stopping.is_set():
                with self._lock:
                    self._abandoned = not self._ended.is_set()
                if self._abandoned:
                    raise Stopped(f"{resource}: stopped while it was connected to")
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            self._error = error
        with self._lock:
            self._ended.set()
            abandoned = self._abandoned
        if abandoned and self._result is not None:
            _close(self._result)
