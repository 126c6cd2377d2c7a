"""The Loop: drives a learner against a Master.

It asks only at points that the order of events fixes, never by timing: for ``in_flight`` points at the start, and after
each single result for as many as have become free. So the points that are asked depend on the order in which results
came and on nothing else; and that order is in the journal.

They do not depend on the goal either. What is asked and would be more than the goal needs is kept back, and put if a
task fails, or when the loop is given another goal. (Not asking would be simpler. But then a learner would be asked at
other places in a run that is resumed with a further goal than it had, and could choose other points than are recorded.)

That is also how a Loop resumes. It is started again over the same run: it takes the recorded results in their recorded
order, asks the learner at the same places as before, and finds that what it is about to put has been put already. A
learner that asks something else this time (another seed, another version, an impatient user's other settings) is told
what was measured all the same, and what it asked in vain is put anew.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from taskmaster.bus.errors import CallerError, TaskCancelled, TaskFailed, TaskMasterError
from taskmaster.learners.arguments import whole
from taskmaster.learners.client import Master, Run
from taskmaster.learners.goals import GoalLike, as_goal
from taskmaster.learners.protocol import Bindable, Endable, Failable, Learner, Lossy, Seeded, describe
from taskmaster.learners.results import Result

__all__ = ["LearnerStuck", "Loop", "LoopStatistics", "TooManyFailures"]

log = logging.getLogger("taskmaster")

#: Tasks in flight for each slot: one being evaluated, and one that waits, so that no slot is idle while a result is on
#: its way and the learner thinks. More would have the learner choose from older knowledge.
IN_FLIGHT_PER_SLOT = 2
#: Failures one after the other that end a loop: more than bad luck brings, and soon over where every task fails.
MAX_FAILURES = 100
#: Seconds to wait for a Master's workers to start before it is settled how many tasks to keep in flight.
_SLOTS_SECONDS = 10.0
_LOOK_SECONDS = 0.02
#: What may be waited for a result in one go; longer is more than every system's clock takes.
_WAIT_SECONDS = 3600.0
_IN_FLIGHT = "in_flight"
_RATE_RESULTS = 64


class LearnerStuck(TaskMasterError):
    """The learner asks for nothing although it has been told everything there is to tell."""

    code = "stuck"


class TooManyFailures(TaskMasterError):
    """One task after the other fails; the loop can go on when that is mended."""

    code = "failures"


@dataclass
class _Asked:
    """A point that the learner has asked and that has not ended."""

    point: Any
    #: the last event that the learner had been told then
    after: int
    #: how often it has failed
    tries: int = 0


@dataclass(frozen=True)
class LoopStatistics:
    """Where a loop stands."""

    #: results told to the learner
    told: int
    #: points that ended without an output
    failed: int
    #: tasks put and not ended
    in_flight: int
    #: seconds since the start
    elapsed: float
    #: results a second, over the latest ones
    rate: float
    #: the learner's loss as last looked at; NaN if it has none
    loss: float
    #: how much of the goal is reached, from 0 to 1, as far as it can be known
    fraction: float
    #: seconds until the goal at the present rate; infinite if nobody can tell
    remaining: float


class Loop:
    """A learner, a Master, and when to stop.

    ``target`` is a Master (a run is opened: by ``name``, with ``seed``) or a run that is open for writing, of which no
    result was taken. ``goal`` is a number of points, a :class:`~taskmaster.learners.goals.Goal` or a function of the
    loop; without one the learner's own end counts. ``in_flight`` tasks are kept with the Master, by default two for
    each of its slots, as many as when the run was made. ``hook(loop, result)`` is called after each result. A point
    that failed is put again up to ``retries`` times before the learner is told that it failed. After ``max_failures``
    failures one after the other (None: however many) the loop ends with TooManyFailures.

        Loop(lab["svm"], Sobol(lab["svm"].parameters), goal=200, name="first-try").run()

    A run that holds results already is gone on with: the learner is told them first, in their order.
    """

    def __init__(
        self,
        target: Master | Run,
        learner: Learner,
        *,
        goal: GoalLike | None = None,
        in_flight: int | None = None,
        hook: Callable[[Loop, Result], None] | None = None,
        retries: int = 0,
        max_failures: int | None = MAX_FAILURES,
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        in_flight = None if in_flight is None else whole(in_flight, "in_flight", 1, 1_000_000)
        max_failures = None if max_failures is None else whole(max_failures, "max_failures", 1, 2**53)
        retries = whole(retries, "retries", 0, 2**53)
        self.learner = learner
        self.goal = as_goal(goal)
        self.goal.require(learner)  # before there is a run: one that cannot be is to leave none
        self.told = 0
        self.failed = 0
        self.interrupted = False
        self.run_: Run
        self._hook = hook
        self._retries = retries
        self._max_failures = max_failures
        if isinstance(target, Run):
            self.master, self.run_ = target.master, target
        else:
            self.master = target
            wanted = in_flight or _default_in_flight(target)
            self.run_ = target.open(name, seed=seed, metadata={_IN_FLIGHT: str(wanted), "learner": describe(learner)})
        #: tasks kept in flight
        self.in_flight = in_flight or int(self.run_.metadata.get(_IN_FLIGHT, 0)) or _default_in_flight(self.master)
        if self.run_._core.told >= 0:
            raise CallerError(
                f"run {self.run_.name!r}: some of its results were taken or left out, the learner would not be told; "
                "give the loop the Master and the run's name, or a run as open() returns it"
            )
        #: tasks that were put before this loop was started
        self._recorded = self.run_.next_index
        #: tasks that this loop has put or found put, and those of them whose results it has taken
        self._next_index = 0
        self._taken = 0
        #: points that have been asked and not put, in the order in which they will be
        self._ready: deque[_Asked] = deque()
        #: points that have been put and not ended, by the index of their task
        self._asked: dict[int, _Asked] = {}
        #: a result that was taken, and of which the learner has not been told
        self._in_hand: Result | None = None
        #: tasks that have failed since the last that was done, not counting what is recorded
        self._in_a_row = 0
        self._same_so_far = True
        self._begun = False
        self._started = 0.0
        self._times: deque[float] = deque(maxlen=_RATE_RESULTS)
        self._loss = math.nan

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self) -> Run:
        """Loop until the goal is reached or the learner is done; returns the run, which is left open.

        The first Ctrl-C puts nothing further and waits for what is in flight: called again it goes on. The second
        leaves at once, wherever that is; then a new loop over a run of that name goes on, and nothing is lost, either.
        (It also goes on after a goal was reached and another one set: ``loop.goal = npoints(500)``.) What the learner
        raises comes through.

        Raises LearnerStuck if the learner asks for nothing, though it was told everything and the goal is not reached;
        TooManyFailures if one task after the other fails.
        """
        self._started = time.monotonic()
        self.interrupted = False
        self._in_a_row = 0
        if not self._begun:
            self._begun = True
            if isinstance(self.learner, Bindable):
                self.learner.bind(self.master.parameters, self.master.outputs)
            if isinstance(self.learner, Seeded):
                self.learner.seed(np.random.default_rng(self.run_.seed))
        with self._heeding_interrupts():
            if self._in_hand is not None:
                self._on_result(self._in_hand)
            self._advance()
            while True:
                due = self.goal.due(self)  # before the look at the goal: were it due in between, nobody would notice
                if self._finished():
                    return self.run_
                result = self._next_result(due)
                if result is not None:
                    self._on_result(result)

    def _next_result(self, due: float) -> Result | None:
        """The next result, or None where it is time to look at the goal again."""
        try:
            return self.run_.results.get(None if math.isinf(due) else min(due, _WAIT_SECONDS))
        except TimeoutError:
            return None

    @contextlib.contextmanager
    def _heeding_interrupts(self) -> Iterator[None]:
        """Have the first Ctrl-C set :attr:`interrupted`, where Python would raise KeyboardInterrupt.

        Raised, it could strike between any two steps, and what had just been taken from the run would be lost to the
        learner: the loop would wait for it for ever.
        """
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.interrupted = True
            log.warning("stopping: waiting for %d tasks in flight (Ctrl-C again: leave at once)", self._open)

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _finished(self) -> bool:
        if self._at_goal():
            return True
        if self._open:
            return False
        if self.interrupted:
            return True
        if self._next_index < self._recorded:
            return False
        if not self._learner_is_done():
            raise LearnerStuck(
                f"run {self.run_.name!r}: after {self.told} results and {self.failed} failures the learner "
                f"({describe(self.learner)}) asks for nothing, though nothing is in flight and the goal "
                f"({self.goal!r}) is not reached"
            )
        return True

    def _on_result(self, result: Result) -> None:
        self._in_hand = result  # until the learner has been told of it: if that raises, it is told again
        if result.index < self._recorded and self._same_so_far:
            self._compare(result)
        asked = self._asked.get(result.index) or _Asked(result.input, result.seq)
        error = result.error
        if error is None:
            self._tell(asked.point, result)
            self.told += 1
        elif not self._retry(asked, error):
            if isinstance(self.learner, Failable):
                self.learner.fail(asked.point, error)
            self.failed += 1
        self._asked.pop(result.index, None)
        self._taken += 1
        self._in_hand = None
        self._times.append(time.monotonic())
        if self._hook is not None:
            self._hook(self, result)
        self._require_success(result)
        self._advance()

    def _tell(self, point: Any, result: Result) -> None:
        """Tell the learner what was measured; where somebody has edited its ``point``, that this one was not."""
        if result.is_edited:
            if isinstance(self.learner, Failable):
                why = f"it was edited before it was approved; {result.input!r} was evaluated in its place"
                self.learner.fail(point, TaskFailed(why, "Edited"))
            point = result.input
        self.learner.tell(point, result.output)

    def _require_success(self, result: Result) -> None:
        """Raise TooManyFailures where nothing succeeds any more. What is recorded was put up with before."""
        error = result.error
        if error is None:
            self._in_a_row = 0
        elif isinstance(error, TaskFailed) and result.index >= self._recorded:
            self._in_a_row += 1
            if self._in_a_row == self._max_failures and not self._at_goal():
                raise TooManyFailures(
                    f"run {self.run_.name!r} of Master {self.master.name!r}: {self._in_a_row} tasks have failed one "
                    f"after the other, the last with {error.kind}: {error.args[0]}; mend it and run the loop again, "
                    "which goes on, or have it bear more (max_failures)"
                ) from error

    # -- asking -------------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> int:
        """Tasks in flight, as the order of events tells it: results count when they are taken, not when they come."""
        return self._next_index - self._taken

    def _advance(self) -> None:
        """Ask for as many points as are to be in flight, and put those that the goal needs."""
        if self._at_goal():
            return
        n = self.in_flight - self._open - len(self._ready)
        if n > 0 and not self._learner_is_done():
            self._ask(n)
        if self.interrupted:
            return  # asked where the order of events has it asked, and put when the loop goes on
        room = max(self.goal.missing(self) - self._open, self._recorded - self._next_index)
        while self._ready and room > 0:
            room -= self._put(room)

    def _ask(self, n: int) -> None:
        points = list(self.learner.ask(n))
        if len(points) > n:
            raise CallerError(f"the learner ({describe(self.learner)}) was asked for {n} points and gave {len(points)}")
        told = self.run_._core.told
        self._ready.extend(_Asked(point, told) for point in points)

    def _put(self, most: float) -> int:
        """Put points that were asked at the same time; returns how many. Those that are recorded have been put."""
        after = self._ready[0].after
        together: list[_Asked] = []
        while self._ready and self._ready[0].after == after and len(together) < most:
            together.append(self._ready.popleft())
        known = max(0, min(len(together), self._recorded - self._next_index))
        fresh = [asked.point for asked in together[known:]]
        if fresh:
            self.run_.tasks.new_ask(after)
        before = self.run_.next_index
        try:
            if len(fresh) == 1:
                self.run_.tasks.put(fresh[0])
            elif fresh:
                self.run_.tasks.put_many(fresh)
        finally:
            if self.run_.next_index < before + len(fresh):  # the Master does not take one, or nobody waits any more
                self._ready.extendleft(reversed(together[known:]))
                del together[known:]
            for asked in together:
                self._asked[self._next_index] = asked
                self._next_index += 1
        return len(together)

    def _retry(self, asked: _Asked, error: TaskFailed | TaskCancelled) -> bool:
        if asked.tries >= self._retries or isinstance(error, TaskCancelled):
            return False
        self._ready.append(_Asked(asked.point, self.run_._core.told, asked.tries + 1))
        return True

    def _compare(self, result: Result) -> None:
        """If the record holds another point than the learner asks this time, go on with what was measured."""
        asked = self._asked.get(result.index)
        if asked is not None and (result.is_edited or same_point(asked.point, result.input)):
            return
        log.warning(
            "run %r: task %d was %r, the learner now asks %r there; it is told all recorded results and goes on",
            self.run_.name,
            result.index,
            result.input,
            None if asked is None else asked.point,
        )
        self._same_so_far = False
        # From here on what is recorded counts as put, whoever asked for it.
        in_vain = [asked for index, asked in sorted(self._asked.items()) if index < self._recorded]
        self._asked = {index: asked for index, asked in self._asked.items() if index >= self._recorded}
        self._next_index = max(self._next_index, self._recorded)
        self._ready.extendleft(reversed(in_vain))

    def _learner_is_done(self) -> bool:
        return isinstance(self.learner, Endable) and self.learner.done()

    def _at_goal(self) -> bool:
        return self.goal.reached(self)

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started if self._started else 0.0

    def statistics(self) -> LoopStatistics:
        """Where the loop stands. Looks at the learner's loss, which may take it a while."""
        if isinstance(self.learner, Lossy):
            self._loss = self.learner.loss()
        rate = 0.0
        if len(self._times) > 1 and self._times[-1] > self._times[0]:
            rate = (len(self._times) - 1) / (self._times[-1] - self._times[0])
        fraction = self.goal.fraction(self)
        done = self.told + self.failed
        remaining = done * (1 - fraction) / fraction / rate if fraction > 0 and rate > 0 else math.inf
        return LoopStatistics(self.told, self.failed, self._open, self.elapsed, rate, self._loss, fraction, remaining)

    def __repr__(self) -> str:
        return f"<Loop of {describe(self.learner)} on {self.master.name!r}: {self.told} points, goal {self.goal!r}>"


def _default_in_flight(master: Master) -> int:
    """Two for each slot, as soon as all have started: it is recorded, and how far they had come would be chance."""
    deadline = time.monotonic() + _SLOTS_SECONDS
    status = master.statistics()
    while (status.starting or not status.slots) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        status = master.statistics()
    return IN_FLIGHT_PER_SLOT * max(1, status.slots)


def same_point(one: Any, other: Any) -> bool:
    """Whether these are the same point, one of which may have been to the daemon and back."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_point(value, other[key]) for key, value in one.items())
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(np.asarray(one), np.asarray(other), equal_nan=False))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_point, one, other))
    return bool(one == other)
