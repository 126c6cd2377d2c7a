"""Virtual workers: who evaluates what when, by an event heap.

Time stands still while anything is decided and jumps from event to event. An event is a tuple ``(time, number, kind,
worker, task, attempt)``; the number counts events as they are made, so that of two at the same time the earlier made
comes first, in every run, and tasks are never compared.

What goes wrong follows the daemon's rules for repeatable tasks. A task is with its latest attempt: when the Master
notices that nothing will come of it, the task goes to the front of its run's queue, and fails once that has happened
``max_attempts`` times. An answer counts if its attempt is the latest, even if the task waits again meanwhile.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from taskmaster.bus.errors import TaskFailed
from taskmaster.learners.simulate.failures import Failures, uniforms
from taskmaster.learners.simulate.latency import Latency
from taskmaster.learners.simulate.result import SimulatedResult, remote_error
from taskmaster.learners.simulate.turns import Turns

if TYPE_CHECKING:
    from taskmaster.learners.simulate.journal import RunJournal

__all__ = ["MISHAPS", "Losses", "VirtualWorkers", "returned"]

#: What kinds of failures are the simulation's doing, and not of what is evaluated.
MISHAPS = frozenset({"SimulatedFailure", "WorkerLost"})

#: What an evaluation that takes no time counts for when it is about whose turn it is.
_LEAST_SECONDS = 1e-9

#: What happens. A worker answers: its task ends, it is free.
_ANSWER = 0
#: A worker is free; its answer is lost, or under way.
_FREE = 1
#: An answer that was late arrives.
_LATE = 2
#: A worker dies. It comes back after its repair, which is _FREE.
_DEATH = 3
#: The Master notices that an attempt has come to nothing.
_NOTICE = 4

_Event: TypeAlias = tuple[float, int, int, int, SimulatedResult | None, int]


@dataclass
class Losses:
    """What went wrong so far."""

    deaths: int = 0
    lost: int = 0
    late: int = 0
    #: late answers that came after a later attempt had begun, or the task had ended
    ignored: int = 0
    #: attempts beyond a task's first
    repeated: int = 0


class VirtualWorkers:
    """Evaluate tasks with ``f`` in virtual time, as their turns come.

    ``speeds`` has an entry for each worker: at speed 2 an evaluation takes half the time that ``latency`` says.
    """

    def __init__(
        self,
        f: Callable[[Any], Any],
        speeds: Sequence[float],
        latency: Latency,
        failures: Failures,
        seed: int,
        max_attempts: int,
        now: float,
    ) -> None:
        self.now = now
        #: tasks that wait, and whose turn it is
        self.turns = Turns()
        self.losses = Losses()
        #: events so far
        self.events = 0
        self._f = f
        self._names = [f"worker-{k}" for k in range(len(speeds))]
        self._slowness = [1.0 / speed for speed in speeds]
        #: seconds that they have been evaluating, or will have been by ``_until``: when each has ended what it is at
        self._busy = 0.0
        self._until = [now] * len(speeds)
        # A source of its own for each: what goes wrong changes no duration but by what it lets happen.
        self._duration = latency.sampler(np.random.default_rng([seed, 0]))
        chance = np.random.default_rng([seed, 1])
        self._chance = uniforms(chance)
        self._failures = failures
        self._reliable = failures.is_none
        self._repair = failures.repair.sampler(chance)
        self._lateness = failures.lateness.sampler(chance)
        self._max_attempts = max_attempts
        self._idle: deque[int] = deque(range(len(speeds)))
        #: those that are not to begin anything any more, and which of them have ended what they were at
        self._retired: set[int] = set()
        self._gone: set[int] = set()
        #: seconds of workers up to when their number changed last, and when that was
        self._offered, self._offered_at = 0.0, now
        self._heap: list[_Event] = []
        self._count = 0

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self._names) - len(self._retired)

    @property
    def offered_seconds(self) -> float:
        """Seconds that they have been there, together and so far; who goes is there until it ends what it is at."""
        leaving = math.fsum(self._left(worker) for worker in self._retired)
        return self._offered + self.n * (self.now - self._offered_at) - leaving

    @property
    def busy_seconds(self) -> float:
        """Seconds that they have been evaluating, together and so far."""
        return self._busy - math.fsum(until - self.now for until in self._until if until > self.now)

    @property
    def next_event(self) -> float:
        """When something happens next; infinite where nothing will."""
        return self._heap[0][0] if self._heap else math.inf

    def put_many(self, run: RunJournal, tasks: Sequence[SimulatedResult]) -> None:
        """Have tasks of a run evaluated: at once, as far as workers are free."""
        self.turns.add(run, tasks)
        self.serve()

    def serve(self) -> None:
        """Have those that are free begin what waits, as far as it may."""
        idle, turns = self._idle, self.turns
        while idle and (task := turns.next()) is not None:
            self._start(task, idle.popleft())

    def resize(self, n: int) -> None:
        """Be ``n``: who comes anew is as fast as ``latency`` says, who goes ends first what it is at.

        Those go first that are at nothing: idle ones, and those that have died and are not back.
        """
        self._offered += self.n * (self.now - self._offered_at)
        self._offered_at = self.now
        for worker in sorted(self._retired)[: max(0, n - self.n)]:
            self._retired.remove(worker)
            self._offered -= self._left(worker)
            if worker in self._gone:
                self._gone.remove(worker)
                self._idle.append(worker)
        while self.n < n:
            self._idle.append(len(self._names))
            self._names.append(f"worker-{len(self._names)}")
            self._slowness.append(1.0)
            self._until.append(self.now)
        staying = [worker for worker in reversed(range(len(self._names))) if worker not in self._retired]
        staying.sort(key=lambda worker: self._until[worker] > self.now)  # those that are at nothing go first
        idle = set(self._idle)
        for worker in staying[: max(0, self.n - n)]:
            self._retired.add(worker)
            self._offered += self._left(worker)
            if worker in idle:
                self._gone.add(worker)
        self._idle = deque(worker for worker in self._idle if worker not in self._retired)
        self.serve()

    def advance(self, until: float) -> None:
        """Let everything happen up to this time, which becomes the present."""
        while self._heap and self._heap[0][0] <= until:
            self.step()
        self.now = max(self.now, until)

    def step(self) -> bool:
        """Let the next event happen; False if there is none."""
        if not self._heap:
            return False
        self.now, _, kind, worker, task, attempt = heappop(self._heap)
        self.events += 1
        if kind == _ANSWER:
            assert task is not None
            self._answer(task, attempt)
            self._free(worker)
        elif kind == _FREE:
            self._free(worker)
        else:
            assert task is not None
            self._mishap(kind, worker, task, attempt)
        return True

    def _left(self, worker: int) -> float:
        """Seconds that one is still at something."""
        return max(0.0, self._until[worker] - self.now)

    # -- evaluating ---------------------------------------------------------------------------------------------------

    def _free(self, worker: int) -> None:
        if self._retired and worker in self._retired:
            self._gone.add(worker)
            return
        task = self.turns.next()
        if task is None:
            self._idle.append(worker)
        else:
            self._start(task, worker)

    def _start(self, task: SimulatedResult, worker: int) -> None:
        now = self.now
        attempt = task.start(self._names[worker], now)
        seconds = self._duration(task._point) * self._slowness[worker]
        task.run.virtual_time += seconds or _LEAST_SECONDS
        if self._reliable:
            self._busy += seconds
            self._until[worker] = end = now + seconds
            self._count = number = self._count + 1
            heappush(self._heap, (end, number, _ANSWER, worker, task, attempt))
        else:
            self._start_unreliably(task, worker, seconds, attempt)

    def _answer(self, task: SimulatedResult, attempt: int) -> None:
        """An evaluation has ended, and the Master hears of it."""
        if task._outcome or attempt != task._attempt:
            self.losses.ignored += task._outcome != "cancelled"
            return
        output, error = None, None
        if self._failures.fail and next(self._chance) < self._failures.fail:
            error = TaskFailed("the simulation had it fail", "SimulatedFailure")
        else:
            try:
                output = self._f(task._point)
                if type(output) is GeneratorType:
                    output = returned(output)
            except Exception as raised:  # noqa: BLE001 - whatever an evaluation raises is its task's outcome
                error = remote_error(raised)
        task.end(self.now, output, error)
        task.run.on_end(task)

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _start_unreliably(self, task: SimulatedResult, worker: int, seconds: float, attempt: int) -> None:
        """Decide now what will become of this attempt. Each takes as many numbers, whatever becomes of it."""
        failures, now = self._failures, self.now
        u_death, u_answer = next(self._chance), next(self._chance)
        self.losses.repeated += attempt > 1
        lives = -math.log1p(-u_death) * failures.lifetime if math.isfinite(failures.lifetime) else math.inf
        self._busy += min(lives, seconds)
        self._until[worker] = now + min(lives, seconds)
        if lives < seconds:
            self._push(now + lives, _DEATH, worker, task, attempt)
            return
        end = now + seconds
        if u_answer < failures.lost:
            self.losses.lost += 1
        elif u_answer < failures.lost + failures.late:
            self.losses.late += 1
            self._push(end + self._lateness(task._point), _LATE, worker, task, attempt)
        else:
            self._push(end, _ANSWER, worker, task, attempt)
            return
        self._push(end, _FREE, worker, None, 0)
        self._push(end + failures.notice, _NOTICE, worker, task, attempt)

    def _mishap(self, kind: int, worker: int, task: SimulatedResult, attempt: int) -> None:
        if kind == _LATE:
            self._answer(task, attempt)
        elif kind == _DEATH:
            self.losses.deaths += 1
            self._push(self.now + self._failures.notice, _NOTICE, worker, task, attempt)
            self._push(self.now + self._repair(task._point), _FREE, worker, None, 0)
        elif not task._outcome and attempt == task._attempt and not task.is_waiting:
            self._repeat(task, attempt)

    def _repeat(self, task: SimulatedResult, attempt: int) -> None:
        """Nothing came of an attempt: another, or none."""
        if attempt >= self._max_attempts:
            error = TaskFailed(f"its worker was lost, or its answer, at each of {attempt} attempts", "WorkerLost")
            task.end(self.now, None, error)
            task.run.on_end(task)
            return
        task.is_waiting = True
        self.turns.put_back(task)
        self.serve()

    def _push(self, time: float, kind: int, worker: int, task: SimulatedResult | None, attempt: int) -> None:
        self._count += 1
        heappush(self._heap, (time, self._count, kind, worker, task, attempt))


def returned(evaluation: Generator[Any, Any, Any]) -> Any:
    """The output of an evaluation that yields its progress, which nobody sees here."""
    while True:
        try:
            next(evaluation)
        except StopIteration as end:
            return end.value
