"""The runs that a routed run is made of, and how their results are waited for: in threads, or in virtual time."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, cast

from taskmaster.bus.errors import CallerError
from taskmaster.learners.results import Result
from taskmaster.learners.target import LegRun, Virtual

__all__ = ["Leg", "Waiting", "waiting"]

#: Results of a Master that wait here at most.
_AHEAD = 1024


@dataclass(eq=False)
class Leg:
    """The run of one of the Masters."""

    run: LegRun
    #: which of the legs it is
    number: int
    #: ``seq`` of the last of its events that was taken, and how many results were
    told: int = -1
    taken: int = 0
    #: what has come and was not taken; an error is the last
    came: deque[Result | BaseException] = field(default_factory=deque)
    #: the last ask that was noted with it, and the number over all legs that its next task has by what was noted
    noted: int = -1
    following: int = -1
    #: tasks of it, and which ask had been noted with it before each: of those that are not known to be recorded
    behind: deque[tuple[int, int]] = field(default_factory=deque)

    @property
    def result(self) -> Result | None:
        """The next one, if it has come."""
        head = self.came[0] if self.came else None
        return head if isinstance(head, Result) else None

    @property
    def in_flight(self) -> int:
        """Tasks whose results were not taken."""
        return self.run.next_index - self.taken


#: Which leg's result is next, of those that have come; None if one is to be waited for.
Choose: TypeAlias = Callable[[], Leg | None]


class Waiting(Protocol):
    """Waits for what comes on several legs. One thread takes."""

    def take(self, choose: Choose, timeout: float | None) -> tuple[Leg, Result]:
        """The next result. Raises TimeoutError after ``timeout`` seconds, and what waiting at one of the legs raises"""

    def level(self) -> None:
        """Before anything is put: it is as late on each leg."""

    def rouse(self, on: bool) -> None:
        """Have :meth:`take` raise TimeoutError; from a signal's handler, too."""

    def end(self) -> None:
        """Nothing is taken any more."""


def waiting(name: str, legs: Sequence[Leg]) -> Waiting:
    """How to wait for these. Raises CallerError where time is virtual on some of them only."""
    virtual = [isinstance(leg.run, Virtual) for leg in legs]
    if all(virtual):
        return _Turns(name, legs)
    if any(virtual):
        raise CallerError(
            f"{name}: of these Masters some are simulated, and know nothing of the time that passes at the others; "
            "route to simulated ones or to real ones"
        )
    return _Takers(name, legs)


class _Takers:
    """A thread for each leg takes its results, as long as they do not pile up here."""

    def __init__(self, name: str, legs: Sequence[Leg]) -> None:
        self._name = name
        self._legs = legs
        #: guards what has come; told when something has, or was taken
        self._news = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._roused = self._ended = False

    def take(self, choose: Choose, timeout: float | None) -> tuple[Leg, Result]:
        if not self._threads and not self._ended:
            self._begin()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with self._news:
            while (leg := choose()) is None:
                left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
                if self._roused or left <= 0:
                    self._roused = False
                    raise TimeoutError(f"{self._name}: no result in the time that there was")
                self._news.wait(left)
            came = leg.came[0]
            if isinstance(came, BaseException):
                raise came
            leg.came.popleft()
            self._news.notify_all()
            return leg, came

    def level(self) -> None:
        pass  # there is one time for all

    def rouse(self, on: bool) -> None:
        self._roused = on
        with self._news:  # which whoever is interrupted may hold: it lets a thread in twice
            self._news.notify_all()

    def end(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify_all()
        for leg in self._legs:
            leg.run.results.rouse()
        for thread in self._threads:
            thread.join()

    def _begin(self) -> None:
        for leg in self._legs:
            thread = threading.Thread(target=self._take, args=(leg,), name=f"results-{leg.run.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _take(self, leg: Leg) -> None:
        came: Result | BaseException | None = None
        while not self._ended and not isinstance(came, BaseException):
            try:
                came = leg.run.results.get()
            except TimeoutError:  # roused
                continue
            except Exception as error:  # noqa: BLE001 - raised where the result is asked for
                came = error
            with self._news:
                self._news.wait_for(lambda: len(leg.came) < _AHEAD or self._ended)
                leg.came.append(came)
                self._news.notify_all()


class _Turns:
    """Whose next event is the earliest goes on to that, and all others with it."""

    def __init__(self, name: str, legs: Sequence[Leg]) -> None:
        self._name = name
        self._legs = legs
        self._runs = [cast("Virtual", leg.run) for leg in legs]

    def take(self, choose: Choose, timeout: float | None) -> tuple[Leg, Result]:
        self.level()
        deadline = math.inf if timeout is None else self._runs[0].clock() + timeout
        while True:
            self._collect()
            leg = choose()
            if leg is not None:
                return leg, cast("Result", leg.came.popleft())
            due = min(run.next_event for run in self._runs)
            if due > deadline:
                self._advance(deadline)
                raise TimeoutError(f"{self._name}: no result within {timeout:g} s")
            if due == math.inf:
                raise CallerError(f"{self._name}: nothing is in flight, so no result would ever come")
            self._advance(due)

    def level(self) -> None:
        self._advance(max(run.clock() for run in self._runs))

    def rouse(self, on: bool) -> None:
        pass  # nobody ever waits

    def end(self) -> None:
        pass

    def _advance(self, to: float) -> None:
        for run in self._runs:
            run.advance(to)

    def _collect(self) -> None:
        for leg, run in zip(self._legs, self._runs):
            while (result := run.arrived()) is not None:
                leg.came.append(result)
