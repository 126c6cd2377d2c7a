"""A small HTTP server for metrics and health: one thread beside the broker loop, which it never waits for.

Whatever its clients do, it costs no more than this: so many connections at a time (a further one ends the oldest), so
many bytes of a request, so many seconds for each, so many answers a second; beyond that they wait in the kernel. An
answer is made once for each state of the daemon, however often it is asked for. It knows GET and HEAD, reads no body,
and closes each connection behind its answer.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from taskmaster.bus.errors import AddressInUse, ConfigError

__all__ = ["Page", "WebServer"]

log = logging.getLogger("taskmaster.daemon")

#: Connections at a time.
CONNECTIONS = 32
#: Bytes of a request at most, and seconds from a connection's start to the end of its answer.
REQUEST_BYTES = 8192
SECONDS = 5.0
#: Answers a second, and how many more at once after a quiet time.
RATE, BURST = 50.0, 50.0
_LOOK_SECONDS = 1.0
_BACKLOG = 64


@dataclass(frozen=True)
class Page:
    """What a path is answered with."""

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


@dataclass
class _Client:
    socket: socket.socket
    until: float
    request: bytes = b""
    answer: bytes = b""


class WebServer:
    """Serves the pages that ``find`` has for paths, at ``HOST:PORT`` (port 0: any free one; see :attr:`address`).

    ``find`` is called in the server's thread and must not wait for anything. Raises AddressInUse, ConfigError.
    """

    def __init__(self, endpoint: str, find: Callable[[str], Page | None]) -> None:
        self._find = find
        self._listener = _bound(endpoint)
        host, port = self._listener.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._clients: dict[int, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._stop = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._left, self._filled = BURST, time.monotonic()
        self._listens = False
        self._thread = threading.Thread(target=self._serve, name="taskmaster-web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._stop.close()
        self._thread.join()

    # -- its thread ---------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            now = time.monotonic()
            self._refill(now)
            for key, _ in self._selector.select(self._pause(now)):
                if key.fileobj is self._wake:
                    self._end()
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._turn(self._clients.get(key.fd))
            now = time.monotonic()
            for client in [client for client in self._clients.values() if now > client.until]:
                self._drop(client)

    def _refill(self, now: float) -> None:
        """Listen as long as there may be answers; who comes beyond that waits in the kernel."""
        self._left = min(BURST, self._left + (now - self._filled) * RATE)
        self._filled = now
        if (self._left >= 1) is not self._listens:
            self._listens = not self._listens
            if self._listens:
                self._selector.register(self._listener, selectors.EVENT_READ)
            else:
                self._selector.unregister(self._listener)

    def _pause(self, now: float) -> float:
        due = min((client.until for client in self._clients.values()), default=now + _LOOK_SECONDS)
        return max(0.0, min(due - now, _LOOK_SECONDS if self._listens else 1 / RATE))

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has gone again, or there is no descriptor left for it
            self._left = 0.0
            return
        self._left -= 1
        connection.setblocking(False)
        if len(self._clients) >= CONNECTIONS:
            self._drop(next(iter(self._clients.values())))
        self._clients[connection.fileno()] = _Client(connection, time.monotonic() + SECONDS)
        self._selector.register(connection, selectors.EVENT_READ)

    def _turn(self, client: _Client | None) -> None:
        if client is None:
            return
        try:
            if not client.answer and not self._read(client):
                return
            client.answer = client.answer[client.socket.send(client.answer) :]
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if client.answer:
            self._selector.modify(client.socket, selectors.EVENT_WRITE)
        else:
            self._drop(client)

    def _read(self, client: _Client) -> bool:
        """Whether the request is complete, and its answer there; False, too, if the connection was ended."""
        part = client.socket.recv(REQUEST_BYTES)
        client.request += part
        if not part:
            self._drop(client)
        elif b"\r\n\r\n" in client.request or b"\n\n" in client.request:
            client.answer = self._answer(client.request)
        elif len(client.request) > REQUEST_BYTES:
            client.answer = _response(_said(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        return bool(client.answer)

    def _answer(self, request: bytes) -> bytes:
        words = request.split(b"\n", 1)[0].decode("latin-1").split()
        if len(words) not in (2, 3) or not words[1].startswith("/"):
            return _response(_said(HTTPStatus.BAD_REQUEST))
        method, path = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response(_said(HTTPStatus.METHOD_NOT_ALLOWED), "Allow: GET, HEAD\r\n")
        page = self._find(path) or _said(HTTPStatus.NOT_FOUND)
        return _response(page, has_body=method == "GET")

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.socket.fileno(), None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.socket)
        client.socket.close()

    def _end(self) -> None:
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        self._listener.close()
        self._wake.close()


def _bound(endpoint: str) -> socket.socket:
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"another program listens on {endpoint}, where metrics were to be served; choose another port "
                "([metrics] listen = …)"
            ) from error
        raise ConfigError(f"metrics cannot be served at {endpoint}: {error.strerror} ([metrics] listen = …)") from error
    return listener


def _said(status: HTTPStatus) -> Page:
    return Page(f"{status.value} {status.phrase}\n".encode(), status=status)


def _response(page: Page, headers: str = "", *, has_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\nContent-Type: {page.kind}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n{headers}\r\n"
    )
    return head.encode("latin-1") + (page.body if has_body else b"")
