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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import zmq
from msgspec.structs import replace

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.errors import CallerError, DiskFull, NotAllowed, ProtocolError, TaskMasterError
from taskmaster.bus.status import DaemonStatus, MasterStatus
from taskmaster.bus.table import Buffer, Table
from taskmaster.config.authorised import Grant
from taskmaster.daemon.alarms import AlarmBook
from taskmaster.daemon.answering import Answer, Answers, Question, framed
from taskmaster.daemon.auditing import by_daemon, cut, put
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import BlockAppended, Dispatched, Effects, Publication, Recheck, Reply, Sender, Verify
from taskmaster.daemon.forking import fork
from taskmaster.daemon.gate import Gatehouse
from taskmaster.daemon.guardians import Guardians
from taskmaster.daemon.health import Pulse
from taskmaster.daemon.journal import Journal, sql
from taskmaster.daemon.journal.asks import read_asks
from taskmaster.daemon.journal.audit import KEYS, read_audit
from taskmaster.daemon.journal.clearing import Clearing
from taskmaster.daemon.journal.pages import read_page, recheck, same_block
from taskmaster.daemon.journal.series import Pruning
from taskmaster.daemon.journal.seriespages import read_series
from taskmaster.daemon.journal.writers import read_writers
from taskmaster.daemon.keychanges import KeyWatch
from taskmaster.daemon.publishing import Publisher
from taskmaster.daemon.roles import LOCAL, Peer
from taskmaster.daemon.space import Space
from taskmaster.daemon.supervision import Supervisor
from taskmaster.drivers.host import TERMINATE_SECONDS

__all__ = ["DRAIN_BYTES", "Broker", "Endpoints", "Keeper"]

log = logging.getLogger("taskmaster.daemon")

#: What workers have to go when a daemon is told for the second time to stop.
HURRY_SECONDS = 0.25

#: What heads may take to break off what they do, when the daemon stops and its grace is over.
REST_SECONDS = 5.0

