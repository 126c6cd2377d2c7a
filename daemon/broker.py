"""The broker loop: the daemon's one thread, between the sockets and the journal.

A turn::

    drain the sockets (bounded)  →  decide (Core, sans-I/O)  →  early dispatches
                                 →  commit every record of the turn in one transaction
                                 →  release: dispatches, acknowledgements, events

Nothing leaves before it is on disk. While the disk syncs, the next turn's messages gather in the sockets, so load makes
larger transactions, not longer queues of small ones: this is group commit without a timer. The price is that one
message alone waits for one sync.

The exception is a repeatable task that was submitted in this very turn and meets an idle worker: its dispatch leaves
before the commit, so the worker computes while the disk syncs. If the daemon dies between the two, the task was
evaluated for nothing: nobody had been told that it was taken, and its client submits it again. A task that was
acknowledged before, or is not repeatable, is dispatched after its lease is on disk.

Rejected: a writer thread for the journal. It adds two thread switches to each turn, which cost more than the sync on a
fast disk, and on a slow one there is nothing to do meanwhile that the sockets do not already do.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import zmq

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.errors import DiskFull
from taskmaster.bus.status import DaemonStatus
from taskmaster.bus.text import entry
from taskmaster.daemon.alarms import AlarmBook
from taskmaster.daemon.answering import Answers, framed
from taskmaster.daemon.auditing import by_daemon
from taskmaster.daemon.core import Core
from taskmaster.daemon.dispatching import Dispatching
from taskmaster.daemon.effects import (
    BlockAppended,
    Effects,
    Forking,
    Publication,
    Query,
    Recheck,
    Verify,
    WasForked,
)
from taskmaster.daemon.forking import fork
from taskmaster.daemon.gatehouse import Gatehouse
from taskmaster.daemon.guardians import Guardians
from taskmaster.daemon.handover import Handover
from taskmaster.daemon.health import Pulse
from taskmaster.daemon.inquiries import Inquiries
from taskmaster.daemon.intake import Intake
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.audit import KEYS
from taskmaster.daemon.journal.clearing import Clearing
from taskmaster.daemon.journal.series import Pruning
from taskmaster.daemon.keychanges import KeyWatch
from taskmaster.daemon.publishing import Publisher
from taskmaster.daemon.space import Space
from taskmaster.daemon.supervision import Supervisor
from taskmaster.drivers.host import TERMINATE_SECONDS

__all__ = ["Broker", "Endpoints", "Keeper"]

log = logging.getLogger("taskmaster.daemon")

#: What workers have to go when a daemon is told for the second time to stop.
HURRY_SECONDS = 0.25

#: What heads may take to break off what they do, when the daemon stops and its grace is over.
REST_SECONDS = 5.0

#: Forks of one key that wait to be made.
MOST_FORKS = 8
#: Between looks at what nobody announces: silent workers, timeouts, free space.
TICK_SECONDS = 1.0
#: With keys, between glances at how much memory is taken by what is received, and at the file of keys: nobody announces
#: that either.
GLANCE_SECONDS = 0.1
#: While the disk is full, seconds between attempts to commit the turn that did not fit.
FULL_RETRY_SECONDS = 0.5


class Keeper(Protocol):
    """Looks after something beside what the daemon is for."""

    def look(self, now: float, ready: Mapping[int, int], out: Effects) -> None:
        """Decide what is due; ``ready`` has the file descriptors that the loop found readable."""

    def due(self) -> float:
        """When it wants to look again, monotonic; it is asked to each turn at any rate."""

    def committed(self) -> None:
        """What it has decided is on disk."""


@dataclass(frozen=True)
class Endpoints:
    """The daemon's bound sockets."""

    control: zmq.Socket[bytes]
    results: zmq.Socket[bytes]
    workers: zmq.Socket[bytes]
    #: what one message may have
    max_message: int = sockets.MAX_MESSAGE


