"""The documents' programs run as they are printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.daemon import Daemon
from helpers.documents import code_blocks, document, section

PROTOCOL = document("docs/protocol.md")

ADDER = {
    "driver": "process",
    "function": "never:called",
    "workers": 0,
    "parameters": {"a": {}, "b": {}},
    "outputs": {"sum": {}},
}


@pytest.fixture
def adder(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with a Master that has no workers of its own."""
    daemon = Daemon(tmp_path, {"adder": ADDER}).start()
    yield daemon
    daemon.close()


def start(program: str, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "TASKMASTER": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_client_and_a_worker_can_be_written_from_the_document(adder: Daemon) -> None:
    [client_code] = code_blocks(section(PROTOCOL, "The least client"), "python")
    [worker_code] = code_blocks(section(PROTOCOL, "The least worker"), "python")
    assert "taskmaster" not in client_code + worker_code, "they must do without our code"

    with start(worker_code, adder.address) as worker, start(client_code, adder.address) as client:
        try:
            printed = client.communicate(timeout=60)[0]
            assert client.returncode == 0, printed
            assert sorted(printed.splitlines()) == ["(1.0, 2.0) 3.0", "(3.0, 4.0) 7.0", "(5.0, 6.0) 11.0"]
        finally:
            client.kill()
            worker.kill()
