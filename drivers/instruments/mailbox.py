"""What a head's thread is told by whoever talks to the daemon: orders, tasks, questions, and when it is to leave.

What others say may be said from any thread, and none of it waits for the hardware. What the head is to do is the
daemon's order, unless something weightier is so: that the daemon is not heard of any more (`hold`). Only a stop reaches
past the queue: it sets the event at which transports and sleeps look every few milliseconds, so that what is being done
is broken off.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from taskmaster.bus import messages as m
from taskmaster.bus.text import shortened
from taskmaster.drivers.instruments.news import Ended, News
from taskmaster.drivers.protocol import Assignment, Question

__all__ = ["Mailbox", "Task", "Wish", "limited"]

_LONGEST_WAIT = 86400.0


@dataclass(frozen=True, eq=False)
class Wish:
    """What the head is to do now, and the daemon's order that this is in answer to."""

    #: ``wait``: nobody has said anything yet
    what: Literal["stop", "park", "work", "wait"] = "wait"
    number: m.LeaseId = (0, 0)
    #: why, where it is not the daemon's order
    reason: str = ""
    #: whether to poll what is watched while the head is safe
    watch: bool = True


class Task(NamedTuple):
    """One that is being evaluated: since when (monotonic), of which assignment, and at which position of that."""

    since: float
    assignment: Assignment
    position: int


class Mailbox:
    """A base for who attends to one head. What is given back goes to ``tell``."""

    def __init__(self, tell: Callable[[News], None]) -> None:
        self.stopping = threading.Event()
        self._tell = tell
        self._changed = threading.Condition()
        self._order = m.HeadOrder((0, 0), "park")
        self._held = ""
        self._wish = Wish()
        self._assignments: deque[Assignment] = deque()
        self._questions: deque[Question] = deque()
        #: the task that is being evaluated, and why it was broken off, if it was
        self._task: Task | None = None
        self._broken_off: m.TaskError | None = None
        self._leaving = self._has_left = False
        #: it is to be safe before anything else
        self._must_secure = False
        #: the lease of a task that is in doubt, of which the daemon is not known to have heard
        self._doubted: m.LeaseId | None = None
        #: the latest trip of which the daemon knows
        self._heard = 0

    def order(self, order: m.HeadOrder) -> None:
        """What the daemon wants the head to do from now on; a stop breaks off what it is doing."""
        with self._changed:
            heard, self._heard = self._heard, max(self._heard, order.heard)
            if order.number > self._order.number or (order.what == "work" and self._heard > heard):
                self._order = order
                self._decide()

    def hold(self, reason: str) -> None:
        """Stop the head, whatever the daemon's last order was: nobody is there to give another one."""
        with self._changed:
            if not self._held:
                self._held = reason
                self._decide()

    def release(self) -> None:
        """Undo :meth:`hold`."""
        with self._changed:
            if self._held:
                self._held = ""
                self._decide()

    @property
    def doubted(self) -> m.LeaseId | None:
        """The lease of a task in doubt that keeps the head safe, until the daemon has heard of it."""
        return self._doubted

    def on_doubt_heard(self) -> None:
        """The daemon has heard of it, and has said before what the head is to do."""
        with self._changed:
            self._doubted = None
            self._decide()

    def _decide(self) -> None:
        order = self._order
        self._wish = Wish("stop" if self._held else order.what, order.number, self._held, order.watch)
        if self._wish.what == "stop":
            self._break()
        self._changed.notify()

    @property
    def task(self) -> Task | None:
        """What is being evaluated."""
        return self._task

    def break_off(self, task: Task, kind: str, reason: str) -> None:
        """End what is being evaluated, if it is this; the head is brought to its safe state."""
        with self._changed:
            if self._task is task and self._broken_off is None:
                self._broken_off = m.TaskError(0, kind, shortened(reason))
                self._break()

    def _break(self) -> None:
        # Also where something else is wished for before the head's thread has heard of it: a stop is never skipped.
        self._must_secure = True
        self.stopping.set()

    def give(self, assignment: Assignment) -> None:
        """A task to evaluate. It is given back at once where the thread has ended: it was on its way then."""
        with self._changed:
            if not self._has_left:
                self._assignments.append(assignment)
                self._changed.notify()
                return
        self._tell(Ended(assignment, n=0))

    def give_back_revoked(self) -> None:
        """What is not wanted any more and has not begun."""
        with self._changed:
            revoked = [assignment for assignment in self._assignments if assignment.revoked]
            if revoked:
                self._assignments = deque(assignment for assignment in self._assignments if not assignment.revoked)
        for assignment in revoked:
            self._tell(Ended(assignment, n=0))

    def ask(self, question: Question) -> None:
        """Have the head find out about a task in doubt."""
        with self._changed:
            self._questions.append(question)
            self._changed.notify()

    def leave(self, *, at_once: bool = False) -> None:
        """End the thread, with the head in its safe state, when its task has ended, or ``at_once``."""
        with self._changed:
            self._leaving = True
            if at_once:
                self.stopping.set()
            self._changed.notify()

    # -- for the head's thread ----------------------------------------------------------------------------------------

    def _is_over(self, wish: Wish) -> bool:
        return self._wish is not wish or self._must_secure or self._leaving

    def _wait(self, seconds: float | None, wish: Wish) -> bool:
        """Wait until something else is wished for, or it is time to leave; False if ``seconds`` have passed before."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_over(wish), limited(seconds))


def limited(seconds: float | None) -> float | None:
    """For a wait that may be for ever. Longer ones than this overflow in some places, and are as long for all."""
    return None if seconds is None or seconds == math.inf else min(max(0.0, seconds), _LONGEST_WAIT)
