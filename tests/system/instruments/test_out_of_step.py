"""An instrument that says more than it was asked, at the worst moments: nothing of it is taken for an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taskmaster.drivers.instruments import CommandHead, HeadContext
from taskmaster.drivers.instruments.errors import Garbled


@contextmanager
def instrument(answers: dict[str, bytes], after: dict[str, tuple[float, bytes]]) -> Iterator[str]:
    """Answers each question as told, and says something by itself some seconds after others. Yields its resource."""

    def serve() -> None:
        with server, a_client(server) as (client, lines):
            for line in lines:
                client.sendall(answers.get(line.strip(), b""))
                if line.strip() in after:
                    seconds, more = after[line.strip()]
                    threading.Timer(seconds, client.sendall, [more]).start()

    server = socket.create_server(("127.0.0.1", 0))
    host, port = server.getsockname()
    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield f"TCPIP0::{host}::{port}::SOCKET"
    finally:
        serving.join()


@contextmanager
def a_client(server: socket.socket) -> Iterator[tuple[socket.socket, Any]]:
    client, _ = server.accept()
    with client, client.makefile("r") as lines:
        yield client, lines


def evaluate(resource: str, **commands: Any) -> dict[str, Any]:
    head = CommandHead(HeadContext(options={"resource": resource, "commands": commands}))
    try:
        head.open()
        return head.evaluate({})
    finally:
        head.close()


def test_two_answers_at_once_are_none() -> None:
    with (
        instrument({"MEAS?": b"1\n2\n"}, {}) as resource,
        pytest.raises(Garbled, match=r"received '1', and '2\\n' more"),
    ):
        evaluate(resource, read={"current": "MEAS?"})


def test_what_comes_between_two_questions_answers_neither() -> None:
    wait = {"query": "READY?", "until": "1", "every": 0.3}
    with (
        instrument({"READY?": b"0\n", "MEAS?": b"5\n"}, {"READY?": (0.05, b"1\n")}) as resource,
        pytest.raises(Garbled, match=r"'1\\n' had come before 'READY\?' was asked"),
    ):
        evaluate(resource, wait=wait, read={"current": "MEAS?"})
