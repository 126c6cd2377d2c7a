"""Talking to a simulated instrument over a bare socket, as somebody would who has only its manual."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from taskmaster.drivers.simulated import HeadAddress

__all__ = ["Line"]


class Line:
    """A connection to a head, or to any resource ``TCPIP0::host::port::SOCKET``: lines there, lines back."""

    def __init__(self, head: HeadAddress | str, timeout: float = 30.0) -> None:
        host, port = head.split("::")[1:3] if isinstance(head, str) else head.address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._terminator = "\r\n" if isinstance(head, str) else "\n"

    def tell(self, *commands: str) -> None:
        self.socket.sendall("".join(f"{command}{self._terminator}" for command in commands).encode())

    def hear(self) -> bytes:
        """The next line without its terminator; what there is, if the connection ends."""
        while b"\n" not in self._received:
            data = self.socket.recv(65536)
            if not data:
                line, self._received = self._received, b""
                return line
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def ask(self, query: str) -> str:
        self.tell(query)
        return self.hear().decode().rstrip("\r")

    def hear_block(self) -> bytes:
        """A definite-length block, with its terminator taken off."""
        assert self._read(1) == b"#"
        length = int(self._read(int(self._read(1))))
        data = self._read(length)
        assert self._read(1) == b"\n"
        return data

    def _read(self, n: int) -> bytes:
        chunks = [self._received[:n]]
        self._received = self._received[n:]
        missing = n - len(chunks[0])
        while missing:
            chunks.append(self.socket.recv(min(missing, 1 << 20)))
            assert chunks[-1], "the connection ended in the middle of a block"
            missing -= len(chunks[-1])
        return b"".join(chunks)

    @property
    def heard_nothing(self) -> bool:
        """Whether nothing has arrived that was not read."""
        self.socket.setblocking(False)
        try:
            return not self._received and not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(30.0)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
