"""Plausible bugs, put into the daemon or the client to see that the checker notices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

__all__ = ["MUTATIONS", "mutated"]

Mutation: TypeAlias = Callable[[], contextlib.AbstractContextManager[None]]

MUTATIONS: dict[str, Mutation] = {}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Put the bug ``name`` in for a while; no name, no bug."""
    with MUTATIONS[name]() if name else contextlib.nullcontext():
        yield
