"""Devices that nobody here wrote, in processes of their own: of the simulator `lewis`."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.waiting import PATIENCE, eventually

__all__ = ["lewis"]


@contextmanager
def lewis(device: str, protocol: str, *more: str) -> Iterator[str]:
    """The VISA resource of a device of lewis, ``lewis("julabo", "julabo-version-1")``, on a port of this machine."""
    port = _free_port()
    address = f"{{bind_address: 127.0.0.1, port: {port}}}"
    with _serving(port, "-m", "lewis", *more, device, "-p", f"{protocol}: {address}"):
        yield f"TCPIP0::127.0.0.1::{port}::SOCKET"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _serving(port: int, *arguments: str) -> Iterator[None]:
    """A Python program that listens on a port. Nobody connects to find out: lewis would lose its next answer."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, *arguments], stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            eventually(lambda: _listens(port) or process.poll() is not None, "it to listen")
            assert process.poll() is None, f"it has ended: {' '.join(arguments)}"
            yield
        finally:
            process.kill()
            process.wait(PATIENCE)


def _listens(port: int) -> bool:
    """Whether somebody of this machine listens there, as the kernel tells."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == "0A" and int(local.partition(":")[2], 16) == port:
            return True
    return False
