"""Heads of ours for the figures of instruments, and what a user would write without TaskMaster."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from taskmaster.drivers.instruments import Head, HeadContext

__all__ = ["Sleeper", "Stopwatch", "bare_loop"]


class Stopwatch(Head):
    """Takes 25 ms, and notes when it was asked and when it had answered: pairs of nanoseconds, monotonic."""

    def __init__(self, context: HeadContext, folder: str) -> None:
        super().__init__(context)
        self._notes = os.open(Path(folder) / f"times-{self.name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def evaluate(self, x: dict[str, float]) -> float:
        asked = time.monotonic_ns()
        self.begin_acting()
        self.sleep(0.025)  # too long to be granted together with others
        answer = 2.0 * x["x"]
        os.write(self._notes, struct.pack("<2q", asked, time.monotonic_ns()))
        return answer


class Sleeper(Head):
    """Takes a tenth of a second."""

    def evaluate(self, x: dict[str, float]) -> float:
        self.begin_acting()
        self.sleep(0.1)
        return x["x"]


def bare_loop(resource: str, count: int, image: int, seed: int) -> float:
    """Seconds that ``count`` tasks take in a loop over a bare PyVISA resource: set, wait, read; nothing is checked.

    ``image``: side of the images that are read, in place of numbers; 0 for numbers.
    """
    import numpy as np
    import pyvisa

    instrument: Any = pyvisa.ResourceManager("@py").open_resource(resource)
    instrument.read_termination = instrument.write_termination = "\n"
    instrument.timeout = 10_000
    # Without it each command waits for the acknowledgement of the one before, 40 ms: nobody would put up with that.
    _socket_of(instrument).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    points = np.round(np.random.default_rng(seed).random((count, 2)) * 500, 3)
    sys.stdin.readline()  # all begin at once
    began = time.perf_counter()
    for x, y in points.tolist():
        instrument.write(f"POS {x:.3f},{y:.3f}")
        if instrument.query("*OPC?").strip() != "1":
            raise RuntimeError("it did not settle")
        if image:
            values = instrument.query_binary_values(
                f"MEAS:IMAG? {image},{image}", datatype="f", container=np.array, chunk_size=1 << 20
            )
            if values.size != image * image:
                raise RuntimeError(f"an image of {values.size} values")
        else:
            float(instrument.query("MEAS:CURR?"))
    return time.perf_counter() - began


def _socket_of(instrument: Any) -> socket.socket:
    session: Any = instrument.visalib.sessions[instrument.session]
    return session.interface  # type: ignore[no-any-return]


if __name__ == "__main__":
    print(bare_loop(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])), flush=True)
