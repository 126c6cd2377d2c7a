"""The event loop of a simulated laboratory: many small conversations in one thread.

An epoll of one's own, because a query costs little beside what asyncio adds to it, and because little else is needed:
timers in real and in simulated time, something to do at the next turn, and an end by signal or with the parent.
"""

from __future__ import annotations

import heapq
import itertools
import math
import os
import select
import signal
from collections.abc import Callable

from taskmaster.drivers.simulated.clock import Clock

__all__ = ["READABLE", "WRITABLE", "Loop"]

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT


class Loop:
    """Calls back what descriptors, timers and signals have to say, until :meth:`stop`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._real: list[tuple[float, int, Callable[[], None]]] = []
        self._simulated: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._soon: list[Callable[[], None]] = []
        #: called after each turn
        self.after_turn: Callable[[], None] = lambda: None
        self._running = True

    # -- what to wait for ---------------------------------------------------------------------------------------------

    def watch(self, fd: int, handler: Callable[[int], None], events: int = READABLE) -> None:
        """Call ``handler(events)`` when the descriptor is ready, or broken."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Watch it no longer. Before it is closed: its number may be another's at once."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back at the next turn, after others had theirs."""
        self._soon.append(callback)

    def at(self, real: float, callback: Callable[[], None]) -> None:
        """Call back at a time of the clock's source."""
        heapq.heappush(self._real, (real, next(self._order), callback))

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after some real seconds."""
        self.at(self.clock.real() + seconds, callback)

    def at_simulated(self, time: float, callback: Callable[[], None]) -> None:
        """Call back at a simulated time, however that is reached."""
        heapq.heappush(self._simulated, (time, next(self._order), callback))

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until it is stopped."""
        poll, handlers = self._epoll.poll, self._handlers
        while self._running:
            for fd, events in poll(self._timeout()):
                handler = handlers.get(fd)
                if handler is not None:  # else forgotten in this very turn
                    handler(events)
            if self._soon:
                soon, self._soon = self._soon, []
                for callback in soon:
                    callback()
            if self._real or self._simulated:
                self._call_what_is_due()
            self.after_turn()

    def stop(self) -> None:
        """Return from :meth:`run` after this turn."""
        self._running = False

    def close(self) -> None:
        self._epoll.close()

    def _timeout(self) -> float | None:
        if self._soon:
            return 0.0
        due = self._real[0][0] if self._real else math.inf
        if self._simulated:
            due = min(due, self.clock.real_at(self._simulated[0][0]))
        return None if due == math.inf else max(0.0, due - self.clock.real())

    def _call_what_is_due(self) -> None:
        now = self.clock.real()
        while self._real and self._real[0][0] <= now:
            heapq.heappop(self._real)[2]()
        now = self.clock.now()
        while self._simulated and self._simulated[0][0] <= now:
            heapq.heappop(self._simulated)[2]()

    # -- ending -------------------------------------------------------------------------------------------------------

    def stop_on_signals(self) -> None:
        """Stop at SIGTERM or SIGINT."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self.watch(reader, lambda _: self.stop())

    def stop_with(self, pid: int) -> None:
        """Stop when this process has ended."""
        try:
            self.watch(os.pidfd_open(pid), lambda _: self.stop())
        except ProcessLookupError:
            self.stop()
