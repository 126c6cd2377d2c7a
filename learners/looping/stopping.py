"""How a loop is told to end before its goal: by Ctrl-C, by a program, or by who runs it beside others.

There are two ways. *Stopped* it puts nothing further and goes on until what is in flight has ended. *Told to leave* it
ends before its next step, by KeyboardInterrupt, with all that it has taken told. Broken off, in the middle of a
learner's thoughts, it is torn: nobody knows what that has heard, so only a new learner goes on.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from taskmaster.bus.errors import CallerError
from taskmaster.learners.looping.background import Startable

if TYPE_CHECKING:
    from taskmaster.learners.looping.asking import Asking
    from taskmaster.learners.looping.telling import Teller
    from taskmaster.learners.run import Run

__all__ = ["Stoppable"]

log = logging.getLogger("taskmaster")


class Stoppable(Startable):
    """The part of a :class:`~taskmaster.learners.loop.Loop` by which it is told to end."""

    run_: Run
    _teller: Teller
    _asking: Asking

    def __init__(self) -> None:
        super().__init__()
        #: nothing further is put, see `stop`
        self.interrupted = False
        #: others run beside it, and it is stopped at their word; it is to leave, at its next step
        self._is_grouped = self._is_to_leave = False
        #: it has left between two steps; it was broken off within one, and nobody knows what the learner has heard
        self._has_left = self._is_torn = False

    def stop(self) -> None:
        """Have it end as the first Ctrl-C does; from any thread, and from a signal's handler."""
        self.interrupted = True

    def leave(self) -> None:
        """Have it end as the second Ctrl-C does, before its next step: it raises KeyboardInterrupt.

        From any thread, and from a signal's handler.
        """
        self._is_to_leave = True
        self.run_.results.rouse()

    def break_off(self) -> None:
        """What the second Ctrl-C does, from the signal's handler: :meth:`leave`, though the learner thinks for ever.

        Raises KeyboardInterrupt where it is at it.
        """
        self.leave()
        if self._teller.is_thinking or (self._asking.record is not None and self._asking.record.is_asking):
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def grouped(self) -> Iterator[None]:
        """Have it heed :meth:`stop` and :meth:`leave` also where they come before it is run."""
        self._is_grouped = True
        try:
            yield
        finally:
            self._is_grouped = self._is_to_leave = False

    def _on_interrupt(self) -> None:
        self.stop()
        log.warning("stopping: waiting for %d tasks in flight (Ctrl-C again: leave at once)", self._asking.open)

    def _require_whole(self) -> None:
        """Raise CallerError where it was broken off in the middle of its learner's thoughts."""
        if self._is_torn:
            raise CallerError(
                f"run {self.run_.name!r}: this loop was broken off while its learner was asked or told, and that may "
                "have heard half of it; go on with a new learner in a new loop over the run of this name"
            )

    def _begin_anew(self) -> None:
        """It is run: what it was told by then is over, unless those that run beside it were told so, too."""
        self.interrupted = self.interrupted and self._is_grouped
        self._is_to_leave = self._is_to_leave and self._is_grouped
        self._has_left = False
        self.run_.results.rouse(self._is_to_leave)

    def _leave_if_told(self) -> None:
        if self._is_to_leave:
            self._is_to_leave, self._has_left = False, True
            raise KeyboardInterrupt

    def _on_raised(self, error: BaseException) -> None:
        """It ends by this."""
        self._is_torn = not (isinstance(error, Exception) or self._has_left)
