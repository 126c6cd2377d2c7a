"""Single keys from a terminal, without the Return behind them."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Iterator

__all__ = ["wait_for_key"]


def wait_for_key(keys: str) -> None:
    """Wait until one of these keys is pressed, or for ever where standard input is no terminal.

    Ctrl-C raises KeyboardInterrupt, as always.
    """
    if not sys.stdin.isatty():
        threading.Event().wait()
    descriptor = sys.stdin.fileno()
    with _unbuffered(descriptor):
        while True:
            select.select([descriptor], [], [])
            pressed = os.read(descriptor, 64).decode(errors="replace")
            if not pressed or any(key in keys for key in pressed):  # nothing is read where the terminal is gone
                return


@contextlib.contextmanager
def _unbuffered(descriptor: int) -> Iterator[None]:
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
