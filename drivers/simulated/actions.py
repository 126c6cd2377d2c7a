"""What an instrument was told and did: counted for good, and remembered one by one.

An instrument's own record is what "never twice" is checked against: it does not know what anybody meant, only what
arrived.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

__all__ = ["Action", "ActionLog", "Actions", "Kind"]

#: What a command is to the instrument: `set` changes it, `measure` is what tasks are for, a `query` does neither.
Kind = Literal["set", "measure", "query"]


class Action(NamedTuple):
    """Something that a head was told to set or to measure."""

    #: counts the head's actions, from 0
    number: int
    #: when it arrived: `time.monotonic()` of this machine, the same for all of its processes
    time: float
    #: the same in simulated seconds
    simulated: float
    kind: str
    #: the command's short form, like ``MEAS:CURR?``
    command: str
    arguments: tuple[float, ...]
    #: how the head was set when it measured: parameters by name
    at: dict[str, float]
    #: whether it brings the head to, or keeps it in, a safe state
    safe: bool
    #: 0, or the code of the error with which it was refused: it had no effect
    error: int
    #: who told it: ``client``, or the instrument's own ``watchdog``
    by: str


@dataclass(frozen=True)
class Actions:
    """What one head has received."""

    #: by command, everything that arrived, queries and refused commands included
    counts: dict[str, int]
    #: what was set and measured, in order
    actions: tuple[Action, ...]
    #: how many of the oldest actions are no longer remembered
    forgotten: int = 0

    def measured(self, *parameters: str) -> Counter[tuple[float, ...]]:
        """How often was measured where: ``measured("x", "y")`` counts by position. Refused commands do not count."""
        done = (action for action in self.actions if action.kind == "measure" and not action.error)
        return Counter(tuple(action.at[name] for name in parameters) for action in done)


class ActionLog:
    """One head's counts, which are exact for good, and its last ``remembered`` actions."""

    def __init__(self, remembered: int = 100_000) -> None:
        self.counts: Counter[str] = Counter()
        self._actions: deque[Action] = deque(maxlen=remembered)
        #: how many there have been
        self.total = 0

    def add(
        self,
        time: float,
        simulated: float,
        kind: Kind,
        command: str,
        arguments: tuple[float, ...] = (),
        at: dict[str, float] | None = None,
        *,
        safe: bool = False,
        error: int = 0,
        by: str = "client",
    ) -> None:
        """Remember an action."""
        self._actions.append(Action(self.total, time, simulated, kind, command, arguments, at or {}, safe, error, by))
        self.total += 1

    @property
    def forgotten(self) -> int:
        """How many of the oldest are no longer remembered."""
        return self.total - len(self._actions)

    def since(self, number: int, limit: int) -> list[Action]:
        """At most ``limit`` actions from this number on."""
        skip = max(0, number - self.forgotten)
        return list(islice(self._actions, skip, skip + limit))

    def first_safe(self, mark: float) -> Action | None:
        """The first accepted action at or after a time that made or kept the head safe."""
        return _first(action for action in self._actions if action.time >= mark and action.safe and not action.error)


def _first(actions: Iterable[Action]) -> Action | None:
    return next(iter(actions), None)
