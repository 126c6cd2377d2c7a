"""The sockets of a blocking client, shared by threads without a thread of their own in the way.

ZeroMQ sockets belong to one thread at a time, and every hand-over from one thread to another costs as much as the
network. So whoever waits does the waiting on the sockets itself: it becomes the *leader*, polls the file descriptors
(which touches no socket state, so others may send meanwhile under the lock), takes in what arrived and wakes those it
was for. A second waiter sleeps on a condition until the leader tells it something changed or passes the lead on. One
in flight, a round trip then has no thread switch in this process at all.

Somebody must also listen while nobody waits: acknowledgements have to be taken in, gathered puts sent on, a daemon that
came back told what it missed. That is the *keeper*, a daemon thread that leads whenever no one else has for a moment,
and is woken at once when a put has been gathered that only an acknowledgement will send.

Two things are easily got wrong. A ZeroMQ descriptor announces a message once, to whoever touches the socket next, and
sending touches it: so whoever has sent while somebody polls looks for himself, and wakes the leader if he has found
anything; and whoever begins to poll looks first, if the last who sent did not. And only the leader may read the byte
that wakes it: the keeper, interrupted, may be the last to notice that it does not lead any more.

A lock of Python's goes to whoever asks first when it is free, and that is a thread that puts in a loop, again and
again, rather than the one that has to be woken to come back from its poll. So those who come back are made way for.

The idea is that of leader/followers (Schmidt et al., "Leader/Followers", PLoP 2000); a permanent I/O thread, which is
simpler, was measured to cost half as much again in round trips.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable

import zmq

from taskmaster.bus import sockets
from taskmaster.bus.errors import ConnectionClosed
from taskmaster.bus.redialling import Redial
from taskmaster.learners import forks
from taskmaster.learners.core import ClientCore

__all__ = ["RETIRE_SECONDS", "Channel", "forsaken"]

log = logging.getLogger("taskmaster")

TICK_SECONDS = 1.0
#: The keeper takes the lead when nobody else has had it for this long.
KEEPER_SECONDS = 0.05
#: Messages taken from one socket at a time, before anybody else has a turn.
_DRAIN = 256
#: What a connection that nobody has closed may take to get acknowledged what was put.
RETIRE_SECONDS = 10.0


#: Those of this program, and those that nobody has any more.
_all: weakref.WeakSet[Channel] = weakref.WeakSet()
_retiring: set[Channel] = set()


@atexit.register
def _retire_all() -> None:
    """At the end of a program that has not closed them: what was put still has to get to the daemon."""
    for channel in tuple(_all):
        channel.retire()
    for channel in tuple(_retiring):
        channel.await_end()


def forsaken(core: ClientCore) -> None:
    """Say what was put on a connection that nobody closed, and was not acknowledged in time."""
    lost = core.unsettled()
    if lost:
        log.warning(
            "%s were put and not acknowledged by the daemon at %s, and are not sent any more; close() the connection, "
            "or use 'with', to be told by an error",
            lost,
            core.address,
        )


class Channel:
    """Runs a :class:`ClientCore` over sockets for any number of threads. All state is guarded by :attr:`lock`."""

    def __init__(self, core: ClientCore) -> None:
        self.core = core
        self.lock = threading.RLock()
        self.closed = False
        #: somebody comes back from waiting, and those who come anew are to make way
        self.returning = False
        self._gate = threading.Lock()
        #: held by those who wait for the leader to tell them something, and released by it
        self._sleepers: list[threading.Lock] = []
        self._context, self._control, self._results = sockets.client_sockets(core.address, core.credentials)
        #: of both sockets, where keys are shown that may be refused; the results' address is known later
        self._redials = Redial.of(core.credentials, (self._control, core.address), (self._results, ""))
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)  # it is written to with the lock held, by whoever has it
        self._wake = self._wake_reader.fileno()
        # The keeper may still be in its poll when a user's thread has taken the lead from it; two users never are.
        self._polls = (self._new_poll(), self._new_poll())
        self._leader: int | None = None
        #: nothing is in the sockets that their descriptors will not announce
        self._looked = True
        self._closed_because = "was closed"
        self._orphaned = False
        self._led_at = 0.0
        self._process = os.getpid()
        #: nobody has this connection any more, and it is to end by then
        self._retire_by: float | None = None
        self._next_tick = 0.0
        self._keeper_needed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="taskmaster-keeper", daemon=True)
        self._keeper.start()
        self._subscribed_at = ""
        forks.tell(self)
        _all.add(self)

    # -- used by the client, with the lock held ----------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the core has to say, and take in what has arrived.

        The second belongs to the first: a socket's file descriptor only announces what came since the socket was last
        used, so whoever has used it must look for himself.
        """
        self.require_open()
        if threading.get_ident() != self._keeper.ident:
            self._led_at = time.monotonic()
        self._take_in()
        if self.core.outbox or self.core.subscriptions:
            self.send()

    def send_on(self) -> None:
        """Send what taking a result has led to, if anything, and if it still can be."""
        if self.core.outbox and not self.closed:
            self.send()

    def send(self) -> None:
        """Send what the core has to say."""
        self.require_open()
        core = self.core
        while True:
            if self._transmit():
                if self._leader is None:
                    break
                self._take_in()  # which may bring an acknowledgement, and that something more to send
                if not core.outbox and not core.subscriptions:
                    return
                continue
            # Nobody takes it: the socket's descriptor tells when that changes, from the last look at the socket on.
            self._take_in()
            events = self._control.getsockopt(zmq.EVENTS)
            if not events:
                return
            if not int(events) & zmq.POLLOUT:
                break
        self._looked = False

    def _transmit(self) -> bool:
        """Send; False if not all of it can be sent now."""
        outbox, subscriptions = self.core.outbox, self.core.subscriptions
        if self._subscribed_at != self.core.results_address:
            self._subscribe_at(self.core.results_address)
        while subscriptions:
            on, topic = subscriptions.popleft()
            self._results.setsockopt(zmq.SUBSCRIBE if on else zmq.UNSUBSCRIBE, topic)
        while outbox:
            if not sockets.send(self._control, outbox[0]):
                return False
            outbox.popleft()
        return True

    def require_open(self) -> None:
        """Raise ConnectionClosed if it was closed."""
        if self.closed:
            raise ConnectionClosed(f"the connection to {self.core.address} {self._closed_because}; connect again")

    def wake_keeper(self) -> None:
        """Something waits for an acknowledgement, and perhaps nobody listens."""
        if self._leader in (None, self._keeper.ident) and not self._keeper_needed.is_set():
            self._keeper_needed.set()

    def notify(self) -> None:
        """Have everybody who waits look again. To be called with the lock held."""
        self._rouse()
        self.wake()

    def make_way(self) -> None:
        """Let those who come back from waiting have the lock. To be called, without it, where ``returning``."""
        with self._gate:
            return

    def wait(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``until()``, which is called with the lock held; False if ``timeout`` seconds have passed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            self.flush()
            while not until():
                self.require_open()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._wait_once(left)
                if self.core.outbox or self.core.subscriptions:
                    self.flush()
            return True

    def _wait_once(self, left: float | None) -> None:
        me = threading.get_ident()
        if self._leader not in (None, self._keeper.ident):
            self._sleep(left)
            return
        if self._leader is not None:
            self.wake()  # the keeper polls: take over from it
        self._leader = me
        try:
            self._lead(left)
        finally:
            if self._leader == me:
                self._leader = None
                self._led_at = time.monotonic()
            self._rouse()

    def _sleep(self, left: float | None) -> None:
        """Until the leader has something to tell, or passes the lead on. Gives the lock up meanwhile."""
        sleeper = threading.Lock()
        sleeper.acquire()
        self._sleepers.append(sleeper)
        self.lock.release()
        try:
            sleeper.acquire(timeout=-1 if left is None else left)
        finally:
            self._come_back()
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    def _rouse(self) -> None:
        """Have those who sleep look again."""
        for sleeper in self._sleepers:
            sleeper.release()
        self._sleepers.clear()

    def _come_back(self) -> None:
        """Take the lock again after waiting. That has to succeed: what a signal raises meanwhile is raised after it."""
        interruption: BaseException | None = None
        while not self.lock._is_owned():  # type: ignore[attr-defined]
            try:
                with self._gate:
                    self.returning = True
                    self.lock.acquire()
                    self.returning = False
            except BaseException as error:  # noqa: BLE001 - raised below
                interruption = error
        if interruption is not None:
            raise interruption

    def _lead(self, left: float | None) -> None:
        """Poll once and take in what has arrived. Called with the lock held, which is given up while polling."""
        if not self._looked:
            self._take_in()
            return
        now = time.monotonic()
        pause = max(0.0, min(self._next_tick, self.core.due) - now)
        if left is not None:
            pause = min(pause, left)
        poll = self._polls[self._leader == self._keeper.ident]
        self.lock.release()
        try:
            ready = poll.poll(round(pause * 1e3 + 0.5))
        finally:
            self._come_back()
        if self.closed or self._leader != threading.get_ident():
            return  # or somebody has taken over, and polls for what is here: taken in, it would not wake him
        if any(descriptor == self._wake for descriptor, _ in ready):
            with contextlib.suppress(BlockingIOError):
                self._wake_reader.recv(4096)
        self._drain()
        now = time.monotonic()
        if now >= self.core.due:
            self.core.on_due(now)
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            for redial in self._redials:
                redial.look(now)
            self.core.on_tick(now)
        self._rouse()

    def _take_in(self) -> None:
        """Take in what has arrived, and wake whoever may be waiting for it."""
        if not self._drain():
            return
        self._rouse()
        if self._leader not in (None, self._keeper.ident, threading.get_ident()):
            self.wake()  # what it polls for may have been among this

    def _drain(self) -> bool:
        """Take in some of what has arrived; whether there was anything."""
        now = time.monotonic()
        taken = left = 0
        for source, take in ((self._control, self.core.on_control), (self._results, self.core.on_publication)):
            for _ in range(_DRAIN):
                frames = sockets.receive(source)
                if frames is None:
                    break
                taken += 1
                take(frames, now)
            else:
                left += 1
        self._looked = not left
        return taken > 0

    def _new_poll(self) -> select.poll | zmq.Poller:
        # Both take descriptors; the first is faster, the second everywhere.
        poll = select.poll() if hasattr(select, "poll") else zmq.Poller()
        for descriptor in (self._control.fileno(), self._results.fileno(), self._wake):
            poll.register(descriptor, select.POLLIN)
        return poll

    def wake(self) -> None:
        """Have the leader look what has changed. Needs no lock, so that signal handlers may call it."""
        with contextlib.suppress(OSError):  # full: it is being woken; closed: nobody waits
            self._wake_writer.send(b"\0")

    # -- the keeper ---------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self.closed:
            self._keeper_needed.wait(KEEPER_SECONDS)
            with self.lock:
                self._keep_for_a_while()
                if self._is_through:
                    forsaken(self.core)
                    self.close()
        if self._orphaned:
            self._shut()
        _retiring.discard(self)

    @property
    def _is_through(self) -> bool:
        """Whether nobody has this connection any more, and nothing keeps it."""
        by = self._retire_by
        return by is not None and not self.closed and (self.core.is_settled or time.monotonic() > by)

    def _keep_for_a_while(self) -> None:
        needed = self._keeper_needed.is_set()
        self._keeper_needed.clear()
        began = time.monotonic()
        recently = began - self._led_at < KEEPER_SECONDS and began < min(self._next_tick, self.core.due)
        if self.closed or self._leader is not None or (recently and not needed):
            return
        me = self._leader = threading.get_ident()
        while self._leader == me and not self.closed:
            self.flush()
            if self._is_through:
                break
            self._lead(None)
            if self._keeper_needed.is_set():
                self._keeper_needed.clear()
                began = time.monotonic()
            elif self._led_at > began:
                break  # somebody takes in what comes by himself, and would wait for this thread now and then
        if self._leader == me:
            self._leader = None

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
        """Stop listening; what was not sent is not sent any more."""
        with self.lock:
            if self.closed:
                return
            # The garbage collector may have called in the middle of the keeper's work, which then ends first.
            self._orphaned = threading.get_ident() == self._keeper.ident
            if not self._orphaned:
                self.flush()
            self.closed = True
            self._keeper_needed.set()
            self.wake()
            self._rouse()
        if not self._orphaned:
            self._keeper.join(timeout=5)
            self._shut()

    def retire(self) -> None:
        """Nobody has closed it, and nobody can any more: have the keeper close it when what was put is acknowledged.

        Called from wherever the garbage collector happens to run, or at the end of the program, which waits for that.
        """
        with self.lock:
            if self.closed or os.getpid() != self._process:
                return
            self._retire_by = time.monotonic() + RETIRE_SECONDS
            _retiring.add(self)
            self._keeper_needed.set()
            self.wake()

    def await_end(self) -> None:
        """Wait, for a bounded time, until one that was retired has ended."""
        if threading.current_thread() is not self._keeper:
            self._keeper.join(RETIRE_SECONDS + TICK_SECONDS)

    def _shut(self) -> None:
        for redial in self._redials:
            redial.close()
        self._control.close(linger=200)
        self._results.close(linger=0)
        self._context.term()
        self._wake_reader.close()
        self._wake_writer.close()

    def on_fork(self) -> None:
        """In a child process, which has the sockets' numbers but none of their threads, nor the one with the lock."""
        self.lock, self._gate = threading.RLock(), threading.Lock()
        self.returning = False
        self._closed_because = forks.REASON
        self.closed = True
