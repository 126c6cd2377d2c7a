"""Workers that dial in: ``taskmaster worker`` hosts processes for a Master of a daemon elsewhere.

The host itself evaluates nothing. It starts the worker processes, which talk to the daemon on their own; it vouches for
them on a connection of its own while they are busy; it ends one that takes longer than the Master's time-out; it says
how far one had come when it died, and replaces it. Where that connection breaks, so have theirs, which end at the same
socket: then it says that the daemon is away.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket as sockets_
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.errors import DaemonUnreachable, ProtocolError, UnknownMaster, WorkerError, from_code
from taskmaster.bus.places import as_reached
from taskmaster.bus.text import did_you_mean_or
from taskmaster.drivers.host import CANCELLED, HostedWorker, Interrupts, spawn
from taskmaster.drivers.restarts import RestartPolicy
from taskmaster.drivers.worker import EXIT_REFUSED

__all__ = ["DialIn", "Place", "find"]

log = logging.getLogger("taskmaster.host")

#: Seconds between two signs of life as long as no worker has told how often the daemon wants them.
HEARTBEAT_SECONDS = 1.0
#: How often it is looked at how long a task has been evaluated; one may outlive its time-out by this much.
WATCH_SECONDS = 0.1
#: What a worker said before it died is on the way for a moment: its host's word, on another connection, must not
#: overtake it.
MOURNING_SECONDS = 0.2
#: A worker that went in good order is not replaced sooner than this after its start: whoever sends workers away at once
#: is not to be offered new ones all the time.
SETTLE_SECONDS = 1.0
#: A worker that has lived so long is taken to have ended tasks before it died in one: its host does not hear of them.
LIVED_SECONDS = 10.0
#: What the daemon may take to say who it is.
ANSWER_SECONDS = 10.0
#: What may be left to say to the daemon at the end.
_LINGER_MS = 1000


@dataclass(frozen=True)
class Place:
    """Where a Master's workers are wanted."""

    #: of the daemon, for people
    daemon: str
    #: of the workers socket
    address: str
    master: str


