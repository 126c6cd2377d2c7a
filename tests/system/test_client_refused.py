"""A client whose messages nobody takes: it says so, and waits for it without taking a processor to itself."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from taskmaster.bus import sockets
from taskmaster.bus.errors import DaemonUnreachable
from taskmaster.learners import connect, requests
from taskmaster.learners.aio import connect as aconnect

#: What it waits for an answer, and what of that it may be at work.
WAITED, BUSY = 2.5, 1.0


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address where nobody listens, for clients that can leave one message there, and repeat it soon.

    So it is, too, when a daemon encrypts and the client does not: ZeroMQ then breaks the connection off for good.
    """
    monkeypatch.setattr(sockets, "CONTROL_HWM", 1)
    monkeypatch.setattr(requests, "AGAIN_SECONDS", 0.05)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{reserved.getsockname()[1]}"


def test_a_client_that_cannot_send_waits_quietly(nowhere: str) -> None:
    began = time.process_time()
    with pytest.raises(DaemonUnreachable, match="no daemon answers at"):
        connect(nowhere, timeout=WAITED)
    assert time.process_time() - began < BUSY


def test_so_does_one_of_asyncio(nowhere: str) -> None:
    async def story() -> None:
        with pytest.raises(DaemonUnreachable, match="no daemon answers at"):
            await aconnect(nowhere, timeout=WAITED)

    began = time.process_time()
    asyncio.run(story())
    assert time.process_time() - began < BUSY
