"""The daemon as a program: lock, journal, sockets, loop, signals, and the word to systemd."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import resource
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from msgspec.structs import replace

from taskmaster import __version__
from taskmaster.bus import sockets
from taskmaster.bus.errors import StateLocked, StateUnwritable
from taskmaster.bus.status import DaemonStatus
from taskmaster.bus.text import count, format_duration
from taskmaster.daemon.broker import DRAIN_BYTES, Broker, Endpoints
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.guardians import Guardians
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.check import check_at_start, check_log
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.master import Master
from taskmaster.daemon.restarts import RestartPolicy
from taskmaster.daemon.space import Space
from taskmaster.daemon.spec import MasterSpec
from taskmaster.daemon.supervision import Pool, Supervisor, read_progress
from taskmaster.daemon.systemd import KeptSockets, ServiceManager, make_runtime_directory

__all__ = ["DaemonPlan", "MasterPlan", "serve"]

log = logging.getLogger("taskmaster.daemon")

#: With so much room on the disk, any turn can be committed: what it takes in, and what the journal's log takes besides.
_ROOM_FOR_A_TURN = 2 * DRAIN_BYTES


@dataclass(frozen=True)
class MasterPlan:
    """One Master to expose, and the local workers to keep for it."""

    spec: MasterSpec
    workers: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts: int = 5
    restart_window: float = 60.0
    working_directory: Path | None = None


@dataclass(frozen=True)
class DaemonPlan:
    """Everything :func:`serve` needs to know."""

    name: str
    state: Path
    control: str
    results: str
    workers: str
    masters: Sequence[MasterPlan]
    durability: str = "power"
    max_message: int = sockets.MAX_MESSAGE
    keep_free: int = 256_000_000
    grace: float = 10.0


def serve(plan: DaemonPlan, on_ready: Callable[[Identity, str], None] = lambda identity, address: None) -> None:
    """Run a daemon until SIGTERM or SIGINT; ``on_ready`` is told who it is and where its control socket is bound.

    Raises StateLocked, StateUnwritable, AddressInUse, JournalDamaged, … before it is ready; JournalError if it cannot
    go on.
    """
    _raise_file_limit()
    manager = ServiceManager()
    with contextlib.ExitStack() as stack:
        stack.enter_context(manager.starting())
        umask = os.umask(0o077)  # what people measured, and the sockets, are nobody else's business
        stack.callback(os.umask, umask)
        stack.enter_context(_locked(plan.state))
        manager.says(f"checking the journal in {plan.state}")
        before = check_log(plan.state, plan.durability)
        for remark in before.remarks:
            log.warning("%s", remark)
        journal = Journal(plan.state, plan.durability)
        stack.push(lambda kind, error, trace: journal.close(in_order=error is None))
        check_at_start(journal, before)
        space = Space(plan.state, plan.keep_free)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.destroy, 0)
        endpoints, addresses = _bind(context, plan, stack, manager)
        identity = Identity(plan.name, journal.begin_epoch(time.time()), addresses[1], addresses[2], plan.max_message)
        manager.says("taking up the runs")
        broker = _assemble(plan, journal, space, endpoints, identity, addresses[3], umask)
        with _signals(broker, plan.grace):
            on_ready(identity, addresses[0])
            manager.ready(_condition(broker))
            log.info("daemon %r is ready at %s (epoch %d)", plan.name, addresses[0], identity.epoch)
            _report_to(manager, broker, plan)
            broker.run()
        log.info("daemon %r has stopped", plan.name)


def _raise_file_limit() -> None:
    """Have as many descriptors as the system grants: each connection takes one, and shells start programs with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _report_to(manager: ServiceManager, broker: Broker, plan: DaemonPlan) -> None:
    """Have the service manager know that the loop turns, waits or ends."""

    def on_stop() -> None:
        manager.stopping("stopping: evaluations under way may end", plan.grace)
        if broker.core.busy and plan.grace:
            log.info("stopping: evaluations under way may take up to %s (once more: none)", format_duration(plan.grace))

    def on_full() -> None:
        excused = broker.space.lacks(_ROOM_FOR_A_TURN)
        manager.waits(excused=excused, status=f"waiting for room on the disk of {plan.state}")

    broker.heartbeat = lambda: manager.turned(lambda: _condition(broker))
    broker.on_stop = on_stop
    broker.on_full = on_full


def _condition(broker: Broker) -> str:
    """How the daemon is, in a line."""
    masters = broker.core.masters.values()
    workers = sum(len(master.workers) for master in masters)
    serving = f"serving {count(len(masters), 'Master')} with {count(workers, 'worker')}"
    return serving if broker.space.room else f"{serving}; the disk is full: no further tasks are taken"


