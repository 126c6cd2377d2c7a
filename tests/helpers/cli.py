"""The ``taskmaster`` command as somebody types it: in a terminal of a given size, or in a pipe."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

from helpers.waiting import PATIENCE
from taskmaster.cli.app import run

__all__ = ["Program", "Said", "Terminal", "taskmaster"]

_PROGRAM = (sys.executable, "-m", "taskmaster")
#: What a terminal draws by, besides characters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\].*?(?:\x07|\x1b\\)|[()].|[=>78])")


@dataclass(frozen=True)
class Said:
    """What a command has printed, and what it ended with."""

    status: int
    out: str
    err: str


def taskmaster(*arguments: str | Path, stdin: str = "", folder: Path | None = None, **environment: str) -> Said:
    """Run the command in pipes."""
    done = subprocess.run(
        [*_PROGRAM, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
        timeout=PATIENCE,
    )
    return Said(done.returncode, done.stdout, done.stderr)


class Program:
    """The command within this process: most of what it does needs no other, which would take its time to start."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setattr(logging.getLogger("taskmaster"), "handlers", [])

    def __call__(self, *arguments: str | Path) -> Said:
        """Run it; see :func:`taskmaster`."""
        self._capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return Said(status, out, err)


class Terminal:
    """A command in a terminal of its own. It is killed, if it still runs, with the context."""

    def __init__(
        self, *arguments: str | Path, columns: int = 80, lines: int = 40, environment: Mapping[str, str] | None = None
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
        around = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            # A session of its own, whose terminal this is: so ^C reaches it as it would from a keyboard.
            ["setsid", "--ctty", "--wait", *_PROGRAM, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**around, "TERM": "xterm-256color", **(environment or {})},
        )
        os.close(slave)
        #: everything that came so far, as it came
        self.raw = ""

    @property
    def text(self) -> str:
        """The same without escape sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    @property
    def lines(self) -> Sequence[str]:
        """What was printed, line by line."""
        return self.text.splitlines()

    def press(self, keys: str) -> None:
        """Type something; ``\\x03`` is Ctrl-C."""
        os.write(self._master, keys.encode())

    def await_text(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Wait until what matches the pattern has been printed."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text)):
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"waited in vain for {pattern!r}; the last of it:\n{self.text[-2000:]}")
        return found

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait until the command has ended; returns its exit status."""
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(0.0, deadline - time.monotonic()))

    def _read(self, timeout: float) -> bool:
        """Take in what comes next; False if nothing comes any more."""
        if not select.select([self._master], [], [], max(0.0, timeout))[0]:
            return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # EIO: nobody has the other end open any more
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()  # what it has started hears of it by its terminal, which hangs up
        self.process.wait()
        os.close(self._master)
