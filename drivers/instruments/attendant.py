"""Who attends to one head: the thread that owns it, opens it again when it was lost, and does what it is told to.

A head is driven from this one thread alone. Whoever talks to the daemon hands over assignments and wishes, is told what
has become of them through a queue, and need not wait for the hardware. Only a stop reaches past the queue: it sets the
event at which transports and sleeps look every few milliseconds, so that what is being done is broken off.

What the head is to do is the daemon's order, unless something weightier is so: that the daemon is not heard of any more
(`hold`), or that it is time to leave.

Of each task it is known whether it may have acted (`Head.begin_acting`). One that has not begun when its head is lost,
parked or stopped is given back; one that has is in doubt, unless the head itself says how it ended.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from taskmaster.bus import messages as m
from taskmaster.bus.fields import Schema
from taskmaster.bus.table import Table
from taskmaster.drivers.instruments.errors import CONNECTING, NOT_REACHED, LinkError, Stopped
from taskmaster.drivers.instruments.generators import drive
from taskmaster.drivers.instruments.head import Head, State
from taskmaster.drivers.instruments.notes import HeadState
from taskmaster.drivers.outputs import OutputPacker, task_error
from taskmaster.drivers.protocol import Assignment, Question

__all__ = ["Attendant", "Ended", "Found", "Kept", "Left", "News", "Reported", "Said", "Unusable"]

#: Attempts to bring a head to its safe state follow each other by so many seconds, for as long as they fail.
SAFE_AGAIN_SECONDS = 1.0

Reported: TypeAlias = Literal["connecting", "ready", "faulty", "safe"]


@dataclass(frozen=True)
class Ended:
    """The last word on an assignment: done (with an output or an error), in doubt, or given back, not begun."""

    assignment: Assignment
    outputs: Table | None = None
    errors: tuple[m.TaskError, ...] = ()
    started: float = 0.0
    finished: float = 0.0
    doubt: bool = False
    given_back: bool = False


@dataclass(frozen=True)
class Said:
    """How the head is, and which order that is in answer to."""

    state: Reported
    order: m.LeaseId
    identity: str = ""
    error: str = ""


@dataclass(frozen=True)
class Kept:
    """The evaluation of an assignment can go on from here; ``number`` counts these."""

    assignment: Assignment
    number: int
    token: bytes


@dataclass(frozen=True)
class Found:
    """What the head has found out about a task in doubt; ``reason`` why it cannot tell."""

    question: Question
    state: Literal["done", "not_begun", "unknown"]
    outputs: Table | None = None
    reason: str = ""


@dataclass(frozen=True)
class Unusable:
    """There can be no head: its class cannot be imported, say."""

    error: BaseException


@dataclass(frozen=True)
class Left:
    """The thread has ended."""


News: TypeAlias = Ended | Said | Kept | Found | Unusable | Left


@dataclass(frozen=True, eq=False)
class _Wish:
    """What the head is to do now, and the daemon's order that this is in answer to."""

    #: ``wait``: nobody has said anything yet
    what: Literal["stop", "park", "work", "wait"] = "wait"
    number: m.LeaseId = (0, 0)
    #: why, where it is not the daemon's order
    reason: str = ""