def _assemble(
    plan: DaemonPlan, journal: Journal, space: Space, endpoints: Endpoints, identity: Identity, local: str, umask: int
) -> Broker:
    masters = [Master(master.spec, identity.epoch) for master in plan.masters]
    core = Core(identity, masters, lambda: secrets.randbits(53))
    progress = plan.state / "progress"
    supervisor = Supervisor(core, progress, local, umask)
    _restore(core, journal, progress)
    guardians = Guardians(plan.state / "guardians", local, plan.name)
    guardians.heard = core.workforce.heard
    for master, settings in zip(masters, plan.masters):
        if master.heads:
            if master.spec.is_guarded_here:
                guardians.add(master)
            continue
        supervisor.add(
            Pool(
                master,
                settings.workers,
                master.spec.timeout,
                settings.environment,
                RestartPolicy(settings.restarts, settings.restart_window),
                settings.working_directory,
            )
        )
    started = time.monotonic()
    broker = Broker(core, journal, endpoints, supervisor, guardians, space, lambda broker: _status(broker, started))
    for keeper in (supervisor, guardians):
        keeper.watch, keeper.unwatch = broker.watch, broker.unwatch
    return broker


def _restore(core: Core, journal: Journal, progress: Path) -> None:
    """Take up where the journal ends; what that changes is on disk before anybody is served."""
    out = Effects(wall=time.time())
    restore(core, journal, read_progress(progress), time.monotonic(), out)
    if out.records:
        journal.commit(out.records)
    for path in progress.iterdir():
        path.unlink()


def _bind(
    context: zmq.Context[zmq.Socket[bytes]], plan: DaemonPlan, stack: contextlib.ExitStack, manager: ServiceManager
) -> tuple[Endpoints, tuple[str, str, str, str]]:
    """The sockets; the addresses of control, results and workers, and the one for this daemon's own workers.

    Their files are removed with the ``stack``, of which the context is to be a part already, unless the service manager
    keeps the sockets for the next start.
    """
    make_runtime_directory()
    kept = KeptSockets(manager)

    def bind(socket: zmq.Socket[bytes], address: str, role: str) -> str:
        endpoint, remove = kept.bind(socket, address, f"the {role} socket", role)
        stack.callback(remove)
        return endpoint

    control = sockets.router(context, plan.max_message)
    results = sockets.publisher(context)
    workers = sockets.router(context, plan.max_message)
    bound = (
        bind(control, plan.control, "control"),
        bind(results, plan.results, "results"),
        bind(workers, plan.workers, "workers"),
    )
    # Whatever the network gets, workers on this machine come by a Unix socket: a third less latency.
    local = bound[2]
    if not local.startswith("ipc://"):
        local = bind(workers, f"ipc://{plan.state}/local", "local")
    kept.settle()
    return Endpoints(control, results, workers), (*bound, local)


def _status(broker: Broker, started: float) -> DaemonStatus:
    now = time.monotonic()
    identity = broker.core.identity
    return DaemonStatus(
        name=identity.name,
        version=__version__,
        epoch=identity.epoch,
        pid=os.getpid(),
        uptime=now - started,
        memory=_resident_bytes(),
        journal=broker.journal.statistics(full=not broker.space.room),
        masters=tuple(
            replace(status, starting=broker.supervisor.starting(status.name)) for status in broker.core.statistics(now)
        ),
        dropped=broker.dropped,
        turns=broker.turns,
        points=broker.core.series.taken,
        points_dropped=broker.core.series.dropped,
    )


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Hold the state directory: one daemon each. The lock goes with the process, however it ends."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnwritable(
            f"the state directory {state} cannot be written: {error.strerror}; choose another one ([daemon] state = …) "
            "or change its owner"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateLocked(
            f"another daemon (process {holder}) uses the state directory {state}; stop it, or give this one another "
            "([daemon] state = …)"
        ) from error
    try:
        with contextlib.suppress(OSError):  # the number is for people only; a full disk can do without it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _signals(broker: Broker, grace: float) -> Iterator[None]:
    """SIGTERM and SIGINT stop the broker: the first in order, the second at once."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)

    signals = itertools.count()

    def stop(number: int, frame: object) -> None:
        # The second signal may come while the first is being handled: what each does must not undo the other's.
        if next(signals) == 0:
            broker.request_stop(grace)
        else:
            broker.hurry()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    # Read by the loop, not by the handler: that runs inside the poll, which would then go on waiting.
    broker.watch(reader.fileno(), lambda: reader.recv(64))
    try:
        yield
    finally:
        broker.unwatch(reader.fileno())
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def options_for_wire(options: Mapping[str, Any]) -> dict[str, Any]:
    """Driver options as workers get them: paths as strings, durations and sizes as numbers."""
    return {key: _plain(value) for key, value in options.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
