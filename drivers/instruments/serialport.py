"""Serial lines by pyserial: RS-232, USB adapters, pseudo-terminals."""

from __future__ import annotations

import termios
from collections.abc import Callable, Mapping
from typing import Any

from taskmaster.bus.errors import WorkerError
from taskmaster.bus.text import lacking
from taskmaster.drivers.instruments.errors import Claimed, Unreachable
from taskmaster.drivers.instruments.permissions import not_opened
from taskmaster.drivers.instruments.streams import DescriptorStream, unsuited
from taskmaster.drivers.instruments.transport import LARGEST, Transport

__all__ = ["LINE", "SerialTransport", "pyserial"]

#: Settings of a line and their defaults: the option → the keyword of pyserial.
LINE: Mapping[str, str] = {
    "baud_rate": "baudrate",
    "data_bits": "bytesize",
    "parity": "parity",
    "stop_bits": "stopbits",
    "xonxoff": "xonxoff",
    "rtscts": "rtscts",
    "dsrdtr": "dsrdtr",
}
_PARITIES = {"none": "N", "even": "E", "odd": "O", "mark": "M", "space": "S"}


def pyserial() -> Any:
    """The module `serial`. Raises WorkerError where it is missing, naming the package."""
    try:
        import serial
    except ImportError as error:
        raise WorkerError(lacking("the driver 'serial' needs", "pyserial", "instruments", error)) from error
    return serial


class SerialTransport(Transport):
    """A tty. ``line`` has the settings of :data:`LINE`, where they are not pyserial's own (9600 8N1, no handshake)."""

    def __init__(
        self,
        resource: str,
        *,
        line: Mapping[str, Any] | None = None,
        read_terminator: bytes = b"\n",
        write_terminator: bytes = b"\n",
        write_timeout: float = 5.0,
        largest: int = LARGEST,
        on_acting: Callable[[], None] = lambda: None,
    ) -> None:
        """``resource`` is a path, as ``/dev/serial/by-id/…``, or ``ASRL/dev/ttyUSB0::INSTR``."""
        super().__init__(
            resource,
            read_terminator=read_terminator,
            write_terminator=write_terminator,
            write_timeout=write_timeout,
            largest=largest,
            on_acting=on_acting,
        )
        self.path = resource[4:].partition("::")[0] if resource.upper().startswith("ASRL/") else resource
        self._line = line or {}
        self._settings = {LINE[name]: value for name, value in (line or {}).items()}
        if "parity" in self._settings:
            self._settings["parity"] = _PARITIES[self._settings["parity"]]
        self._survives_reopening = True
        self._port: Any = None

    @property
    def is_open(self) -> bool:
        return self._port is not None

    def _connect(self) -> None:
        serial = pyserial()
        try:
            # Exclusive: no other program gets it meanwhile, whether it knows of our claims or not.
            self._port = serial.Serial(self.path, timeout=0, exclusive=True, **self._settings)
        except serial.SerialException as error:
            raise self._not_opened(error) from error
        except termios.error as error:  # no OSError, and pyserial lets it through
            raise unsuited(self.resource, self._line, error.args[-1]) from error
        self._stream = DescriptorStream(self.resource, self._port)

    def _not_opened(self, error: OSError) -> Exception:
        if "lock" in str(error):
            return Claimed(f"{self.resource}: {self.path} is in use by another program; end that (fuser {self.path})")
        return not_opened(self.resource, self.path, error)

    def _disconnect(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            try:
                port.close()
            except OSError:
                port.fd = None  # the device has gone, and the descriptor with it

    def _receive(self, seconds: float) -> tuple[bytes, bool]:
        if self._stream is None:
            raise Unreachable(f"{self.resource}: not connected")
        return self._stream.receive(seconds), False

    def _send(self, data: bytes | memoryview, seconds: float) -> int:
        if self._stream is None:
            raise Unreachable(f"{self.resource}: not connected")
        return self._stream.send(data, seconds)
