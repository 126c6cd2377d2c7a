"""What an evaluation yields, as messages: made plain, numbered, and at most so many a second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.drivers.instruments.watching import scalar

__all__ = ["Yields"]

#: Seconds between two messages about a head's progress. What comes in between is left out, but for the last.
EVERY = 0.1
#: Values of one message, and characters of a name.
_MOST_VALUES = 64
_LONGEST_NAME = 100


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


class Yields:
    """Takes what the evaluations of one head yield; ``say`` gets what is to be known elsewhere.

    What is not a number, or a table of names and single values, is dropped and complained of once: an experiment of
    weeks does not fail for how it tells of its progress.
    """

    def __init__(
        self,
        who: str,
        say: Callable[[m.Progress], None],
        complain: Callable[[str], None] = _complain,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` counts seconds; ``who`` is named in complaints."""
        self._who = who
        self._say = say
        self._complain = complain
        self._clock = clock
        self._lock = threading.Lock()
        self._lease: m.LeaseId = (0, 0)
        self._position = self._number = 0
        #: when the last one was said, and what has come since
        self._said = -EVERY
        self._waiting: tuple[float, dict[str, m.Scalar]] | None = None
        self._has_complained = False

    def begin(self, lease: m.LeaseId, position: int) -> None:
        """The evaluation of the task at this position of a lease begins."""
        with self._lock:
            self._lease, self._position, self._number, self._waiting = lease, position, 0, None

    def take(self, value: Any) -> None:
        """A value that the evaluation has yielded; None is a pause and nothing more."""
        if value is None:
            return
        try:
            values = _plain(value)
        except ValueError as error:
            if not self._has_complained:
                self._has_complained = True
                self._complain(f"{self._who}: what its evaluation yields is not shown: {error}")
            return
        with self._lock:
            self._waiting = (time.time(), values)
            self._say_waiting(self._clock())

    def flush(self, *, at_once: bool = False) -> None:
        """Say what has waited for long enough; may be called from any thread. ``at_once``: whatever there is."""
        if self._waiting is not None:
            with self._lock:
                self._say_waiting(self._clock(), at_once=at_once)

    def _say_waiting(self, now: float, *, at_once: bool = False) -> None:
        if self._waiting is None or not (at_once or now - self._said >= EVERY):
            return
        (when, values), self._waiting = self._waiting, None
        self._said = now
        self._number += 1
        self._say(m.Progress(self._lease, self._position, self._number, when, values))


def _plain(value: Any) -> dict[str, m.Scalar]:
    """By name. Raises ValueError where it cannot be said so."""
    if not isinstance(value, Mapping):
        number = scalar(value)
        if isinstance(number, str) or number is None:
            raise ValueError(f"{value!r:.60} is neither a number nor a table of names and single values")
        return {"progress": number}
    if len(value) > _MOST_VALUES:
        raise ValueError(f"{len(value)} values at a time, where at most {_MOST_VALUES} are taken")
    for name in value:
        if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME:
            raise ValueError(f"{name!r:.60} is no name of 1 to {_LONGEST_NAME} characters")
    return {name: scalar(item) for name, item in value.items()}
