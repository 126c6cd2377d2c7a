"""A host of workers that dial in, in its own process, as `taskmaster worker` would be on another machine.

python -m helpers.dialled ADDRESS MASTER COUNT
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from helpers.waiting import PATIENCE
from taskmaster.drivers.dialin import DialIn, find

__all__ = ["Dialled"]


class Dialled:
    """Such a process. It and its workers end with the context, and say so: no task of the next test goes to them."""

    def __init__(self, address: str, master: str, count: int = 1) -> None:
        tests = Path(__file__).resolve().parents[1]
        path = os.pathsep.join(filter(None, (str(tests), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helpers.dialled", address, master, str(count)],
            env={**os.environ, "PYTHONPATH": path},
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended; returns its exit status."""
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Dialled:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # the second ends what is being evaluated
            self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    DialIn(find(sys.argv[1], sys.argv[2]), int(sys.argv[3])).run()
