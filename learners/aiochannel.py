"""The sockets of an asyncio client, served by its event loop: no thread, and no task, besides.

The loop watches the sockets' file descriptors. A ZeroMQ descriptor announces a message once, to whoever touches the
socket next, and sending touches it: so after everything sent the sockets are looked at again in the loop's next turn,
and whatever looks takes what there is, or asks for another turn.

Nothing is consumed on behalf of a waiter. Those who wait are only woken, and then take for themselves, in one step with
returning it: so a waiter that is cancelled, at whatever moment, has taken nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import zmq

from taskmaster.bus import sockets
from taskmaster.bus.errors import CallerError, ConnectionClosed
from taskmaster.learners import forks
from taskmaster.learners.core import ClientCore

__all__ = ["AsyncChannel"]

_TICK_SECONDS = 1.0
#: Messages taken from one socket before other callbacks of the loop have a turn.
_DRAIN = 256


class AsyncChannel:
    """Runs a :class:`ClientCore` over sockets, in the event loop that is running when it is made."""

    def __init__(self, core: ClientCore) -> None:
        self.core = core
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self._closed_because = "was closed"
        self._context = zmq.Context()
        self._control = sockets.dealer(self._context)
        self._results = sockets.subscriber(self._context)
        self._control.connect(core.address)
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._will_look = False
        for socket in (self._control, self._results):
            self.loop.add_reader(socket.fileno(), self._look)
        self._ticking = self.loop.call_later(_TICK_SECONDS, self._tick)
        core.on_outbox = self._look_soon
        forks.tell(self)

    def subscribe_at(self, address: str) -> None:
        """Where the results socket is, known once the daemon has described itself."""
        self._results.connect(address)
        self._look_soon()

    def require_open(self) -> None:
        """Raise ConnectionClosed if it was closed, CallerError where another event loop runs, or none."""
        if self.closed:
            raise ConnectionClosed(f"the connection to {self.core.address} {self._closed_because}; connect again")
        if asyncio._get_running_loop() is not self.loop:
            raise CallerError(
                f"the connection to {self.core.address} belongs to another event loop (or thread); use it there, or "
                "connect in this one, too"
            )

    def send(self) -> None:
        """Send what the core has to say."""
        self._transmit()
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
        self._ticking = self.loop.call_later(_TICK_SECONDS, self._tick)
        self.core.on_tick(self.loop.time())
        self._look()
        self.notify()

    def _look_soon(self) -> None:
        if not self._will_look:
            self._will_look = True
            self.loop.call_soon(self._look)

    def _look(self) -> None:
        """Take in what has arrived, send what follows from it, and wake those it was for."""
        self._will_look = False
        if self.closed:
            return
        taken = self._drain()
        if self.core.outbox or self.core.subscriptions:
            self.send()
        if taken:
            self.notify()

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

    def _transmit(self) -> None:
        outbox, subscriptions = self.core.outbox, self.core.subscriptions
        while subscriptions:
            on, topic = subscriptions.popleft()
            self._results.setsockopt(zmq.SUBSCRIBE if on else zmq.UNSUBSCRIBE, topic)
        while outbox and sockets.send(self._control, outbox[0]):
            outbox.popleft()

    # -- its end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop listening; what was not sent is not sent any more. Those who wait get ConnectionClosed."""
        if self.closed:
            return
        self.closed = True
        self._ticking.cancel()
        for changed in self._waiting:
            if not changed.done():
                changed.set_result(None)
        if not self.loop.is_closed():
            for socket in (self._control, self._results):
                self.loop.remove_reader(socket.fileno())
        self._control.close(linger=0)
        self._results.close(linger=0)
        self._context.term()

    def abandon(self) -> None:
        """Close it from wherever the garbage collector happens to run."""
        if not self.loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed just now
                self.loop.call_soon_threadsafe(self.close)
                return
        self.close()

    def on_fork(self) -> None:
        """In a child process, which shares the sockets' descriptors, and must leave them alone."""
        self._closed_because = forks.REASON
        self.closed = True
