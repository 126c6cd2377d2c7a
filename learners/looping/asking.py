"""The points of one run on their way: asked of the learner, or found in the record; put; ended, or put again."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from taskmaster.bus.errors import InvalidTask, TaskCancelled, TaskFailed
from taskmaster.bus.fields import Schema, shown
from taskmaster.bus.messages import AGAIN, FOUND, KEPT
from taskmaster.learners.arguments import whole
from taskmaster.learners.looping.authors import parting_text
from taskmaster.learners.looping.errors import place_note, replaying
from taskmaster.learners.looping.points import key_of
from taskmaster.learners.looping.telling import Flying, Teller
from taskmaster.learners.playback import Asked, Divergence, Playback, Segment
from taskmaster.learners.protocol import Learner, best_in_flight, describe
from taskmaster.learners.results import Result
from taskmaster.learners.target import Recorded, Target, TargetRun

__all__ = ["Asking", "Retries", "default_in_flight"]

log = logging.getLogger("taskmaster")

#: How often a point that failed is put again; or whether this one is, for the how-manieth time it has failed.
Retries: TypeAlias = int | Callable[[Any, TaskFailed, int], bool]

#: Is told for how many points the learner was asked, and what it gave.
_OnAsked: TypeAlias = Callable[[int, Sequence[Any]], None]
#: Is told of the first of the tasks that points have become, and of those.
_OnPut: TypeAlias = Callable[[int, Sequence[Any]], None]


#: From so many points on they are put as a block of their own; fewer are gathered with what is put before and behind.
_BLOCK = 32


class Asking:
    """Which of a learner's points are which tasks of a run; asks it, and puts what it gives."""

    def __init__(
        self,
        learner: Learner,
        run: TargetRun,
        teller: Teller,
        retries: Retries,
        said: Mapping[str, str],
        on_asked: _OnAsked,
        on_put: _OnPut,
    ) -> None:
        #: tasks that were put before this loop was started
        self.recorded = run.next_index
        #: tasks that this loop has put or found put, and those of them whose results it has taken
        self.next_index = 0
        self.taken = 0
        #: points that have been asked and not put, in the order in which they will be
        self.ready: deque[Asked] = deque()
        #: points that have been put and not ended, by the index of their task
        self.asked: dict[int, Asked] = {}
        self.flying = Flying()
        #: points that were put and lost when a loop before this one was killed
        self.lost: deque[Asked] = deque()
        #: what is recorded and has not been played to the learner yet; None if there is nothing (more)
        self.record: Playback | None = None
        #: where the learner was found to give other points than are recorded, if it was
        self.divergence: Divergence | None = None
        #: of what was noted last of an ask: the last event told then, and when it was noted
        self._noted = (-2, -2)
        #: of the last ask that is recorded, the last event told then, and how many points the learner did not give
        self._vain = (-2, 0)
        #: what was noted of an ask that was not answered: the learner raised
        self._unanswered: tuple[int, int] | None = None
        self._learner = learner
        self._run = run
        self._teller = teller
        self._retries = retries
        #: what is recorded of the learner
        self._said = said
        self._on_asked = on_asked
        self._on_put = on_put

    @property
    def open(self) -> int:
        """Tasks in flight, as the order of events tells it: results count when they are taken, not when they come."""
        return self.next_index - self.taken

    def end(self, result: Result) -> Asked | None:
        """The result of a task has been taken in; which of the learner's points that was."""
        asked = self.asked.pop(result.index, None)
        if asked is not None:
            self.flying.remove(asked.key)
        self.taken += 0 <= result.index < self.next_index
        if self.record is not None:
            self.record.on_told(result)
        return asked

    # -- what is recorded ---------------------------------------------------------------------------------------------

    def find_record(self) -> None:
        """See whether there is something recorded to be played to the learner."""
        if self.recorded and isinstance(self._run, Recorded):
            master = self._run.master
            schema = Schema(tuple(master.parameters), master.name)
            self.record = record = Playback(self._learner, self._run.record(), schema, self._on_asked_again)
            self.ready, self.asked, self.lost = record.ready, record.asked, record.lost
        else:
            self.next_index = self.recorded

    def _on_asked_again(self, segment: Segment, points: Sequence[Any]) -> None:
        self._on_asked(segment.ask.asked, points)

    def play_record(self, seq: int, index: int = -1) -> None:
        """Have the learner asked what it was asked before event ``seq``, and before task ``index`` was put."""
        record = self.record
        if record is None:
            return
        try:
            record.catch_up(seq, index)
        except Exception as error:
            if record.is_asking:  # else it is a hook's
                self._teller.annotate(error, "asked what it was asked before", seq)
            raise
        self.next_index = record.next_index
        if record.divergence is not None and self.divergence is None:
            self.divergence = record.divergence
            log.warning(
                "run %r: %s. %s; it is told all recorded results and goes on (to see more: %s)",
                self._run.name,
                self.divergence,
                parting_text(self._run, self._said, self._learner),
                replaying(self._run),
            )
        if record.is_over:
            self.record = None
            self._vain = record.vain if record.divergence is None else (-2, 0)

    @property
    def wanting(self) -> int:
        """Points for which it was asked, when it had been told as much as now, in a life before this, and gave none.

        It would be asked for them twice, and be another learner than one that was left in peace. While nothing is in
        flight it is to be asked all the same: nothing that it waits for can come.
        """
        after, n = self._vain
        return n if after == self._run.told and self.open else 0

    # -- what is new --------------------------------------------------------------------------------------------------

    def ask(self, n: int) -> int:
        """Ask the learner for ``n`` points; those that it gives are ready to be put. Returns how many these are.

        It is noted before, for a learner may raise, and whoever replays the run wants to see that; once, if it is asked
        again.
        """
        told = self._run.told
        if self._unanswered != (told, n):
            self._unanswered = (told, n)
            self._note(told, n)
        points = self._teller.ask(n)
        self._unanswered = None
        self.ready.extend([Asked(point, told) for point in points])
        self._on_asked(n, points)
        return len(points)

    def put_ready(self, room: float) -> None:
        """Put so many of the points that are ready."""
        if self.lost:
            self._note(self._run.told, FOUND)
            self.ready.extend(self.lost)
            self.lost.clear()
        while self.ready and room > 0:
            room -= self._put(room)

    def was_put_again(self, result: Result) -> bool:
        """Whether the record says so of a failed task that is none of the learner's, for it gave another one there."""
        record = self.record
        return record is not None and bool(record.is_put_again(Asked(result.input, result.seq), result.seq))

    def retry(self, asked: Asked, error: TaskFailed | TaskCancelled, seq: int) -> bool:
        """Whether a point that failed by event ``seq`` is put again: if it was, where that is recorded."""
        again = None if self.record is None else self.record.is_put_again(asked, seq)
        if again is not None:
            return again
        tries = asked.tries + 1
        if isinstance(error, TaskCancelled):
            return False
        if not (self._retries(asked.point, error, tries) if callable(self._retries) else tries <= self._retries):
            return False
        self._note(seq, AGAIN)
        self.ready.append(Asked(asked.point, seq, tries))
        return True

    def _note(self, after: int, asked: int) -> None:
        """Have it recorded what the learner was asked, with the points that are put next."""
        self._noted = (after, self._run.told)
        self._run.tasks.new_ask(after, asked)

    def _put(self, most: float) -> int:
        """Put points that were asked at the same time; returns how many."""
        run = self._run
        after = self.ready[0].after
        together: list[Asked] = []
        while self.ready and self.ready[0].after == after and len(together) < most:
            together.append(self.ready.popleft())
        if self._noted != (after, run.told):
            self._note(after, KEPT)
        points = [asked.point for asked in together]
        before = run.next_index
        try:
            if len(points) < _BLOCK:
                for point in points:
                    run.tasks.put(point)
            else:
                run.tasks.put_many(points)
        except InvalidTask as error:
            what = f"The learner ({describe(self._learner)}) asked for {shown(points[run.next_index - before])}"
            error.add_note(place_note(what, run, after + 1))
            raise
        finally:
            done = max(0, run.next_index - before)
            if done < len(points):  # the Master does not take one, or nobody waits any more
                self.ready.extendleft(reversed(together[done:]))
                del together[done:]
            first = self.next_index
            for asked in together:
                self.asked[self.next_index] = asked
                self.next_index += 1
                asked.key = key_of(asked.point)
                if self.flying.add(asked.key):
                    log.warning(
                        "run %r: the learner (%s) asks for %r, which is in flight already; it is evaluated each time",
                        run.name,
                        describe(self._learner),
                        asked.point,
                    )
        if together:
            self._on_put(first, points)
        return len(together)


def default_in_flight(master: Target, learner: Learner) -> int:
    """As many as the learner wants for the slots, when all have started: how far they had come would be chance."""
    wanted = best_in_flight(learner, max(1, master.wait_for_slots()))
    return whole(wanted, f"best_in_flight() of the learner ({describe(learner)})", 1, 1_000_000)