class Attendant:
    """Runs a head in a thread of its own. ``tell`` is called from there, with everything that is to be known elsewhere.

    ``make`` makes the head, with a context whose ``on_acting`` is :meth:`on_acting` and whose ``stopping`` is
    :attr:`stopping`. ``begin`` is called with each assignment before it is begun, ``acts`` when it begins to act,
    ``note`` with how safe the head is, before that changes for the worse, ``keep`` with each checkpoint, before the
    evaluation goes on.
    """

    def __init__(
        self,
        make: Callable[[Attendant], Head],
        outputs: Schema,
        *,
        tell: Callable[[News], None],
        begin: Callable[[Assignment], None],
        acts: Callable[[], None],
        note: Callable[[HeadState], None] = lambda state: None,
        keep: Callable[[Kept], None] = lambda kept: None,
        pauses: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        self.stopping = threading.Event()
        self._make = make
        self._packer = OutputPacker(outputs)
        self._tell = tell
        self._begin = begin
        self._acts = acts
        self._note = note
        self._keep = keep
        self._checkpoints = 0
        self._first_pause, self._longest_pause = pauses
        self._changed = threading.Condition()
        self._order = m.HeadOrder((0, 0), "park")
        self._held = ""
        self._wish = _Wish()
        self._assignments: deque[Assignment] = deque()
        self._questions: deque[Question] = deque()
        #: what is being evaluated, and why it was broken off, if it was
        self._assignment: Assignment | None = None
        self._broken_off: m.TaskError | None = None
        self._leaving = False
        self._identity = ""
        self._is_open = False
        #: something may have been sent to the instrument
        self._touched = False
        #: it is to be safe before anything else
        self._must_secure = False
        self.progress: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="taskmaster-head", daemon=True)

    # -- called by whoever talks to the daemon ------------------------------------------------------------------------

    def order(self, order: m.HeadOrder) -> None:
        """What the daemon wants the head to do from now on; a stop breaks off what it is doing."""
        with self._changed:
            if order.number > self._order.number:
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

    def _decide(self) -> None:
        order = self._order
        self._wish = _Wish("stop" if self._held else order.what, order.number, self._held)
        if self._wish.what == "stop":
            self._break()
        self._changed.notify()

    def break_off(self, assignment: Assignment, kind: str, reason: str) -> None:
        """End what is being evaluated, if it is this; the head is brought to its safe state."""
        with self._changed:
            if self._assignment is assignment and self._broken_off is None:
                self._broken_off = m.TaskError(0, kind, reason)
                self._break()

    def _break(self) -> None:
        # Also where something else is wished for before the head's thread has heard of it: a stop is never skipped.
        self._must_secure = True
        self.stopping.set()

    def give(self, assignment: Assignment) -> None:
        """A task to evaluate."""
        with self._changed:
            self._assignments.append(assignment)
            self._changed.notify()

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

    def on_acting(self) -> None:
        """The present task begins to act."""
        self._acts()

    def on_checkpoint(self, token: bytes) -> None:
        """The present task can go on from here."""
        assignment = self._assignment
        if assignment is not None:
            self._checkpoints += 1
            self._keep(Kept(assignment, self._checkpoints, token))

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._head = self._make(self)
        except BaseException as error:  # noqa: BLE001 - whatever the user's modules raise is told, and ends this worker
            self._tell(Unusable(error))
        else:
            self._attend()
        finally:
            self._tell(Left())

    def _attend(self) -> None:
        pause = self._first_pause
        try:
            while not self._leaving:
                wish = self._wish
                if wish.what == "wait" and not self._must_secure:
                    self._wait(None, wish)
                elif wish.what != "work" or self._must_secure:
                    self._give_back()
                    if self._secure(wish) and wish.what != "work":
                        self._stay(wish)
                elif self._is_open or self._open(wish):
                    pause = self._first_pause
                    self._work(wish)
                else:
                    self._wait(pause, wish)
                    pause = min(2 * pause, self._longest_pause)
            self._give_back()
            if self._touched:
                self._secure(self._wish)
        finally:
            self._close()

    def _open(self, wish: _Wish) -> bool:
        """Connect, identify, initialise; says what came of it."""
        self._tell(Said("connecting", wish.number))
        touched, self._touched = self._touched, True
        self._note(HeadState.WORKING)
        try:
            self._head.open()
            self._identity = self._head.identify()
        except Stopped:
            return False
        except Exception as error:  # noqa: BLE001 - whatever a head's opening raises is told, and tried again
            self._close()
            if isinstance(error, NOT_REACHED) and not touched:
                self._touched = False
                self._note(HeadState.UNTOUCHED)
            self._give_back(error)
            self._tell(Said("faulty", wish.number, "", f"{type(error).__name__}: {error}"))
            return False
        self._is_open = True
        return True

    def _close(self) -> None:
        self._is_open = False
        # What a user's class raises when it lets go of an instrument changes nothing: it is made anew.
        with contextlib.suppress(Exception):
            self._head.close()

    def _work(self, wish: _Wish) -> None:
        """Evaluate what comes until something else is wished for, or the head is lost."""
        self._tell(Said("ready", wish.number, self._identity))
        while self._is_open:
            with self._changed:
                while not self._assignments and not self._is_over(wish):
                    self._changed.wait()
                if self._is_over(wish):
                    return
                assignment = self._assignment = self._assignments.popleft()
            self._evaluate(assignment)
            with self._changed:
                self._assignment = self._broken_off = None

    def _is_over(self, wish: _Wish) -> bool:
        return self._wish is not wish or self._must_secure or self._leaving

    def _evaluate(self, assignment: Assignment) -> None:
        head = self._head
        self._begin(assignment)
        head.begin_task()
        started = time.time()
        began = time.perf_counter()
        self._checkpoints = 0
        outputs: Table | None = None
        errors: tuple[m.TaskError, ...] = ()
        lost = False
        try:
            x, token = assignment.table.rows()[0], assignment.token
            evaluation = head.evaluate(x) if token is None else head.resume(x, token)
            value = drive(evaluation, self.progress.put, self.stopping)
        except (*CONNECTING, Stopped) as error:
            lost = True
            errors = (self._why(error),)
            if not isinstance(error, Stopped):
                self._close()
        except BaseException as error:  # noqa: BLE001 - whatever the user's code raises fails its task
            errors = (task_error(0, error),)
        else:
            outputs, wrong = self._packer.pack((0,), (value,))
            errors = tuple(wrong)
        finished = started + time.perf_counter() - began
        self._tell(
            Ended(
                assignment,
                outputs,
                errors,
                started,
                finished,
                doubt=lost and head.acting,
                given_back=lost and not head.acting,
            )
        )

    def _why(self, error: BaseException) -> m.TaskError:
        """What to say of a task that was lost by ``error``: if it was stopped, by what."""
        if isinstance(error, Stopped):
            if self._broken_off is not None:
                return self._broken_off
            if self._wish.reason:
                return m.TaskError(0, type(error).__name__, f"{error}: {self._wish.reason}")
        return task_error(0, error)

    def _give_back(self, error: BaseException | None = None) -> None:
        """What has not been begun goes to another head."""
        with self._changed:
            waiting = list(self._assignments)
            self._assignments.clear()
        errors = (task_error(0, error),) if isinstance(error, LinkError) else ()
        for assignment in waiting:
            self._tell(Ended(assignment, errors=errors, given_back=True))

    def _secure(self, wish: _Wish) -> bool:
        """Bring the head to its safe state, and again until that has succeeded. False: time to leave came before."""
        touched = self._touched
        while True:
            with self._changed:
                self._must_secure = False
                self.stopping.clear()
            self._touched = True
            self._note(HeadState.SECURING)
            try:
                self._head.safe()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and safety is tried for again
                self._tell(Said("faulty", wish.number, self._identity, f"not safe: {type(error).__name__}: {error}"))
                self._close()
                if isinstance(error, NOT_REACHED) and not touched:
                    self._touched = False
                    self._note(HeadState.UNTOUCHED)
                if self._wait(SAFE_AGAIN_SECONDS, wish) and self._leaving:
                    return False
        self._close()  # it is opened anew, identified and initialised, before it works again
        self._note(HeadState.SAFE)
        return True

    def _stay(self, wish: _Wish) -> None:
        """It is safe: wait until something else is wished for."""
        self._tell(Said("safe", wish.number, self._identity, wish.reason))
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over(wish) or self._questions)
                if self._is_over(wish):
                    self._questions.clear()  # who has asked asks again, if that is still the question
                    return
                question = self._questions.popleft()
            self._tell(self._find_out(question))

    def _find_out(self, question: Question) -> Found:
        """What has become of a task in doubt; the head is open meanwhile, and safe again after."""
        head = self._head
        if not head.reconciles:
            return Found(question, "unknown", reason="its head has no way to find out")
        self._note(HeadState.WORKING)
        try:
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

    def _wait(self, seconds: float | None, wish: _Wish) -> bool:
        """Wait until something else is wished for, or it is time to leave; False if ``seconds`` have passed before."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_over(wish), seconds)
