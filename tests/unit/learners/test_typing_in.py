"""Lines typed at a terminal, with nobody at it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest
from helpers.waiting import PATIENCE

CTRL_C, CTRL_D = b"\x03", b"\x04"
#: Asks until it is told to stop, and says what it has heard.
ASKING = """
from taskmaster.learners.typing_in import typed_line
heard = ""
while heard != "stop":
    try:
        heard = typed_line("go: ")
    except KeyboardInterrupt:
        continue
    except EOFError:
        heard = "the end"
    print(ascii(heard))
"""


class Keyboard:
    """Of a terminal at which there is a program."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def await_end(self, expected: bytes) -> bytes:
        """What is shown up to the next time that it ends like this."""
        shown = b""
        while not shown.endswith(expected):
            assert select.select([self._descriptor], [], [], PATIENCE)[0], shown[-1000:]
            shown += os.read(self._descriptor, 4096)
        return shown


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    descriptor, screen = pty.openpty()
    line = ["setsid", "--ctty", "--wait", sys.executable, "-c", ASKING]
    with subprocess.Popen(line, stdin=screen, stdout=screen, stderr=screen):
        os.close(screen)
        yield Keyboard(descriptor)
        os.close(descriptor)  # who still reads there is hung up


def test_lines_are_heard_one_by_one(keyboard: Keyboard) -> None:
    keyboard.await_end(b"go: ")
    keyboard.press("1.5 µm\n".encode())
    assert rb"'1.5 \xb5m'" in keyboard.await_end(b"go: ")
    keyboard.press(b"\n")
    assert b"\n''" in keyboard.await_end(b"go: ")
    keyboard.press(CTRL_D)
    assert b"'the end'" in keyboard.await_end(b"go: ")
    keyboard.press(b"first\nsecond\nstop\n")  # typed ahead
    assert keyboard.await_end(b"'stop'\r\n").index(b"'first'") < 1000


def test_ctrl_c_is_heard_whenever_it_comes(keyboard: Keyboard) -> None:
    """Right behind the prompt, too: waited for in one system call, a line would keep it from being heard (1 in 10⁴)."""
    for _ in range(20_000):
        keyboard.await_end(b"go: ")
        keyboard.press(CTRL_C)
    keyboard.await_end(b"go: ")
    keyboard.press(b"stop\n")
    keyboard.await_end(b"'stop'\r\n")