def find(address: str, master: str, timeout: float = ANSWER_SECONDS) -> Place:
    """Ask the daemon at a control address where the workers of a Master are to go.

    Raises DaemonUnreachable, VersionMismatch, UnknownMaster.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = sockets.dealer(context)
    try:
        socket.connect(address)
        described = _describe(socket, address, timeout)
    finally:
        socket.close(linger=0)
        context.term()
    names = [info.name for info in described.masters]
    if master not in names:
        raise UnknownMaster(
            f"the daemon at {address} has no Master {master!r}{did_you_mean_or(master, names, 'it has')}"
        )
    return Place(described.name, as_reached(described.workers, address), master)


def _describe(socket: zmq.Socket[bytes], address: str, timeout: float) -> m.Described:
    sockets.send(socket, [codec.encode(m.Describe(1, m.PROTOCOL_VERSION))])
    if not socket.poll(int(timeout * 1e3)):
        raise DaemonUnreachable(f"no daemon answers at {address}; is it running, and is the address right?")
    frames = sockets.receive(socket)
    reply = codec.daemon_decoder().decode(frames[0] if frames else b"")
    if isinstance(reply, m.Refused):
        raise from_code(reply.code, reply.message)
    if not isinstance(reply, m.Described):
        raise ProtocolError(f"whoever listens at {address} does not answer as a TaskMaster daemon does")
    return reply


@dataclass
class DialIn:
    """``count`` worker processes for a Master elsewhere; ``path`` has folders from which they import first.

    :meth:`run` keeps them until SIGINT or SIGTERM: the first lets them finish what they have in hand, the second ends
    them at once.
    """

    place: Place
    count: int
    path: Sequence[Path] = ()
    policy: RestartPolicy = field(default_factory=RestartPolicy)

    def __post_init__(self) -> None:
        self._workers: dict[str, HostedWorker] = {}
        #: those that have ended, and when that is to be told
        self._dead: list[tuple[float, HostedWorker]] = []
        self._next_start = 0.0
        self._next_heartbeat = 0.0
        self._next_watch = 0.0
        self._heartbeat = HEARTBEAT_SECONDS
        self._interrupts = Interrupts()
        self._decoder = codec.to_host_decoder()
        self._requests = 0
        self._heeded = 0
        self._long_lived = 0
        self._despair: WorkerError | None = None

    def run(self) -> bool:
        """Work until told to leave; returns whether what was in hand could be finished.

        Raises WorkerError where no worker can be had.
        """
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = sockets.dealer(context)
        self._line = _Line(self._socket)
        self._socket.connect(self.place.address)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._line.news, zmq.POLLIN)
        with tempfile.TemporaryDirectory(prefix="taskmaster-worker-") as folder, self._signals():
            self._folder = Path(folder)
            try:
                while not self._is_over:
                    self._turn(time.monotonic())
            finally:
                self._kill("the host of its worker was ended")
                self._line.close()
                self._socket.close(linger=_LINGER_MS)
                context.term()
        if self._despair is not None:
            raise self._despair
        return self._requests < 2

    @property
    def leaving(self) -> bool:
        """Whether no further workers are started."""
        return self._requests > 0 or self._despair is not None

    @property
    def _is_over(self) -> bool:
        return self.leaving and not self._workers and not self._dead

    def _turn(self, now: float) -> None:
        self._heed_requests()
        self._find_dead(now)
        self._bury(now)
        if not self.leaving:
            self._fill(now)
        if now >= self._next_watch:
            self._watch(now)
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + self._heartbeat
            self._send(m.Heartbeat(tuple(self._workers)))
        due = [self._next_heartbeat, self._next_watch, self._interrupts.due, *(when for when, _ in self._dead)]
        if self._missing > 0 and not self.leaving:
            due.append(self._next_start)
        if not self._is_over:
            for source, _ in self._poller.poll(max(0, round((min(due) - now) * 1e3 + 0.5))):
                if source == self._signalled.fileno():  # not read by the handler: poll would go on waiting
                    self._signalled.recv(64)
        self._hear()
        self._look_for_the_daemon()
        self._interrupts.enforce(time.monotonic(), self._workers.get)

    def _hear(self) -> None:
        while (frames := sockets.receive(self._socket)) is not None:
            with contextlib.suppress(ProtocolError):  # of a daemon that knows more than this host does
                message = self._decoder.decode(frames[0] if frames else b"")
                if isinstance(message, m.Interrupt):
                    self._interrupts.add(message, time.monotonic())

    def _look_for_the_daemon(self) -> None:
        """Say once that it is gone, and once that it is there again."""
        if not self._line.has_changed():
            return
        if self._line.is_up:
            log.warning("Master %r: connected to the daemon at %s", self.place.master, self.place.address)
        else:
            log.warning(
                "Master %r: no connection to the daemon at %s; waiting for it to come back (what is being evaluated "
                "goes on, and its outcome is kept till then)",
                self.place.master,
                self.place.address,
            )

    def _send(self, message: m.WorkerMessage) -> None:
        sockets.send(self._socket, [codec.encode(message)])

    def _watch(self, now: float) -> None:
        """End the workers that hang; hear what the daemon asks of them all."""
        self._heartbeat = HEARTBEAT_SECONDS
        self._next_watch = now + HEARTBEAT_SECONDS
        for worker in self._workers.values():
            terms = worker.progress.terms()
            if terms is None or terms.timeout is not None:
                self._next_watch = now + WATCH_SECONDS
            if terms is None:
                continue
            self._heartbeat = min(self._heartbeat, terms.heartbeat)
            if terms.timeout is not None and worker.hangs(now, terms.timeout):
                worker.kill(
                    "TaskTimeout", f"no outcome after {terms.timeout:g} s, worker process {worker.pid} was killed"
                )

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def _missing(self) -> int:
        """How many to start. Who is not buried yet keeps the place: only then is it known when to replace it."""
        return self.count - len(self._workers) - len(self._dead)

    def _fill(self, now: float) -> None:
        while self._missing > 0 and now >= self._next_start and not self.leaving:
            try:
                worker = spawn(self.place.address, self.place.master, self._folder, now, path=self.path)
            except OSError as error:
                log.warning("Master %r: no worker process can be started: %s", self.place.master, error)
                self._pause(now, worked=False)
                return
            self._workers[worker.token] = worker
            self._next_watch = now
            self._poller.register(worker.pidfd, zmq.POLLIN)

    # -- death --------------------------------------------------------------------------------------------------------

    def _find_dead(self, now: float) -> None:
        for worker in [worker for worker in self._workers.values() if worker.exit_status is not None]:
            del self._workers[worker.token]
            self._poller.unregister(worker.pidfd)
            self._dead.append((now + MOURNING_SECONDS, worker))

    def _bury(self, now: float) -> None:
        due = [worker for when, worker in self._dead if when <= now]
        self._dead = [(when, worker) for when, worker in self._dead if when > now]
        for worker in due:
            worked = worker.worked
            self._report(worker)
            self._replace(worker, now, worked=worked)

    def _report(self, worker: HostedWorker) -> None:
        """Tell the daemon that a worker is gone, and how far it had come."""
        kind, reason = worker.epitaph()
        positions = worker.progress.positions()
        if kind == CANCELLED:  # no fault of the others that it was given
            positions = []
        started = {at.lease: at.started for at in positions or ()}
        self._send(
            m.WorkerLost(
                worker.token,
                kind,
                f"{reason} (on {sockets_.gethostname()})",
                known=positions is not None,
                latest=max(started, default=None),
                positions=tuple(started.items()),
            )
        )
        worker.bury()
        worker.forget()
        if not (worker.left_as_agreed or self.leaving):
            log.warning("Master %r: %s", self.place.master, reason)

    def _replace(self, worker: HostedWorker, now: float, *, worked: bool) -> None:
        self._long_lived += now - worker.started > LIVED_SECONDS
        if worker.left_as_agreed:
            self._next_start = max(self._next_start, worker.started + SETTLE_SECONDS)
            return
        if worker.exit_status == EXIT_REFUSED:
            self._give_up("the daemon does not take its workers")
            return
        self._pause(now, worked=worked)

    def _pause(self, now: float, *, worked: bool) -> None:
        pause = self.policy.after_death(now, worked=worked, ended=self._long_lived)
        if pause is None:
            self._give_up(f"its workers cannot start here; gave up after {self.policy.limit} attempts")
        else:
            self._next_start = max(self._next_start, now + pause)

    def _give_up(self, why: str) -> None:
        if not self.leaving:
            self._despair = WorkerError(f"Master {self.place.master!r}: {why}; what they said is above")
            self._terminate()

    # -- leaving ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Count SIGINT and SIGTERM, and have each wake the loop."""
        self._signalled, writer = sockets_.socketpair()
        writer.setblocking(False)

        def on_signal(number: int, frame: object) -> None:
            self._requests += 1

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

    def _heed_requests(self) -> None:
        if self._requests == self._heeded:
            return
        self._heeded = self._requests
        if self._requests == 1:
            log.info("leaving: what is being evaluated is finished first (once more: at once)")
            self._terminate()
        else:
            self._kill("its host was told to leave at once")

    def _terminate(self) -> None:
        for worker in self._workers.values():
            # The worker would say so only when its evaluation has ended, and be taken for capacity until then.
            self._send(m.Leave(worker.token))
            worker.terminate()

    def _kill(self, why: str) -> None:
        for worker in self._workers.values():
            worker.kill("WorkerLost", f"worker process {worker.pid} was killed: {why}")


class _Line:
    """Whether a socket is connected to anybody, as ZeroMQ tells of it. It is taken to be till it is known not to be."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.is_up = True
        self._socket = socket
        # A try that failed as well: of a daemon that went before it was ever reached nothing else tells. And not that
        # somebody has accepted the connection: a tunnel does that for a daemon that there is not.
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
        #: becomes readable when there may be a change
        self.news = socket.get_monitor_socket(events)

    def has_changed(self) -> bool:
        """Take in what was told; whether :attr:`is_up` is another than before."""
        before = self.is_up
        while (frames := sockets.receive(self.news)) is not None:
            self.is_up = parse_monitor_message(frames)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return self.is_up != before

    def close(self) -> None:
        """Listen no longer."""
        self._socket.disable_monitor()
        self.news.close(linger=0)
