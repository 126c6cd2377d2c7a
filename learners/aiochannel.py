"""The sockets of an asyncio client, served by its event loop: no thread, and no task, besides.

The loop watches the sockets' file descriptors. A ZeroMQ descriptor announces a message once, to whoever touches the
socket next, and sending touches it: so after everything sent the sockets are looked at again in the loop's next turn,
and whatever looks takes what there is, or asks for another turn.

Nothing is consumed on behalf of a waiter. Those who wait are only woken, and then take for themselves, in one step with
returning it: so a waiter that is cancelled, at whatever moment, has taken nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable

import zmq

from taskmaster.bus import sockets
from taskmaster.bus.errors import CallerError, ConnectionClosed
from taskmaster.bus.redialling import Redial
from taskmaster.learners import forks
from taskmaster.learners.channel import RETIRE_SECONDS, forsaken
from taskmaster.learners.core import ClientCore

__all__ = ["AsyncChannel"]

_TICK_SECONDS = 1.0
#: How often it is looked whether what was put by somebody who does not wait for it is acknowledged, in milliseconds.
_RETIRE_MS = 20
#: Messages taken from one socket before other callbacks of the loop have a turn.
_DRAIN = 256


#: Those of this program, and those that nobody has any more.
_all: weakref.WeakSet[AsyncChannel] = weakref.WeakSet()
_retiring: set[AsyncChannel] = set()


@atexit.register
def _retire_all() -> None:
    """At the end of a program that has not closed them: what was put still has to get to the daemon."""
    deadline = time.monotonic() + RETIRE_SECONDS  # of all together: a daemon that is away is not waited for by each
    for channel in {*_all, *_retiring}:
        if not channel.closed:
            channel.finish_at_exit(deadline)


class AsyncChannel:
    """Runs a :class:`ClientCore` over sockets, in the event loop that is running when it is made."""

    def __init__(self, core: ClientCore) -> None:
        self.core = core
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self._closed_because = "was closed"
        self._context, self._control, self._results = sockets.client_sockets(core.address, core.credentials)
        #: of both sockets, where keys are shown that may be refused; the results' address is known later
        self._redials = Redial.of(core.credentials, (self._control, core.address), (self._results, ""))
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._will_look = self._will_be_due = False
        for socket in (self._control, self._results):
            self.loop.add_reader(socket.fileno(), self._look)
        self._ticking = self.loop.call_later(_TICK_SECONDS, self._tick)
        self._subscribed_at = ""
        self._process = os.getpid()
        #: nobody has this connection any more; who sees to its end, and when that looks after things
        self._retired = False
        self._finisher: threading.Thread | None = None
        self._next_tick = 0.0
        forks.tell(self)
        _all.add(self)

    def require_open(self) -> None:
        """Raise ConnectionClosed if it was closed, CallerError where another event loop runs, or none."""
        if self.closed:
            raise ConnectionClosed(f"the connection to {self.core.address} {self._closed_because}; connect again")
        if asyncio._get_running_loop() is not self.loop:
            raise CallerError(
                f"the connection to {self.core.address} belongs to another event loop (or thread); use it there, or "
                "connect in this one, too"
            )

    def send_on(self) -> None:
        """Send what taking a result has led to, if anything, and if it still can be."""
        if self.core.outbox and not self.closed:
            self.send()

    def send(self) -> None:
        """Send what the core has to say."""
        # Where nobody takes it, the socket's descriptor tells when that changes, from the last look at the socket on.
        if self._transmit() or self._control.getsockopt(zmq.EVENTS):
            self._look_soon()

    async def wait(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``until()``, which must change nothing; False if ``timeout`` seconds have passed."""
        self.require_open()
        if until():
            return True
        changed = self.loop.create_future()
        self._waiting[changed] = until
        if self.core.outbox or self.core.subscriptions:
            self.send()
        try:
            if timeout is None:
                await changed
            else:
                async with asyncio.timeout(timeout):
                    await changed
        except TimeoutError:
            return until()
        finally:
            self._waiting.pop(changed, None)
        self.require_open()
        return True

    def notify(self) -> None:
        """Wake those whose condition has come true."""
        for changed, until in list(self._waiting.items()):
            if not changed.done() and until():
                changed.set_result(None)

    # -- called by the loop -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._retired:
            return
        self._ticking = self.loop.call_later(_TICK_SECONDS, self._tick)
        self._look()  # else a daemon whose words wait here, because the program was busy, would be taken for silent
        for redial in self._redials:
            redial.look(self.loop.time())
        self.core.on_tick(self.loop.time())
        self._look()
        self.notify()

    def _look_soon(self) -> None:
        if not (self._will_look or self._retired):
            self._will_look = True
            self.loop.call_soon(self._look)

    def _look(self) -> None:
        """Take in what has arrived, send what follows from it, and wake those it was for."""
        self._will_look = False
        if self.closed or self._retired:
            return
        taken = self._drain()
        if self.core.due < math.inf and not self._will_be_due:
            self._will_be_due = True
            self.loop.call_at(self.core.due, self._on_due)
        if self.core.outbox or self.core.subscriptions:
            self.send()
        if taken:
            self.notify()

    def _on_due(self) -> None:
        self._will_be_due = False
        if not (self.closed or self._retired):
            self.core.on_due(self.loop.time())
            self._look()

    def _drain(self) -> bool:
        """Take in some of what has arrived; whether there was anything."""
        now = self.loop.time()
        taken = 0
        for source, take in ((self._control, self.core.on_control), (self._results, self.core.on_publication)):
            for _ in range(_DRAIN):
                frames = sockets.receive(source)
                if frames is None:
                    break
                taken += 1
                take(frames, now)
            else:
                self._look_soon()
        return taken > 0

    def _transmit(self) -> bool:
        """Send; False if not all of it can be sent now."""
        outbox, subscriptions = self.core.outbox, self.core.subscriptions
        if self._subscribed_at != self.core.results_address:
            self._subscribe_at(self.core.results_address)
        while subscriptions:
            on, topic = subscriptions.popleft()
            self._results.setsockopt(zmq.SUBSCRIBE if on else zmq.UNSUBSCRIBE, topic)
        while outbox and sockets.send(self._control, outbox[0]):
            outbox.popleft()
        return not outbox

    def _subscribe_at(self, address: str) -> None:
        """Results come from here now: the daemon has said so for the first time, or has been restarted elsewhere."""
        if self._subscribed_at:
            self._results.disconnect(self._subscribed_at)
        self._results.connect(address)
        self._subscribed_at = address
        for redial in self._redials[1:]:
            redial.address = address

    # -- its end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop listening; what was not sent is not sent any more. Those who wait get ConnectionClosed."""
        if self.closed:
            return
        self._stop_listening()
        self._shut()
        for changed in self._waiting:
            if not changed.done():
                changed.set_result(None)

    def _stop_listening(self) -> None:
        self._ticking.cancel()
        if not self.loop.is_closed():
            for socket in (self._control, self._results):
                self.loop.remove_reader(socket.fileno())

    def _shut(self) -> None:
        self.closed = True
        for redial in self._redials:
            redial.close()
        self._control.close(linger=0)
        self._results.close(linger=0)
        self._context.term()

    def retire(self) -> None:
        """Nobody has closed it, and nobody can any more: close it when what was put is acknowledged.

        Called from wherever the garbage collector happens to run. The event loop is done with it then, and may end at
        any moment: what is left to do is done in a thread.
        """
        if self.closed or os.getpid() != self._process:
            return
        _retiring.add(self)
        if asyncio._get_running_loop() is self.loop or self.loop.is_closed():
            self._hand_over()
        else:
            with contextlib.suppress(RuntimeError):  # closed just now; the end of the program sees to it
                self.loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        if self.closed or self._retired:
            return
        self._retired = True
        self._stop_listening()
        deadline = time.monotonic() + RETIRE_SECONDS
        self._finisher = threading.Thread(target=self._finish, args=(deadline,), name="taskmaster-retire", daemon=True)
        self._finisher.start()

    def _finish(self, deadline: float) -> None:
        while not self.core.is_settled and time.monotonic() < deadline:
            now = time.monotonic()
            if now >= self._next_tick:
                self._next_tick = now + _TICK_SECONDS
                self.core.on_tick(now)
            if now >= self.core.due:
                self.core.on_due(now)
            self._transmit()
            self._control.poll(_RETIRE_MS)
            self._drain()
        forsaken(self.core)
        self._shut()
        _retiring.discard(self)

    def finish_at_exit(self, deadline: float) -> None:
        """The same, at the end of the program: wait for it."""
        if not self._retired:
            self._retired = True
            self._finish(deadline)
        elif self._finisher is not None:
            self._finisher.join(RETIRE_SECONDS + _TICK_SECONDS)

    def on_fork(self) -> None:
        """In a child process, which shares the sockets' descriptors, and must leave them alone."""
        self._closed_because = forks.REASON
        self.closed = True
