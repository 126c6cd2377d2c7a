"""What is watched at a head: what is due when, what trips an interlock, and when it holds again. No I/O, no clock.

A poll that is late is made once, and the next is due a whole period later: polls do not pile up behind a long query. Of
several that are due the one comes first that has waited longest, so that none is starved by others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from taskmaster.bus.messages import Scalar

__all__ = ["Action", "Condition", "Interlock", "Keep", "Monitor", "Schedule", "Watched", "scalar", "watched"]

Action: TypeAlias = Literal["pause", "safe", "stop"]

#: Polls in a row that must find an interlock in order before it holds again.
HOLDS_AFTER = 2
#: Characters of a text that is recorded or shown.
_LONGEST = 200
_INTEGERS = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Watched:
    """Something that is polled ``every`` so many seconds; ``table`` says how, to `Head.look`."""

    name: str
    every: float
    table: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Monitor(Watched):
    """A value that is recorded."""


@dataclass(frozen=True)
class Keep(Watched):
    """The instrument's own watchdog, which is to be kept from acting."""


@dataclass(frozen=True)
class Interlock(Watched):
    """A value that must stay within bounds."""

    action: Action = "safe"
    minimum: float | None = None
    maximum: float | None = None
    equals: bool | float | str | None = None
    #: bounds another head's value or is bounded by one: the daemon is told every value, and compares them
    compared: bool = False
    #: its bounds are this head's; else its value is polled for others alone
    judged: bool = True

    def wrong(self, value: Any) -> str:
        """Why this value trips it; empty if it does not. What is no number is beyond every limit."""
        if self.equals is not None:
            return "" if _equal(value, self.equals) else f"{_shown(value)} is not {_shown(self.equals)}"
        if self.minimum is None and self.maximum is None and not self.compared:
            return ""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            return f"{_shown(value)} is no number"
        if self.minimum is not None and value < self.minimum:
            return f"{value:g} is below min = {self.minimum:g}"
        if self.maximum is not None and value > self.maximum:
            return f"{value:g} is above max = {self.maximum:g}"
        return ""


def _equal(value: Any, wanted: bool | float | str) -> bool:
    """Whether they are the same; 1 is not true, and a text is no number."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    return isinstance(value, str) == isinstance(wanted, str) and bool(value == wanted)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def scalar(value: Any) -> Scalar:
    """A value as it is recorded: numpy's scalars as Python's. Raises ValueError for what is no single value."""
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, str):
        return value[:_LONGEST]
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and value in _INTEGERS):
        return value
    raise ValueError(f"{_shown(value)} is no number, text or truth value")


def watched(options: Mapping[str, Any], head: str) -> tuple[Watched, ...]:
    """What the options of a head, as its worker gets them, have polled at it."""
    items: list[Watched] = []
    table: Mapping[str, Any]
    watchdog = options.get("watchdog") or (options.get("commands") or {}).get("watchdog")
    if watchdog:
        items.append(Keep("watchdog", float(watchdog.get("every") or 1.0), watchdog))
    for name, table in (options.get("interlocks") or {}).items():
        items += _interlock(name, table, head)
    for name, table in (options.get("monitor") or {}).items():
        items.append(Monitor(name, float(table.get("every") or 5.0), table))
    return tuple(items)


def _interlock(name: str, table: Mapping[str, Any], head: str) -> Iterator[Interlock]:
    """What this head has to do with an interlock: judge its own value, report it for others to compare, or nothing."""
    bounding = {table.get("below"), table.get("above")} - {None}
    own = table.get("head") in (None, head)
    if own or head in bounding:
        limits = table.get("min"), table.get("max"), table.get("equals")
        yield Interlock(
            name,
            float(table.get("every") or 1.0),
            table,
            table.get("action") or "safe",
            *limits,
            compared=bool(bounding),
            judged=own and (head not in bounding or limits != (None, None, None)),
        )


class Schedule:
    """When each of some things is due."""

    def __init__(self, items: Iterable[Watched]) -> None:
        self._due = dict.fromkeys(items, math.inf)
        #: the next moment at which anything is
        self.due = math.inf

    def __iter__(self) -> Iterator[Watched]:
        return iter(self._due)

    def start(self, items: Iterable[Watched], now: float) -> None:
        """Have these polled from now on, if they are not."""
        for item in items:
            self._due[item] = min(self._due[item], now)
        self._look()

    def stop(self, items: Iterable[Watched]) -> None:
        """Have these polled no more."""
        for item in items:
            self._due[item] = math.inf
        self._look()

    def put_off(self, item: Watched, now: float) -> None:
        """It is not due before a whole period has passed."""
        self._due[item] = now + item.every
        self._look()

    def take(self, now: float) -> Watched | None:
        """What has been due for longest, if anything is; it is due again a period later."""
        if now < self.due:
            return None
        item = min(self._due, key=self._due.__getitem__)
        after = self._due[item] + item.every
        self._due[item] = after if after > now else now + item.every
        self._look()
        return item

    def _look(self) -> None:
        self.due = min(self._due.values(), default=math.inf)


@dataclass
class Condition:
    """Whether an interlock holds, as polls find it."""

    #: why it has tripped; empty if it holds
    reason: str = ""
    #: it has tripped because its value cannot be had, and no value was out of bounds since
    lost: bool = False
    _in_order: int = 0

    def hear(self, reason: str, *, lost: bool = False) -> bool:
        """A poll has found this wrong (nothing: empty); whether that is news."""
        if not reason:
            self._in_order += 1
            if not self.reason or self._in_order < HOLDS_AFTER:
                return False
            self.reason, self.lost = "", False
            return True
        self._in_order = 0
        if self.reason and (lost or not self.lost):
            return False
        self.reason, self.lost = reason, lost
        return True
