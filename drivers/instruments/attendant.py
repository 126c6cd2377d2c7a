"""Who attends to one head: the thread that owns it, opens it again when it was lost, and does what it is told to.

A head is driven from this one thread alone. Whoever talks to the daemon hands over assignments and orders, is told what
has become of them through a queue, and need not wait for the hardware. Only a stop reaches past the queue: it sets the
event at which transports and sleeps look every few milliseconds, so that what is being done is broken off.

Of each task it is known whether it may have acted (`Head.begin_acting`). One that has not begun when its head is lost,
parked or stopped is given back; one that has is in doubt, unless the head itself says how it ended.
"""

from __future__ import annotations

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
from taskmaster.drivers.instruments.errors import CONNECTING, LinkError, Stopped
from taskmaster.drivers.instruments.generators import drive
from taskmaster.drivers.instruments.head import Head
from taskmaster.drivers.outputs import OutputPacker, task_error
from taskmaster.drivers.protocol import Assignment

__all__ = ["Attendant", "Ended", "HeadState", "Said"]

#: Attempts to bring a head to its safe state follow each other by so many seconds, for as long as they fail.
SAFE_AGAIN_SECONDS = 1.0

HeadState: TypeAlias = Literal["connecting", "ready", "faulty", "safe"]


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

    state: HeadState
    order: m.LeaseId
    identity: str = ""
    error: str = ""


class Attendant:
    """Runs a head in a thread of its own. ``tell`` is called from there, with everything that is to be known elsewhere.

    ``make`` makes the head, with a context whose ``on_acting`` is :meth:`on_acting` and whose ``stopping`` is
    :attr:`stopping`. ``begin`` is called with each assignment before it is begun, ``acts`` when it begins to act.
    """

    def __init__(
        self,
        make: Callable[[Attendant], Head],
        outputs: Schema,
        *,
        tell: Callable[[Ended | Said], None],
        begin: Callable[[Assignment], None],
        acts: Callable[[], None],
        pauses: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        self.stopping = threading.Event()
        self._make = make
        self._packer = OutputPacker(outputs)
        self._tell = tell
        self._begin = begin
        self._acts = acts
        self._first_pause, self._longest_pause = pauses
        self._changed = threading.Condition()
        self._order = m.HeadOrder((0, 0), "park")
        self._assignments: deque[Assignment] = deque()
        self._leaving = False
        self._identity = ""
        self._is_open = False
        self.progress: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="taskmaster-head", daemon=True)

    # -- called by whoever talks to the daemon ------------------------------------------------------------------------

    def order(self, order: m.HeadOrder) -> None:
        """What the head is to do from now on; a stop breaks off what it is doing."""
        with self._changed:
            if order.number <= self._order.number:
                return
            self._order = order
            if order.what == "stop":
                self.stopping.set()
            self._changed.notify()

    def give(self, assignment: Assignment) -> None:
        """A task to evaluate."""
        with self._changed:
            self._assignments.append(assignment)
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

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._head = self._make(self)
        pause = self._first_pause
        try:
            while not self._leaving:
                order = self._order
                if order.what != "work":
                    self._give_back()
                    self._be_safe(order)
                elif self._is_open or self._open(order):
                    pause = self._first_pause
                    self._work(order)
                else:
                    self._wait(pause, order)
                    pause = min(2 * pause, self._longest_pause)
            self._give_back()
            self._be_safe(self._order)
        finally:
            self._head.close()

    def _open(self, order: m.HeadOrder) -> bool:
        """Connect, identify, initialise; says what came of it."""
        self._tell(Said("connecting", order.number))
        try:
            self._head.open()
            self._identity = self._head.identify()
        except Stopped:
            return False
        except Exception as error:  # noqa: BLE001 - whatever a head's opening raises is told, and tried again
            self._close()
            self._give_back(error)
            self._tell(Said("faulty", order.number, "", f"{type(error).__name__}: {error}"))
            return False
        self._is_open = True
        self._tell(Said("ready", order.number, self._identity))
        return True

    def _close(self) -> None:
        self._is_open = False
        self._head.close()

    def _work(self, order: m.HeadOrder) -> None:
        """Evaluate what comes until there is another order, or the head is lost."""
        while self._is_open:
            with self._changed:
                while not self._assignments and self._order is order and not self._leaving:
                    self._changed.wait()
                if self._order is not order or self._leaving:
                    return
                assignment = self._assignments.popleft()
            self._evaluate(assignment)

    def _evaluate(self, assignment: Assignment) -> None:
        head = self._head
        self._begin(assignment)
        head.begin_task()
        started = time.time()
        began = time.perf_counter()
        outputs: Table | None = None
        errors: tuple[m.TaskError, ...] = ()
        lost = False
        try:
            value = drive(head.evaluate(assignment.table.rows()[0]), self.progress.put, self.stopping)
        except (*CONNECTING, Stopped) as error:
            lost = True
            errors = (task_error(0, error),)
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

    def _give_back(self, error: BaseException | None = None) -> None:
        """What has not been begun goes to another head."""
        with self._changed:
            waiting = list(self._assignments)
            self._assignments.clear()
        errors = (task_error(0, error),) if isinstance(error, LinkError) else ()
        for assignment in waiting:
            self._tell(Ended(assignment, errors=errors, given_back=True))

    def _be_safe(self, order: m.HeadOrder) -> None:
        """Bring the head to its safe state, and again until that has succeeded; then wait for another order."""
        self.stopping.clear()
        while True:
            try:
                self._head.safe()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and safety is tried for again
                self._tell(Said("faulty", order.number, self._identity, f"not safe: {type(error).__name__}: {error}"))
                self._close()
                if self._wait(SAFE_AGAIN_SECONDS, order) and self._leaving:
                    return
        self._tell(Said("safe", order.number, self._identity))
        self._close()  # it is opened anew, identified and initialised, before it works again
        while not self._wait(None, order):
            pass

    def _wait(self, seconds: float | None, order: m.HeadOrder) -> bool:
        """Wait for another order than this, or until it is time to leave; False if ``seconds`` have passed before."""
        with self._changed:
            return self._changed.wait_for(lambda: self._order is not order or self._leaving, seconds)
