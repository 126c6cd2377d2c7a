"""Ctrl-C while a loop runs: first it ends in good order, then at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["heeding_interrupts", "interrupted_at_once"]


@contextlib.contextmanager
def heeding_interrupts(*presses: Callable[[], None]) -> Iterator[None]:
    """Have each Ctrl-C call the next of ``presses``, where Python would raise KeyboardInterrupt; then it is Python's.

    Raised, it could strike between any two steps, and what had just been taken from the run would be lost to the
    learner: the loop would wait for it for ever. Nothing changes where others have a handler of their own, or in
    another thread than the main one, which is not interrupted.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    left = list(presses)

    def on_signal(number: int, frame: FrameType | None) -> None:
        press = left.pop(0)
        if not left:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        press()

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Have the first Ctrl-C raise KeyboardInterrupt, also where loops are run within: nothing of theirs is to be kept.

    Nothing changes where others have a handler of their own, or in another thread than the main one.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:  # not Python's own: loops leave it alone
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
