"""Whether what runs here is part of something that runs in parallel already: then nothing is to be split further."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["is_parallel", "mark_process", "section"]

_section: ContextVar[bool] = ContextVar("taskmaster-section", default=False)
_process = False


@contextmanager
def section() -> Iterator[None]:
    """What runs in here, in this thread, is one of several parts."""
    token = _section.set(True)
    try:
        yield
    finally:
        _section.reset(token)


def mark_process() -> None:
    """Everything in this process is: it is a worker."""
    global _process
    _process = True


def is_parallel() -> bool:
    """Whether this is a part of a parallel section: one of its threads, or a worker process."""
    return _process or _section.get()
