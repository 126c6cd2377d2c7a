"""What is typed at a terminal: waiting for it is ended by Ctrl-C whenever that comes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator

__all__ = ["interruptible", "typed_line"]

#: Longer than any line that a terminal takes in (4096 bytes).
_LONGEST_LINE = 1 << 16


@contextlib.contextmanager
def interruptible() -> Iterator[int]:
    """A descriptor that can be read as soon as there was a signal, to wait on together with what is waited for.

    A signal that comes between Python's last look for one and the system call that waits would else be heard of only
    when that call ends: Ctrl-C right behind a prompt would do nothing. For the main thread.
    """
    heard, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        yield heard
    finally:
        signal.set_wakeup_fd(before)
        os.close(heard)
        os.close(told)


def typed_line(prompt: str) -> str:
    """The line typed behind the prompt, without its end. Raises EOFError on Ctrl-D, KeyboardInterrupt on Ctrl-C.

    Like :func:`input` at a terminal, but for the above: no line that is typed ahead is read with it. Elsewhere, in a
    notebook or another thread than the main one, it is :func:`input`.
    """
    if not sys.stdin.isatty() or threading.current_thread() is not threading.main_thread():
        return input(prompt)
    descriptor = sys.stdin.fileno()
    with interruptible() as heard:
        sys.stdout.write(prompt)
        sys.stdout.flush()
        while True:
            readable, _, _ = select.select([descriptor, heard], [], [])
            if heard in readable:
                os.read(heard, 1024)  # its handler has run by now: it was no Ctrl-C
            if descriptor in readable:
                break
    typed = os.read(descriptor, _LONGEST_LINE)  # a line: a terminal gives no more at once
    if not typed:
        raise EOFError
    return typed.decode(sys.stdin.encoding, errors="replace").removesuffix("\n")
