"""Workers: the real protocol; slots, processes and hosts are simulated."""

from __future__ import annotations

import signal
import subprocess
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from simulation import tasks
from simulation.network import Dealer
from taskmaster.bus import codec, messages as m
from taskmaster.bus.messages import LeaseId, TaskError
from taskmaster.bus.table import Table, pack_values
from taskmaster.drivers.host import HostedWorker, Interrupts
from taskmaster.drivers.progress import Position, ProgressReader
from taskmaster.drivers.protocol import Assignment, WorkerProtocol
from taskmaster.drivers.worker import EXIT_GOODBYE, EXIT_UNUSABLE

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["SimHost", "SimProcess", "SimWorker"]

_TICK = 1.0


class SimWorker:
    """A worker process, as `drivers.worker` is one: one thread with one slot, or a socket thread and several slots."""

    def __init__(self, world: World, master: str, token: str, pid: int, *, slots: int, remote: bool) -> None:
        self.world = world
        self.master = master
        self.token = token
        self.pid = pid
        self.remote = remote
        self.name = f"far:{pid}" if remote else f"{master}-{pid}"
        self.alive = True
        self.status: int | None = None
        self.protocol = WorkerProtocol(master, token, pid=pid, host="far")
        self.slots = [_Slot(self) for _ in range(slots)]
        #: not before this time does it do anything: it is stopped
        self.stopped_until = 0.0
        self._set_up = False
        self._inbox: deque[list[bytes]] = deque()
        self._begun: deque[Assignment] = deque()
        self.link = Dealer(world.network, self.name, "workers", self._receive, far=remote)
        self.protocol.hello(world.agenda.now)
        self._flush()
        world.agenda.after(_TICK * world.rng.random(), self._tick)

    # -- the socket ---------------------------------------------------------------------------------------------------

    def _receive(self, frames: list[bytes]) -> None:
        self._inbox.append(frames)
        if not self._busy:
            self.turn()

    @property
    def _busy(self) -> bool:
        """Its only thread is evaluating, or it is stopped."""
        if self.stopped_until > self.world.agenda.now:
            return True
        return len(self.slots) == 1 and self.slots[0].assignment is not None

    def between(self) -> None:
        """Hear what the daemon has to say."""
        now = self.world.agenda.now
        while self._inbox and self.alive:
            self.protocol.on_frames(self._inbox.popleft(), now)
        self._flush()

    def turn(self) -> None:
        """Hear, then take up what there is to do."""
        if not self.alive:
            return
        self.between()
        if not self._set_up:
            if self.protocol.welcome is not None:
                self._set_up = True
                self.world.agenda.after(self.world.rng.random() * 0.2, self._opened)
            elif self.protocol.refused is not None or self.protocol.goodbye is not None:
                self.exit(EXIT_GOODBYE)
            return
        if self.protocol._ready:
            self._pull()
        if self.alive and self._done:
            self.exit(EXIT_GOODBYE)

    def _opened(self) -> None:
        """The driver is set up, or cannot be."""
        if not self.alive:
            return
        if self.world.unusable(self):
            self.protocol.failed("ImportError", "no such function", "")
            self._flush()
            self.exit(EXIT_UNUSABLE)
            return
        if len(self.slots) > 1:
            self.protocol.slots = len(self.slots)
            if (
                self.pid % 2
            ):  # it says that it evaluates tasks together: what it is given for that is all there is to it
                self.protocol.batch, self.protocol.shares = 8, 1
            self.protocol.hello(self.world.agenda.now)
        self.protocol.ready()
        self._flush()
        self.turn()

    def _pull(self) -> None:
        free = [slot for slot in self.slots if slot.assignment is None]
        if len(self.slots) > 1:  # the socket's thread hands all of them on at once
            while (assignment := self.protocol.begin()) is not None:
                self._begun.append(assignment)
        for slot in free:
            assignment = self._begun.popleft() if self._begun else None
            if assignment is None and len(self.slots) == 1:
                assignment = self.protocol.begin()
            if assignment is None or not self.alive:
                return
            slot.begin(assignment)

    @property
    def _done(self) -> bool:
        goodbye = self.protocol.goodbye
        if goodbye is not None:
            return not goodbye.drain or self.protocol.idle
        return self.protocol.leaving and self.stopping and self.protocol.idle

    stopping = False

    def terminate(self) -> None:
        """SIGTERM."""
        self.stopping = True
        if self.alive and not self.protocol.leaving:
            self.protocol.leave()
            self._flush()
            if not self._busy:
                self.turn()

    def leave(self) -> None:
        """It has evaluated enough (`recycle_after`), or its user wants the machine back."""
        if self.alive and not self.protocol.leaving:
            self.protocol.leave()
            self._flush()

    def _tick(self) -> None:
        if not self.alive:
            return
        agenda = self.world.agenda
        agenda.after(_TICK, self._tick)
        if not self._busy:
            self.protocol.tick(agenda.now)
            self._flush()
            self.turn()

    def _flush(self) -> None:
        while self.protocol.outbox:
            count, frames = self.protocol.next_out()
            self.link.send(frames)
            del self.protocol.outbox[:count]

    # -- its end ------------------------------------------------------------------------------------------------------

    def positions(self) -> list[Position]:
        """What its progress file says."""
        return [slot.position for slot in self.slots if slot.position is not None]

    def die(self, status: int = -signal.SIGKILL) -> None:
        """The process is killed."""
        if self.alive:
            self.alive = False
            self.status = status
            self.link.close()
            self.world.worker_ended(self)

    def exit(self, status: int) -> None:
        """The process ends by itself; what it has sent goes out."""
        self.die(status)

    def report(
        self,
        assignment: Assignment,
        position: int,
        n: int,
        outputs: Table | None,
        errors: list[TaskError],
        began: float,
        times: bytes | None,
        *,
        final: bool,
    ) -> None:
        agenda = self.world.agenda
        wall = agenda.time()
        self.protocol.report(
            assignment,
            position,
            n,
            outputs,
            errors,
            wall - (agenda.now - began),
            wall,
            times,
            final=final,
            now=agenda.now,
        )
        self._flush()


