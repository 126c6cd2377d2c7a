"""The daemon: the real broker loop, journal, supervisor and recovery, in a simulated process."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import zmq

from simulation.network import Killed, Router, Xpub
from simulation.workers import SimProcess, spawner
from taskmaster.bus.errors import DiskFull, JournalError
from taskmaster.bus.status import DaemonStatus
from taskmaster.bus.table import Buffer
from taskmaster.daemon import (
    answering,
    broker as broker_module,
    dispatching,
    inquiries,
    intake,
    outbox,
    publishing,
    supervision,
)
from taskmaster.daemon.broker import Broker, Endpoints
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import Effects, EventAppended, Record
from taskmaster.daemon.guardians import Guardians
from taskmaster.daemon.journal import Journal, journal as journal_module
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.master import Master
from taskmaster.daemon.restarts import RestartPolicy
from taskmaster.daemon.space import Space
from taskmaster.daemon.supervision import Pool, Supervisor
from taskmaster.drivers.progress import Position

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["SimDaemon", "surroundings"]


@contextlib.contextmanager
def surroundings(world: World) -> Iterator[None]:
    """Lend the daemon's code a simulated clock, network and process table."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (broker_module, inquiries, outbox, supervision):
            patch.setattr(module, "time", world.agenda)
        for module in (answering, broker_module, dispatching, intake, outbox, publishing):
            patch.setattr(module, "sockets", _Sockets(world))
        patch.setattr(intake, "Origins", lambda router, counts: _Nowhere())
        patch.setattr(supervision, "spawn", spawner(world))
        patch.setattr(supervision, "select", _Select(world))
        patch.setattr(intake, "DRAIN_MESSAGES", world.drain)
        patch.setattr(journal_module, "INLINE_BYTES", world.inline_bytes)
        yield


class _Sockets:
    """In place of `bus.sockets`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, socket: Router | Xpub, frames: Sequence[Buffer]) -> bool:
        return socket.send(frames)

    def send_tracked(self, socket: Router, frames: Sequence[Buffer]) -> _Sent | None:
        return _Sent() if socket.send(frames) else None

    def receive(self, socket: Router | Xpub, *, origins: object = None) -> list[bytes] | None:
        frames = socket.receive()
        if frames is not None and isinstance(socket, Router):
            self._world.chronicle.message("daemon ←", frames[0], frames[1])
            self._world.checker.heard(socket.kind, frames[1], frames[2:])
        return frames


class _Nowhere:
    """In place of where peers are: none of them chooses its routing id here."""

    def __contains__(self, peer: bytes) -> bool:
        return True

    def of(self, peer: bytes) -> str:
        return ""


class _Sent:
    """In place of what ZeroMQ tells of a message: this network takes all there is."""

    done = True


class _Select:
    """In place of `select`: processes that were told to go do so in time, or do not."""

    def __init__(self, world: World) -> None:
        self._world = world

    def select(self, running: set[int], _: Any, __: Any, left: float) -> tuple[list[int], list[Any], list[Any]]:
        rng = self._world.rng
        ended = [descriptor for descriptor in sorted(running) if rng.random() < 0.8]
        self._world.agenda.ahead += left if not ended else left * rng.random() / 4
        return ended, [], []


class _Poller:
    """In place of the broker's poller: remembers how long the loop would have slept."""

    def __init__(self) -> None:
        self.timeout = 0.0

    def register(self, socket: object, flags: int = 0) -> None: ...

    def unregister(self, socket: object) -> None: ...

    def poll(self, timeout: float) -> list[Any]:
        self.timeout = timeout / 1e3
        return []


class SimJournal(Journal):
    """The journal on a disk that is slow at times, and full, in a daemon that may die on either side of a COMMIT."""

    world: World

    def commit(self, records: Sequence[Record]) -> dict[int, str]:
        world = self.world
        if world.ambush in set(_kinds(records)):
            world.daemon.lie_in_ambush()
        world.network.fuse.step()
        if world.disk_full:
            world.disk_full -= 1
            raise DiskFull("simulated: no room left on the disk")
        if world.disk_breaks():
            if world.rng.random() < 0.5:
                self._write_down(records)
            raise JournalError("simulated: input/output error")
        files = self._write_down(records)
        world.network.fuse.step()
        world.agenda.ahead += world.commit_seconds()
        return files

    def _write_down(self, records: Sequence[Record]) -> dict[int, str]:
        files = super().commit(records)
        self.world.chronicle.records(records)
        self.world.checker.committed(records)
        return files


def _kinds(records: Sequence[Record]) -> Iterator[str]:
    for record in records:
        yield record.head.kind if isinstance(record, EventAppended) else type(record).__name__


