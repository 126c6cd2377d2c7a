"""The Loop: drives a learner against a Master.

It asks only at points that the order of events fixes, never by timing: for ``in_flight`` points at the start, and after
each single result for as many as have become free (a person for one at a time). So the points that are asked depend on
the order in which results came and on nothing else; and that order is in the journal.

They do not depend on the goal either. What is asked and would be more than the goal needs is kept back, and put if a
task fails, or when the loop is given another goal. (Not asking would be simpler. But then a learner would be asked at
other places in a run that is resumed with a further goal than it had, and could choose other points than are recorded.)

A Loop resumes by replay: started again over the same run it takes the recorded results in their recorded order, and
asks the learner where the record says that it was asked, for as many points (see `playback`). So neither another goal
nor another ``in_flight`` changes anything of what was. A learner that gives something else this time (another seed,
another version, no determinism) is told what was measured all the same, and what it gave in vain is put anew.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from taskmaster.bus.errors import CallerError, TaskCancelled, TaskFailed, TaskMasterError
from taskmaster.learners.arguments import whole
from taskmaster.learners.goals import GoalLike, as_goal
from taskmaster.learners.looping.asking import Asking, Retries, default_in_flight
from taskmaster.learners.looping.authors import author_of, introduce
from taskmaster.learners.looping.background import claimed
from taskmaster.learners.looping.errors import LearnerStuck, TooManyFailures
from taskmaster.learners.looping.figures import LoopStatistics, Pace
from taskmaster.learners.looping.hooks import HookLike, Hooks, as_hooks
from taskmaster.learners.looping.interrupts import heeding_interrupts
from taskmaster.learners.looping.stopping import Stoppable
from taskmaster.learners.looping.telling import Teller, fails_nan, require_nan
from taskmaster.learners.marks import refuse_leg
from taskmaster.learners.playback import Asked, Divergence
from taskmaster.learners.protocol import (
    Learner,
    Lossy,
    Recalling,
    bind,
    describe,
    loss_of,
    require,
    start,
)
from taskmaster.learners.results import Result
from taskmaster.learners.target import Target, TargetRun

if TYPE_CHECKING:
    from taskmaster.learners.run import Run

__all__ = ["LearnerStuck", "Loop", "LoopStatistics", "TooManyFailures"]

log = logging.getLogger("taskmaster")

#: Failures one after the other that end a loop: more than bad luck brings, and soon over where every task fails.
MAX_FAILURES = 100
#: What may be waited for a result in one go; longer is more than every system's clock takes.
_WAIT_SECONDS = 3600.0
#: What may be waited at the end until all is recorded; what is not then will be, as long as the connection is open.
_FLUSH_SECONDS = 2.0
#: What a look at the learner's loss may wait for the learner, where that is thinking in another thread.
_LOOK_SECONDS = 0.1
_IN_FLIGHT = "in_flight"
#: Of what is to be in flight, the part for which the learner is asked at once: that is quicker than for each by itself,
#: and so few of so many are not missed. It depends on nothing but the order of results, so neither do the points.
_SHARE = 64
#: A learner that has been told and has asked in less time will soon have done so again, and what it asked for may be
#: sent with what it asks for next. A message costs about as much.
_QUICK_SECONDS = 0.0005
#: What hooks are told of a result, see :class:`~taskmaster.learners.looping.hooks.Hooks`.
_Step: TypeAlias = Callable[[Hooks], None]


class Loop(Stoppable):
    """A learner, a Master, and when to stop.

    ``target`` is a Master (a run is opened: by ``name``, with ``seed``) or a run that is open for writing, of which no
    result was taken. ``goal`` is a number of points, a :class:`~taskmaster.learners.goals.Goal` or a function of the
    loop; without one the learner's own end counts. ``in_flight`` tasks are kept with the Master, by default two for
    each of its slots, or as many as the learner wants; as many as when the run was made. ``hook(loop, result)`` is
    called after each result; it may be :class:`~taskmaster.learners.looping.hooks.Hooks`, which hear of each step, or
    several in a list. A point that failed is put again up to ``retries`` times, or as long as
    ``retries(point, error, tries)`` says, before the learner is told that it failed. ``nan="fail"`` takes outputs with
    a NaN for failures, and is recorded: a run keeps to it. After ``max_failures`` failures one after the other (None:
    however many) the loop ends with TooManyFailures. With the run it is recorded what the learner is and how it was
    made, and what else ``metadata`` says.

        Loop(lab["svm"], Sobol(lab["svm"].parameters), goal=200, name="first-try").run()

    A run that holds results already is gone on with: the learner is told them first, in their order.

    Raises CallerError, before there is a run, for what is no learner, Master or goal, a learner that does not fit the
    Master (what its ``bind`` says), and a goal that it can never reach; Conflict for a run of that name that has
    another seed; and what opening a run raises.
    """

    def __init__(
        self,
        target: Target | TargetRun,
        learner: Learner,
        *,
        goal: GoalLike | None = None,
        in_flight: int | None = None,
        hook: HookLike | None = None,
        retries: Retries = 0,
        nan: str | None = None,
        max_failures: int | None = MAX_FAILURES,
        name: str | None = None,
        seed: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        in_flight = None if in_flight is None else whole(in_flight, "in_flight", 1, 1_000_000)
        max_failures = None if max_failures is None else whole(max_failures, "max_failures", 1, 2**53)
        if not callable(retries):
            retries = whole(retries, "retries", 0, 2**53)
        require_nan(nan)
        require(learner)
        self.learner = learner
        # Looked up once: to ask whether a protocol is kept takes longer than much else between two points.
        self._is_recalling = isinstance(learner, Recalling)
        self.goal = as_goal(goal)
        self.goal.require(learner)  # before there is a run: one that cannot be is to leave none
        #: points that were put again
        self.retried = 0
        #: when it was started, by the clock of `now`
        self.started_at = math.nan
        self.master: Target
        #: of what stands in for a Master it has no more than a `TargetRun` has
        self.run_: Run
        self._hooks: Hooks | None = as_hooks(hook)
        self._max_failures = max_failures
        if isinstance(target, Target):
            self.master = target
            bind(learner, target.parameters, target.outputs)  # before there is a run, as well
            wanted = in_flight or default_in_flight(target, learner)
            said = author_of(learner, target, metadata)
            noted = {**said, _IN_FLIGHT: str(wanted)} | ({"nan": nan} if nan == "fail" else {})
            self.run_ = cast("Run", target.open(name, seed=seed, metadata=noted))
        elif hasattr(target, "tasks") and hasattr(target, "results"):
            self.master, self.run_ = target.master, cast("Run", target)
            bind(learner, self.master.parameters, self.master.outputs)
            said = author_of(learner, self.master, metadata)
        else:
            raise CallerError(f"a Loop is over a Master, lab['name'], or over a run, master.open(), not {target!r}")
        refuse_leg(self.run_.metadata, self.master.name, self.run_.name)
        #: tasks kept in flight
        self.in_flight = (
            in_flight or int(self.run_.metadata.get(_IN_FLIGHT, 0)) or default_in_flight(self.master, learner)
        )
        #: it is asked for so many at a time
        self._at_once = max(1, self.in_flight // _SHARE)
        if self.run_.told >= 0:
            raise CallerError(
                f"run {self.run_.name!r}: some of its results were taken or left out, the learner would not be told; "
                "give the loop the Master and the run's name, or a run as open() returns it"
            )
        introduce(self.run_, said)
        self._teller = Teller(learner, self.run_, fails_nan=fails_nan(self.run_, nan))
        self._asking = Asking(learner, self.run_, self._teller, retries, said, self._on_asked, self._on_put)
        #: tasks put since what was put was last sent
        self._unsent = 0
        #: whether the latest turn took its time
        self._is_slow = True
        #: a result that was taken, and of which the learner has not been told
        self._in_hand: Result | None = None
        #: tasks that have failed since the last that was done, not counting what is recorded
        self._in_a_row = 0
        self._begun = False
        self._started: float | None = None
        self._pace = Pace()
        self._loss = math.nan

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self) -> Run:
        """Loop until the goal is reached or the learner is done; returns the run, which is left open.

        The first Ctrl-C puts nothing further and waits for what is in flight: called again it goes on. The second
        leaves at once; again it goes on, unless it was the learner that was interrupted, in the middle of its thoughts:
        then a new loop with a new learner, over the run of that name, does. Nothing is lost, either way.
        (It also goes on after a goal was reached and another one set: ``loop.goal = npoints(500)``.) What the learner
        raises comes through.

        Raises LearnerStuck if the learner asks for nothing, though it was told everything and the goal is not reached;
        TooManyFailures if one task after the other fails.
        """
        self._require_whole()
        with claimed(self):
            return self._run_claimed()

    def _run_claimed(self) -> Run:
        self._started, self.started_at = self.run_.clock(), self.now()
        self._begin_anew()
        self._in_a_row = 0
        if self._hooks is not None:
            self._hooks.started(self)
        error: BaseException | None = None
        tasks = self.run_.tasks
        try:
            with heeding_interrupts(self._on_interrupt, self.break_off):
                tasks.gather()
                try:
                    self._run()
                finally:
                    tasks.gather(False)
        except BaseException as raised:
            error = raised
            self._on_raised(raised)
            raise
        finally:
            if error is None or isinstance(error, Exception):  # else somebody wants to leave at once
                with contextlib.suppress(TaskMasterError):  # it says what is wrong when it is needed
                    self.run_.flush(_FLUSH_SECONDS)
            if self._hooks is not None:
                self._hooks.ended(self, error)
        return self.run_

    def _run(self) -> None:
        gate, turn = self._gate, self._gate.turn
        with turn:
            self._begin()
        result: Result | None = None
        while True:
            has_turn = gate.lookers and gate.give_way()
            with turn:
                if has_turn:
                    turn.release()  # once is enough
                if result is not None:
                    self._turn(result)
                due = self.goal.due(self)  # before the look at the goal: were it due in between, nobody would notice
                if self._finished():
                    return
            result = self._next_result(due)

    def _begin(self) -> None:
        """Begin, or go on where it was."""
        if not self._begun:
            self._begun = True
            start(self.learner, self.run_.seed)
            self._asking.find_record()
        if self._in_hand is not None:
            self._on_result(self._in_hand)
        self._advance()

    def _turn(self, result: Result) -> None:
        """Take a result in, and see to it that what it led to is sent: at once, or with what the next ones lead to.

        A quick learner that is told of results that are here already soon asks for more points, and one message for
        many is what makes it fast. It is not put off while less than half of all would be in flight. Of a quick one a
        single turn may be slow: others want the processor, too.
        """
        before, began = self._asking.next_index, time.perf_counter()
        self._on_result(result)
        self._unsent += self._asking.next_index - before
        was_slow, self._is_slow = self._is_slow, time.perf_counter() - began >= _QUICK_SECONDS
        is_quick = not (was_slow and self._is_slow)
        if self._unsent and not (is_quick and 2 * self._unsent < self.in_flight):
            self.run_.tasks.send(listen=not is_quick)
            self._unsent = 0

    def _next_result(self, due: float) -> Result | None:
        """The next result, or None where it is time to look at the goal again."""
        self._leave_if_told()
        try:
            return self.run_.results.get(None if math.isinf(due) else min(due, _WAIT_SECONDS))
        except TimeoutError:
            return None

    def _finished(self) -> bool:
        if self._at_goal():
            return True
        if self._asking.open:
            return False
        if self.interrupted:
            return True
        if self._asking.next_index < self._asking.recorded:
            return False
        if not self._teller.is_done():
            raise LearnerStuck(
                f"run {self.run_.name!r}: after {self.told} results and {self.failed} failures the learner "
                f"({describe(self.learner)}) asks for nothing, though nothing is in flight and the goal "
                f"({self.goal!r}) is not reached; if it has no more to ask, it should say so by done(); else mend it "
                "and run the loop again, which goes on"
            )
        return True

    def _on_result(self, result: Result) -> None:
        self._in_hand = result  # until the learner has been told of it: if that raises, it is told again
        asking = self._asking
        asking.play_record(result.seq, result.index)
        asked = asking.asked.get(result.index)
        step: _Step | None = None
        error = self._teller.error(result)
        if asked is not None:
            step = self._on_own(asked, result, error)
        elif error is not None and asking.was_put_again(result):
            self.retried += 1
        else:
            self._teller.tell_unasked(result, error)
        asking.end(result)
        self._in_hand = None
        if asking.record is None:  # what is recorded comes as fast as it is read
            self._pace.note(self.run_.clock())
        if self._hooks is not None:  # only now: whatever they raise, this result has been dealt with
            if step is not None:
                step(self._hooks)
            self._hooks.result(self, result)
        self._require_success(result, error)
        self._advance()

    def _on_own(self, asked: Asked, result: Result, error: TaskFailed | TaskCancelled | None) -> _Step:
        """Tell the learner how a point of its own has ended, or put that again; which step that was, for the hooks."""
        self._teller.require_unchanged(asked, result)
        if error is None:
            self._teller.tell(asked.point, result)
            return lambda hooks: hooks.told(self, result)
        if self._asking.retry(asked, error, result.seq):
            self.retried += 1
            return lambda hooks: hooks.retried(self, result, asked.tries + 1)
        self._teller.fail(asked.point, error, result)
        return lambda hooks: hooks.failed(self, result, error)

    def _require_success(self, result: Result, error: TaskFailed | TaskCancelled | None) -> None:
        """Raise TooManyFailures where nothing succeeds any more. What is recorded was put up with before."""
        if error is None:
            self._in_a_row = 0
        elif isinstance(error, TaskFailed) and result.index >= self._asking.recorded:
            self._in_a_row += 1
            if self._in_a_row == self._max_failures and not self._at_goal():
                raise TooManyFailures(
                    f"run {self.run_.name!r} of Master {self.master.name!r}: {self._in_a_row} tasks have failed one "
                    f"after the other, the last with {error.kind}: {error.args[0]}; mend it and run the loop again, "
                    "which goes on, or have it bear more (max_failures)"
                ) from error

    # -- asking -------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Ask for as many points as are to be in flight, and put those that the goal needs."""
        asking = self._asking
        asking.play_record(self.run_.told + 1)
        if asking.record is not None or self._at_goal():
            return
        self._put_ready()
        if self._is_recalling:
            self._advance_by_one()
            return
        n = self._free()
        if n > 0 and (n >= self._at_once or not asking.open) and not self._teller.is_done():
            asking.ask(n)
            self._put_ready()

    def _free(self) -> int:
        """So many more points are to be asked for."""
        asking = self._asking
        return self.in_flight - asking.open - len(asking.ready) - len(asking.lost) - asking.wanting

    def _advance_by_one(self) -> None:
        """Ask a person for one point after the other, each of which is on its way before the next is asked for.

        They take their time, and what they have typed is to be evaluated in it. Nor is it to be lost if they stop the
        loop, or kept back: it is not asked for what the goal does not need. (None of this is to depend on the order of
        events alone, for who is not deterministic is never asked again for what is on record.)
        """
        asking = self._asking
        while self._free() > 0 and not (asking.wanting or self.interrupted or self._teller.is_done()):
            room = self.goal.missing(self) - asking.open - len(asking.ready)
            if room <= 0 or self._at_goal() or not asking.ask(1):
                return
            asking.put_ready(room)  # though they have stopped it at this moment
            self.run_.tasks.send()

    def _put_ready(self) -> None:
        """Put what was asked for, as far as the goal needs it; interrupted, when the loop goes on."""
        asking = self._asking
        if (asking.ready or asking.lost) and not self.interrupted:
            asking.put_ready(self.goal.missing(self) - asking.open)

    def _on_asked(self, wanted: int, points: Sequence[Any]) -> None:
        if self._hooks is not None:
            self._hooks.asked(self, wanted, points)

    def _on_put(self, first: int, points: Sequence[Any]) -> None:
        if self._hooks is not None:
            self._hooks.put(self, first, points)

    def _at_goal(self) -> bool:
        return self.goal.reached(self)

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def told(self) -> int:
        """Results that the learner was told."""
        return self._teller.told

    @property
    def failed(self) -> int:
        """Points that ended without an output."""
        return self._teller.failed

    @property
    def divergence(self) -> Divergence | None:
        """Where the learner was found to give other points than are recorded; None if it was not."""
        return self._asking.divergence

    def now(self) -> float:
        """Seconds since 1970, by a clock that may be set: the system's, or a simulation's."""
        return self.run_.time()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return 0.0 if self._started is None else self.run_.clock() - self._started

    def statistics(self) -> LoopStatistics:
        """Where the loop stands. Looks at the learner's loss, which may take it a while; from any thread.

        The loss is as it was seen last where the learner is just thinking, in another thread.
        """
        if isinstance(self.learner, Lossy):
            with self._gate.look(_LOOK_SECONDS) as is_still:
                self._loss = loss_of(self.learner) if is_still else self._loss
        fraction = self.goal.fraction(self)
        return LoopStatistics(
            told=self.told,
            failed=self.failed,
            in_flight=self._asking.open,
            elapsed=self.elapsed,
            rate=self._pace.rate,
            loss=self._loss,
            fraction=fraction,
            remaining=self._pace.remaining(self.told + self.failed, fraction),
            dropped=self._teller.dropped,
            retried=self.retried,
            repeated=self._asking.flying.repeated,
            nans=self._teller.nans,
            unasked=self._teller.unasked,
        )

    def __repr__(self) -> str:
        return f"<Loop of {describe(self.learner)} on {self.master.name!r}: {self.told} points, goal {self.goal!r}>"
