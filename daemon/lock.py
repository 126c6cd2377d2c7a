"""The lock on a state directory: one writer each, which is the daemon, or a program that stands in for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from taskmaster.bus.errors import StateLocked, StateUnwritable

__all__ = ["LOCK", "locked"]

#: The file's name; its content is the process id of whoever holds it.
LOCK = "lock"


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the state directory: one daemon each. The lock goes with the process, however it ends."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnwritable(
            f"the state directory {state} cannot be written: {error.strerror}; choose another one ([daemon] state = …) "
            "or change its owner"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateLocked(
            f"another daemon (process {holder}) uses the state directory {state}; stop it, or give this one another "
            "([daemon] state = …)"
        ) from error
    try:
        with contextlib.suppress(OSError):  # the number is for people only; a full disk can do without it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