class SimSpace:
    """Room on the disk, as long as the world says so."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reserve = True

    @property
    def room(self) -> bool:
        return self._reserve

    def look(self) -> None:
        self._reserve = self._reserve or not self._world.disk_full

    def admits(self, size: int, user: str = "") -> bool:
        return self._reserve

    def bears(self, size: int, user: str) -> bool:
        return True

    def take(self, size: int, rows: int, user: str = "") -> None:
        pass

    def use_reserve(self) -> bool:
        had, self._reserve = self._reserve, False
        return had

    def error(self, user: str = "") -> DiskFull:
        return DiskFull("simulated: the disk is full")


class SimDaemon:
    """The daemon's process: starts, turns, is killed, stops in order."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.starts = 0
        self.turns = 0
        self.broker: Broker | None = None
        self.supervisor: Supervisor | None = None
        #: where the workers of a daemon that was killed had come, until the next one has taken note
        self.progress: dict[str, list[Position]] = {}
        self._journal: SimJournal | None = None
        self._poller = _Poller()
        self._free_at = 0.0
        self._due = float("inf")
        world.network.readable = self._wake

    @property
    def up(self) -> bool:
        return self.broker is not None

    @property
    def core(self) -> Core:
        assert self.broker is not None
        return self.broker.core

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process, as `daemon.service` does."""
        if self.up:
            return
        world = self.world
        self.starts += 1
        world.agenda.ahead = 0.0
        try:
            self._assemble()
        except (Killed, JournalError):
            self._died()
            return
        finally:
            self._free_at = world.agenda.monotonic()
            world.agenda.ahead = 0.0
        self._wake()

    def _assemble(self) -> None:
        world = self.world
        journal = self._journal = SimJournal(self.folder, "crash")
        journal.world = world
        epoch = journal.begin_epoch(0.0)
        world.checker.epoch = epoch
        world.note("the daemon starts, epoch {}", epoch)
        masters = [Master(spec, epoch) for spec in world.specs.values()]
        core = Core(Identity("simulated", epoch, "results", "workers"), masters, lambda: world.rng.getrandbits(53))
        self.supervisor = supervisor = Supervisor(core, self.folder / "progress", "local")
        out = Effects(wall=world.agenda.time())
        if world.ambush == "start":
            self.lie_in_ambush()
        restore(core, journal, self.progress, world.agenda.monotonic(), out)
        if out.records:
            journal.commit(out.records)
        self.progress = {}
        for master in masters:
            workers, timeout = world.pools[master.spec.name]
            supervisor.add(Pool(master, workers, timeout, policy=RestartPolicy(5, 60.0)))
        sockets = cast("dict[str, zmq.Socket[bytes]]", world.network.open())
        endpoints = Endpoints(sockets["control"], sockets["results"], sockets["workers"])
        guardians = Guardians(self.folder / "guardians", "local", "simulated")
        broker = Broker(core, journal, endpoints, supervisor, guardians, cast(Space, SimSpace(world)), _status)
        broker._poller = cast(zmq.Poller, self._poller)
        supervisor.watch, supervisor.unwatch = broker.watch, broker.unwatch
        self.broker = broker

    def kill(self) -> None:
        """SIGKILL, between two turns."""
        if self.up:
            self._died()

    def lie_in_ambush(self) -> None:
        """Have it killed with the next few messages that it sends, or commits."""
        self.world.ambush = ""
        self.world.network.fuse.left = self.world.rng.choice((0, 1, 1, 2, 3, 5))

    def abandon(self) -> None:
        """The simulation is over."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def stop(self, grace: float) -> None:
        """SIGTERM."""
        if self.broker is not None:
            self.broker.request_stop(grace)
            self._wake()

    def _died(self) -> None:
        """The process is gone. Its workers go with it; what they had noted of their progress stays."""
        world = self.world
        world.note("the daemon is dead")
        world.checker.deaths += 1
        self.broker = None
        self._due = float("inf")
        world.network.fuse.left = None
        world.network.shut()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        power_cut = world.rng.random() < 0.15
        if power_cut:  # their notes are not synced
            world.note("how far its workers had come is forgotten")
            world.checker.progress_lost()
        for worker in world.unforgotten.values():
            if not power_cut:
                self.progress[worker.token] = worker.positions()
            worker.die()
        world.unforgotten.clear()
        world.agenda.after(world.restart_seconds(), self.start)

    # -- turns --------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """There may be something to do."""
        if self.up:
            self._turn_at(max(self._free_at, self.world.agenda.now + self.world.wake_seconds()))

    def _turn_at(self, when: float) -> None:
        if when < self._due:
            self._due = when
            self.world.agenda.at(when, self._turn, when)

    def _turn(self, when: float) -> None:
        if not self.up or when != self._due:
            return
        self._due = float("inf")
        self.turns += 1
        agenda = self.world.agenda
        agenda.ahead = 0.0
        try:
            self._turn_now()
        except (Killed, JournalError):
            self._died()
        finally:
            self._free_at = agenda.monotonic()
            agenda.ahead = 0.0

    def _turn_now(self) -> None:
        broker, supervisor = self.broker, self.supervisor
        assert broker is not None
        assert supervisor is not None
        ready: dict[Any, int] = {
            socket: zmq.POLLIN for socket in (self.world.network.sockets or {}).values() if _has_mail(socket)
        }
        ready.update(dict.fromkeys(self.world.ended, zmq.POLLIN))
        self.world.ended.clear()
        self.world.checker.turn_begins()
        broker.turn(ready)
        if broker._finished():
            broker._end_workers()
            self.world.note("the daemon stops in order")
            self._died()
            return
        broker._poll()
        pending = any(map(_has_mail, (self.world.network.sockets or {}).values()))
        self._turn_at(self.world.agenda.monotonic() + (0.0 if pending else self._poller.timeout))


def _has_mail(socket: Router | Xpub) -> bool:
    return socket.has_mail


def _status(broker: Broker) -> DaemonStatus:
    return DaemonStatus(
        "simulated",
        "0",
        broker.core.identity.epoch,
        1,
        0.0,
        0,
        broker.journal.statistics(),
        broker.core.statistics(1.0),
        broker.dropped,
        broker.turns,
    )


def fresh_folder(folder: Path) -> Path:
    """An empty state directory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def processes(world: World) -> list[SimProcess]:
    """The local workers' processes that the daemon knows of."""
    supervisor = world.daemon.supervisor
    pools = supervisor.pools.values() if supervisor is not None and world.daemon.up else ()
    return [cast(SimProcess, process) for pool in pools for process in pool.workers.values()]
