"""Workers that dial in: ``taskmaster worker`` hosts processes for a Master of a daemon elsewhere, see `hosting`."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import zmq

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.errors import DaemonUnreachable, ProtocolError, UnknownMaster, WorkerError, from_code
from taskmaster.bus.handshakes import refusal
from taskmaster.bus.keys import Credentials, credentials_for
from taskmaster.bus.places import as_reached
from taskmaster.bus.text import did_you_mean_or
from taskmaster.drivers.gpu.visible import environment_of
from taskmaster.drivers.host import HostedWorker, spawn
from taskmaster.drivers.hosting import Host, Place
from taskmaster.drivers.restarts import RestartPolicy
from taskmaster.drivers.worker import EXIT_REFUSED

__all__ = ["DialIn", "Place", "find"]

log = logging.getLogger("taskmaster.host")

#: A worker that went in good order is not replaced sooner than this after its start: whoever sends workers away at once
#: is not to be offered new ones all the time.
SETTLE_SECONDS = 1.0
#: A worker that has lived so long is taken to have ended tasks before it died in one: its host does not hear of them.
LIVED_SECONDS = 10.0
#: What the daemon may take to say who it is.
ANSWER_SECONDS = 10.0


def find(address: str, master: str, timeout: float = ANSWER_SECONDS, key: Path | None = None) -> Place:
    """Ask the daemon at a control address where the workers of a Master are to go.

    ``key`` is the file of the worker's own pair of keys, see :func:`~taskmaster.bus.keys.credentials_for`. Raises
    DaemonUnreachable, VersionMismatch, UnknownMaster, KeyFileError.
    """
    credentials = credentials_for(address, key)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = sockets.dealer(context, credentials)
    try:
        socket.connect(address)
        described = _describe(socket, address, timeout, credentials)
    finally:
        socket.close(linger=0)
        context.term()
    masters = {info.name: info for info in described.masters}
    if master not in masters:
        raise UnknownMaster(
            f"the daemon at {address} has no Master {master!r}{did_you_mean_or(master, masters, 'it has')}"
        )
    has_heads = bool(masters[master].heads)
    has_devices = masters[master].driver == "gpu"
    return Place(described.name, as_reached(described.workers, address), master, has_heads, credentials, has_devices)


def _describe(socket: zmq.Socket[bytes], address: str, timeout: float, credentials: Credentials | None) -> m.Described:
    sockets.send(socket, [codec.encode(m.Describe(1, m.PROTOCOL_VERSION))])
    deadline = time.monotonic() + timeout
    while (frames := sockets.receive(socket)) is None:
        if not socket.poll(max(0, int((deadline - time.monotonic()) * 1e3))):
            raise DaemonUnreachable(
                refusal(address, credentials)
                or f"no daemon answers at {address}; is it running, and is the address right?"
            )
    reply = codec.daemon_decoder().decode(frames[0] if frames else b"")
    if isinstance(reply, m.Refused):
        raise from_code(reply.code, reply.message)
    if not isinstance(reply, m.Described):
        raise ProtocolError(f"whoever listens at {address} does not answer as a TaskMaster daemon does")
    return reply


class DialIn(Host[HostedWorker]):
    """``count`` worker processes for a Master elsewhere; ``path`` has folders from which they import first.

    :meth:`run` keeps them until SIGINT or SIGTERM: the first lets them finish what they have in hand, the second ends
    them at once.
    """

    def __init__(
        self, place: Place, count: int, path: Sequence[Path] = (), policy: RestartPolicy | None = None
    ) -> None:
        super().__init__(place)
        self.count = count
        self.path = path
        self.policy = policy or RestartPolicy()
        self._next_start = 0.0
        self._long_lived = 0
        #: process → number of the device that it has, where workers have such
        self._device_of: dict[int, int] = {}
        self._despair: WorkerError | None = None

    def run(self) -> bool:
        """Work until told to leave; returns whether what was in hand could be finished.

        Raises WorkerError where no worker can be had.
        """
        with tempfile.TemporaryDirectory(prefix="taskmaster-worker-") as folder:
            self.serve(Path(folder))
        if self._despair is not None:
            raise self._despair
        return self.requests < 2

    @property
    def is_leaving(self) -> bool:
        return self.requests > 0 or self._despair is not None

    @property
    def is_over(self) -> bool:
        return self.is_leaving and not self.processes and not self.mourned

    @property
    def _missing(self) -> int:
        return self.count - len(self.processes) - len(self.mourned)

    def due(self, now: float) -> Iterable[float]:
        if self._missing > 0 and not self.is_leaving:
            yield self._next_start

    def act(self, now: float) -> None:
        while self._missing > 0 and now >= self._next_start and not self.is_leaving:
            device = self._free_device
            environment = environment_of(device) if self.place.has_devices else {}
            try:
                worker = spawn(
                    self.place.address, self.place.master, self.folder, now, environment.items(), path=self.path
                )
            except OSError as error:
                log.warning("Master %r: no worker process can be started: %s", self.place.master, error)
                self._pause(now, worked=False)
                return
            self._device_of[worker.pid] = device
            self.keep(worker, now)

    @property
    def _free_device(self) -> int:
        """The first that none of its processes has: they are as many as devices, where workers have such."""
        there = {process.pid for process in (*self.processes, *self.mourned)}
        self._device_of = {pid: device for pid, device in self._device_of.items() if pid in there}
        taken = set(self._device_of.values())
        return next(number for number in count() if number not in taken)

    def on_line(self, *, is_up: bool) -> None:
        if is_up:
            log.warning("Master %r: connected to the daemon at %s", self.place.master, self.place.address)
        else:
            log.warning(
                "Master %r: no connection to the daemon at %s; waiting for it to come back (what is being evaluated "
                "goes on, and its outcome is kept till then)",
                self.place.master,
                self.place.address,
            )

    def on_buried(self, process: HostedWorker, now: float, *, worked: bool) -> None:
        self._long_lived += now - process.started > LIVED_SECONDS
        if process.left_as_agreed:
            self._next_start = max(self._next_start, process.started + SETTLE_SECONDS)
            return
        if process.exit_status == EXIT_REFUSED:
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
        if not self.is_leaving:
            self._despair = WorkerError(f"Master {self.place.master!r}: {why}; what they said is above")
            self._terminate_all()

    def on_request(self, requests: int) -> None:
        if requests == 1:
            log.info("leaving: what is being evaluated is finished first (once more: at once)")
            self._terminate_all()
        else:
            self.kill("its host was told to leave at once")

    def _terminate_all(self) -> None:
        for worker in self.processes:
            self.terminate(worker)
