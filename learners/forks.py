"""Connections do not survive fork(): a child shares their descriptors with its parent, but not their threads."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["REASON", "tell"]

#: What an error says of a connection that somebody has brought along into a child.
REASON = "belongs to the process that this one was forked from"


class Forked(Protocol):
    """Wants to know that it finds itself in a child process."""

    def on_fork(self) -> None:
        """Nothing that other threads did is going on any more; what is held in common with the parent is to be left."""


_told: weakref.WeakSet[Forked] = weakref.WeakSet()


def tell(whom: Forked) -> None:
    """Call ``on_fork`` of it in every child that is forked from now on, as long as it exists."""
    _told.add(whom)


def _in_child() -> None:
    for forked in list(_told):
        forked.on_fork()


if hasattr(os, "register_at_fork"):  # where there is no fork(), there is no such function
    os.register_at_fork(after_in_child=_in_child)
