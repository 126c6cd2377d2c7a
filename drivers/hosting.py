"""What every host of worker processes does that is not the daemon itself: the loop, the dead, the line to the daemon.

A host evaluates nothing. It starts worker processes, which talk to the daemon on their own; it vouches for them on a
connection of its own while they are busy; it ends one that takes longer than the Master's time-out; it says how far one
had come when it died. Where that connection breaks, so have theirs, which end at the same socket: then it says that the
daemon is away.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket as sockets_
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import zmq

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.keys import Credentials
from taskmaster.bus.redialling import Redial
from taskmaster.bus.text import shortened
from taskmaster.bus.wire import MOST_TOKENS
from taskmaster.drivers.host import CANCELLED, INTERRUPT_SECONDS, HostedProcess, Interrupts, Seat

__all__ = ["HEARTBEAT_SECONDS", "WATCH_SECONDS", "Host", "Place", "in_lots"]

log = logging.getLogger("taskmaster.host")

#: Seconds between two signs of life as long as no worker has told how often the daemon wants them.
HEARTBEAT_SECONDS = 1.0
#: How often it is looked at how long a task has been evaluated; one may outlive its time-out by this much.
WATCH_SECONDS = 0.1
#: What a worker said before it died is on the way for a moment: its host's word, on another connection, must not
#: overtake it.
MOURNING_SECONDS = 0.2
#: What may be left to say to the daemon at the end.
_LINGER_MS = 1000

P = TypeVar("P", bound=HostedProcess)


@dataclass(frozen=True)
class Place:
    """Where a Master's workers are wanted."""

    #: of the daemon, for people
    daemon: str
    #: of the workers socket
    address: str
    master: str
    #: whether it is an instrument, whose heads' workers these are
    has_heads: bool = False
    #: what to show it; None where it asks for nothing
    credentials: Credentials | None = None
    #: whether each of its workers has a device to itself
    has_devices: bool = False


