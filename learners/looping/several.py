"""Many loops in one program: each in a thread of its own, and Ctrl-C for all of them."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import count
from taskmaster.learners.loop import Loop

if TYPE_CHECKING:
    from taskmaster.learners.run import Run

__all__ = ["run_all"]

log = logging.getLogger("taskmaster")

#: What a loop may take to leave before it is left behind.
_LEAVE_SECONDS = 0.4


def run_all(loops: Sequence[Loop]) -> list[Run]:
    """Run these loops at the same time; returns their runs when all have ended.

    Each has its own learner, its own run, and goes its own way: where one raises, the others go on, and its error comes
    through in the end (several in an ExceptionGroup). The first Ctrl-C has all of them put nothing further and wait for
    what is in flight; the second has them leave at once. Either way each goes on when it is run again.

    Raises CallerError where two loops have one learner, or one run: they would tell it what the other asked. For one
    learner on several Masters see :class:`~taskmaster.learners.looping.routes.Routes`.
    """
    given: Any = loops
    for loop in given if isinstance(given, Sequence) else ("",):
        if not isinstance(loop, Loop):
            raise CallerError(f"run_all takes loops in a list, not {given!r}")
    for what, things in (("learner", [loop.learner for loop in loops]), ("run", [loop.run_ for loop in loops])):
        if len({id(thing) for thing in things}) < len(things):
            raise CallerError(f"two of these loops have the same {what}; each needs its own")
    group = _Group(loops)
    with group.heeding_interrupts():
        group.run()
    return [loop.run_ for loop in loops]


class _Group:
    """Loops and the threads they run in."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = tuple(loops)
        self._errors: list[Exception] = []
        self._interruption: KeyboardInterrupt | None = None
        self._threads = [
            threading.Thread(target=self._run_one, args=(loop,), name=f"loop-{loop.run_.name}", daemon=True)
            for loop in loops
        ]

    def run(self) -> None:
        """Until all have ended; raises what they raise."""
        for loop, thread in zip(self._loops, self._threads):
            loop.interrupted = False
            thread.start()
        try:
            for thread in self._threads:
                thread.join()
        except BaseException:  # the second Ctrl-C, by the handler below
            for loop in self._loops:
                loop.leave()
            for thread in self._threads:  # one whose learner thinks for long is not waited for
                thread.join(_LEAVE_SECONDS)
            raise
        if self._interruption is not None:
            raise self._interruption
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise ExceptionGroup(f"{len(self._errors)} of {count(len(self._loops), 'loop')} failed", self._errors)

    def _run_one(self, loop: Loop) -> None:
        try:
            with loop.grouped():
                loop.run()
        except KeyboardInterrupt as error:
            self._interruption = error
        except Exception as error:  # noqa: BLE001 - raised when the others have ended
            self._errors.append(error)

    @contextlib.contextmanager
    def heeding_interrupts(self) -> Iterator[None]:
        """Have Ctrl-C stop them all, and the second have them leave."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def on_signal(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for loop in self._loops:
                loop.stop()
            log.warning("stopping: waiting for what is in flight (Ctrl-C again: leave at once)")

        signal.signal(signal.SIGINT, on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
