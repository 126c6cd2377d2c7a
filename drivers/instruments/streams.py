"""Bytes from and to the descriptors behind a connection: sockets and serial lines, without waiting longer than told.

PyVISA-py is passed by here where it keeps such a descriptor: its reads lose what came before a time-out, and it takes
the end of a connection for silence (0.8: `TCPIPSocketSession.read`, `Session._read`).
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Mapping
from typing import Any, Protocol

from taskmaster.drivers.instruments.errors import Unreachable

__all__ = ["DescriptorStream", "SocketStream", "Stream", "lost", "unsuited"]

_CHUNK = 1 << 18
_READABLE, _WRITABLE = select.POLLIN, select.POLLOUT


def lost(resource: str, why: object) -> Unreachable:
    """The error of a connection that is gone."""
    return Unreachable(f"{resource}: the connection is lost ({why}); is it plugged in and switched on?")


def unsuited(resource: str, line: Mapping[str, Any], why: object) -> Unreachable:
    """The error of a serial line that does not take these settings."""
    settings = ", ".join(f"{name} = {value}" for name, value in line.items())
    return Unreachable(f"{resource}: the line does not take {settings or 'the usual settings'} ({why}); correct them")


class Stream(Protocol):
    """Bytes both ways."""

    def receive(self, seconds: float) -> bytes:
        """What has come, waiting at most so long for it. Raises Unreachable."""

    def send(self, data: bytes | memoryview, seconds: float) -> int:
        """How many bytes were taken, waiting at most so long for the first. Raises Unreachable."""


class SocketStream:
    """A connected socket."""

    def __init__(self, resource: str, connected: socket.socket) -> None:
        """Raises Unreachable if the connection was refused."""
        self._resource = resource
        self._socket = connected
        refused = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            raise Unreachable(f"{resource}: {os.strerror(refused)}; is the instrument on, and the address right?")
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._readable, self._writable = _polls(connected.fileno())

    def receive(self, seconds: float) -> bytes:
        try:
            if not self._readable.poll(seconds * 1e3):
                return b""
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise lost(self._resource, error.strerror) from error
        if not data:
            raise lost(self._resource, "closed by the instrument")
        return data

    def send(self, data: bytes | memoryview, seconds: float) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            self._writable.poll(seconds * 1e3)
            return 0
        except OSError as error:
            raise lost(self._resource, error.strerror) from error


class DescriptorStream:
    """A terminal that was opened without blocking, as pyserial does."""

    def __init__(self, resource: str, port: Any) -> None:
        """``port`` is a `serial.Serial`, which keeps the descriptor open."""
        self._resource = resource
        self._fd: int = port.fileno()
        self._readable, self._writable = _polls(self._fd)

    def receive(self, seconds: float) -> bytes:
        ready = self._readable.poll(seconds * 1e3)
        if not ready:
            return b""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise lost(self._resource, error.strerror) from error
        if not data:
            raise lost(self._resource, "the device has gone")
        return data

    def send(self, data: bytes | memoryview, seconds: float) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            if any(event & (select.POLLHUP | select.POLLERR) for _, event in self._writable.poll(seconds * 1e3)):
                raise lost(self._resource, os.strerror(errno.EIO)) from None
            return 0
        except OSError as error:
            raise lost(self._resource, error.strerror) from error


def _polls(fd: int) -> tuple[select.poll, select.poll]:
    readable, writable = select.poll(), select.poll()
    readable.register(fd, _READABLE)
    writable.register(fd, _WRITABLE)
    return readable, writable