#: Messages taken from one socket in one turn. Bounds a turn's memory and how long the other sockets wait.
DRAIN_MESSAGES = 512
#: Payload bytes after which a turn takes no more …
DRAIN_BYTES = 64 << 20
#: … and tasks, for of those that hold a word each few bytes are many to look at.
DRAIN_ROWS = 256 << 10
#: Between looks at what nobody announces: silent workers, timeouts, free space.
TICK_SECONDS = 1.0
#: A status that took longer than this to find out holds for so many times as long: nobody is to keep the loop busy with
#: questions that take a few bytes.
_QUICK_STATUS_SECONDS, _STATUS_REST = 0.01, 20.0
#: Workers of a Master that are listed in an answer.
MOST_LISTED = 500
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
        self.dropped = 0
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
        #: messages of peers that are not let in (any more)
        self.strangers = 0
        #: called when somebody may less than before: has all who follow results come in anew
        self.readmit: Callable[[], None] = lambda: None
        self._status = status
        self._endpoints = endpoints
        self.gatehouse = gatehouse
        if gatehouse is None:
            self._publisher = Publisher(endpoints.results, core)
        else:
            self._publisher = Publisher(endpoints.results, core, gatehouse.gate.peer, gatehouse.bears)
        self._answers = Answers(endpoints.control, self._answer)
        self._pruning = Pruning(journal)
        #: what else has something to do now and then
        self.keepers: list[Keeper] = [Clearing(journal)]
        self._poller = zmq.Poller()
        for socket in (endpoints.control, endpoints.results, endpoints.workers):
            self._poller.register(socket, zmq.POLLIN)
        if gatehouse is not None:
            for ours in gatehouse.sockets:
                self._poller.register(ours, zmq.POLLIN)
        self._keys = KeyWatch(journal.meta(KEYS))
        #: the keys of which the changes are on record, and until when they are all in force
        self._noted_keys: tuple[Sequence[Grant], float] | None = None
        self._origins = {socket: sockets.Origins() for socket in (endpoints.control, endpoints.workers)}
        self._readers: dict[int, Callable[[], object]] = {}
        self._client_decoder = codec.client_decoder()
        self._worker_decoder = codec.worker_decoder()
        self._next_tick = 0.0
        self._known_status: DaemonStatus | None = None
        self._status_until = 0.0
        self._drained_bytes = self._drained_rows = 0
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
        until = min(self._next_tick, self.supervisor.due(now), core.look_again, self._answers.due)
        until = min(until, self.stop_at or math.inf, self.guardians.next_look, *(k.due() for k in self.keepers))
        timeout = max(0, round((until - now) * 1e3 + 0.5))
        return dict(self._poller.poll(timeout))

    # -- a turn -------------------------------------------------------------------------------------------------------

    def turn(self, ready: dict[Any, int]) -> None:
        """One turn for the sockets that are ``ready``."""
        self.turns += 1
        out = Effects(turn=self.turns, wall=time.time())
        now = self.pulse.turned = time.monotonic()
        self._drained_bytes = self._drained_rows = 0
        if self.gatehouse is not None:
            self.gatehouse.serve(ready, now)
        if self._endpoints.workers in ready:
            self._drain(self._endpoints.workers, self._on_worker, now, out)
        if self._endpoints.control in ready:
            self._drain(self._endpoints.control, self._on_client, now, out)
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
        self.core.end_turn(now, out)
        self._urge(out)
        for dispatch in out.early:
            self._dispatch(dispatch)
        if out.records:
            self._commit(out)
        self.supervisor.committed()
        for keeper in self.keepers:
            keeper.committed()
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

    def _drain(
        self,
        socket: zmq.Socket[bytes],
        handle: Callable[[Sender, list[bytes], float, Effects], None],
        now: float,
        out: Effects,
    ) -> None:
        origins = self._origins[socket]
        for _ in range(DRAIN_MESSAGES):
            peer = LOCAL
            if self.gatehouse is None:
                frames = sockets.receive(socket, origins=origins)
                if frames is None:
                    return
            else:
                received = sockets.receive_from(socket, origins=origins)
                if received is None:
                    return
                frames, user, origin = received
                known = self.gatehouse.gate.peer(user)
                if known is None:
                    self._refuse_stranger(socket, frames, user, out)
                    continue
                if not self.gatehouse.bears(known, frames, origin):
                    continue
                peer = known
            try:
                if len(frames) < 2:
                    raise ProtocolError("a message without a header, or of too many frames")
                handle(Sender(frames[0], peer.name, peer, origins.of(frames[0])), frames, now, out)
            except ProtocolError as error:
                self._reject(socket, frames, error)
            if self._drained_bytes > DRAIN_BYTES or self._drained_rows > DRAIN_ROWS:
                return

    def _refuse_stranger(self, socket: zmq.Socket[bytes], frames: Sequence[bytes], user: str, out: Effects) -> None:
        """A message of somebody whose key was in force when they came, and is not any more."""
        self.strangers += 1
        if self.strangers & (self.strangers - 1) == 0:
            log.warning("refused message %d of peers whose keys are not in force any more", self.strangers)
        error = NotAllowed("your key is not in force here any more; ask the daemon's operator")
        origin = self._origins[socket].of(frames[0]) if frames else ""
        self.core.auditor.stranger(user, origin, str(error), out)
        if len(frames) >= 2 and socket is self._endpoints.control:
            refused = m.Refused(error.code, str(error), codec.request_id(frames[1]))
            out.replies.append(Reply(frames[0], refused))

    def _on_client(self, sender: Sender, frames: list[bytes], now: float, out: Effects) -> None:
        message = self._client_decoder.decode(frames[1])
        table: Table | None = None
        if len(frames) > 2 or isinstance(message, m.Submit):
            layout = getattr(message, "layout", None)
            table = codec.table_of(layout, message.n if isinstance(message, m.Submit) else 1, frames[2:])
            self._count(table)
        if self.gatehouse is not None:
            self.gatehouse.bounds.charge(sender.user, message)
        if isinstance(message, m.Submit) and not self.space.admits(table.nbytes if table is not None else 0):
            self.core.refuse(sender, message, self.space.error(), out)
            return
        self.core.on_client(sender, message, table, out)

    def _on_worker(self, sender: Sender, frames: list[bytes], now: float, out: Effects) -> None:
        message = self._worker_decoder.decode(frames[1])
        table: Table | None = None
        times: Buffer | None = None
        if isinstance(message, m.Outcome):
            head = m.EventHead(
                0, message.n, "done", 0, len(frames) - 2, message.outputs, message.errors, timed=message.timed
            )
            table, times, _ = codec.event_tables(head, frames[2:])
            self._count(table)
        elif isinstance(message, m.Reconciled) and message.layout is not None:
            table = codec.table_of(message.layout, 1, frames[2:])
            self._count(table)
        elif len(frames) > 2:
            raise ProtocolError("frames that no layout speaks of")
        if isinstance(message, (m.Progress, m.Samples)) and not self.space.room:
            self.core.series.dropped += 1  # what room there is, is for outcomes
            return
        self.core.workforce.on_worker(sender, message, table, times, now, out)

    def _count(self, table: Table | None) -> None:
        if table is not None:
            self._drained_bytes += table.nbytes
            self._drained_rows += table.n

    def _reject(self, socket: zmq.Socket[bytes], frames: Sequence[bytes], error: ProtocolError) -> None:
        """A message that does not fit the protocol: counted, and answered if there is somebody to answer."""
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:  # 1, 2, 4, 8, …: a flood must not fill the log
            log.warning("dropped message %d: %s", self.dropped, error)
        if len(frames) >= 2:
            number = codec.request_id(frames[1]) if socket is self._endpoints.control else 0
            sockets.send(socket, [frames[0], codec.encode(m.Refused(error.code, str(error), number))])

    def _tick(self, now: float, out: Effects) -> None:
        self.core.on_tick(now, out)
        self._pruning.look(out.wall, out)
        self.space.look()
        self._look_at_keys(out)
        self.journal.checkpoint(idle=not out.records)

    def _look_at_keys(self, out: Effects) -> None:
        """Once in a while: whether keys have come, gone or expired."""
        if self.gatehouse is None:
            self._keys.look((), out.wall, "the configuration", out)
            return
        before = self.gatehouse.refusal
        narrowed = self.gatehouse.look(out.wall)
        gate = self.gatehouse.gate
        if self._noted_keys != (noted := (gate.grants, gate.next_expiry)):
            self._noted_keys = noted
            self._keys.look(gate.grants, out.wall, self.gatehouse.file.origin, out)
        refusal = self.gatehouse.refusal
        if refusal and refusal != before:  # also where it is another mistake
            out.alarms.append(m.Alarm("error", "keys", refusal, out.wall, "authenticator"))
        if not narrowed:
            return
        in_force = self.gatehouse.gate.is_in_force
        self._answers.forget(lambda peer: not in_force(peer))
        self.core.workforce.dismiss(lambda peer: not in_force(peer), out)
        self.readmit()

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
                        self.gatehouse.look_at_connections(time.monotonic())
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
            sockets.send(workers, [note.address, codec.encode(note.message)])
        for dispatch in out.dispatches:
            self._dispatch(dispatch)
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
            if isinstance(verification, Recheck):
                self._recheck(verification)
            else:
                self._verify(verification)
        for forking in out.forks:
            answer = fork(self.core, self.journal, self.space, forking, out.wall)
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

    @staticmethod
    def _remark(out: Effects) -> None:
        for is_bad, text in out.remarks:
            log.log(logging.WARNING if is_bad else logging.INFO, "%s", text)

    def _tell(self, alarms: Sequence[m.Alarm]) -> None:
        """Say it in the log, on the bus, and to whoever else is to know."""
        for alarm in alarms:
            if alarm.state == "cleared":
                log.info("over: %s", alarm.message)
            else:
                log.log(getattr(logging, alarm.level.upper(), logging.WARNING), "%s", alarm.message)
            self._publisher.alarm(alarm)
            self.on_alarm(alarm)

    def _dispatch(self, dispatch: Dispatched) -> None:
        tables = dispatch.tables
        table = tables[0] if len(tables) == 1 else codec.concatenate(tables)
        # An unreachable worker is found out by the count of dispatches in its next `Settled`, or by its silence.
        sockets.send(self._endpoints.workers, [dispatch.address, codec.encode(dispatch.message), *table.frames])

    def _verify(self, verification: Verify) -> None:
        """A submission that was there before: the same again, or another under its number?"""
        submit, run = verification.submit, self.core.runs.get(verification.submit.run)
        if run is None:
            return
        reply: m.DaemonMessage
        if same_block(self.journal, submit, verification.table):
            reply = m.Ack(submit.run, run.next_index, run.writer)
        else:
            reply = m.Refused(
                "conflict",
                f"run {run.name!r} of Master {run.master!r} has other tasks under the numbers {submit.first} to "
                f"{submit.first + submit.n - 1}; open the run again and go on from task {run.next_index}",
                0,
                submit.run,
                submit.first,
                run.next_index,
                submit.writer,
            )
        sockets.send(self._endpoints.control, [verification.address, *framed(reply)])

    def _recheck(self, said: Recheck) -> None:
        """An answer to a task that has ended: this one, or another?"""
        reply: m.DaemonMessage
        try:
            reply = recheck(self.journal, self.core.run(said.answer.run), said)
        except TaskMasterError as error:
            if not isinstance(error, CallerError):
                log.error("%s", error)
            reply = m.Refused(error.code, str(error), said.answer.id)
        if said.entry is not None:  # which is known only now, and on disk before it is told
            became = {} if isinstance(reply, m.Done) else {"outcome": "refused", "why": cut(reply.message)}
            out = Effects(wall=said.entry.time)
            put(replace(said.entry, **became), out)
            self._commit(out)
            self._remark(out)
        sockets.send(self._endpoints.control, [said.address, *framed(reply)])

    def _submitted_at(self, run: int, index: int) -> float:
        return float(self.journal.query(sql.SUBMITTED_AT, (run, index)).get or 0.0)

    def _answer(self, question: Question, peer: Peer) -> Answer:
        try:
            if isinstance(question, m.Replay):
                return read_page(self.journal, self.core.run(question.run), question)
            if isinstance(question, m.ReadAsks):
                return read_asks(self.journal, self.core.run(question.run), question)
            if isinstance(question, m.ReadWriters):
                return read_writers(self.journal, self.core.run(question.run), question), ()
            if isinstance(question, m.ReadAudit):
                return read_audit(self.journal, question), ()
            if isinstance(question, m.ListHeld):
                return self.core.held_list(question, peer), ()
            if isinstance(question, m.ListAlarms):
                return m.AlarmList(question.id, self.alarms.infos(peer)), ()
            if isinstance(question, (m.ReadProgress, m.ReadSamples)):
                return self._series(question), ()
            if isinstance(question, m.ListRequests):
                return self.core.people.request_list(question, self._submitted_at, peer), ()
            if isinstance(question, m.ListProposed):
                return self.core.people.proposed_list(question, self._submitted_at, peer), ()
            return m.StatusReport(question.id, self._status_for(peer)), ()
        except TaskMasterError as error:
            log.error("%s", error)
            return m.Refused(error.code, str(error), question.id), ()

    def status(self) -> DaemonStatus:
        """How everything is; with thousands of workers, as it was a moment ago, for to find out takes a while then."""
        began = time.monotonic()
        if self._known_status is None or began >= self._status_until:
            self._known_status = self._status(self)
            took = time.monotonic() - began
            self._status_until = began + (took * _STATUS_REST if took > _QUICK_STATUS_SECONDS else 0.0)
        return self._known_status

    def _status_for(self, peer: Peer) -> DaemonStatus:
        """The same without the Masters that somebody may not know of, and without most of thousands of workers."""
        status = self.status()
        masters = tuple(_shortened(master) for master in status.masters if peer.sees(master.name))
        if not peer.is_bounded:
            return replace(status, masters=masters)
        return replace(status, masters=masters, alarms=len(self.alarms.infos(peer)))

    def _series(self, question: m.ReadProgress | m.ReadSamples) -> m.SeriesPage:
        units = self.core.masters[question.master].spec.units if isinstance(question, m.ReadSamples) else {}
        return read_series(self.journal, self.core.series, question, units)


def _shortened(master: MasterStatus) -> MasterStatus:
    more = len(master.workers) - MOST_LISTED
    return master if more <= 0 else replace(master, workers=master.workers[:MOST_LISTED], unlisted=more)
