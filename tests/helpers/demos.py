"""Demonstrations in a process of their own, as the command line runs them."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from taskmaster.bus.places import control_address

__all__ = ["DemoProcess", "read_table"]

PROGRAM = """
import sys
from taskmaster.cli.demo import run_demo
which, output, state, points = sys.argv[1:]
run_demo(which, output, points=int(points), state=state or None, headless=True)
"""


class DemoProcess:
    """A demo that runs, and what it has printed so far."""

    def __init__(self, folder: Path, which: str, points: int, *, state: Path | None = None) -> None:
        self.state = state
        self.output = folder / "output"
        self.temporary = folder / "t"
        self.temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, which, str(self.output), str(state or ""), str(points)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(self.temporary)},
            process_group=0,
        )
        assert self.process.stdout is not None
        self._stdout = self.process.stdout

    @property
    def address(self) -> str:
        """Where its daemon listens, as soon as it has said that it is there."""
        line = self._stdout.readline()
        assert line.endswith("?\n"), line + self._stdout.read()
        return control_address(self.state or next(self.temporary.glob("taskmaster-demo-*")))

    def read_until(self, text: str) -> str:
        """Wait until it has printed a line with this text; what it has printed before, too."""
        lines = []
        for line in self._stdout:
            lines.append(line)
            if text in line:
                return "".join(lines)
        raise AssertionError(f"{text!r} was not printed: {''.join(lines)}")

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ctrl-C, as a terminal sends it to the whole process group; or another signal."""
        os.killpg(self.process.pid, number)

    def family(self) -> list[psutil.Process]:
        """It, its daemon and the workers."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def finish(self) -> str:
        """Wait until it has ended; what it has printed."""
        text = self._stdout.read()
        self.process.wait(timeout=60)
        return text

    def close(self) -> None:
        """Kill it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._stdout.close()


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(file, newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))
