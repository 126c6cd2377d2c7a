"""The daemon as a program: lock, journal, sockets, loop, signals, and the word to systemd."""

from __future__ import annotations

import contextlib
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
from typing import Any, NamedTuple

import zmq
from msgspec.structs import replace

from taskmaster import __version__
from taskmaster.bus import sockets
from taskmaster.bus.errors import ConfigError, KeyFileError
from taskmaster.bus.keys import DAEMON_KEY, handed_over, read_pair
from taskmaster.bus.places import control_address, default_sockets, note_address
from taskmaster.bus.status import DaemonStatus
from taskmaster.bus.text import count, format_duration
from taskmaster.daemon.auditing import by_daemon
from taskmaster.daemon.bounds import RATE
from taskmaster.daemon.broker import Broker, Endpoints
from taskmaster.daemon.connections import Connections
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.devices import DeviceChoice, devices_of
from taskmaster.daemon.doorkeeper import LOCAL_DOMAIN, NETWORK_DOMAIN
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.gatehouse import Gatehouse, open_gatehouse
from taskmaster.daemon.guardians import Guardians
from taskmaster.daemon.intake import DRAIN_BYTES
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.backup import keep_before_migration, require_state
from taskmaster.daemon.journal.check import check_at_start, check_log
from taskmaster.daemon.journal.migrations import SCHEMA_VERSION
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.lock import locked
from taskmaster.daemon.master import Master
from taskmaster.daemon.memory import resident_bytes
from taskmaster.daemon.operating import Operations, operated
from taskmaster.daemon.restarts import RestartPolicy
from taskmaster.daemon.sharing import sharing
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
    #: which devices get a worker each, in place of so many ``workers``
    devices: DeviceChoice | None = None


class Addresses(NamedTuple):
    """Where a daemon's sockets are bound."""

    control: str
    results: str
    workers: str
    #: of results and workers, for who comes by a Unix socket
    near: str
    near_workers: str
    #: of control, for who is on this machine
    near_control: str


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
    operations: Operations = field(default_factory=Operations)
    #: whose members may connect to its Unix sockets
    group: str | None = None
    #: the file of authorised keys, and the daemon's own; None where nobody comes but from this machine
    keys: Path | None = None
    key: Path | None = None
    #: messages a second of each key, and connections from each address
    max_rate: float = RATE
    max_connections: int = 4096


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
        stack.enter_context(locked(plan.state))
        require_state(plan.state)
        manager.says(f"checking the journal in {plan.state}")
        before = check_log(plan.state, plan.durability)
        for remark in before.remarks:
            log.warning("%s", remark)
        _keep_before_migration(plan.state)
        journal = Journal(plan.state, plan.durability)
        stack.push(lambda kind, error, trace: journal.close(in_order=error is None))
        check_at_start(journal, before)
        space = Space(plan.state, plan.keep_free)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.destroy, 0)
        gatehouse = None if plan.keys is None else open_gatehouse(context, plan.keys, time.time(), plan.max_rate)
        door = None if plan.key is None else _own_secret(plan.key)
        kept = KeptSockets(manager)
        endpoints, addresses = _bind(context, plan, stack, kept, door, gatehouse)
        identity = Identity(
            plan.name,
            journal.begin_epoch(time.time()),
            addresses.results,
            addresses.workers,
            plan.max_message,
            addresses.near,
        )
        manager.says("taking up the runs")
        note_address(plan.state, addresses.near_control)
        broker = _assemble(plan, journal, space, endpoints, identity, addresses.near_workers, umask, gatehouse)
        if addresses.results.startswith("tcp://"):
            broker.readmit = lambda: sockets.rebind(endpoints.results, addresses.results, kept.held(addresses.results))
        if gatehouse is not None:
            gatehouse.shut = lambda: _shut(broker, endpoints, addresses)
        stack.enter_context(operated(broker, plan.operations, plan.name, plan.keep_free, umask))
        with _signals(broker, plan.grace):
            on_ready(identity, addresses.control)
            manager.ready(_condition(broker))
            log.info("daemon %r is ready at %s (epoch %d)", plan.name, addresses.control, identity.epoch)
            _report_to(manager, broker, plan)
            broker.run()
        log.info("daemon %r has stopped", plan.name)


def _keep_before_migration(state: Path) -> None:
    kept = keep_before_migration(state, time.time())
    if kept is not None:
        log.warning(
            "the journal is of an older release and is brought up to date; as it was, it is kept in %s. When all is "
            "well, delete that",
            kept,
        )


def _own_secret(path: Path) -> bytes:
    """The daemon's own secret key: as the service manager has handed it over, else from its file."""
    try:
        return read_pair(handed_over(DAEMON_KEY) or path, "taskmaster keys new --daemon").secret
    except KeyFileError as error:
        raise ConfigError(str(error)) from error


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
    plan: DaemonPlan,
    journal: Journal,
    space: Space,
    endpoints: Endpoints,
    identity: Identity,
    local: str,
    umask: int,
    gatehouse: Gatehouse | None,
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
        for pool in _pools(master, settings):
            supervisor.add(pool)
    started = time.monotonic()
    broker = Broker(
        core, journal, endpoints, supervisor, guardians, space, lambda broker: _status(broker, started), gatehouse
    )
    for keeper in (supervisor, guardians):
        keeper.watch, keeper.unwatch = broker.watch, broker.unwatch
    return broker


