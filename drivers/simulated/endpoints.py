"""How instruments are reached: a TCP port of their own, or a pseudo-terminal with a name that stays."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tty
from pathlib import Path

from taskmaster.bus.errors import AddressInUse
from taskmaster.drivers.simulated.loop import Loop
from taskmaster.drivers.simulated.station import Connection, Station

__all__ = ["PtyEndpoint", "TcpEndpoint", "listen"]

_BACKLOG = 64
#: Of SO_LINGER: do linger, for 0 s, which resets the connection.
_RESET = struct.pack("ii", 1, 0)


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise AddressInUse(
            f"cannot listen at {host}:{port}: {os.strerror(error.errno or 0)}; "
            "is another simulator running there? Port 0 takes any free one"
        ) from error
    return bound


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises AddressInUse."""
    listener = _bind(host, port)
    listener.listen(_BACKLOG)
    return listener


class TcpEndpoint:
    """A TCP port, which stays this instrument's while it is unplugged."""

    def __init__(self, loop: Loop, station: Station, host: str, port: int) -> None:
        """Raises AddressInUse."""
        self._loop = loop
        self._station = station
        # A socket that is bound but does not listen refuses connections and keeps the port from being lent to others.
        self._guard = _bind(host, port)
        self.host, self.port = self._guard.getsockname()
        self._listener: socket.socket | None = None

    def open(self) -> None:
        if self._listener is None:
            self._listener = listen(self.host, self.port)
            self._loop.watch(self._listener.fileno(), lambda _: self._accept())

    def close(self) -> None:
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def address(self) -> dict[str, str]:
        return {
            "address": f"{self.host}:{self.port}",
            "resource": f"TCPIP0::{self.host}::{self.port}::SOCKET",
        }

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):  # the client may have gone again
            client, _ = self._listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def release(reset: bool) -> None:
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()

            Connection(self._station, client.fileno(), release)


class PtyEndpoint:
    """A pseudo-terminal behind a symbolic link: unplugged, both go; plugged in again, it may be another terminal."""

    def __init__(self, station: Station, link: Path) -> None:
        self._station = station
        self._link = link
        self._connection: Connection | None = None

    def open(self) -> None:
        if self._connection is not None and self._connection.is_open:
            return
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)

        def release(reset: bool) -> None:
            os.close(master)
            os.close(slave)

        # This process keeps the terminal's end open, too: else the master would hang up whenever a client closes it.
        self._connection = Connection(self._station, master, release)
        beside = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(os.ttyname(slave))
        beside.replace(self._link)

    def close(self) -> None:
        if self._connection is not None:
            self._link.unlink(missing_ok=True)
            self._connection.close()
            self._connection = None

    def address(self) -> dict[str, str]:
        return {"pty": str(self._link), "pty_resource": f"ASRL{self._link}::INSTR"}
