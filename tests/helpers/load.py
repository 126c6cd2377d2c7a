"""A learner that never tires: puts and takes in two threads, whatever becomes of the daemon, and keeps count."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np

from helpers import recorded
from helpers.daemon import function
from helpers.recorded import Outcome
from helpers.waiting import PATIENCE
from taskmaster.bus.errors import DaemonUnreachable, TaskFailed
from taskmaster.learners.client import Lab, Run, connect
from taskmaster.learners.results import Result

__all__ = ["Load", "master"]

#: What a point's ``x`` must be for its evaluation to raise: see `evaluations:square_or_raise`.
RAISES_ABOVE = 1e6


def master(**keys: Any) -> dict[str, Any]:
    """The Master that a :class:`Load` puts its tasks to. Its tasks are no worker killers, however often they start."""
    known = {"workers": 2, "max_attempts": 1000, "parameters": {"x": {}}, "outputs": {"y": {}}}
    return function("square_or_raise", **{**known, **keys})


#: Blocks that exceed what the journal keeps in its own rows. There are a few only, put again and again.
LARGE = [[float(x + shift) for x in range(10_000)] for shift in range(6)]


class Load:
    """Drives one run. ``seed`` chooses what is put when; at most ``window`` tasks are open at a time, and a few more.

    Some of its blocks are ``large``: so that the journal keeps them in a file of their own, and some of those alike.
    """

    def __init__(self, run: Run, seed: int, window: int = 400, *, large: bool = False) -> None:
        self.run = run
        self.window = window
        self.large = large
        #: the points by the indices that put returned
        self.points: list[float] = []
        #: what arrived, in order
        self.results: list[Result] = []
        #: indices that this learner has asked to cancel
        self.cancelled: set[int] = set()
        self._random = random.Random(seed)
        self._changed = threading.Condition()
        self._stopping = False
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._guard, args=(work,)) for work in (self._put, self._take)]

    def start(self) -> Load:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def await_results(self, n: int, timeout: float = PATIENCE) -> None:
        """Wait until ``n`` more results have arrived. Raises what a thread died of, or AssertionError."""
        with self._changed:
            goal = len(self.results) + n
            done = self._changed.wait_for(lambda: self._failure or len(self.results) >= goal, timeout)
        if self._failure is not None:
            raise self._failure
        assert done, f"{goal - len(self.results)} of {n} results did not arrive within {timeout:g} s: {self.run!r}"

    def finish(self, timeout: float = 2 * PATIENCE) -> None:
        """Stop putting, and wait for the last result."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)
            assert not thread.is_alive(), f"it does not come to an end: {self.run!r}"
        if self._failure is not None:
            raise self._failure

    # -- its two threads ----------------------------------------------------------------------------------------------

    def _guard(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test's own thread raises it
            with self._changed:
                self._failure = self._failure or error
                self._stopping = True
                self._changed.notify_all()

    def _put(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or len(self.points) - len(self.results) < self.window)
                if self._stopping:
                    return
            self._put_some()

    def _put_some(self) -> None:
        tasks, kind = self.run.tasks, self._random.random()
        points = [self._point() for _ in range(self._random.randint(1, 60))]
        if self.large and kind > 0.8:
            points = self._random.choice(LARGE)
        n = len(points)
        first = len(self.points)
        # Before it is put: the first result may be here before put has returned.
        self.points += points
        if kind < 0.6:
            indices = [tasks.put({"x": x}) for x in points]
        elif kind < 0.8:
            indices = list(tasks.put_many([{"x": x} for x in points]))
        else:
            indices = list(tasks.put_many(np.array(points).reshape(-1, 1)))
        assert indices == list(range(first, first + n)), "indices go on where they ended"
        if self._random.random() < 0.03:
            self._cancel(first + self._random.randrange(n))

    def _point(self) -> float:
        x = self._random.uniform(-1e3, 1e3)
        return x + 2 * RAISES_ABOVE if self._random.random() < 0.01 else x

    def _cancel(self, index: int) -> None:
        self.cancelled.add(index)
        try:
            self.run.cancel([index])
        except DaemonUnreachable:
            return  # it was killed again and again for ten seconds: whether it was cancelled, its result will say

    def _take(self) -> None:
        results = self.run.results
        while self._failure is None and not (self._stopping and len(self.results) == len(self.points)):
            try:
                result = results.get(timeout=0.2)
            except TimeoutError:
                continue
            with self._changed:
                self.results.append(result)
                self._changed.notify_all()

    # -- what must be true at the end ---------------------------------------------------------------------------------

    def check(self, lab: Lab, state: Path) -> None:
        """Every task that was put has one outcome, the right one; and so says whoever asks later, and the file."""
        here = [_outcome(result) for result in self.results]
        self._check_delivered(here)
        with connect(lab.address) as fresh, fresh[self.run.master.name].watch(self.run.name) as again:
            there = [_outcome(result) for result in again.results]
        assert there == here, "a replay from the start tells the same"
        number = recorded.run_number(state, self.run.master.name, self.run.name)
        assert recorded.outcomes(state, number) == here, "the SQLite file says the same"

    def _check_delivered(self, here: list[Outcome]) -> None:
        assert sorted(outcome.index for outcome in here) == list(range(len(self.points))), "each task once"
        assert [outcome.seq for outcome in here] == list(range(len(here))), "numbers without gaps, in order"
        for outcome in here:
            x = self.points[outcome.index]
            assert outcome.point == {"x": x}
            if outcome.kind == "cancelled":
                assert outcome.index in self.cancelled, "only what was to be cancelled is"
            elif abs(x) > RAISES_ABOVE:
                assert outcome.kind == "failed"
            else:
                assert (outcome.kind, outcome.output) == ("done", x * x)


def _outcome(result: Result) -> Outcome:
    if result.outcome == "failed":
        error = result.error
        assert isinstance(error, TaskFailed)
        assert error.kind == "ValueError", error
    output = result.output if result.outcome == "done" else None
    return Outcome(result.seq, result.index, result.outcome, result.input, output)
