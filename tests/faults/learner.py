"""A learner in a process of its own, which notes everything: to be killed, stopped, cut off and started again.

    faults.learner:main ADDRESS MASTER RUN NOTES INCARNATION PACE [KEY DAEMON_KEY]

It puts points that nobody has put before, a few every ``PACE`` seconds, with at most WINDOW of them open; on SIGTERM it
waits for what is open and ends.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.evidence import RUN_STRIDE, Notes
from taskmaster.learners.client import Run, connect
from taskmaster.learners.results import Result

__all__ = ["BULK", "STRIDE", "follow", "main"]

#: Open tasks beyond which it waits.
WINDOW = 60
#: Points of one incarnation are those from its number times this.
STRIDE = RUN_STRIDE // 1000
#: A Master that gets blocks of so many tasks: more than the journal keeps in a row of its own.
BULK, LARGE = "bulk", 9_000


class _Learner:
    def __init__(self, run: Run, notes: Notes, incarnation: int, pace: float) -> None:
        self._run, self._notes, self._pace = run, notes, pace
        self._chance = random.Random(incarnation)
        self._next = incarnation * STRIDE
        self._acknowledged = 0
        self._is_bulk = run.master.name == BULK
        self._due = 0.0
        self.stopping = False

    def work(self) -> None:
        """Put and take."""
        run = self._run
        while not (self.stopping and not run.open_tasks and self._acknowledged >= run.next_index):
            if not self.stopping and run.open_tasks < WINDOW and time.monotonic() >= self._due:
                self._put()
                self._due = time.monotonic() + self._pace
            self._note_acknowledged()
            results = list(_arrived(run, self._pace))
            if results:
                self._notes.note("told", results)
        self._notes.note("end")

    def _put(self) -> None:
        points = list(range(self._next, self._next + (LARGE if self._is_bulk else self._chance.randint(1, 12))))
        self._next += len(points)
        self._notes.note("put", self._run.next_index, points)
        if self._is_bulk or self._chance.random() < 0.5:
            self._run.tasks.put_many(points)
        else:
            for point in points:
                self._run.tasks.put(point)

    def _note_acknowledged(self) -> None:
        acknowledged = self._run._core.acknowledged
        if acknowledged != self._acknowledged:
            self._acknowledged = acknowledged
            self._notes.note("ack", acknowledged)


def _arrived(run: Run, timeout: float) -> Iterator[tuple[Any, ...]]:
    try:
        yield _as_noted(run.results.get(timeout))
    except TimeoutError:
        return
    for _ in range(500):
        result = run.results.get_nowait()
        if result is None:
            return
        yield _as_noted(result)


def _as_noted(result: Result) -> tuple[Any, ...]:
    done = result.outcome == "done"
    return result.seq, result.index, result.outcome, result.input, result.output if done else None


def follow() -> None:
    """Only follow a run, ``faults.learner:follow ADDRESS MASTER RUN NOTES``, until killed."""
    address, master, name, path, *_ = sys.argv[1:]
    notes = Notes(Path(path))
    run = connect(address, 120.0, None)[master].watch(name)
    while True:
        results = list(_arrived(run, 1.0))
        if results:
            notes.note("told", results)


def main() -> None:
    """Learn, until told to end."""
    address, master, name, path, incarnation, pace, *keys = sys.argv[1:]
    notes = Notes(Path(path))
    key, daemon_key = keys or (None, None)
    lab = connect(address, 120.0, None, key=key, daemon_key=daemon_key)
    run = lab[master].open(name)
    notes.note("open", run.next_index)
    learner = _Learner(run, notes, int(incarnation), float(pace))

    def stop(number: int, frame: object) -> None:
        learner.stopping = True

    signal.signal(signal.SIGTERM, stop)
    learner.work()
    lab.close(60.0)
