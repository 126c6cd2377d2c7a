"""Virtual time, and what happens when."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

__all__ = ["Agenda"]

#: 1970 plus this is when the simulation starts, for what people read.
_WALL = 1_700_000_000.0


class Agenda:
    """Calls in the order of their virtual times; of one time, in the order in which they were put down.

    It also stands in for the module ``time`` in the code under test. While the daemon is in a turn its own time runs
    ``ahead`` of everybody else's: a turn is one call here, but what it sends late in a slow commit leaves late.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.ahead = 0.0
        self.steps = 0
        self._number = 0
        self._calls: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Have ``call`` called at a time that is not past."""
        self._number += 1
        heapq.heappush(self._calls, (when, self._number, call, arguments))

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Have ``call`` called ``seconds`` from now."""
        self.at(self.monotonic() + seconds, call, *arguments)

    def step(self) -> None:
        """Do what is next."""
        when, _, call, arguments = heapq.heappop(self._calls)
        self.now = max(self.now, when)
        self.steps += 1
        call(*arguments)

    # -- as the module ``time`` ---------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.now + self.ahead

    perf_counter = monotonic

    def time(self) -> float:
        return _WALL + self.now + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += seconds
