"""Who attends to one head: the thread that owns it, opens it again when it was lost, and does what it is told to.

A head is driven from this one thread alone. Whoever talks to the daemon hands over assignments and orders, is told what
has become of them through a queue, and need not wait for the hardware. Only a stop reaches past the queue: it sets the
event at which transports and sleeps look every few milliseconds, so that what is being done is broken off.

Between tasks, and between the steps of one, the thread polls what is watched at the head (`polling`), also while the
head is safe. An interlock that trips breaks off what is being done as a stop does, and the head stays safe until the
interlock holds again and the daemon, which was told, has given its orders.

Of each task it is known whether it may have acted (`Head.begin_acting`). One that has not begun when its head is lost,
parked or stopped is given back; one that has is in doubt, unless the head itself says how it ended.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from taskmaster.bus import messages as m
from taskmaster.bus.fields import Schema
from taskmaster.bus.table import Table
from taskmaster.drivers.instruments.errors import CONNECTING, LinkError, Stopped
from taskmaster.drivers.instruments.generators import drive
from taskmaster.drivers.instruments.head import Head
from taskmaster.drivers.instruments.polling import Polling, Seen
from taskmaster.drivers.instruments.watching import Watched
from taskmaster.drivers.instruments.yields import Yields
from taskmaster.drivers.outputs import OutputPacker, task_error
from taskmaster.drivers.protocol import Assignment

__all__ = ["Attendant", "Ended", "HeadState", "Said"]

#: Attempts to bring a head to its safe state follow each other by so many seconds, for as long as they fail.
SAFE_AGAIN_SECONDS = 1.0
_LONGEST_WAIT = 86400.0

HeadState: TypeAlias = Literal["connecting", "ready", "faulty", "safe", "unsafe"]


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


News: TypeAlias = Ended | Said | Seen | m.Progress


class Attendant:
    """Runs a head in a thread of its own. ``tell`` is called from there, with everything that is to be known elsewhere.

    ``make`` makes the head, with a context whose ``on_acting`` is :meth:`on_acting`, whose ``on_between`` is
    :meth:`on_between` and whose ``stopping`` is :attr:`stopping`. ``begin`` is called with each assignment before it is
    begun, ``acts`` when it begins to act. ``watched`` is polled.
    """

    def __init__(
        self,
        make: Callable[[Attendant], Head],
        outputs: Schema,
        *,
        who: str = "the head",
        tell: Callable[[News], None],
        begin: Callable[[Assignment], None],
        acts: Callable[[], None],
        pauses: tuple[float, float] = (0.5, 30.0),
        watched: Iterable[Watched] = (),
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
        #: how the head was lost
        self._trouble = "it was never open"
        self._is_open = False
        self._watched = tuple(watched)
        #: an interlock has made the head safe, and the daemon's orders are from before it knew
        self._has_tripped = False
        self.yields = Yields(who, tell)
        self.thread = threading.Thread(target=self._run, name="taskmaster-head", daemon=True)

    # -- called by whoever talks to the daemon ------------------------------------------------------------------------

    def order(self, order: m.HeadOrder) -> None:
        """What the head is to do from now on; a stop breaks off what it is doing."""
        with self._changed:
            if order.number <= self._order.number:
                return
            self._order = order
            if order.what != "work":
                self._has_tripped = False
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

    def on_between(self) -> float:
        """Poll what is due, see `Head.between`."""
        return self._polling.between()

    def _on_trip(self) -> None:
        """An interlock that makes the head safe has tripped."""
        with self._changed:
            self._has_tripped = self._order.what == "work"
            self.stopping.set()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._head = self._make(self)
        self._polling = Polling(self._head, self._watched, self._tell, self._on_trip)
        pause = self._first_pause
        try:
            while not self._leaving:
                order = self._order
                if not self._may_work(order):
                    self._give_back()
                    self._be_safe(order)
                elif self._is_open or self._open(order):
                    pause = self._first_pause
                    self._work(order)
                else:
                    self._pause(pause, order)
                    pause = min(2 * pause, self._longest_pause)
            self._give_back()
            self._be_safe(self._order)
        finally:
            self._head.close()

    def _may_work(self, order: m.HeadOrder) -> bool:
        return order.what == "work" and not self._has_tripped and not self._polling.tripped

    def _pause(self, seconds: float, order: m.HeadOrder) -> None:
        """Wait before the head is opened again. What is due meanwhile cannot be had; that may trip an interlock."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._may_work(order):
            if self._wait(min(left, self._polling.due - time.monotonic()), order):
                return
            self._polling.missed(self._trouble)

    def _open(self, order: m.HeadOrder) -> bool:
        """Connect, identify, initialise; says what came of it."""
        self._tell(Said("connecting", order.number))
        try:
            self._head.open()
            self._identity = self._head.identify()
            self._head.arm_watchdog()
            self._polling.begin()
        except Stopped:
            return False
        except Exception as error:  # noqa: BLE001 - whatever a head's opening raises is told, and tried again
            self._lose(error, order)
            return False
        self._is_open = True
        self._tell(Said("ready", order.number, self._identity))
        return True

    def _lose(self, error: Exception, order: m.HeadOrder) -> None:
        """The head cannot be opened, or is lost while nothing was evaluated."""
        self._trouble = f"{type(error).__name__}: {error}"
        self._close()
        self._give_back(error)
        self._tell(Said("faulty", order.number, "", self._trouble))

    def _close(self) -> None:
        self._is_open = False
        self._head.close()

    def _work(self, order: m.HeadOrder) -> None:
        """Evaluate what comes until there is another order, the head is lost, or an interlock trips."""
        while self._is_open and not self._has_tripped:
            try:
                self._polling.between()
            except Stopped:
                return
            except LinkError as error:
                self._lose(error, order)
                return
            with self._changed:
                if not self._assignments and self._order is order and not self._leaving:
                    self._changed.wait(_timeout(self._polling.due - time.monotonic()))
                if self._order is not order or self._leaving:
                    return
                assignment = self._assignments.popleft() if self._assignments else None
            if assignment is not None:
                self._evaluate(assignment)

    def _evaluate(self, assignment: Assignment) -> None:
        head = self._head
        self._begin(assignment)
        self.yields.begin(assignment.lease)
        head.begin_task()
        started = time.time()
        began = time.perf_counter()
        outputs: Table | None = None
        errors: tuple[m.TaskError, ...] = ()
        lost = False
        try:
            value = drive(head.evaluate(assignment.table.rows()[0]), self.yields.take, self.stopping, head.between)
        except (*CONNECTING, Stopped) as error:
            lost = True
            errors = (task_error(0, error),)
            if not isinstance(error, Stopped):
                self._trouble = f"{type(error).__name__}: {error}"
                self._close()
        except BaseException as error:  # noqa: BLE001 - whatever the user's code raises fails its task
            errors = (task_error(0, error),)
        else:
            outputs, wrong = self._packer.pack((0,), (value,))
            errors = tuple(wrong)
        finished = started + time.perf_counter() - began
        self.yields.flush(at_once=True)
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
        self._polling.rest()
        while True:
            try:
                self._head.safe()
                self._head.disarm_watchdog()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and safety is tried for again
                self._trouble = f"{type(error).__name__}: {error}"
                self._tell(Said("unsafe", order.number, self._identity, self._trouble))
                self._close()
                if self._wait(SAFE_AGAIN_SECONDS, order) and self._leaving:
                    return
                self._polling.missed(self._trouble)
        self._is_open = False  # it is opened anew, identified and initialised, before it works again
        self._tell(Said("safe", order.number, self._identity))
        if order.watch and self._polling:
            self._watch(order)
        else:
            self._polling.leave()
            self._head.close()
            self._wait(None, order)
        self._close()

    def _watch(self, order: m.HeadOrder) -> None:
        """Poll what is watched at a head that is safe, until it may work or there is another order; set nothing."""
        pause, connect_at, is_connected = self._first_pause, math.inf, True
        self._polling.watch()
        while not self._wait(min(self._polling.due, connect_at) - time.monotonic(), order):
            try:
                if not is_connected and time.monotonic() >= connect_at:
                    self._head.connect()
                    is_connected, pause = True, self._first_pause
                if is_connected:
                    self._polling.between()
                else:
                    self._polling.missed(self._trouble)
            except Stopped:
                continue  # there is another order
            except Exception as error:  # noqa: BLE001 - whatever a head's connecting raises, it is tried again
                self._trouble = f"{type(error).__name__}: {error}"
                self._head.close()
                is_connected = False
                connect_at, pause = time.monotonic() + pause, min(2 * pause, self._longest_pause)
            if order.what == "work" and self._may_work(order):
                return

    def _wait(self, seconds: float | None, order: m.HeadOrder) -> bool:
        """Wait for another order than this, or until it is time to leave; False if ``seconds`` have passed before."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._order is not order or self._leaving, None if seconds is None else _timeout(seconds)
            )


def _timeout(seconds: float) -> float | None:
    """For a wait that may be for ever. Longer ones than this overflow in some places, and are as long for all."""
    return None if seconds == math.inf else min(max(0.0, seconds), _LONGEST_WAIT)