class _Slot:
    """Evaluates one assignment after the other, as `drivers.evaluation` does."""

    def __init__(self, worker: SimWorker) -> None:
        self.worker = worker
        self.assignment: Assignment | None = None
        self.position: Position | None = None
        self._at = 0
        self._piece = 0
        self._began = 0.0
        self._values: list[Any] = []
        self._errors: list[TaskError] = []
        self._times: list[float] = []

    def begin(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.position = self._at_task(0)
        self._next(0)

    def _at_task(self, started: int) -> Position:
        lease = self.assignment
        assert lease is not None
        return Position(lease.lease, lease.run, lease.first, started, lease.attempt)

    def _next(self, at: int) -> None:
        assignment, worker = self.assignment, self.worker
        assert assignment is not None
        at = _skip(assignment, at)
        if at == assignment.n:
            self.assignment = None
            worker.report(assignment, at, 0, None, [], worker.world.agenda.now, None, final=True)
            worker.turn()
            return
        self._at = self._piece = at
        self._began = worker.world.agenda.now
        self._values, self._errors, self._times = [], [], []
        self._start()

    def _start(self) -> None:
        """Begin one task."""
        assignment, worker = self.assignment, self.worker
        assert assignment is not None
        world = worker.world
        n = tasks.number(assignment.table.rows()[self._at])
        self.position = self._at_task(self._at + 1)
        world.checker.begun(world.specs[worker.master], assignment.run, assignment.first + self._at, n)
        world.note("{} begins task {} ({})", worker.name, assignment.first + self._at, n)
        seconds = world.duration(n)
        if world.kills(n):
            world.agenda.after(seconds * world.rng.random(), worker.die)
        world.agenda.after(seconds, self._ended, n)

    def _ended(self, n: int) -> None:
        assignment, worker = self.assignment, self.worker
        world = worker.world
        if not worker.alive:
            return
        if worker.stopped_until > world.agenda.now:
            world.agenda.at(worker.stopped_until, self._ended, n)
            return
        assert assignment is not None
        failed = tasks.fails(n)
        world.checker.finished(worker.name, n, failed=failed)
        if failed:
            self._errors.append(TaskError(self._at - self._piece, "ValueError", f"task {n} cannot be"))
        else:
            self._values.append(tasks.output(n, declared=bool(world.specs[worker.master].outputs)))
        self._times.append(world.agenda.now - self._began)
        self._at += 1
        if world.rng.random() < 0.5 and len(worker.slots) == 1:
            worker.between()
        last = _skip(assignment, self._at) == assignment.n
        if not last and _skip(assignment, self._at) == self._at and world.rng.random() < 0.6:
            self._start()
            return
        self._emit(assignment, final=last)
        if last:
            self.assignment = None
            worker.turn()
            return
        if len(worker.slots) == 1:
            worker.between()
        if worker.alive:
            self._next(self._at)

    def _emit(self, assignment: Assignment, *, final: bool) -> None:
        worker = self.worker
        world = worker.world
        n = self._at - self._piece
        outputs: Table | None = None
        if self._values:
            schema = world.specs[worker.master].outputs
            outputs = schema.pack_points({"z": self._values}) if schema else pack_values(self._values)
        times = np.array(self._times, "<f8").tobytes() if n > 1 and world.rng.random() < 0.5 else None
        worker.report(assignment, self._piece, n, outputs, self._errors, self._began, times, final=final)
        world.note(
            "{} reports {} tasks from {}{}",
            worker.name,
            n,
            assignment.first + self._piece,
            ", the last" if final else "",
        )


def _skip(assignment: Assignment, at: int) -> int:
    """The first position from ``at`` on that is not revoked."""
    return next(iter(assignment.revoked.gaps(at, assignment.n)), (assignment.n, 0))[0]


class SimHost:
    """Somebody else's host of workers: vouches for them, and says when one has died."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.workers: list[SimWorker] = []
        self._processes: dict[str, SimProcess] = {}
        self._interrupts = Interrupts()
        self._decoder = codec.to_host_decoder()
        self.link = Dealer(world.network, "host", "workers", self._receive, far=True)
        world.agenda.after(world.rng.random(), self._tick)

    def _tick(self) -> None:
        self.world.agenda.after(_TICK, self._tick)
        tokens = tuple(worker.token for worker in self.workers if worker.alive)
        if tokens:
            self._send(m.Heartbeat(tokens))

    def start(self, worker: SimWorker, now: float) -> None:
        """Have one more."""
        self.workers.append(worker)
        self._processes[worker.token] = SimProcess(worker, now)

    def _receive(self, frames: list[bytes]) -> None:
        message = self._decoder.decode(frames[0])
        if isinstance(message, m.Interrupt):
            self._interrupts.add(message, self.world.agenda.monotonic())
            self.world.agenda.at(self._interrupts.due, self._enforce)

    def _enforce(self) -> None:
        known = {token: (process, process) for token, process in self._processes.items()}
        self._interrupts.enforce(self.world.agenda.monotonic(), known.get)

    def gone(self, worker: SimWorker) -> None:
        """Its whole machine is: nobody tells."""
        self.workers.remove(worker)
        del self._processes[worker.token]

    def ended(self, worker: SimWorker, known: bool) -> None:
        """Report a death."""
        sentence = self._processes[worker.token].sentence
        self.gone(worker)
        if worker.status in (EXIT_GOODBYE, EXIT_UNUSABLE):
            return
        if sentence is not None:  # it was killed for a cancelled task
            self._send(m.WorkerLost(worker.token, *sentence))
            return
        at: dict[LeaseId, int] = {position.lease: position.started for position in worker.positions()}
        latest = max(at) if at else None
        self._send(
            m.WorkerLost(
                worker.token, "WorkerLost", f"worker {worker.name} was killed", known, latest, tuple(at.items())
            )
        )

    def _send(self, message: m.WorkerMessage) -> None:
        self.link.send([codec.encode(message)])


class SimProcess(HostedWorker):
    """A local worker as its host, the daemon, sees it: the real bookkeeping over a simulated process."""

    def __init__(self, worker: SimWorker, now: float) -> None:
        self.worker = worker
        self.process = cast("subprocess.Popen[bytes]", _Popen(worker))
        self.token = worker.token
        self.progress = cast(ProgressReader, _Progress(worker))
        self.started = now
        self.pidfd = 100_000 + worker.pid
        self.sentence = None
        self._seen = []
        self._since = now

    def bury(self) -> None:
        self.worker.die()

    def forget(self) -> None:
        self.worker.world.forgotten(self.worker)


class _Progress:
    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker

    def positions(self) -> list[Position]:
        return self._worker.positions()


class _Popen:
    """As much of a process as `HostedWorker` asks for."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker
        self.pid = worker.pid

    def poll(self) -> int | None:
        return self._worker.status

    def kill(self) -> None:
        self._worker.die()

    def terminate(self) -> None:
        self._worker.terminate()

    def wait(self) -> None:
        self._worker.die()


def spawner(world: World) -> Any:
    """What stands in for `drivers.host.spawn`."""

    def spawn(
        address: str,
        master: str,
        folder: Path,
        now: float,
        environment: Iterable[tuple[str, str]] = (),
        working_directory: Path | None = None,
        umask: int = -1,
        head: str | None = None,
    ) -> SimProcess:
        return world.spawn(master, now)

    return spawn
