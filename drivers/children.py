"""Processes that a function forks, as `multiprocessing` does: signals mean to them what they mean to any other.

A worker takes SIGTERM as a word to come to an end, and goes on with what it has in hand. A child that took it so would
not end, and who has ended it, as a pool of processes does with its own, would wait for it for ever.
"""

from __future__ import annotations

import os
import signal

__all__ = ["free_children"]


def free_children() -> None:
    """Have processes that are forked from this one end by SIGTERM, and not wake this one when they are sent it."""
    # Held back meanwhile: between the fork and the change it would be taken as a worker takes it.
    os.register_at_fork(before=_hold_back, after_in_parent=_let_come, after_in_child=_as_any_other)


def _hold_back() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _let_come() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _as_any_other() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_come()
