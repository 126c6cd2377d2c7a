"""Waiting for what has no event of its own, always with a deadline."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

__all__ = ["PATIENCE", "all_ended", "eventually"]

#: Seconds that anything may take on a loaded machine before a test gives it up. Never what a test takes.
PATIENCE = 60.0
_LOOK_SECONDS = 0.01

T = TypeVar("T")


def eventually(look: Callable[[], T | Literal[False] | None], what: str, timeout: float = PATIENCE) -> T:
    """Look until there is something to see, and return it. Raises AssertionError if ``what`` is waited for in vain."""
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for: {what}")
        time.sleep(_LOOK_SECONDS)
    return seen


def all_ended(descriptors: Iterable[int], timeout: float = PATIENCE) -> bool:
    """Wait until every process behind these pidfds has ended; False if one has not within ``timeout`` seconds."""
    running = set(descriptors)
    deadline = time.monotonic() + timeout
    while running and (left := deadline - time.monotonic()) > 0:
        running -= set(select.select(running, [], [], left)[0])
    return not running
