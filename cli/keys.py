"""Single keys from a terminal, without the Return behind them."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import threading
import tty
from collections.abc import Generator, Iterator

from taskmaster.learners.typing_in import interruptible

__all__ = ["keys_pressed"]

#: What keys send that are no characters, F4 for one: ESC O S. No letter in it is meant for anybody.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])?", re.DOTALL)


def keys_pressed(keys: str) -> Generator[str, None, None]:
    """Each of these keys when it is pressed, until the terminal is gone; none where standard input is no terminal.

    Ctrl-C raises KeyboardInterrupt, as always. To be closed: the terminal is as it was before then.
    """
    if not sys.stdin.isatty():
        threading.Event().wait()
    descriptor = sys.stdin.fileno()
    with interruptible() as heard, _unbuffered(descriptor):
        while True:
            readable, _, _ = select.select([descriptor, heard], [], [])
            if heard in readable:
                os.read(heard, 1024)
            if descriptor not in readable:
                continue
            typed = os.read(descriptor, 64).decode(errors="replace")
            if not typed:
                return
            yield from (key for key in _SEQUENCE.sub("", typed) if key in keys)


@contextlib.contextmanager
def _unbuffered(descriptor: int) -> Iterator[None]:
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
