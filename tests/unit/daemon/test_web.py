"""The small HTTP server: what it answers, and that no client of it costs more than it may."""

from __future__ import annotations

import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlparse

import pytest

from taskmaster.bus.errors import AddressInUse, ConfigError
from taskmaster.daemon import web
from taskmaster.daemon.web import BURST, CONNECTIONS, RATE, REQUEST_BYTES, Page, WebServer

LARGE = b"x" * 3_000_000


class Site:
    """A server, and how often it was asked for a page."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.server = WebServer("127.0.0.1:0", self.find)
        self.port = int(urlparse(self.server.address).port or 0)

    def find(self, path: str) -> Page | None:
        self.asked.append(path)
        pages = {
            "/metrics": Page(b"up 1\n"),
            "/health": Page(b"no\n", status=HTTPStatus.SERVICE_UNAVAILABLE),
            "/large": Page(LARGE),
        }
        return pages.get(path)

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def said(self, request: bytes) -> bytes:
        with self.raw() as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.close()


def test_it_answers(site: Site) -> None:
    with urllib.request.urlopen(f"{site.server.address}/metrics?x=1") as response:
        assert (response.status, response.read()) == (200, b"up 1\n")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Connection"] == "close"
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"{site.server.address}/health")
    assert site.get("/nothing") == (404, b"404 Not Found\n")
    assert site.get("/metrics", "HEAD") == (200, b"")
    assert site.get("/metrics", "POST")[0] == 405
    assert site.get("/large") == (200, LARGE)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"GET metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"\xff\x00\xfe / HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics\n\n", b"200"),
        (b"GET / HTTP/1.1\r\na: ".ljust(REQUEST_BYTES + 1, b"b"), b"431"),
    ],
)
def test_whatever_is_said_gets_an_answer(site: Site, request_: bytes, status: bytes) -> None:
    assert site.said(request_)[:12] == b"HTTP/1.1 " + status


def test_clients_that_say_nothing_keep_nobody_out(site: Site) -> None:
    """As many as one likes: the oldest makes way for the next, who is answered at once."""
    silent = [site.raw() for _ in range(CONNECTIONS + 5)]
    slow = site.raw()
    slow.sendall(b"GET /met")
    assert site.get("/metrics")[0] == 200
    assert silent[0].recv(10) == b"", "it was ended"
    slow.sendall(b"rics HTTP/1.1\r\n\r\n")
    assert slow.recv(12) == b"HTTP/1.1 200"
    for connection in (*silent, slow):
        connection.close()


def test_a_client_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SECONDS", 0.2)
    site = Site()
    try:
        with site.raw() as silent, site.raw() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            assert silent.recv(10) == b""
            assert site.get("/metrics")[0] == 200
    finally:
        site.server.close()


def test_a_flood_is_answered_at_its_own_pace(site: Site) -> None:
    """So much work and no more is done for it a second."""
    began = time.monotonic()
    count = int(BURST + RATE)
    for _ in range(count):
        assert site.get("/metrics")[0] == 200
    took = time.monotonic() - began
    assert len(site.asked) <= BURST + RATE * took + 1
    assert took > 0.5


def test_a_client_that_goes_away_in_the_middle_is_forgotten(site: Site) -> None:
    for _ in range(20):
        connection = site.raw()
        connection.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        connection.recv(1)
        connection.close()
    assert site.get("/metrics")[0] == 200


def test_an_address_in_use_is_said_with_what_to_change(site: Site) -> None:
    with pytest.raises(AddressInUse, match=rf"another program listens on 127.0.0.1:{site.port}, .*\[metrics\] listen"):
        WebServer(f"127.0.0.1:{site.port}", site.find)
    with pytest.raises(ConfigError, match=r"metrics cannot be served at 192.0.2.1:1: Cannot assign"):
        WebServer("192.0.2.1:1", site.find)


def test_the_other_internet_protocol() -> None:
    try:
        server = WebServer("[::1]:0", lambda path: Page(b"ok"))
    except ConfigError:
        pytest.skip("there is none here")
    with urllib.request.urlopen(f"{server.address}/") as response:
        assert response.read() == b"ok"
    server.close()
