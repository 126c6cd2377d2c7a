"""A loop beside the program that started it: in a thread of its own, as a notebook wants it."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Self, cast

from taskmaster.bus.errors import CallerError
from taskmaster.learners.protocol import describe

if TYPE_CHECKING:
    from taskmaster.learners.loop import Loop
    from taskmaster.learners.run import Run

__all__ = ["Startable", "claimed"]

log = logging.getLogger("taskmaster")

#: Whoever waits looks so often whether there was a signal, which Python hears of between two waits only.
_LOOK_SECONDS = 0.1

#: The loops that run, by the learner that each asks, and by its run.
_running: dict[int, Loop] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def claimed(loop: Loop) -> Iterator[None]:
    """Within, the learner and the run are this loop's. Raises CallerError where they are another one's, or it runs."""
    keys = (id(loop.learner), id(loop.run_))
    with _lock:
        other = next((_running[key] for key in keys if key in _running), None)
        if other is None:
            _running.update(dict.fromkeys(keys, loop))
    if other is loop:
        raise CallerError(f"the loop over run {loop.run_.name!r} runs already: wait() for it, or stop() it first")
    if other is not None:
        what = f"learner ({describe(loop.learner)})" if other.learner is loop.learner else f"run {loop.run_.name!r}"
        raise CallerError(
            f"another loop, over run {other.run_.name!r}, is at work with the {what}: each needs its own, for "
            "they would tell it what the other asked"
        )
    try:
        yield
    finally:
        with _lock:
            for key in keys:
                del _running[key]


class Background:
    """One loop in its thread. What that raises is kept for :meth:`wait`, and said where nobody waits."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._error: BaseException | None = None
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name=f"loop-{loop.run_.name}", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        loop = self._loop
        try:
            with loop.grouped():
                loop.run()
        except KeyboardInterrupt:  # by leave()
            pass
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
            self._error = error
            if not self._waiting:
                log.error(
                    "run %r: the loop has ended by %s: %s (loop.wait() raises it)",
                    loop.run_.name,
                    type(error).__name__,
                    error,
                )

    def wait(self, timeout: float | None) -> None:
        """Until it has ended. Raises TimeoutError, and what it has ended by; Ctrl-C is for the loop."""
        if threading.current_thread() is self._thread:
            raise CallerError(
                f"run {self._loop.run_.name!r}: its loop cannot wait for itself, in a hook or its learner; "
                "loop.stop() has it end"
            )
        deadline = None if timeout is None else time.monotonic() + timeout
        self._waiting += 1
        try:
            with self._heeding_interrupts():
                while self._thread.is_alive():
                    left = _LOOK_SECONDS if deadline is None else min(_LOOK_SECONDS, deadline - time.monotonic())
                    if left <= 0:
                        raise TimeoutError(f"run {self._loop.run_.name!r}: the loop has not ended within {timeout:g} s")
                    self._thread.join(left)
        finally:
            self._waiting -= 1
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def _heeding_interrupts(self) -> Iterator[None]:
        """As in the loop itself, Ctrl-C stops it, and the second has it leave and raises KeyboardInterrupt here."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def on_signal(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, on_another)
            self._loop.stop()
            log.warning("stopping: waiting for what is in flight (Ctrl-C again: leave at once)")

        def on_another(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._loop.leave()
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class Gate:
    """Keeps others from looking at a learner while its loop is at it: that holds ``turn`` then.

    Whoever wants to look goes first, for a loop that lets go of a lock has it again before anybody else wakes up: where
    there are ``lookers``, it has to :meth:`give_way` before each turn. But who comes while it waits for those comes
    behind its turn: else somebody who looks again and again would keep it waiting for ever.
    """

    def __init__(self) -> None:
        self.turn = threading.RLock()
        #: the threads of those who look, or are about to
        self.lookers: list[int] = []
        #: the loop waits for those to be gone, and has its turn then; and who came behind that
        self._is_due = False
        self._behind: list[int] = []
        self._looked = threading.Condition()

    def give_way(self) -> bool:
        """Let those look who want to; then the caller has taken its ``turn``, which it has to release. Returns True."""
        me = threading.get_ident()
        with self._looked:
            self._is_due = True
            try:
                self._looked.wait_for(lambda: all(one == me for one in self.lookers))
                return self.turn.acquire()  # nobody has it
            finally:
                self._is_due = False
                self.lookers += self._behind
                self._behind.clear()
                self._looked.notify_all()

    @contextlib.contextmanager
    def look(self, timeout: float = -1) -> Iterator[bool]:
        """Within, no turn is made; or (False) one took longer than ``timeout`` seconds."""
        me = threading.get_ident()
        with self._looked:
            self._line_up(me, None if timeout < 0 else timeout)
        is_still = False
        try:
            is_still = self.turn.acquire(timeout=timeout)
            yield is_still
        finally:
            if is_still:
                self.turn.release()
            with self._looked:
                self.lookers.remove(me)
                self._looked.notify_all()

    def _line_up(self, me: int, timeout: float | None) -> None:
        """Be one of those who look; where the loop waits for its turn, behind that, or when ``timeout`` is over."""
        if not self._is_due or me in self.lookers:  # who looks already is what the loop waits for
            self.lookers.append(me)
            return
        self._behind.append(me)
        try:
            self._looked.wait_for(lambda: me not in self._behind, timeout)
        except BaseException:  # Ctrl-C
            (self._behind if me in self._behind else self.lookers).remove(me)
            self._looked.notify_all()
            raise
        if me in self._behind:
            self._behind.remove(me)
            self.lookers.append(me)


class Startable:
    """What a Loop has to run beside the program that started it."""

    def __init__(self) -> None:
        self._background: Background | None = None
        self._gate = Gate()

    def start(self) -> Self:
        """Run it in a thread of its own, beside what follows, as in a notebook; returns the loop, at once.

        :meth:`wait` waits for it, :meth:`stop` has it end in good order, :meth:`leave` at once; then it can be started
        again, and goes on. What it ends by is raised by `wait`, and logged where nobody waits. ``with loop.still():``
        leaves the learner in peace meanwhile. A program that ends without waiting leaves it where it is: another loop
        over the run goes on. Raises CallerError where it runs, or its learner or run is at work in another loop.
        """
        loop = cast("Loop", self)
        with claimed(loop):
            loop.interrupted = False
            self._background = Background(loop)
        self._background.start()
        return self

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the loop that was started has ended; returns the run. Raises what it has ended by.

        Raises TimeoutError where it has not after ``timeout`` seconds; it goes on. Ctrl-C is for the loop, as in
        :meth:`run`: the first puts nothing further and waits for what is in flight, the second leaves at once.
        """
        loop = cast("Loop", self)
        if self._background is None:
            raise CallerError(f"the loop over run {loop.run_.name!r} was not started: start() it, or run() it here")
        self._background.wait(timeout)
        return loop.run_

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._background is not None and self._background.is_running

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Within, the learner is neither asked nor told: to look at it, or plot it, from another thread."""
        with self._gate.look():
            yield
