"""The daemon's own worker processes: keep as many as the configuration says, replace the lost, end the hung."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskmaster.bus import messages as m
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.leases import NOTHING, Started, Worker
from taskmaster.daemon.master import Master
from taskmaster.daemon.restarts import RestartPolicy
from taskmaster.drivers.host import CANCELLED, TERMINATE_SECONDS, HostedWorker, Interrupts, spawn
from taskmaster.drivers.progress import Position, ProgressReader

__all__ = ["Pool", "Supervisor", "read_progress", "started"]

log = logging.getLogger("taskmaster.supervision")

#: How often a task's time-out is looked at; a task may outlive its time-out by this much.
WATCH_SECONDS = 0.1
#: What a worker said before it died is on the way for a moment after its death is known.
MOURNING_SECONDS = 0.02


#: Processes started before the loop turns again: starting one takes some milliseconds.
STARTS_PER_LOOK = 8


@dataclass
class Pool:
    """The processes of one Master, or that of one of its devices."""

    master: Master
    #: how many there should be
    count: int
    timeout: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    working_directory: Path | None = None
    workers: dict[str, HostedWorker] = field(default_factory=dict)
    #: not before this time is another started
    next_start: float = 0.0
    gave_up: bool = False
    #: the number of the device that its process has
    device: int | None = None

    @property
    def name(self) -> str:
        """By which it is known."""
        name = self.master.spec.name
        return name if self.device is None else f"{name}:{self.device}"


class Supervisor:
    """Starts and watches the local workers of all Masters.

    ``watch`` and ``unwatch`` tell the loop which processes to heed.
    """

    def __init__(self, core: Core, folder: Path, address: str, umask: int = -1) -> None:
        self._core = core
        self._umask = umask
        self._folder = folder
        self._address = address
        self.pools: dict[str, Pool] = {}
        self.watch: Callable[[int], None] = lambda descriptor: None
        self.unwatch: Callable[[int], None] = lambda descriptor: None
        #: monotonic time by which :meth:`look` wants to be called again, as far as it knew; see :meth:`due`
        self.next_look = 0.0
        self._stopping = False
        self._descriptors: set[int] = set()
        self._dead: list[tuple[float, Pool, HostedWorker]] = []
        #: buried in this turn
        self._buried: list[HostedWorker] = []
        self._interrupts = Interrupts()
        folder.mkdir(mode=0o700, exist_ok=True)

    def add(self, pool: Pool) -> None:
        """Keep a Master's workers from now on."""
        self.pools[pool.name] = pool

    def pools_of(self, name: str) -> list[Pool]:
        """Those of a Master: one, or one for each of its devices."""
        return [pool for pool in self.pools.values() if pool.master.spec.name == name]

    def scale(self, name: str, count: int) -> None:
        """Keep ``count`` workers for a Master (as many as before, if negative), also if it had been given up.

        Those that are too many leave when they have finished.
        """
        for k, pool in enumerate(self.pools_of(name)):
            if count >= 0:
                pool.count = count if pool.device is None else int(k < count)
            pool.gave_up, pool.master.given_up = False, ""
            pool.master.lost_devices.clear()
            pool.policy.forgive()
            self.next_look = 0.0

    def starting(self, name: str) -> int:
        """How many of a Master's workers are on their way."""
        return sum(map(self._starting, self.pools_of(name)))

    @staticmethod
    def _starting(pool: Pool) -> int:
        if pool.gave_up:
            return 0
        known = (pool.master.workers.get(token) for token in pool.workers)
        ready = sum(worker is not None and worker.state != "starting" for worker in known)
        return max(0, pool.count - ready)

    def interrupt(self, interrupt: m.Interrupt) -> None:
        """If a worker is still in one of these cancelled tasks in a moment, end it."""
        self._interrupts.add(interrupt, time.monotonic())
        self.next_look = 0.0

    def look(self, now: float, ready: Mapping[int, int], out: Effects) -> None:
        """Do what has become due: bury, start, end. ``ready`` has the file descriptors that the loop found readable."""
        if now < self.next_look and self._descriptors.isdisjoint(ready):
            return
        self.next_look = now + 3600.0
        for pool in self.pools.values():
            self._find_dead(pool, now)
        self._bury(now, out)
        if not self._stopping:
            for pool in self.pools.values():
                self._fill(pool, now, out)
                self._thin(pool, out)
                self._enforce_timeout(pool, now)
        self._interrupts.enforce(now, self._worker)
        self._by(self._interrupts.due)

    def due(self, now: float) -> float:
        """When :meth:`look` wants to be called next: soon, where a Master with a time-out has become busy."""
        if self.next_look > now + WATCH_SECONDS and any(
            pool.timeout is not None and pool.master.busy for pool in self.pools.values()
        ):
            self.next_look = now + WATCH_SECONDS
        return self.next_look

    def _worker(self, token: str) -> tuple[HostedWorker, HostedWorker] | None:
        found = (pool.workers[token] for pool in self.pools.values() if token in pool.workers)
        return next(((worker, worker) for worker in found), None)

    def _by(self, when: float) -> None:
        self.next_look = min(self.next_look, when)

    # -- death --------------------------------------------------------------------------------------------------------

    def _find_dead(self, pool: Pool, now: float) -> None:
        for worker in [w for w in pool.workers.values() if w.exit_status is not None]:
            del pool.workers[worker.token]
            self._descriptors.discard(worker.pidfd)
            self.unwatch(worker.pidfd)
            self._dead.append((now + MOURNING_SECONDS, pool, worker))

    def _bury(self, now: float, out: Effects) -> None:
        waiting = []
        for due, pool, worker in self._dead:
            if now < due:
                waiting.append((due, pool, worker))
                self._by(due)
                continue
            self._on_death(pool, worker, now, out)
        self._dead = waiting

    def _on_death(self, pool: Pool, worker: HostedWorker, now: float, out: Effects) -> None:
        worked = worker.worked
        kind, reason = worker.epitaph()
        # That it was killed for a task nobody wants is no fault of the others it was given.
        begun = NOTHING if kind == CANCELLED else started(worker.progress.positions())
        self._lay_to_rest(worker)
        self._core.workforce.departed(worker.token, kind, reason, begun, out)
        if worker.left_as_agreed:
            return
        log.warning("Master %r: %s", pool.master.spec.name, reason)
        if not pool.gave_up:
            self._pause(pool, reason, now, out, worked=worked)

    def _pause(self, pool: Pool, reason: str, now: float, out: Effects, *, worked: bool) -> None:
        ended = pool.master.ended
        pause = pool.policy.after_death(now, worked=worked, ended=ended)
        if pause is None:
            self._give_up(pool, reason, out)
            return
        pool.next_start = max(pool.next_start, now + pause)
        if worked and pause:
            text = f"{pool.policy.barren} workers in a row died before a task ended: {reason}; started again ever later"
            pool.master.remark = (ended, text)

    def _lay_to_rest(self, worker: HostedWorker) -> None:
        worker.bury()
        self._buried.append(worker)

    def committed(self) -> None:
        """What the last turn has decided is on disk: how far those it has buried had come need not be known any more.

        Were that forgotten before, and the daemon killed in between, the next start would not know which of their
        tasks had begun, and have to suspect all of them.
        """
        for worker in self._buried:
            worker.forget()
        self._buried.clear()

    def _give_up(self, pool: Pool, reason: str, out: Effects) -> None:
        pool.gave_up = True
        name, master = pool.master.spec.name, pool.master
        master.trouble = master.trouble or reason
        why, after = master.trouble, f"gave up after {pool.policy.limit} attempts"
        others = [other.device for other in self.pools_of(name) if not other.gave_up]
        if others:
            master.trouble = ""
            lost = master.lost_devices[pool.device or 0] = (
                f"device {pool.device} cannot be used ({why}); {after}, and goes on with "
                f"{', '.join(map(str, others))}. When it is mended: taskmaster resume {name}"
            )
            text = f"Master {name!r}: {lost}"
        else:
            text = (
                f"Master {name!r}: its workers cannot start ({why}); {after}. Its tasks wait; when it is mended: "
                f"taskmaster resume {name}"
            )
            master.given_up = text
        out.alarms.append(m.Alarm("error", name, text, out.wall, "crash_loop"))

    # -- life ---------------------------------------------------------------------------------------------------------

    def _fill(self, pool: Pool, now: float, out: Effects) -> None:
        # One that is dead and not buried yet still has its place: only then is it known when to replace it.
        mourned = sum(dead_of is pool for _, dead_of, _ in self._dead)
        begun = 0
        while len(pool.workers) + mourned < pool.count and not pool.gave_up:
            if now < pool.next_start:
                self._by(pool.next_start)
                return
            if begun == STARTS_PER_LOOK:
                self._by(now)
                return
            try:
                worker = spawn(
                    self._address,
                    pool.master.spec.name,
                    self._folder,
                    now,
                    pool.environment.items(),
                    pool.working_directory,
                    umask=self._umask,
                )
            except OSError as error:
                reason = f"no worker process can be started: {error}"
                log.warning("Master %r: %s", pool.master.spec.name, reason)
                self._pause(pool, reason, now, out, worked=False)
                continue
            begun += 1
            pool.workers[worker.token] = worker
            self._core.workforce.hired(worker.token)
            self._descriptors.add(worker.pidfd)
            self.watch(worker.pidfd)

    def _thin(self, pool: Pool, out: Effects) -> None:
        """Have those go that are too many, idle ones before busy ones."""
        if len(pool.workers) <= pool.count:
            return
        pairs = [(worker, pool.master.workers.get(worker.token)) for worker in pool.workers.values()]
        staying = [(w, known) for w, known in pairs if not (w.was_told_to_go or (known and known.state == "leaving"))]
        staying.sort(key=lambda pair: bool(pair[1] and pair[1].leases))
        for worker, known in staying[: max(0, len(staying) - pool.count)]:
            if known is not None:  # a busy one could say so only when it has finished
                pool.master.on_leave(known, out)
            worker.terminate()

    def _enforce_timeout(self, pool: Pool, now: float) -> None:
        if pool.timeout is None or not pool.master.busy:
            return
        self._by(now + WATCH_SECONDS)
        for worker in pool.workers.values():
            known = pool.master.workers.get(worker.token)
            if known is None or not known.leases:
                continue
            since = max(worker.stands_since(now), _granted_since(known))
            if now - since > pool.timeout:
                worker.kill(
                    "TaskTimeout", f"no outcome after {pool.timeout:g} s, worker process {worker.pid} was killed"
                )

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop(self, out: Effects, patience: float = TERMINATE_SECONDS) -> None:
        """End every worker, now that each that is known has been told to go: wait ``patience`` seconds, then kill.

        It is given a little time for that, unless it is busy still (the grace is over) or has not even said hello. What
        they had in hand is requeued, without blame where it may be evaluated again.
        """
        self._stopping = True
        workers = [worker for pool in self.pools.values() for worker in pool.workers.values()]
        for pool in self.pools.values():
            for token, worker in pool.workers.items():
                known = pool.master.workers.get(token)
                if known is None or known.leases:
                    worker.kill("Stopped", "the daemon was stopped")
        running = {worker.pidfd for worker in workers}
        deadline = time.monotonic() + patience
        while running and (left := deadline - time.monotonic()) > 0:
            running -= set(select.select(running, [], [], left)[0])
        for worker in workers:
            worker.kill("Stopped", "the daemon was stopped")
            worker.process.wait()
            self._core.workforce.stopped(worker.token, started(worker.progress.positions()), out)
            self._lay_to_rest(worker)


def _granted_since(worker: Worker) -> float:
    return min(lease.granted for lease in worker.leases.values())


def started(positions: Sequence[Position] | None) -> Started | None:
    """How far a worker had come, from where its slots were."""
    if positions is None:
        return None
    by_lease = {at.lease: at.started for at in positions}
    return Started(max(by_lease), by_lease) if by_lease else NOTHING


def read_progress(folder: Path) -> dict[str, list[Position]]:
    """Where the workers of a daemon that was killed were, by their tokens, as far as it is known."""
    found = {path.name: ProgressReader(path).positions() for path in folder.iterdir() if path.name[0] != "."}
    return {token: positions for token, positions in found.items() if positions is not None}
