"""A worker that keeps to the protocol: what it has been given, how far it is with it, and what it has said of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from helpers.heart import Assignment, Hand
from taskmaster.bus import messages as m
from taskmaster.bus.table import Table
from taskmaster.daemon.leases import Started
from taskmaster.drivers.progress import Position

__all__ = ["Evaluator", "Progress", "fails"]


@dataclass
class Progress:
    """How far a worker is with one lease."""

    at: Assignment
    #: positions that it was told to skip, and those it has reported
    skipped: set[int] = field(default_factory=set)
    reported: set[int] = field(default_factory=set)
    #: positions below this have started, or were skipped
    next: int = 0
    #: and so far it has noted: below is the last that has started
    noted: int = 0
    final: bool = False

    @property
    def through(self) -> bool:
        return self.next >= self.at.message.n


class Evaluator:
    """A worker that evaluates its leases in order, as many at a time as it has slots."""

    def __init__(self, hand: Hand, excused: Counter[tuple[int, int]]) -> None:
        self.hand = hand
        self.progress: list[Progress] = []
        #: tasks that were taken back from a worker, which may have begun them already
        self.excused = excused

    def listen(self) -> None:
        """Take in what the daemon has sent."""
        self.progress += [Progress(at) for at in self.hand.assignments]
        self.hand.assignments.clear()
        for note in self.hand.heard:
            for each in self.progress:
                if isinstance(note, m.Revoke) and note.lease == each.at.lease:
                    positions = [p for low, high in note.intervals for p in range(low, high)]
                    each.skipped.update(p for p in positions if p >= each.next)  # what has begun is ended
                    self.excused.update((each.at.message.run, each.at.message.first + p) for p in positions)
        asked = any(isinstance(note, m.Refused) for note in self.hand.heard)
        settled = {lease for note in self.hand.heard if isinstance(note, m.Settled) for lease in note.leases}
        self.progress = [each for each in self.progress if not (each.final and each.at.lease in settled)]
        self.hand.heard.clear()
        if asked:
            self.hand.hello(*(each.at.lease for each in self.progress))
            self.hand.say(m.Ready())
            self.listen()

    @property
    def current(self) -> list[Progress]:
        """The leases that its slots are in, and the one that is begun next if a slot is free."""
        busy = [each for each in self.progress if each.next and not each.through]
        waiting = [each for each in self.progress if not each.next]
        return busy + waiting[: len(busy) < self.hand.slots]

    def begin(self, each: Progress) -> int | None:
        """Start the next task of a lease; returns its position."""
        while not each.through:
            each.next += 1
            if each.next - 1 not in each.skipped:
                each.noted = each.next
                return each.next - 1
        return None

    def report(self, each: Progress) -> tuple[m.Outcome, Table | None]:
        """The outcome of the next stretch of tasks that were evaluated and not reported."""
        done = [p for p in range(each.next) if p not in each.skipped | each.reported]
        high = low = done[0] if done else each.next
        while high in done:
            high += 1
        each.reported.update(range(low, high))
        each.final = each.through and not [p for p in done if p >= high]
        errors = [p - low for p in range(low, high) if fails(each.at.rows[p])]
        return self.hand.outcome(each.at, low, high, errors=errors, final=each.final)

    @property
    def started(self) -> Started:
        """What is known of it when it is lost."""
        begun = [each for each in self.progress if each.next]
        if not begun:
            return Started()
        return Started(max(each.at.lease for each in begun), {each.at.lease: each.noted for each in begun})

    @property
    def positions(self) -> list[Position]:
        """What it has noted of its progress: of each slot, the lease it was in last."""
        begun = [each for each in self.progress if each.next][-self.hand.slots :]
        return [
            Position(at.lease, at.run, at.first, each.noted, at.attempt, not each.final)
            for each in begun
            for at in (each.at.message,)
        ]


def fails(row: Any) -> bool:
    """Whether evaluating a task raises."""
    return int(row) % 7 == 3