def _pools(master: Master, settings: MasterPlan) -> Iterator[Pool]:
    """A Master's worker processes: so many of a kind, or one for each of its devices."""

    def pool(count: int, environment: Mapping[str, str], device: int | None = None) -> Pool:
        policy = RestartPolicy(settings.restarts, settings.restart_window)
        directory = settings.working_directory
        return Pool(master, count, master.spec.timeout, environment, policy, directory, device=device)

    if settings.devices is None:
        yield pool(settings.workers, settings.environment)
        return
    for device in devices_of(settings.devices):
        yield pool(1, {**settings.environment, **device.environment}, device.number)


def _restore(core: Core, journal: Journal, progress: Path) -> None:
    """Take up where the journal ends; what that changes is on disk before anybody is served."""
    out = Effects(wall=time.time())
    about = {"version": __version__, "epoch": core.identity.epoch}
    if journal.brought_up_from:
        about |= {"schema": SCHEMA_VERSION, "schema_before": journal.brought_up_from}
    by_daemon("start", out, about=about, origin=f"uid {os.getuid()} pid {os.getpid()}")
    [(_, started)] = out.remarks
    restore(core, journal, read_progress(progress), time.monotonic(), out)
    journal.commit(out.records)
    log.info("%s", started)
    for path in progress.iterdir():
        path.unlink()


def _bind(
    context: zmq.Context[zmq.Socket[bytes]],
    plan: DaemonPlan,
    stack: contextlib.ExitStack,
    kept: KeptSockets,
    secret: bytes | None,
    gatehouse: Gatehouse | None,
) -> tuple[Endpoints, Addresses]:
    """The sockets, and where they are bound.

    With the daemon's ``secret`` key whatever is bound to the network encrypts, and the authenticator, which has to be
    there already, is asked whom to admit. Files of sockets are removed with the ``stack``, of which the context is to
    be a part, unless the service manager keeps the sockets for the next start.
    """
    make_runtime_directory()
    shared = sharing(plan.group, plan.state)

    def bind(socket: zmq.Socket[bytes], address: str, role: str) -> str:
        if secret is not None and address.startswith("tcp://"):
            sockets.secure(socket, secret, NETWORK_DOMAIN)
        elif secret is not None:
            sockets.guard(socket, LOCAL_DOMAIN)
        what = f"the {role.removeprefix('near-')} socket"
        endpoint, remove = kept.bind(socket, address, what, role)
        stack.callback(remove)
        if role != "near-workers":  # that is for processes of the daemon's own
            shared.apply(endpoint)
        return endpoint

    control = sockets.router(context, plan.max_message)
    results = sockets.publisher(context)
    workers = sockets.router(context, plan.max_message)
    if gatehouse is not None:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        gatehouse.watch(Connections((control, results, workers), plan.max_connections, plan.max_message, descriptors))
    # Whatever the network gets, workers on this machine come by a Unix socket: a third less latency. It is bound first,
    # for a socket keeps what it was told of encryption.
    local = plan.workers
    if not local.startswith("ipc://"):
        local = bind(workers, f"ipc://{plan.state}/local", "near-workers")
    near, near_control = plan.results, ""
    if secret is not None and plan.control.startswith("tcp://"):
        # Who has no key, but may open the daemon's files, comes by these.
        folder = default_sockets(plan.state)
        near_control = bind(control, control_address(folder), "near-control")
        if not near.startswith("ipc://"):
            near = bind(results, f"ipc://{folder}/results", "near-results")
    bound = Addresses(
        bind(control, plan.control, "control"),
        bind(results, plan.results, "results"),
        bind(workers, plan.workers, "workers"),
        near,
        local,
        near_control,
    )
    if not near_control:
        bound = bound._replace(near_control=bound.control)
    kept.settle()
    if local == plan.workers:
        bound = bound._replace(near_workers=bound.workers)
    if near == plan.results:
        bound = bound._replace(near=bound.results)
    return Endpoints(control, results, workers, plan.max_message), bound


def _shut(broker: Broker, endpoints: Endpoints, addresses: Addresses) -> None:
    """Listen to the network no more, and close all connections that have come by it."""
    broker.readmit = lambda: None
    for bound, address in (
        (endpoints.control, addresses.control),
        (endpoints.results, addresses.results),
        (endpoints.workers, addresses.workers),
    ):
        if address.startswith("tcp://"):
            bound.unbind(address)


def _status(broker: Broker, started: float) -> DaemonStatus:
    now = time.monotonic()
    identity = broker.core.identity
    return DaemonStatus(
        name=identity.name,
        version=__version__,
        epoch=identity.epoch,
        pid=os.getpid(),
        uptime=now - started,
        memory=resident_bytes(),
        journal=broker.journal.statistics(full=not broker.space.room),
        masters=tuple(
            replace(status, starting=broker.supervisor.starting(status.name)) for status in broker.core.statistics(now)
        ),
        dropped=broker.dropped,
        turns=broker.turns,
        points=broker.core.series.taken,
        points_dropped=broker.core.series.dropped,
        alarms=len(broker.alarms),
        keys=None if broker.gatehouse is None else len(broker.gatehouse.gate),
        refused=0 if broker.gatehouse is None else broker.gatehouse.doorkeeper.refused,
        strangers=broker.strangers,
    )


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