class Host(ABC, Generic[P]):
    """Keeps worker processes for one Master of a daemon that it is no part of."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.processes: list[P] = []
        #: those that have ended, and when that is to be told
        self._dead: list[tuple[float, P]] = []
        self._next_heartbeat = 0.0
        self._next_watch = 0.0
        self._heartbeat = HEARTBEAT_SECONDS
        self._interrupts = Interrupts(self.grace)
        self._decoder = codec.to_host_decoder()
        self._poller = zmq.Poller()
        #: called at the end of each turn: the proof that the loop moves
        self.beat: Callable[[Host[P]], None] = lambda host: None
        #: signals to leave, and those that were heeded
        self.requests = 0
        self._heeded = 0

    #: seconds in which a worker may end a task that was cancelled
    grace = INTERRUPT_SECONDS

    # -- what a kind of host decides ----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""

    @abstractmethod
    def act(self, now: float) -> None:
        """Once a turn: start what is to be started, and the like."""

    @abstractmethod
    def due(self, now: float) -> Iterable[float]:
        """When :meth:`act` wants to be called though nothing may have happened."""

    @abstractmethod
    def on_buried(self, process: P, now: float, *, worked: bool) -> None:
        """A process has ended, and the daemon been told; ``worked``: it had begun a task."""

    @abstractmethod
    def on_request(self, requests: int) -> None:
        """Somebody has signalled, for the so-manieth time, that this host is to leave."""

    def on_message(self, message: m.ToHost) -> None:
        """What the daemon says to a host, but for what concerns cancelled tasks."""

    def on_end(self) -> None:
        """This host ends, in order or not."""
        self.kill("the host of its worker was ended")

    def on_line(self, *, is_up: bool) -> None:
        """The daemon is there again, or gone, as far as the connection tells."""

    def _on_refused(self) -> None:
        own = "" if self.place.credentials is None else f", {self.place.credentials.own.text}"
        log.warning(
            "Master %r: the daemon at %s does not let in the key of its workers%s: it is not allowed there any more, "
            "or has expired; it is shown again from time to time",
            self.place.master,
            self.place.address,
            own,
        )

    # -- the loop -----------------------------------------------------------------------------------------------------

    def serve(self, folder: Path) -> None:
        """Turn until it is over; then end what is left. The workers note their progress in ``folder``."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.folder = folder
        self._socket = sockets.dealer(context, self.place.credentials)
        self._line = _Line(self._socket, self.place.address)
        self._socket.connect(self.place.address)
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._line.news, zmq.POLLIN)
        with self._signals():
            try:
                while not self.is_over:
                    self._turn(time.monotonic())
            finally:
                self.on_end()
                self._line.close()
                self._socket.close(linger=_LINGER_MS)
                context.term()

    def _turn(self, now: float) -> None:
        if self.requests != self._heeded:
            self._heeded = self.requests
            self.on_request(self.requests)
        self._find_dead(now)
        self._bury(now)
        self.act(now)
        if now >= self._next_watch:
            self._watch(now)
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + self._heartbeat
            for tokens in in_lots([seat.token for process in self.processes for seat in process.seats]):
                self.send(m.Heartbeat(tokens))
        due = [self._next_heartbeat, self._next_watch, self._interrupts.due, *(when for when, _ in self._dead)]
        due += self.due(now)
        if not self.is_over:
            for source, _ in self._poller.poll(max(0, round((min(due) - now) * 1e3 + 0.5))):
                if source == self._signalled.fileno():  # not read by the handler: poll would go on waiting
                    self._signalled.recv(64)
        self._hear()
        if self._line.has_changed():
            self.on_line(is_up=self._line.is_up)
        if self._line.has_been_refused():
            self._on_refused()
        self._interrupts.enforce(time.monotonic(), self._seat)
        self.beat(self)

    @property
    def is_connected(self) -> bool:
        """Whether the daemon is there, as far as the connection tells."""
        return self._line.is_up

    @property
    def has_begun(self) -> bool:
        """Whether the daemon has taken any of its workers."""
        return any(seat.progress.terms() is not None for process in self.processes for seat in process.seats)

    def _hear(self) -> None:
        while (frames := sockets.receive(self._socket)) is not None:
            with contextlib.suppress(ProtocolError):  # of a daemon that knows more than this host does
                message = self._decoder.decode(frames[0] if frames else b"")
                if isinstance(message, m.Interrupt):
                    self._interrupts.add(message, time.monotonic())
                else:
                    self.on_message(message)

    def send(self, message: m.WorkerMessage) -> None:
        """Say something to the daemon."""
        sockets.send(self._socket, [codec.encode(message)])

    def _seat(self, token: str) -> tuple[HostedProcess, Seat] | None:
        pairs = ((process, seat) for process in self.processes for seat in process.seats)
        return next((pair for pair in pairs if pair[1].token == token), None)

    def _watch(self, now: float) -> None:
        """End the workers that hang; hear what the daemon asks of them all."""
        self._heartbeat = HEARTBEAT_SECONDS
        self._next_watch = now + HEARTBEAT_SECONDS
        for process in self.processes:
            for seat in process.seats:
                terms = seat.progress.terms()
                if terms is None or terms.timeout is not None:
                    self._next_watch = now + WATCH_SECONDS
                if terms is None:
                    continue
                self._heartbeat = min(self._heartbeat, terms.heartbeat)
                if terms.timeout is not None and seat.hangs(now, terms.timeout + self.leniency):
                    process.kill(
                        "TaskTimeout", f"no outcome after {terms.timeout:g} s, worker process {process.pid} was killed"
                    )

    @property
    def leniency(self) -> float:
        """Seconds beyond a task's time-out after which its process is killed."""
        return 0.0

    # -- life and death -----------------------------------------------------------------------------------------------

    def keep(self, process: P, now: float) -> None:
        """Watch a process that was just started."""
        self.processes.append(process)
        self._next_watch = now
        self._poller.register(process.pidfd, zmq.POLLIN)

    @property
    def mourned(self) -> Sequence[P]:
        """Those that have ended and are not buried yet: only then is it known when to replace them."""
        return [process for _, process in self._dead]

    def _find_dead(self, now: float) -> None:
        for process in [process for process in self.processes if process.exit_status is not None]:
            self.processes.remove(process)
            self._poller.unregister(process.pidfd)
            self._dead.append((now + MOURNING_SECONDS, process))

    def _bury(self, now: float) -> None:
        due = [process for when, process in self._dead if when <= now]
        self._dead = [(when, process) for when, process in self._dead if when > now]
        for process in due:
            worked = process.worked
            self._report(process)
            self.on_buried(process, now, worked=worked)

    def _report(self, process: P) -> None:
        """Tell the daemon that a process is gone, and how far each of its workers had come."""
        kind, reason = process.epitaph()
        for seat in process.seats:
            self.report_lost(seat, kind, reason)
        process.bury()
        process.forget()
        if not (process.left_as_agreed or self.is_leaving):
            log.warning("Master %r: %s", self.place.master, reason)

    @property
    @abstractmethod
    def is_leaving(self) -> bool:
        """Whether no further processes are started."""

    def report_lost(self, seat: Seat, kind: str, reason: str) -> None:
        """Tell the daemon that a worker is gone, and how far it had come."""
        self.send(self.lost(seat, kind, reason))

    def lost(self, seat: Seat, kind: str, reason: str) -> m.WorkerLost:
        """What is known of a worker that is gone."""
        positions = seat.progress.positions()
        if kind == CANCELLED:  # no fault of the others that it was given
            positions = []
        started = {at.lease: at.started for at in positions or ()}
        return m.WorkerLost(
            seat.token,
            kind,
            shortened(f"{reason} (on {sockets_.gethostname()})"),
            known=positions is not None,
            latest=max(started, default=None),
            positions=tuple(started.items()),
        )

    # -- leaving ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Count SIGINT and SIGTERM, and have each wake the loop."""
        self._signalled, writer = sockets_.socketpair()
        writer.setblocking(False)

        def on_signal(number: int, frame: object) -> None:
            self.requests += 1

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._poller.register(self._signalled.fileno(), zmq.POLLIN)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._signalled.close()
            writer.close()

    def terminate(self, process: P) -> None:
        """Have a process finish what it has in hand, and go."""
        for seat in process.seats:
            # The worker would say so only when its evaluation has ended, and be taken for capacity until then.
            self.send(m.Leave(seat.token))
        process.terminate()

    def kill(self, why: str) -> None:
        """End every process at once."""
        for process in self.processes:
            process.kill("WorkerLost", f"worker process {process.pid} was killed: {why}")


def in_lots(tokens: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The workers of a host, as many at a time as one message names; once nobody, where there is none."""
    for first in range(0, max(1, len(tokens)), MOST_TOKENS):
        yield tuple(tokens[first : first + MOST_TOKENS])


class _Line:
    """Whether a socket is connected to anybody, as ZeroMQ tells of it. It is taken to be till it is known not to be."""

    def __init__(self, socket: zmq.Socket[bytes], address: str) -> None:
        self.is_up = True
        self._is_refused = False
        # A try that failed as well: of a daemon that went before it was ever reached nothing else tells. And not that
        # somebody has accepted the connection: a tunnel does that for a daemon that there is not.
        self._redial = Redial(socket, address, zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)
        #: becomes readable when there may be a change
        self.news = self._redial.news

    def has_changed(self) -> bool:
        """Take in what was told; whether :attr:`is_up` is another than before."""
        before = self.is_up
        for event in self._redial.look(time.monotonic()):
            self.is_up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return self.is_up != before

    def has_been_refused(self) -> bool:
        """Whether the key is refused, and was not when this was asked last."""
        before, self._is_refused = self._is_refused, self._redial.is_refused
        return self._is_refused and not before

    def close(self) -> None:
        """Listen no longer."""
        self._redial.close()
