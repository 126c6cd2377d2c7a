"""The world of one seed: a daemon, its Masters, workers near and far, clients, weather, and accidents."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from simulation import tasks
from simulation.agenda import Agenda
from simulation.checker import Checker, Violation
from simulation.chronicle import Chronicle
from simulation.clients import SimClient
from simulation.daemon import SimDaemon, fresh_folder, surroundings
from simulation.network import Network, Weather
from simulation.workers import SimHost, SimProcess, SimWorker
from taskmaster.bus import messages as m
from taskmaster.bus.errors import Fenced, RunClosed, TaskMasterError, UnknownRun
from taskmaster.bus.table import Table, pack_values
from taskmaster.daemon.master import MasterSpec

#: What the daemon may be waited for to commit, to kill it just before or after: that is when it matters, and seldom.
_AMBUSHES = (
    *("RunCreated", "WriterChanged", "RunChanged", "RunDeleted", "MasterChanged", "BlockAppended"),
    *("LeaseGranted", "LeaseEnded", "AttemptsCharged", "AttemptsCharged"),
    *("done", "cancelled", "held", "released", "closed"),
)

__all__ = ["Report", "World", "simulate"]

#: Virtual seconds in which everything has to come to rest once the faults have stopped.
SETTLE_SECONDS = 240.0
#: Steps that settling may take at most.
SETTLE_STEPS = 60_000


@dataclass(frozen=True)
class Report:
    """What one seed came to."""

    seed: int
    steps: int
    turns: int
    deaths: int
    executions: int
    deliveries: int
    seconds: float
    violation: str = ""
    trace: tuple[str, ...] = ()
    #: of its whole chronicle, where that was kept
    digest: str = ""


class World:
    """Everything there is. Drawn from ``seed`` alone."""

    def __init__(self, seed: int, folder: Path, *, trace: int = 0) -> None:
        self.seed = seed
        self.rng = rng = Random(seed)
        self.agenda = Agenda()
        self.chronicle = Chronicle(self.agenda, trace)
        self.note = self.chronicle.note
        self.weather = self._draw_weather()
        self.network = Network(self.agenda, rng, self.weather)
        self.drain = rng.choice((2, 16, 512))
        self.inline_bytes = rng.choice((64 << 10, 64 << 10, 64 << 10, 100))
        self.disk_full = 0
        #: the daemon is killed when it commits something of this kind
        self.ambush = ""
        self.pace = rng.choice((1.0, 5.0, 50.0))
        self.meddling = rng.choice((0.0, 0.1, 0.4))
        self._task_seconds = rng.choice((0.0005, 0.02, 0.5, 2.0))
        self._deadly = rng.random() < 0.6
        self._slow_starts = rng.random() < 0.1
        #: mean virtual seconds between accidents of each kind
        self._accidents = self._draw_accidents()
        self.specs = {spec.name: spec for spec in (self._draw_spec(k) for k in range(rng.choice((1, 1, 2, 3))))}
        #: every worker is on the daemon's machine
        self.local = rng.random() < 0.3
        self.pools = {
            name: (rng.choice((1, 2, 3) if self.local else (0, 1, 2, 3)), rng.choice((None, None, 1.0)))
            for name in self.specs
        }
        for name, spec in self.specs.items():
            if spec.people:
                self.pools[name] = (0, None)
        masters = self.specs.values()
        self._ambushes = (
            *_AMBUSHES,
            *(("Decided",) if any(spec.approval for spec in masters) else ()),
            *(("RequestClaimed", "ClaimEnded") if any(spec.people for spec in masters) else ()),
        )
        self.checker = Checker(self.specs)
        self.network.observer = self._observe
        self.network.names = self.chronicle.names
        self.workers: list[SimWorker] = []
        #: local workers whose progress files are still there
        self.unforgotten: dict[str, SimWorker] = {}
        #: descriptors of local processes that have ended and that the daemon has not been told of
        self.ended: list[int] = []
        self.clients: list[SimClient] = []
        self.calm = False
        self._numbers = 0
        self._processes = 0
        self.host = SimHost(self)
        self.daemon = SimDaemon(self, fresh_folder(folder))

    # -- drawing ------------------------------------------------------------------------------------------------------

    def _draw_weather(self) -> Weather:
        rng = self.rng
        if rng.random() < 0.2:
            return Weather()
        if rng.random() < 0.2:
            return Weather(near=0.03, far=0.3, spike=0.1, drop=0.3, stall=0.02, stragglers=True)
        return Weather(
            near=rng.choice((0.0002, 0.03)),
            far=rng.choice((0.001, 0.05, 0.5)),
            spike=rng.choice((0.0, 0.0, 0.01)),
            drop=rng.choice((0.0, 0.05, 0.5)),
            stall=rng.choice((0.0, 0.01, 0.05)),
            stragglers=rng.random() < 0.5,
        )

    def _draw_accidents(self) -> dict[str, float]:
        rng = self.rng
        often = rng.choice((0.2, 0.3, 1.0, 4.0))
        kinds = {
            "daemon": 6.0,
            "stop": 40.0,
            "worker": 2.0,
            "stopped": 6.0,
            "leave": 10.0,
            "connection": 1.0,
            "client": 8.0,
            "disk": 30.0,
            "arrival": 6.0,
        }
        return {kind: seconds * often for kind, seconds in kinds.items() if rng.random() < 0.7}

    def _draw_spec(self, k: int) -> MasterSpec:
        rng = self.rng
        name = f"m{k}"
        apart = Random(f"people in {self.seed} at {name}")  # so that the worlds of other Masters stay what they were
        parameters, outputs = tasks.schemas(name, declared=rng.random() < 0.5)
        return MasterSpec(
            name,
            "simulated",
            parameters,
            outputs,
            on_lost=rng.choice(("retry", "retry", "hold", "fail")),
            max_attempts=rng.choice((1, 2, 3)),
            max_queued_tasks=rng.choice((40, 10_000_000)),
            lost_after=rng.choice((3.0, 6.0)),
            approval=apart.random() < 0.15,
            people=apart.choice((1, 3)) if apart.random() < 0.1 else 0,
            claim_expires=5.0,
        )

    # -- asked by the others ------------------------------------------------------------------------------------------

    def next_task(self) -> int:
        self._numbers += 1
        return self._numbers

    def duration(self, n: int) -> float:
        if self.rng.random() < 0.01 and not self.calm:
            return 3.0 * self.rng.random()
        return self._task_seconds * (0.2 + self.rng.random())

    def kills(self, n: int) -> bool:
        return self._deadly and tasks.kills(n) and self.rng.random() < 0.8

    def unusable(self, worker: SimWorker) -> bool:
        return self._slow_starts and not self.calm and self.rng.random() < 0.3

    def commit_seconds(self) -> float:
        if self.weather.stall and self.rng.random() < self.weather.stall:
            return 5.0 * self.rng.random()
        return 0.0005 * self.rng.random()

    def disk_breaks(self) -> bool:
        return not self.calm and "disk" in self._accidents and self.rng.random() < 0.0005

    def wake_seconds(self) -> float:
        return 0.0002 * self.rng.random()

    def restart_seconds(self) -> float:
        return 0.1 + 2.0 * self.rng.random()

    def bare(self, value: Any) -> Table:
        return pack_values([value])

    def _observe(self, socket: str, to: bytes, frames: Any) -> None:
        self.chronicle.message("daemon →", to, frames[0])
        self.checker.said(socket, frames, far=self.network.names.get(to, "").startswith("far"))

    def spawn(self, master: str, now: float) -> SimProcess:
        """The daemon starts a local worker."""
        self._processes += 1
        slots = self.rng.choice((1, 1, 1, 3))
        worker = SimWorker(self, master, f"{master}-{self._processes}", self._processes, slots=slots, remote=False)
        self.workers.append(worker)
        self.unforgotten[worker.token] = worker
        self.note("{} starts", worker.name)
        return SimProcess(worker, now)

    def worker_ended(self, worker: SimWorker) -> None:
        """A worker's process is gone."""
        self.note("{} ends with status {}", worker.name, worker.status)
        self.workers.remove(worker)
        if not worker.remote:
            self.ended.append(100_000 + worker.pid)
            self.network.readable()
        elif self.calm or self.rng.random() < 0.6:
            self.agenda.after(self.rng.random() * 0.3, self.host.ended, worker, self.rng.random() < 0.8)
        else:
            self.host.gone(worker)

    def forgotten(self, worker: SimWorker) -> None:
        """The daemon has taken note of a local worker's end, and removed its progress file."""
        self.unforgotten.pop(worker.token, None)

    def opened(self, client: SimClient, opened: m.Opened) -> None:
        self.note("{} has opened run {} as writer {}", client.name, opened.run, opened.writer)

    def gave_up(self, client: SimClient, error: TaskMasterError) -> None:
        """A run has refused a client."""
        self.note("{} gives up: {}", client.name, error)
        if not isinstance(error, (Fenced, RunClosed, UnknownRun)):
            raise Violation(f"{client.name} was refused: {error!r}")
        if (
            isinstance(error, Fenced)
            and sum(
                other.writes and (other.master, other.run_name) == (client.master, client.run_name)
                for other in self.ever
            )
            < 2
        ):
            raise Violation(f"{client.name} was fenced off, and nobody else has ever opened its run")

    # -- accidents ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Put everything in place."""
        self.ever: list[SimClient] = []
        self.daemon.start()
        for name in self.specs:
            for _ in range(
                0 if self.local else self.rng.choice((1, 2)) if not self.pools[name][0] else self.rng.choice((0, 1, 2))
            ):
                self.arrive(name)
        for name in self.specs:
            for _ in range(self.rng.choice((1, 1, 2, 3))):
                self.join(name)
        for kind in self._accidents:
            self._plan(kind)

    def _plan(self, kind: str) -> None:
        self.agenda.after(self.rng.expovariate(1 / self._accidents[kind]), self._accident, kind)

    def _accident(self, kind: str) -> None:
        if self.calm:
            return
        self._plan(kind)
        self.note("accident: {}", kind)
        getattr(self, f"_accident_{kind}")()

    def _accident_daemon(self) -> None:
        chance = self.rng.random()
        if chance < 0.2:
            self.daemon.kill()
            self.ambush = self.rng.choice(("", "start"))
        elif chance < 0.6:
            self.ambush = self.rng.choice(self._ambushes)
        else:
            self.network.fuse.left = self.rng.choice((0, 1, 2, 3, 5, 8, 13))

    def _accident_stop(self) -> None:
        self.daemon.stop(self.rng.choice((0.0, 0.5, 5.0)))

    def _accident_worker(self) -> None:
        if self.workers:
            self.rng.choice(self.workers).die()

    def _accident_stopped(self) -> None:
        if self.workers:
            worker = self.rng.choice(self.workers)
            worker.stopped_until = self.agenda.now + 12.0 * self.rng.random()
            self.agenda.at(worker.stopped_until + 1e-6, worker.turn)

    def _accident_leave(self) -> None:
        if self.workers:
            worker = self.rng.choice(self.workers)
            if self.rng.random() < 0.5:
                worker.leave()
            else:
                worker.terminate()

    def _accident_connection(self) -> None:
        """A connection breaks; those of this machine do not."""
        far = [peer for peer in self.network.peers if peer.far]
        if far:
            self.network.cut(self.rng.choice(far))

    def _accident_client(self) -> None:
        if self.clients:
            client = self.rng.choice(self.clients)
            client.die()
            self.clients.remove(client)
            self.note("{} dies", client.name)
            self.join(client.master)

    def _accident_disk(self) -> None:
        self.disk_full = self.rng.randrange(1, 6)

    def _accident_arrival(self) -> None:
        if not self.local:
            self.arrive(self.rng.choice(list(self.specs)))

    def arrive(self, master: str) -> None:
        """A worker dials in, but not where people evaluate."""
        if self.specs[master].people:
            return
        self._processes += 1
        token = f"far-{self._processes}"
        worker = SimWorker(self, master, token, self._processes, slots=self.rng.choice((1, 1, 2)), remote=True)
        self.workers.append(worker)
        self.host.start(worker, self.agenda.monotonic())

    def join(self, master: str) -> None:
        """A client connects: to go on with a run, to begin one, or to watch."""
        rng = self.rng
        writes = rng.random() < 0.75 or not self.ever
        client = SimClient(
            self,
            f"client {len(self.ever)}",
            master,
            f"run {rng.randrange(3)}",
            writes=writes,
            since="start" if rng.random() < 0.8 else "now",
        )
        self.clients.append(client)
        self.ever.append(client)

    # -- rest ---------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Stop all faults; everything must come to its end."""
        self._calm_down()
        deadline = self.agenda.now + SETTLE_SECONDS
        steps = self.agenda.steps + SETTLE_STEPS
        look = self.agenda.now
        while self.agenda.now < deadline and self.agenda.steps < steps:
            self.agenda.step()
            if self.agenda.now >= look:
                look = self.agenda.now + 0.5
                if not self.restless():
                    break
        restless = self.restless()
        if restless:
            raise Violation(f"{len(restless)} things never came to rest: {'; '.join(restless[:8])}")
        self.checker.at_rest()

    def _calm_down(self) -> None:
        self.calm = True
        self.disk_full = 0
        self.ambush = ""
        self._task_seconds = min(self._task_seconds, 0.02)
        self.network.fuse.left = None
        weather = self.weather
        weather.spike = weather.drop = weather.stall = 0.0
        weather.far, weather.near = min(weather.far, 0.02), min(weather.near, 0.001)
        self.note("calm")
        if not self.daemon.up:
            self.daemon.start()
        for client in self.clients:
            client.calm = True
        for name in self.specs:
            client = SimClient(self, f"operator of {name}", name, "run 0", writes=False, since="start")
            client.calm = True
            self.clients.append(client)
            self.agenda.after(1.0, self._mend, client)

    def _mend(self, operator: SimClient) -> None:
        """Be the operator who puts everything right."""
        self.agenda.after(5.0, self._mend, operator)
        master = operator.master
        operator._request(m.Resume(0, master))
        if not self.specs[master].people:
            operator._request(m.SetWorkers(0, master, 2))
        for book in self.checker.ledger.books.values():
            if book.master == master and book.paused:
                operator._request(m.Resume(0, master, book.run), failed=operator._tolerate(UnknownRun))
            if book.master == master:
                operator.approve(book)
                operator.answer_all(book)

    def restless(self) -> list[str]:
        """What has not come to its end."""
        if not self.daemon.up:
            return ["the daemon is down"]
        found = self.checker.unfinished()
        found += [f"{client.name} {why}" for client in self.clients if (why := client.restless())]
        found += [f"{worker.name} holds leases" for worker in self.workers if not worker.protocol.idle]
        found += [f"Master {name} has leases" for name, master in self.daemon.core.masters.items() if master.busy]
        return found


def simulate(seed: int, steps: int, folder: Path, *, trace: int = 0) -> Report:
    """Run one seed for so many steps, then until everything is at rest."""
    world = World(seed, folder, trace=trace)
    violation = ""
    with surroundings(world):
        try:
            world.begin()
            while world.agenda.steps < steps:
                world.agenda.step()
            world.settle()
        except Violation as error:
            violation = str(error)
        except Exception:  # noqa: BLE001 - whatever the code under test raises is a finding
            violation = traceback.format_exc()
        finally:
            world.daemon.abandon()
    checker = world.checker
    return Report(
        seed,
        world.agenda.steps,
        world.daemon.turns,
        checker.deaths,
        checker.executions,
        checker.deliveries,
        world.agenda.now - 1000.0,
        violation,
        tuple(world.chronicle.lines),
        world.chronicle.digest,
    )
