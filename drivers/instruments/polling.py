"""Polling what is watched at a head, from the thread that owns it: between the steps of a task, and when it is idle.

What may go wrong here is the head's, as if a task had asked: a lost connection is lost. An interlock whose value is out
of bounds, or cannot be had, has tripped; where that makes the head safe, what it is doing is broken off there and then.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from taskmaster.bus import messages as m
from taskmaster.bus.text import shortened
from taskmaster.drivers.instruments.errors import InterlockTripped, LinkError, Stopped
from taskmaster.drivers.instruments.head import Head
from taskmaster.drivers.instruments.watching import Condition, Interlock, Keep, Monitor, Schedule, Watched, scalar

__all__ = ["Polling", "Seen"]

Seen: TypeAlias = m.Samples | m.Polled | m.Tripped

_CANNOT_BE_HAD = "its value cannot be had"


class Polling:
    """Polls at one head, from the thread that makes it.

    ``say`` is told what was seen; ``brake``, at a trip that makes the head safe, why: nothing of what the head does is
    to go on then, whoever catches the exception that is raised, too.
    """

    def __init__(
        self,
        head: Head,
        items: Iterable[Watched],
        say: Callable[[Seen], None],
        brake: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._head = head
        self._say = say
        self._brake = brake
        self._clock = clock
        self._thread = threading.get_ident()
        self._schedule = Schedule(items)
        items = tuple(self._schedule)
        self._keeps = [item for item in items if isinstance(item, Keep)]
        self._values = [item for item in items if not isinstance(item, Keep)]
        self._conditions = {item: Condition() for item in items if isinstance(item, Interlock) and item.judged}
        #: what was said of interlocks is counted; the latest trip for which the head must be safe
        self._said = 0
        self.latest_trip = 0
        #: a poll is under way
        self._looking = False
        #: a trip breaks off what the head does
        self._at_work = False

    def __bool__(self) -> bool:
        """Whether there is any value that is watched."""
        return bool(self._values)

    @property
    def due(self) -> float:
        """The next moment at which anything is to be polled."""
        return self._schedule.due

    @property
    def tripped(self) -> str:
        """Why the head must be safe at present; empty if no interlock wants that."""
        for item, condition in self._conditions.items():
            if condition.reason and item.action != "pause":
                return f"interlock {item.name!r} has tripped: {condition.reason}"
        return ""

    # -- what the head is doing ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The head is open: every interlock is looked at now, and whatever is watched from now on.

        Raises InterlockTripped where it must not work, LinkErrors.
        """
        self._at_work = True
        now = self._clock()
        self._schedule.start(self._values, now)
        for keep in self._keeps:
            self._schedule.start([keep], now + keep.every)
        for item in self._conditions:
            self._schedule.put_off(item, now)
            self._poll(item)

    def rest(self) -> None:
        """The head has been brought to its safe state, or is about to be: its values are looked at, and no more."""
        self._at_work = False
        self._schedule.stop(self._keeps)

    def watch(self) -> None:
        """The head is connected, though it is not to work: its values are looked at from now on."""
        self._schedule.start(self._values, self._clock())

    def leave(self) -> None:
        """The instrument is left to others: nothing is looked at, and what was seen holds no more."""
        self.rest()
        self._schedule.stop(self._values)
        self._conditions = {item: Condition() for item in self._conditions}

    # -- polling ------------------------------------------------------------------------------------------------------

    def between(self) -> float:
        """Poll the one thing that has been due for longest, if anything is; when that will be the next time.

        Raises InterlockTripped, Stopped, LinkErrors.
        """
        if self._clock() >= self._schedule.due and not self._looking and threading.get_ident() == self._thread:
            item = self._schedule.take(self._clock())
            if item is not None:
                self._poll(item)
        return math.inf if self._looking else self._schedule.due

    def missed(self, error: object) -> None:
        """What is due cannot be had, for there is no connection, because of this ``error``."""
        while (item := self._schedule.take(self._clock())) is not None:
            if isinstance(item, Interlock):
                self._judge(item, None, f"{_CANNOT_BE_HAD}: {error}", lost=True)

    def _poll(self, item: Watched) -> None:
        self._looking = True
        try:
            if isinstance(item, Keep):
                self._head.feed_watchdog()
            elif isinstance(item, Interlock):
                self._poll_interlock(item)
            elif isinstance(item, Monitor):
                self._sample(item)
        finally:
            self._looking = False

    def _sample(self, item: Monitor) -> None:
        try:
            value = scalar(self._head.look(item.table))
        except Stopped:
            raise
        except LinkError:
            self._say(m.Samples(time.time(), {item.name: None}))
            raise
        except Exception:  # noqa: BLE001 - whatever a user's property raises, the value could not be had
            value = None
        self._say(m.Samples(time.time(), {item.name: value}))

    def _poll_interlock(self, item: Interlock) -> None:
        try:
            value = scalar(self._head.look(item.table))
        except Stopped:
            raise
        except LinkError as error:
            self._judge(item, None, f"{_CANNOT_BE_HAD}: {error}", lost=True)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a user's property raises, the value cannot be had
            self._judge(item, None, f"{_CANNOT_BE_HAD}: {type(error).__name__}: {error}", lost=True)
        else:
            self._judge(item, value, item.wrong(value))
        if self._at_work and (why := self.tripped):
            raise InterlockTripped(f"{self._head.context.label}: {why}")

    def _judge(self, item: Interlock, value: Any, wrong: str, *, lost: bool = False) -> None:
        now, wrong = time.time(), shortened(wrong)
        if item.compared:
            self._say(m.Polled(now, item.name, value, wrong))
        condition = self._conditions.get(item)
        if condition is None or not condition.hear(wrong, lost=lost):
            return
        self._said += 1
        if condition.reason and item.action != "pause":
            self.latest_trip = self._said
        self._say(m.Tripped(now, item.name, condition.reason, condition.lost, self._said))
        if condition.reason and item.action != "pause" and self._at_work:
            self._brake(f"interlock {item.name!r} has tripped: {condition.reason}")
