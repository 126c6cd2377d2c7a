"""Who attends to one head: the thread that owns it, opens it again when it was lost, and does what it is told to.

A head is driven from this one thread alone. Whoever talks to the daemon says what it is to do by the `mailbox`, and is
told what has become of it through a queue. An interlock that has tripped is weightier than what the daemon says.

Between tasks, and between the steps of one, the thread polls what is watched at the head (`polling`), also while the
head is safe. An interlock that trips breaks off what is being done as a stop does, and the head stays safe until the
interlock holds again and the daemon, which was told, has given its orders.

Of each task it is known whether it may have acted (`Head.begin_acting`). One that has not begun when its head is lost,
parked or stopped is given back; one that has is in doubt, unless the head itself says how it ended. Then the head is
not so much as connected to until the daemon has heard of it: it may be that somebody is to look at it as it is.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.fields import Schema
from taskmaster.bus.text import shortened
from taskmaster.drivers.generators import drive
from taskmaster.drivers.instruments.errors import CONNECTING, NOT_REACHED, LinkError, Stopped
from taskmaster.drivers.instruments.head import Head, State
from taskmaster.drivers.instruments.mailbox import Mailbox, Task, Wish, limited
from taskmaster.drivers.instruments.news import Ended, Found, Kept, Left, News, Reported, Said, Unusable
from taskmaster.drivers.instruments.notes import HeadState
from taskmaster.drivers.instruments.polling import Polling
from taskmaster.drivers.instruments.stretch import Stretch
from taskmaster.drivers.instruments.watching import Watched
from taskmaster.drivers.outputs import OutputPacker, task_error
from taskmaster.drivers.protocol import Assignment, Question
from taskmaster.drivers.yields import Yields

__all__ = ["Attendant"]

#: Attempts to bring a head to its safe state follow each other by so many seconds, for as long as they fail.
SAFE_AGAIN_SECONDS = 1.0
#: What the daemon says to a task in doubt is awaited for so long before its head is made safe in any case.
_WORD_SECONDS = 1.0


class Attendant(Mailbox):
    """Runs a head in a thread of its own. ``tell`` is called with everything that is to be known elsewhere.

    ``make`` makes the head, with a context whose ``on_acting`` is :meth:`on_acting`, whose ``on_between`` is
    :meth:`on_between` and so on, and whose ``stopping`` is :attr:`stopping`. ``begin`` is called with each assignment
    before it is begun, ``acts`` with the position of a task that begins to act, ``waits`` with whether it is waited for
    the turn of a head that takes turns, ``note`` with how safe the head is, before that changes for the worse, ``keep``
    with each checkpoint, before the evaluation goes on (it raises OSError where it cannot). ``watched`` is polled.
    """

    def __init__(
        self,
        make: Callable[[Attendant], Head],
        outputs: Schema,
        *,
        who: str = "the head",
        tell: Callable[[News], None],
        begin: Callable[[Assignment], None],
        acts: Callable[[int], None],
        waits: Callable[[bool], None] = lambda waits: None,
        note: Callable[[HeadState], None] = lambda state: None,
        keep: Callable[[Kept], None] = lambda kept: None,
        pauses: tuple[float, float] = (0.5, 30.0),
        watched: Iterable[Watched] = (),
    ) -> None:
        super().__init__(tell)
        self._make = make
        self._packer = OutputPacker(outputs)
        self._begin = begin
        self._acts = acts
        self._waits = waits
        self._note = note
        self._keep = keep
        self._checkpoints = 0
        self._first_pause, self._longest_pause = pauses
        #: the assignment in hand
        self._stretch: Stretch | None = None
        self._identity = ""
        #: of how it is at work
        self._said = Said("ready", (0, 0))
        #: how the head was lost
        self._trouble = "it was never open"
        self._is_open = False
        #: something may have been sent to the instrument
        self._touched = False
        #: of a head that is safe: when a lost connection is made anew (never: there is one), and the pause after that
        self._connect_at, self._connect_pause = math.inf, self._first_pause
        self._watched = tuple(watched)
        self.yields = Yields(who, tell)
        self.thread = threading.Thread(target=self._run, name="taskmaster-head", daemon=True)

    def flush(self) -> None:
        """Have said what has waited to be said together with more; give back what is not wanted and has not begun."""
        self.yields.flush()
        stretch = self._stretch
        if stretch is not None:
            stretch.flush(time.perf_counter())
            if stretch.assignment.revoked:
                stretch.cut()
        self.give_back_revoked()

    @property
    def reports_late(self) -> bool:
        """Whether it has, or is about to have, tasks that are reported together: `flush` is to be called meanwhile."""
        with self._changed:
            stretch = self._stretch
            in_hand = stretch is not None and stretch.assignment.hold > 0
            return in_hand or any(assignment.hold > 0 for assignment in self._assignments)

    # -- called by the head, in its thread ----------------------------------------------------------------------------

    def on_acting(self) -> None:
        """The present task begins to act."""
        assert self._task is not None
        self._acts(self._task.position)

    def on_between(self) -> float:
        """Poll what is due, see `Head.between`."""
        return self._polling.between()

    def _on_trip(self, why: str) -> None:
        """An interlock that makes the head safe has tripped."""
        with self._changed:
            if self._task is not None and self._broken_off is None:
                self._broken_off = m.TaskError(0, "InterlockTripped", shortened(why))
            self._break()

    def on_checkpoint(self, token: bytes) -> None:
        """The present task can go on from here."""
        task = self._task
        if task is not None:
            self._checkpoints += 1
            trouble = ""
            try:
                self._keep(Kept(task.assignment, task.position, self._checkpoints, token))
            except OSError as error:  # a full disk is no reason to end what takes weeks
                trouble = f"its checkpoints cannot be kept on the disk of its worker: {error}"
            if trouble != self._said.error:
                self._said = replace(self._said, error=trouble)
                self._tell(self._said)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._head = self._make(self)
        except BaseException as error:  # noqa: BLE001 - whatever the user's modules raise is told, and ends this worker
            self._tell(Unusable(error))
        else:
            self._attend()
        finally:
            with self._changed:
                self._has_left = True
            self._give_back()
            self._tell(Left())

    def _attend(self) -> None:
        self._polling = Polling(self._head, self._watched, self._tell, self._on_trip)
        pause = self._first_pause
        try:
            while not self._leaving:
                wish = self._wish
                if wish.what == "wait" and not self._must_secure:
                    self._wait(None, wish)
                elif self._doubted is not None and wish.what == "work" and not self._must_secure:
                    self._await_word(wish)
                elif self._must_secure or not self._may_work(wish):
                    self._give_back()
                    if self._secure(wish) and not self._may_work(wish):
                        self._stay(wish)
                    self._close()  # it is opened anew, identified and initialised, before it works again
                elif self._is_open or self._open(wish):
                    pause = self._first_pause
                    self._work(wish)
                else:
                    self._pause(pause, wish)
                    pause = min(2 * pause, self._longest_pause)
            self._give_back()
            if self._touched:
                self._secure(self._wish)
        finally:
            self._close()

    def _may_work(self, wish: Wish) -> bool:
        has_leave = wish.what == "work" and self._doubted is None
        return has_leave and self._heard >= self._polling.latest_trip and not self._polling.tripped

    def _await_word(self, wish: Wish) -> None:
        """A task is in doubt: leave the head alone until the daemon says whether it is parked for that, or goes on.

        Where that says nothing, the head is made safe.
        """
        self._give_back()
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_over(wish), _WORD_SECONDS):
                self._must_secure = True

    def _pause(self, seconds: float, wish: Wish) -> None:
        """Wait before the head is opened again. What is due meanwhile cannot be had; that may trip an interlock."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._may_work(wish):
            if self._wait(min(left, self._polling.due - time.monotonic()), wish):
                return
            self._polling.missed(self._trouble)

    def _open(self, wish: Wish) -> bool:
        """Connect, identify, initialise; says what came of it."""
        self._tell(Said("connecting", wish.number))
        touched, self._touched = self._touched, True
        self._note(HeadState.WORKING)
        try:
            self._head.open()
            self._identity = shortened(str(self._head.identify() or ""))  # a user's class may say anything
            self._head.arm_watchdog()
            self._polling.begin()
        except Stopped:
            return False
        except Exception as error:  # noqa: BLE001 - whatever a head's opening raises is told, and tried again
            if isinstance(error, NOT_REACHED) and not touched:
                self._touched = False
                self._note(HeadState.UNTOUCHED)
            self._lose(error, wish)
            return False
        self._is_open = True
        return True

    def _lose(self, error: Exception, wish: Wish) -> None:
        """The head cannot be opened, or is lost while nothing was evaluated."""
        self._trouble = f"{type(error).__name__}: {error}"
        self._close()
        self._give_back(error)
        self._tell(Said("faulty", wish.number, "", self._trouble))

    def _close(self) -> None:
        self._is_open = False
        # What a user's class raises when it lets go of an instrument changes nothing: it is made anew.
        with contextlib.suppress(Exception):
            self._head.close()

    def _work(self, wish: Wish) -> None:
        """Evaluate what comes until something else is wished for, or the head is lost."""
        self._said = Said("ready", wish.number, self._identity)
        self._tell(self._said)
        while self._is_open and not self._is_over(wish):  # what broke off a task has left its conversation as it was
            try:
                self._polling.between()
            except Stopped:
                return
            except LinkError as error:
                self._lose(error, wish)
                return
            stretch = self._stretch or self._next_stretch(wish)
            if stretch is not None:
                self._evaluate(stretch)

    def _next_stretch(self, wish: Wish) -> Stretch | None:
        """What is to be evaluated next; None if something else is to be done before there is anything."""
        with self._changed:
            if not self._assignments and not self._is_over(wish):
                self._changed.wait(limited(self._polling.due - time.monotonic()))
            if self._is_over(wish) or not self._assignments:
                return None
            assignment = self._assignments.popleft()
            stretch = self._stretch = Stretch(assignment, self._packer, self._tell)
        if not assignment.revoked:
            self._begin(assignment)
        return stretch

    def _evaluate(self, stretch: Stretch) -> None:
        """The next task of what is in hand, unless that is not wanted any more."""
        if stretch.assignment.revoked:
            stretch.give_back()
        else:
            self._evaluate_next(stretch)
            with self._changed:
                self._task = self._broken_off = None
        if stretch.is_over:
            self._stretch = None

    def _evaluate_next(self, stretch: Stretch) -> None:
        assignment, head = stretch.assignment, self._head
        self.yields.begin(assignment.lease, stretch.at)
        head.begin_task()
        self._checkpoints = 0
        try:
            if not head.takes_turns:
                evaluation = self._begin_evaluation(stretch)
            else:
                with self._awaited_turn():
                    if assignment.revoked:
                        stretch.give_back()
                        return
                    evaluation = self._begin_evaluation(stretch)
            value = drive(evaluation, self.yields.take, self.stopping, head.between)
        except (*CONNECTING, Stopped) as error:
            if not isinstance(error, Stopped):
                self._trouble = f"{type(error).__name__}: {error}"
                self._close()
            self.yields.flush(at_once=True)
            if self._task is None:  # it has not had its turn
                stretch.give_back()
                return
            if head.acting:
                self._doubted = assignment.lease
            stretch.lost(self._why(error), doubt=head.acting)
        except BaseException as error:  # noqa: BLE001 - whatever the user's code raises fails its task
            self.yields.flush(at_once=True)
            stretch.failed(task_error(0, error))
        else:
            self.yields.flush(at_once=True)
            stretch.done(value)

    def _begin_evaluation(self, stretch: Stretch) -> Any:
        head, token = self._head, stretch.assignment.token
        x = stretch.next()
        self._task = Task(time.monotonic(), stretch.assignment, stretch.at)
        if not head.marks_acting:
            head.begin_acting()
        return head.evaluate(x) if token is None else head.resume(x, token)

    @contextlib.contextmanager
    def _awaited_turn(self) -> Iterator[None]:
        """Within, no other head of its controller has it. To wait for that is no part of the task, whose time begins
        then. (Of an evaluation that yields, this is its first step.)
        """
        self._waits(True)
        with self._head.turn():
            self._waits(False)
            yield

    def _why(self, error: BaseException) -> m.TaskError:
        """What to say of a task that was lost by ``error``: if it was stopped, by what."""
        if isinstance(error, Stopped):
            if self._broken_off is not None:
                return self._broken_off
            if self._wish.reason:
                return m.TaskError(0, type(error).__name__, shortened(f"{error}: {self._wish.reason}"))
        return task_error(0, error)

    def _give_back(self, error: BaseException | None = None) -> None:
        """What has not been begun goes to another head."""
        errors = (task_error(0, error),) if isinstance(error, LinkError) else ()
        stretch, self._stretch = self._stretch, None
        if stretch is not None:
            stretch.give_back(errors)
        with self._changed:
            waiting = list(self._assignments)
            self._assignments.clear()
        for assignment in waiting:
            self._tell(Ended(assignment, n=0, errors=errors))

    def _secure(self, wish: Wish) -> bool:
        """Bring the head to its safe state, and again until that has succeeded. False: time to leave came before."""
        touched = self._touched
        self._polling.rest()
        while True:
            with self._changed:
                self._must_secure = False
                self.stopping.clear()
            self._touched = True
            self._note(HeadState.SECURING)
            try:
                self._head.safe()
                self._head.disarm_watchdog()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and safety is tried for again
                self._trouble = f"{type(error).__name__}: {error}"
                self._close()
                if isinstance(error, NOT_REACHED) and not touched:
                    self._touched = False
                    self._note(HeadState.UNTOUCHED)
                state: Reported = "unsafe" if self._touched else "faulty"
                self._tell(Said(state, wish.number, self._identity, self._trouble))
                if self._wait(SAFE_AGAIN_SECONDS, wish) and self._leaving:
                    return False
                wish = self._wish
                self._polling.missed(self._trouble)
        self._is_open = False
        self._note(HeadState.SAFE)
        return True

    def _stay(self, wish: Wish) -> None:
        """It is safe: wait until something else is wished for, or an interlock does not keep it any longer.

        Meanwhile it finds out what it is asked; and what is watched is polled, over the connection that there is or a
        new one, and nothing is set.
        """
        self._tell(Said("safe", wish.number, self._identity, wish.reason))
        self._connect_at, self._connect_pause = math.inf, self._first_pause
        if wish.watch and self._polling:
            self._polling.watch()
        else:
            self._polling.leave()
            self._close()
        while not self._may_work(wish):
            with self._changed:
                due = min(self._polling.due, self._connect_at) - time.monotonic()
                self._changed.wait_for(lambda: self._is_over(wish) or self._questions, limited(due))
                if self._is_over(wish):
                    self._questions.clear()  # who has asked asks again, if that is still the question
                    return
                question = self._questions.popleft() if self._questions else None
            if question is None:
                self._look()
            else:
                self._tell(self._find_out(question))

    def _look(self) -> None:
        """Poll one thing that is due, at a head that is safe."""
        try:
            if time.monotonic() >= self._connect_at:
                self._head.connect()
                self._connect_at, self._connect_pause = math.inf, self._first_pause
            if self._connect_at == math.inf:
                self._polling.between()
            else:
                self._polling.missed(self._trouble)
        except Stopped:
            return  # something else is wished for
        except Exception as error:  # noqa: BLE001 - whatever a head's connecting raises, it is tried again
            self._trouble = f"{type(error).__name__}: {error}"
            self._close()
            self._connect_at = time.monotonic() + self._connect_pause
            self._connect_pause = min(2 * self._connect_pause, self._longest_pause)

    def _find_out(self, question: Question) -> Found:
        """What has become of a task in doubt; the head is connected to meanwhile, and safe again after."""
        head = self._head
        if not head.reconciles:
            return Found(question, "unknown", reason="its head has no way to find out")
        self._note(HeadState.WORKING)
        self._close()
        try:
            try:
                head.connect()
            except NotImplementedError:  # it cannot be without being initialised
                head.open()
            found = head.reconcile(question.table.rows()[0], question.token)
        except Exception as error:  # noqa: BLE001 - whatever finding out raises, a person has to resolve it then
            return Found(question, "unknown", reason=f"{type(error).__name__}: {error}")
        finally:
            self._must_secure = True
        if found.state is not State.DONE:
            return Found(question, "not_begun" if found.state is State.NOT_BEGUN else "unknown")
        outputs, wrong = self._packer.pack((0,), (found.output,))
        if wrong:
            return Found(question, "unknown", reason=wrong[0].message)
        return Found(question, "done", outputs)