class Broker:
    """Moves messages between sockets, :class:`Core` and :class:`Journal`. Runs in one thread, see :meth:`run`."""

    def __init__(
        self,
        core: Core,
        journal: Journal,
        endpoints: Endpoints,
        supervisor: Supervisor,
        guardians: Guardians,
        space: Space,
        status: Callable[[Broker], DaemonStatus],
        gatehouse: Gatehouse | None = None,
    ) -> None:
        self.core = core
        self.journal = journal
        self.supervisor = supervisor
        self.guardians = guardians
        self.space = space
        self.turns = 0
        #: set to have the loop end once nothing is leased, or at this time at the latest
        self.stop_at: float | None = None
        #: called each turn, after the commit: the watchdog's proof that the loop moves
        self.heartbeat: Callable[[], None] = lambda: None
        #: called while the loop stands still, since the disk has no room for what the turn has to write
        self.on_full: Callable[[], None] = lambda: None
        #: called once, when the loop has heard that it is to stop
        self.on_stop: Callable[[], None] = lambda: None
        #: how the loop is, for other threads
        self.pulse = Pulse(time.monotonic())
        #: called for the events that have become durable, and once a second
        self.on_events: Callable[[Sequence[Publication]], None] = lambda publications: None
        self.on_tick: Callable[[float, float], None] = lambda now, wall: None
        #: what an operator should know
        self.alarms = AlarmBook()
        #: called for each alarm when it is told; it must not take long
        self.on_alarm: Callable[[m.Alarm], None] = lambda alarm: None
        #: called when somebody may less than before: has all who follow results come in anew
        self.readmit: Callable[[], None] = lambda: None
        self._handover = Handover(endpoints.max_message)
        self._dispatching = Dispatching(endpoints.workers, self._handover)
        self._intake = Intake(endpoints.control, endpoints.workers, core, space, gatehouse, self._handover)
        self._inquiries = Inquiries(core, journal, self.alarms, lambda: status(self))
        self._endpoints = endpoints
        self.gatehouse = gatehouse
        self._publisher = Publisher(endpoints.results, core, gatehouse)
        self._answers = Answers(endpoints.control, self._inquiries.answer)
        #: one is made in a turn: that can take a second
        self._forks: list[Forking] = []
        self._pruning = Pruning(journal)
        #: what else has something to do now and then
        self.keepers: list[Keeper] = [Clearing(journal)]
        self._poller = zmq.Poller()
        for socket in (endpoints.control, endpoints.results, endpoints.workers):
            self._poller.register(socket, zmq.POLLIN)
        if gatehouse is not None:
            for ours in gatehouse.sockets:
                self._poller.register(ours, zmq.POLLIN)
        self._keys = KeyWatch(journal.meta(KEYS), gatehouse)
        self._readers: dict[int, Callable[[], object]] = {}
        self._next_tick = 0.0
        self._next_glance = math.inf if gatehouse is None else 0.0
        self._hurried = False

    def watch(self, descriptor: int, read: Callable[[], object] | None = None) -> None:
        """Wake the loop when a file descriptor becomes readable; ``read`` is then called (None: others see to it)."""
        self._poller.register(descriptor, zmq.POLLIN)
        if read is not None:
            self._readers[descriptor] = read

    def unwatch(self, descriptor: int) -> None:
        """Undo :meth:`watch`."""
        self._poller.unregister(descriptor)
        self._readers.pop(descriptor, None)

    def run(self) -> None:
        """Turn until stopped, then end the workers. Raises JournalError when nothing can be promised any more."""
        while self.stop_at is None:
            self.turn(self._poll())
        self.on_stop()
        while not self._finished():
            self.turn(self._poll())
        self._rest_heads()
        self._end_workers()

    def request_stop(self, grace: float) -> None:
        """Grant no further leases; end when those that are out have ended, or ``grace`` seconds from now."""
        self.core.draining = self.pulse.stopping = True
        self.stop_at = time.monotonic() + grace

    def hurry(self) -> None:
        """After :meth:`request_stop`, or amid it: end now. Workers are hardly left the time for their teardown."""
        self._hurried = True

    def _finished(self) -> bool:
        if self.stop_at is None:
            return False
        return self._hurried or not self.core.busy or time.monotonic() >= self.stop_at

    def _rest_heads(self) -> None:
        """Have heads break off what they still do, and hear how it ended; then they make themselves safe and go."""
        self.stop_at = time.monotonic() + (HURRY_SECONDS if self._hurried else REST_SECONDS)
        out = Effects(turn=self.turns + 1, wall=time.time())
        self.core.rest(out)
        self._urge(out)
        while self.core.busy_heads and time.monotonic() < self.stop_at:
            self.turn(self._poll())
        for note in self.core.workforce.rest():
            sockets.send(self._endpoints.workers, [note.address, codec.encode(note.message)])

    def _urge(self, out: Effects) -> None:
        for note in out.urgent:
            sockets.send(self._endpoints.workers, [note.address, codec.encode(note.message)])

    def _end_workers(self) -> None:
        goodbye = codec.encode(m.Goodbye("the daemon stops", drain=False))
        for master in self.core.masters.values():
            for worker in master.workers.values():
                if worker.local:
                    sockets.send(self._endpoints.workers, [worker.address, goodbye])
        out = Effects(turn=self.turns + 1, wall=time.time())
        self.supervisor.stop(out, HURRY_SECONDS if self._hurried else TERMINATE_SECONDS)
        self.core.record_counts(out)
        self.core.series.flush(time.monotonic(), out)
        if out.records:
            self._commit(out)
        self._record_end()
        self.supervisor.committed()
        self.guardians.await_end(HURRY_SECONDS if self._hurried else TERMINATE_SECONDS)

    def _record_end(self) -> None:
        """Put on record that the daemon stops; on a full disk it does so all the same."""
        out = Effects(turn=self.turns + 1, wall=time.time())
        self.core.auditor.flush(out)
        by_daemon("end", out)
        try:
            self._commit(out)
            self._remark(out)
        except DiskFull as error:
            log.warning("that the daemon stops is not on record: %s", error)

    def _poll(self) -> dict[Any, int]:
        now = time.monotonic()
        core = self.core
        until = min(self._next_tick, self._next_glance, self.supervisor.due(now), core.look_again, self._answers.due)
        until = min(
            until,
            self._publisher.outbox.due,
            self.stop_at or math.inf,
            self.guardians.next_look,
            *(k.due() for k in self.keepers),
        )
        timeout = 0 if self._forks else max(0, round((until - now) * 1e3 + 0.5))
        return dict(self._poller.poll(timeout))

    # -- a turn -------------------------------------------------------------------------------------------------------

    def turn(self, ready: dict[Any, int]) -> None:
        """One turn for the sockets that are ``ready``."""
        self.turns += 1
        out = Effects(turn=self.turns, wall=time.time())
        now = self.pulse.turned = time.monotonic()
        self._intake.begin_turn()
        if self.gatehouse is not None:
            self.gatehouse.serve(ready, now)
            if self.gatehouse.doorkeeper.is_crowded:
                self._intake.look_ahead()
            if now >= self._next_glance:
                self._next_glance = now + GLANCE_SECONDS
                self.gatehouse.glance(now)
        if self._endpoints.workers in ready:
            self._intake.take_from_workers(now, out)
        if self._endpoints.control in ready:
            self._intake.take_from_clients(now, out)
        for descriptor, read in self._readers.items():
            if descriptor in ready:
                read()
        self.supervisor.look(now, ready, out)
        self.guardians.look(now, ready, out)
        for keeper in self.keepers:
            keeper.look(now, ready, out)
        ticks = now >= self._next_tick
        if ticks:
            self._next_tick = now + TICK_SECONDS
            self._tick(now, out)
        elif self.gatehouse is not None and self.gatehouse.file.is_read:
            self._look_at_keys(out)  # whose key is revoked is not to be served till the next tick
        self.core.end_turn(now, out)
        self._urge(out)
        self._dispatching.dispatch(out.early)
        if out.records:
            self._commit(out)
        self.supervisor.committed()
        for keeper in self.keepers:
            keeper.committed()
        self._publisher.outbox.retry(now)
        self._release(out)
        self._answers.give(now)
        # Beacons say where the events on disk end, so they too come after the commit.
        if self._endpoints.results in ready:
            self._publisher.on_subscriptions()
        if ticks:
            self._publisher.beacons()
            self._answers.tidy()
            self._tell(self.alarms.look(now, out.wall))
            self.on_tick(now, out.wall)
        self.heartbeat()

    def _tick(self, now: float, out: Effects) -> None:
        self.core.on_tick(now, out)
        self._pruning.look(out.wall, out)
        self.space.look()
        self._handover.look(self.core.workforce.addresses)
        self._intake.look()
        self._look_at_keys(out)
        self.journal.checkpoint(idle=not out.records)

    def _look_at_keys(self, out: Effects) -> None:
        """Once in a while, and when their file was read: whether keys have come, gone or expired."""
        if not self._keys.look(out) or self.gatehouse is None:
            return
        in_force = self.gatehouse.gate.is_in_force
        self._answers.forget(lambda peer: not in_force(peer))
        self._forks = [forking for forking in self._forks if in_force(forking.sender.peer)]
        self.core.workforce.dismiss(lambda peer: not in_force(peer), out)
        self.readmit()
        self._publisher.on_readmitted()

    # -- making durable -----------------------------------------------------------------------------------------------

    def _commit(self, out: Effects) -> None:
        """Commit the turn. Where the disk is full, use the room kept back, and wait for more if even that is gone."""
        attempts = 0
        self.pulse.committing = time.monotonic()
        while True:
            try:
                files = self.journal.commit(out.records)
                break
            except DiskFull as error:
                if not self.space.use_reserve():
                    if self.stop_at is not None:
                        raise  # nothing of this turn was promised to anybody
                    if not attempts:
                        self._wait_for_room(error, out.wall)
                    attempts += 1
                    self.on_full()
                    if self.gatehouse is not None:
                        self.gatehouse.look_at_connections(time.monotonic(), stands=True)
                    time.sleep(FULL_RETRY_SECONDS)
        self.pulse.committing = None
        self.pulse.waits = ""
        self.journal.checkpoint(idle=False)
        for position, name in files.items():
            record = out.records[position]
            if isinstance(record, BlockAppended):  # from here on the file holds it, neither memory nor a descriptor
                record.block.table = self.journal.stored_table(record.table.layout, record.n, None, name)

    def _wait_for_room(self, error: DiskFull, wall: float) -> None:
        self.pulse.waits = f"{error}; nothing is lost, the daemon waits for room"
        alarm = m.Alarm("critical", "disk", self.pulse.waits, wall, "disk_low")
        self._tell(self.alarms.note([alarm], time.monotonic()))

    # -- releasing ----------------------------------------------------------------------------------------------------

    def _release(self, out: Effects) -> None:
        control, workers = self._endpoints.control, self._endpoints.workers
        for note in out.to_workers:  # first: a worker drops what is dispatched before its welcome
            message = note.message
            if isinstance(message, m.Welcome):
                message = self._handover.welcome(note.address, message)
            sockets.send(workers, [note.address, codec.encode(message)])
        self._dispatching.dispatch(out.dispatches)
        for address, returned in self._handover.returns():
            sockets.send(workers, [address, codec.encode(returned)])
        for asked in out.questions:
            frames = [frame for table in asked.tables for frame in table.frames]
            sockets.send(workers, [asked.address, codec.encode(asked.message), *frames])
        self._publisher.series.publish(out.news)  # before the events: what ends a task comes after its progress
        self._publisher.publish(out.publications)
        self.on_events(out.publications)
        for master in out.waiting:
            self._publisher.waiting(master)
        for reply in out.replies:
            sockets.send(control, [reply.address, *framed(reply.message, reply.frames)])
        for verification in out.verifications:
            self._reply_to(verification)
        for forking in out.forks:
            self._await_fork(forking)
        if self._forks:
            forking = self._forks.pop(0)
            answer = fork(self.core, self.journal, self.space, forking, out.wall, self._charge)
            if isinstance(answer, m.Forked):
                sender = forking.sender
                self._answers.ask(Query(sender.address, WasForked(answer.id, answer.run.run), sender.peer))
            else:
                sockets.send(control, [forking.sender.address, *framed(answer)])
        for query in out.queries:
            self._answers.ask(query)
        for interrupt in out.interrupts:
            self.supervisor.interrupt(interrupt)
        for scaling in out.scalings:
            self.supervisor.scale(scaling.master, scaling.count)
        if out.alarms:
            self._tell(self.alarms.note(out.alarms, time.monotonic()))
        self._remark(out)

    def _await_fork(self, forking: Forking) -> None:
        """Have it made when it is its turn: after those that wait, but before the second of one key, and so on."""
        user = forking.sender.user
        waiting: Counter[str] = Counter()
        place = len(self._forks)
        rank = sum(waits.sender.user == user for waits in self._forks)
        if rank >= MOST_FORKS and not forking.sender.peer.is_local:
            said = f"{rank} forks for key {user!r} wait to be made; ask again when these are there"
            refused = m.Refused("full", said, forking.message.id)
            sockets.send(self._endpoints.control, [forking.sender.address, *framed(refused)])
            return
        for k, waits in enumerate(self._forks):
            if waiting[waits.sender.user] > rank:
                place = k
                break
            waiting[waits.sender.user] += 1
        self._forks.insert(place, forking)

    def _charge(self, user: str, tokens: float) -> None:
        if self.gatehouse is not None:
            self.gatehouse.bounds.spend(user, tokens)

    @staticmethod
    def _remark(out: Effects) -> None:
        """Say it in the log: each as one entry, also where a peer has written some of it."""
        for is_bad, text in out.remarks:
            log.log(logging.WARNING if is_bad else logging.INFO, "%s", entry(text))

    def _tell(self, alarms: Sequence[m.Alarm]) -> None:
        """Say it in the log, on the bus, and to whoever else is to know."""
        for alarm in alarms:
            if alarm.state == "cleared":
                log.info("over: %s", entry(alarm.message))
            else:
                log.log(getattr(logging, alarm.level.upper(), logging.WARNING), "%s", entry(alarm.message))
            self._publisher.alarm(alarm)
            self.on_alarm(alarm)

    def _reply_to(self, asked: Verify | Recheck) -> None:
        """The answer has to be looked up; what is to be on record of it is on disk before it is told."""
        if isinstance(asked, Verify):
            reply = self._inquiries.verify(asked)
        else:
            out = Effects(wall=time.time() if asked.entry is None else asked.entry.time)
            reply = self._inquiries.recheck(asked, out)
            if out.records:
                self._commit(out)
            self._remark(out)
        if reply is not None:
            sockets.send(self._endpoints.control, [asked.address, *framed(reply)])

    # -- how it is ----------------------------------------------------------------------------------------------------

    def status(self) -> DaemonStatus:
        """How everything is; with thousands of workers, as it was a moment ago."""
        return self._inquiries.status()

    @property
    def dropped(self) -> int:
        """Messages that did not fit the protocol."""
        return self._intake.dropped

    @property
    def strangers(self) -> int:
        """Messages of peers that are not let in (any more)."""
        return self._intake.strangers
