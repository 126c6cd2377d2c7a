"""The daemon's decisions as a whole: which Master, run and worker a message concerns, and what it is answered.

Sans-I/O, like the Masters below it: messages come in decoded, with the address and the user they came from; what
follows is appended to the turn's :class:`~taskmaster.daemon.effects.Effects`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import (
    CallerError,
    Conflict,
    Gap,
    NotAllowed,
    TaskMasterError,
    UnknownRun,
    VersionMismatch,
)
from taskmaster.bus.status import MasterStatus
from taskmaster.bus.table import Table
from taskmaster.daemon.acknowledging import Acknowledging
from taskmaster.daemon.auditing import ON_RECORD, Auditor
from taskmaster.daemon.effects import (
    AsksNoted,
    Effects,
    Query,
    Reply,
    RunDeleted,
    Sender,
    Verify,
)
from taskmaster.daemon.master import Master
from taskmaster.daemon.opening import Opening, check_priority
from taskmaster.daemon.operators import Operators
from taskmaster.daemon.people import People, who_says
from taskmaster.daemon.permitting import Permitting
from taskmaster.daemon.roles import LOCAL, Peer, Right
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import Runs, no_run, still_open
from taskmaster.daemon.series import SeriesBook
from taskmaster.daemon.status import master_status
from taskmaster.daemon.workforce import Workforce, as_seen_by, known_master

__all__ = ["Core", "Identity"]

#: Having been still for so long (suspended, or waiting for a disk), the daemon holds nobody's silence against them.
STALL_SECONDS = 3.0
#: Bytes of a list of tasks in doubt in one message: hundreds, whose inputs have to be read.
_HELD_BYTES = 64 << 10


@dataclass(frozen=True)
class Identity:
    """What the daemon says of itself to whoever asks."""

    name: str
    epoch: int
    results: str = ""
    workers: str = ""
    max_message: int = 64 << 20
    #: where results are published to who comes by a Unix socket; empty where that is the same
    near_results: str = ""


class Core:
    """All Masters, runs and workers of one daemon."""

    def __init__(self, identity: Identity, masters: Iterable[Master], new_seed: Callable[[], int]) -> None:
        self.identity = identity
        self.masters = {master.spec.name: master for master in masters}
        numbers = count(1)
        for master in self.masters.values():
            master.lease_numbers = numbers
        self.series = SeriesBook(identity.epoch, self._is_open)
        self.workforce = Workforce(self.masters, self.series)
        self.runs = Runs(self.masters)
        self.auditor = Auditor(self.masters, self.runs)
        self.workforce.denied = self.auditor.denied
        self.people = People(self.masters, self.runs)
        self.operators = Operators(self.masters, self.series)
        self.acknowledging = Acknowledging(self.runs)
        self.opening = Opening(self.masters, self.runs, new_seed)
        self._permitting = Permitting(self.masters, self.runs)
        #: no further leases: the daemon is about to stop
        self.draining = False
        #: when a turn should be made though nothing may have happened
        self.look_again = math.inf
        self._last_tick = math.inf
        #: runs whose counts in the journal lag behind
        self._uncounted: dict[int, Run] = {}
        self._handlers: dict[type, Callable[[Sender, Any, Table | None, Effects], None]] = {
            m.Describe: self._query,
            m.Open: self.opening.open,
            m.Submit: self._submit,
            m.Cancel: self._cancel,
            m.Replay: self._query,
            m.ReadAsks: self._query,
            m.ReadWriters: self._query,
            m.NoteAsks: self._note_asks,
            m.NoteWriter: self.opening.note_writer,
            m.Fork: self.opening.fork,
            m.Status: self._query,
            m.Pause: self._pause,
            m.Resume: self._pause,
            m.Prioritise: self._prioritise,
            m.Close: self._close,
            m.Delete: self._delete,
            m.Resolve: self._resolve,
            m.SetWorkers: self._set_workers,
            m.ListRuns: self._query,
            m.ListHeld: self._query,
            m.ListHeads: self._query,
            m.ReadProgress: self._query,
            m.ReadSamples: self.operators.read_samples,
            m.SetHead: self.operators.set_head,
            m.Stop: self.operators.stop,
            m.Reset: self.operators.stop,
            m.ListRequests: self.people.query,
            m.Claim: self.people.claim,
            m.Release: self.people.release,
            m.Answer: self.people.answer,
            m.ListProposed: self.people.query,
            m.Approve: self.people.decide,
            m.Reject: self.people.decide,
            m.Edit: self.people.edit,
            m.ListAlarms: self._query,
            m.Prune: self._prune,
            m.ReadAudit: self._query,
            m.Ping: self._ping,
        }

    # -- a turn -------------------------------------------------------------------------------------------------------

    def on_client(self, sender: Sender, message: m.ClientMessage, table: Table | None, out: Effects) -> None:
        """A client's message, with the table that came in its frames."""
        account = None
        try:
            if not sender.peer.is_local:
                self._permitting.check(sender.peer, message)
        except (NotAllowed, UnknownRun) as error:
            if isinstance(error, NotAllowed) or getattr(message, "run", None) in self.runs:
                self.auditor.denied(sender, message, error, out)
            self.refuse(sender, message, error, out)
            return
        try:
            if type(message) in ON_RECORD:
                account = self.auditor.begin(sender, message, out)
            self._handlers[type(message)](sender, message, table, out)
            if account is not None:
                self.auditor.end(account, out)
        except TaskMasterError as error:
            if account is not None:
                self.auditor.failed(account, error, out)
            self.refuse(sender, message, as_seen_by(sender.peer, error), out)

    def end_turn(self, now: float, out: Effects) -> None:
        """After the last message of a turn: dispatch, acknowledge."""
        self.opening.begin_turn()
        self.look_again = math.inf
        for master in self.masters.values():
            if master.requests:
                self.look_again = min(self.look_again, master.requests.expire(now, out))
            if not self.draining:
                master.dispatch(now, out)
                self.look_again = min(self.look_again, master.look_again)
        for name in out.waiting:
            self.masters[name].changes += 1
        if out.touched:
            self._uncounted.update(out.touched)
        self.series.end_turn(now, out)
        self.look_again = min(self.look_again, self.series.due)
        self.acknowledging.end_turn(now, out)
        self.look_again = min(self.look_again, self.acknowledging.due)

    def rest(self, out: Effects) -> None:
        """The daemon stops, and has waited as long as it was to: heads are to break off what they still do."""
        for master in self.masters.values():
            if not master.spec.outlives:
                master.heads.rest(out)

    def on_tick(self, now: float, out: Effects) -> None:
        """Once in a while: notice silence, settle with workers that get no dispatches, record what can wait."""
        if now - self._last_tick > STALL_SECONDS:
            for master in self.masters.values():
                master.on_stall(now - self._last_tick)
            self.workforce.on_stall(now - self._last_tick)
        self._last_tick = now
        for master in self.masters.values():
            master.on_tick(now, out)
            master.settle_idle(out)
            master.record_leases(now, out)
        self.auditor.look(now, out)
        self.workforce.forget_former()
        self.workforce.look_at_guardians(now, out)
        self.record_counts(out)
        self.runs.lay_aside(
            {run.id for master in self.masters.values() for run in master.leased_runs} | out.touched.keys()
        )

    def record_counts(self, out: Effects) -> None:
        """Record where changed runs stand, which a start need not count then; and what heads have done."""
        for master in self.masters.values():
            master.heads.record_counts(out)
        out.records.extend(run.counted() for run in self._uncounted.values() if run.id in self.runs)
        self.runs.touched({number: run for number, run in self._uncounted.items() if number in self.runs})
        self._uncounted.clear()

    def refuse(self, sender: Sender, message: m.ClientMessage, error: TaskMasterError, out: Effects) -> None:
        """Answer with an error; a submission's also says where its run ends, so that its writer can go on there."""
        run = self.runs.look(message.run) if isinstance(message, m.Submit) else None
        if run is not None and not sender.peer.sees(run.master):
            run = None
        out.replies.append(
            Reply(
                sender.address,
                m.Refused(
                    error.code,
                    str(error),
                    getattr(message, "id", 0),
                    getattr(message, "run", 0) or 0,
                    getattr(message, "first", 0),
                    run.next_index if run is not None else 0,
                    message.writer if isinstance(message, m.Submit) else 0,
                ),
            )
        )

    # -- runs ---------------------------------------------------------------------------------------------------------

    def _submit(self, sender: Sender, message: m.Submit, table: Table | None, out: Effects) -> None:
        run = self.runs.require(message.run)
        run.require_writer(message.writer)
        if table is None or message.n < 1:
            raise CallerError(f"run {run.name!r}: a submission needs at least one task")
        if message.first < run.next_index:
            out.verifications.append(Verify(sender.address, message, table))
            return
        if message.first > run.next_index:
            raise Gap(f"run {run.name!r}: tasks {run.next_index} to {message.first - 1} are missing; submit them first")
        self._master(run.master).on_submit(run, message, table, sender.user, out)
        self.acknowledging.owe(run, sender.address)

    def _note_asks(self, sender: Sender, message: m.NoteAsks, table: Table | None, out: Effects) -> None:
        run = self.runs.require(message.run)
        run.require_writer(message.writer)
        if not 0 < message.first <= run.next_index:
            raise Gap(f"run {run.name!r}: asks behind task {message.first - 1}, but it has {run.next_index} tasks")
        out.records.append(AsksNoted(run.id, message.first, message.at, message.asks))
        self._done(sender, message.id, out)

    def _cancel(self, sender: Sender, message: m.Cancel, table: Table | None, out: Effects) -> None:
        run = self.runs.require(message.run)
        intervals = ((0, run.next_index),) if message.intervals is None else message.intervals
        for low, high in intervals:
            if not 0 <= low <= high:
                raise CallerError(f"run {run.name!r}: {low}…{high} is not an interval of task indices")
        self._done(
            sender, message.id, out, self._master(run.master).on_cancel(run, intervals, out, queued=message.queued)
        )

    def _pause(self, sender: Sender, message: m.Pause | m.Resume, table: Table | None, out: Effects) -> None:
        master = self._master(message.master)
        run = None if message.run is None else self.runs.require(message.run)
        master.pause(run, isinstance(message, m.Pause), out)
        if run is None and isinstance(message, m.Resume):
            out.scalings.append(m.SetWorkers(0, message.master, -1))  # try again where workers had been given up
        self._done(sender, message.id, out)

    def _prioritise(self, sender: Sender, message: m.Prioritise, table: Table | None, out: Effects) -> None:
        run = self.runs.require(message.run)
        check_priority(message.priority)
        self._master(run.master).prioritise(run, message.priority, out)
        self._done(sender, message.id, out)

    def _close(self, sender: Sender, message: m.Close, table: Table | None, out: Effects) -> None:
        run = self.runs.require(message.run)
        run.require_writer(message.writer)
        run.close(out)
        self._done(sender, message.id, out)

    def _delete(self, sender: Sender, message: m.Delete, table: Table | None, out: Effects) -> None:
        run = self.runs.require(message.run)
        if run.open:
            raise NotAllowed(still_open(run))
        self._forget(run, out)
        self._done(sender, message.id, out)

    def _prune(self, sender: Sender, message: m.Prune, table: Table | None, out: Effects) -> None:
        self.prune(message.run, message.events, out)
        self._done(sender, message.id, out)

    def prune(self, number: int, events: int, out: Effects) -> None:
        """Forget a closed run that has just so many events.

        Raises UnknownRun, NotAllowed while it is open or has tasks without an outcome, Conflict where there are others.
        """
        run = self.runs.require(number)
        if run.open:
            raise NotAllowed(still_open(run))
        if not run.closed:
            raise NotAllowed(f"run {run.name!r} is not closed: its learner may go on with it, so it is kept")
        if run.next_seq != events:
            raise Conflict(f"run {run.name!r} has {run.next_seq} events by now, not {events}: look at it again")
        self._forget(run, out)

    def _forget(self, run: Run, out: Effects) -> None:
        out.records.append(RunDeleted(run.id))
        self.acknowledging.forget(run.id)
        self.runs.remove(run)
        self.series.forget_run(run.id)

    def _resolve(self, sender: Sender, message: m.Resolve, table: Table | None, out: Effects) -> None:
        run = self.runs.require(message.run)
        self._master(run.master).on_resolve(run, message, table, who_says(sender, message.who), out)
        self._done(sender, message.id, out)

    def _set_workers(self, sender: Sender, message: m.SetWorkers, table: Table | None, out: Effects) -> None:
        if self._master(message.master).requests:
            raise NotAllowed(f"Master {message.master!r} is answered by people, it has no worker processes")
        if not 0 <= message.count <= 4096:
            raise CallerError(f"{message.count} worker processes cannot be kept; ask for 0 to 4096")
        out.scalings.append(message)
        self._done(sender, message.id, out, message.count)

    def _ping(self, sender: Sender, message: m.Ping, table: Table | None, out: Effects) -> None:
        pong = m.Pong(message.id, self.identity.epoch)
        if message.run and sender.peer.may(Right.SEE):  # to others runs are no business of theirs
            run = self.runs.require(message.run)
            pong = m.Pong(message.id, self.identity.epoch, run.next_index, run.next_seq, run.writer)
            if message.next_index > run.next_index or message.next_seq > run.next_seq:
                out.alarms.append(
                    m.Alarm(
                        "error",
                        "journal",
                        f"run {run.name!r} of Master {run.master!r}: a client of {sender.user!r} says that it was "
                        f"acknowledged {message.next_index} tasks and told {message.next_seq} events, the journal "
                        f"holds {run.next_index} and {run.next_seq}: it has lost its end; see 'taskmaster check "
                        "--journal'",
                        out.wall,
                        "journal_short",
                        sender.user,
                    )
                )
        out.replies.append(Reply(sender.address, pong))

    def _query(
        self,
        sender: Sender,
        message: m.Describe
        | m.ListRuns
        | m.ListHeads
        | m.Replay
        | m.ReadAsks
        | m.ReadWriters
        | m.Status
        | m.ListHeld
        | m.ListAlarms
        | m.ReadProgress
        | m.ReadAudit,
        table: Table | None,
        out: Effects,
    ) -> None:
        if isinstance(message, (m.Replay, m.ReadAsks, m.ReadWriters, m.ReadProgress)):
            self.runs.require(message.run)
        elif isinstance(message, m.ListHeld):
            self._check_held(message)
        elif isinstance(message, (m.ListRuns, m.ListHeads)) and message.master is not None:
            self._master(message.master)
        elif isinstance(message, m.Describe):
            _check_version(message.version)
        out.queries.append(Query(sender.address, message, sender.peer))

    def _check_held(self, request: m.ListHeld) -> None:
        if request.master is not None:
            self._master(request.master)
        if request.run is not None and request.run not in self.runs:
            raise no_run(request.run)

    def held_list(self, request: m.ListHeld, peer: Peer = LOCAL) -> m.HeldList:
        """The answer to a query for tasks in doubt. Raises JournalError where an input cannot be read."""
        found = self.runs.held(request.master, request.run, request.after, _HELD_BYTES, peer.sees)
        return m.HeldList(request.id, *found)

    def _done(self, sender: Sender, request: int, out: Effects, count: int = 0) -> None:
        out.replies.append(Reply(sender.address, m.Done(request, count)))

    def _master(self, name: str) -> Master:
        return known_master(self.masters, name)

    # -- looking ------------------------------------------------------------------------------------------------------

    def _is_open(self, number: int, index: int) -> bool:
        """Whether a task has no outcome; none of a run that is laid aside is."""
        run = self.runs.look(number)
        return isinstance(run, Run) and index in run.open

    @property
    def busy(self) -> bool:
        """Whether any lease is out whose outcome has to be awaited: those that outlive the daemon have not."""
        return any(master.busy for master in self.masters.values() if not master.spec.outlives)

    @property
    def busy_heads(self) -> bool:
        """Whether any head is in a task that does not outlive the daemon."""
        return any(master.busy for master in self.masters.values() if master.heads and not master.spec.outlives)

    def statistics(self, now: float) -> tuple[MasterStatus, ...]:
        """Every Master, for ``status``."""
        return tuple(master_status(master, now) for master in self.masters.values())


def _check_version(version: int) -> None:
    if version != m.PROTOCOL_VERSION:
        raise VersionMismatch(
            f"this daemon speaks version {m.PROTOCOL_VERSION} of the protocol, the client version {version}; install "
            "the same release on both sides"
        )
