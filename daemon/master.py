"""The Master: which task goes to which worker, and what becomes of it. The heart of TaskMaster.

Sans-I/O: no clock, no sockets, no journal, no randomness. Every method takes what happened and the time it happened,
changes the state, and appends what follows to an :class:`~taskmaster.daemon.effects.Effects`; the broker makes that
durable and carries it out. So a simulator can run it through years of bad luck in seconds.

What it promises, for any order of events whatever, the simulation checks (`tests/simulation`):

- every task that was acknowledged ends in one outcome, or is held;
- an outcome is recorded once, under one number, and numbers have no gaps;
- a repeatable task is given to a worker again at most ``max_attempts - 1`` times after it has lost one; one that is not
  repeatable is given to a worker once, unless an operator says otherwise;
- what a worker says about a lease that is not its own any more changes nothing.

Handing out is in :mod:`taskmaster.daemon.granting`, what becomes of a lost worker's tasks in
:mod:`taskmaster.daemon.losing`, what heads need beside that in :mod:`taskmaster.daemon.instrument`; here is the rest:
workers that come and go, outcomes, and what people want done with tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskmaster.bus import messages as m
from taskmaster.bus.cut import cut_outcome
from taskmaster.bus.errors import Full
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import EventHead
from taskmaster.bus.table import Buffer, Table
from taskmaster.daemon.approval import propose
from taskmaster.daemon.effects import Effects, MasterChanged, ToWorker
from taskmaster.daemon.instrument import UNKNOWN_SINCE, Instrument
from taskmaster.daemon.leases import Lease, Started, Worker
from taskmaster.daemon.requests import RequestBook
from taskmaster.daemon.roles import LOCAL
from taskmaster.daemon.run import Run
from taskmaster.daemon.spec import MasterSpec

__all__ = ["Master", "MasterSpec"]

#: Of what may wait for a Master, what may be of the owner of one key.
SHARE = 0.75


class Master(Instrument):
    """One Master's runs, workers and leases."""

    def __init__(self, spec: MasterSpec, epoch: int) -> None:
        super().__init__(spec, epoch)
        #: where people evaluate
        self.requests = RequestBook(spec, self.backlog)
        #: how often something else has waited for people than before
        self.changes = 0
        #: set by supervision where workers cannot be had, shown to people; empty where all is well
        self.trouble = ""
        #: why no worker process of the daemon's own is started any more; empty if they are
        self.given_up = ""
        #: devices that are not tried any more, and why; it goes on with its others
        self.lost_devices: dict[int, str] = {}
        #: tasks that workers have ended
        self.ended = 0
        #: something else to show to people as long as no further task has ended
        self.remark = (-1, "")
        self.lost = 0
        #: outcomes of leases that were not the last word on their tasks
        self.ignored = 0
        #: what the tasks of the run that was heard of last take, shown where none waits
        self._task_seconds = 0.0

    # -- runs ---------------------------------------------------------------------------------------------------------

    def on_submit(self, run: Run, submit: m.Submit, table: Table, user: str, out: Effects) -> None:
        """Queue a block. Raises InvalidTask, Full or RunClosed, and then has changed nothing."""
        run.require_open()
        if self.spec.parameters:
            self.spec.parameters.check(table, submit.first)
        if submit.where is not None:
            self.heads.require(submit.where)
        self.require_room(run.user, submit.n, table.nbytes)
        run.append(submit, table, user, out)
        if self.spec.approval:
            propose(run, submit.first, submit.first + submit.n, user, out)
        self.note(run, out)

    def require_room(self, user: str, tasks: int, size: int) -> None:
        """Raise Full where so many tasks more of a user's, of so many bytes, may not wait here."""
        queued, queued_bytes = self.backlog.tasks + self.proposals.tasks, self.backlog.bytes + self.proposals.bytes
        most_tasks, most_bytes = self.spec.max_queued_tasks, self.spec.max_queued_bytes
        if queued and (queued + tasks > most_tasks or queued_bytes + size > most_bytes):
            raise Full(
                f"Master {self.spec.name!r} has {queued} tasks of {queued_bytes} bytes waiting, its limit is "
                f"{most_tasks} tasks and {most_bytes} bytes; submit again later"
            )
        self._require_share(user, tasks, size)

    def _require_share(self, user: str, tasks: int, size: int) -> None:
        """Raise Full where most of what may wait here would be of one key's owner: there is to be room for others.

        As where nothing waits, a first block is taken whatever its size, for it could wait for ever.
        """
        spec = self.spec
        queued, queued_bytes = self.backlog.tasks + self.proposals.tasks, self.backlog.bytes + self.proposals.bytes
        most_tasks, most_bytes = SHARE * spec.max_queued_tasks, SHARE * spec.max_queued_bytes
        if user == LOCAL.name or (queued + tasks <= most_tasks and queued_bytes + size <= most_bytes):
            return
        runs = {run.id: run for run in (*self.backlog.runs, *self.proposals.runs) if run.user == user}.values()
        own, own_bytes = sum(len(run.queued) + len(run.proposed) for run in runs), sum(run.input_bytes for run in runs)
        if own and (own + tasks > most_tasks or own_bytes + size > most_bytes):
            raise Full(
                f"Master {spec.name!r} has {own} tasks of {own_bytes} bytes of key {user!r} waiting; one may have "
                f"up to {most_tasks:.0f} tasks and {most_bytes:.0f} bytes, so that others have room; submit again later"
            )

    def note(self, run: Run, out: Effects) -> None:
        """Tasks of this run may wait for somebody else, or something else, than before."""
        self.backlog.note(run)
        self.proposals.note(run)
        if self.requests or self.spec.approval or run.proposed:
            out.waiting.add(self.spec.name)

    def on_cancel(self, run: Run, intervals: Sequence[tuple[int, int]], out: Effects, *, queued: bool = False) -> int:
        """Cancel the open tasks among ``intervals``; of ``queued`` only those that nobody has yet. Returns how many.

        Tasks in doubt are not cancelled, and of a Master whose tasks are not repeatable those that were granted are
        not either: they may have acted.
        """
        wanted = IntervalSet(run.open.common(IntervalSet(sorted(intervals))))
        cancelled = run.queued.common(wanted) + run.proposed.common(wanted)
        if not queued:
            cancelled += self.requests.cancel(run, wanted, out)
            for lease in self._leases.values() if self.spec.repeatable else ():
                if lease.run is run:
                    cancelled += self._call_back(lease, lease.remaining.common(wanted), out)
        run.cancel(sorted(cancelled), out)
        self.note(run, out)
        return sum(high - low for low, high in cancelled)

    def _call_back(self, lease: Lease, parts: list[tuple[int, int]], out: Effects) -> list[tuple[int, int]]:
        """Take from a lease what nobody wants any more: its worker is to skip that, or to end it. Returns ``parts``."""
        lease.remaining.remove_all(IntervalSet(parts))
        for low, high in parts:
            self._interrupt(m.Interrupt(lease.worker, lease.id, low - lease.first, high - lease.first), out)
        self._revoke(lease, parts, out)
        return parts

    def _interrupt(self, interrupt: m.Interrupt, out: Effects) -> None:
        worker = self.workers.get(interrupt.token)
        if worker is not None and worker.batch:
            return  # others' tasks are in the same launch: it ends by itself, or falls to the time-out
        if worker is not None and self.heads:  # it can break off, which leaves its neighbours at a controller alone
            out.to_workers.append(ToWorker(worker.address, interrupt))
        if worker is None or worker.local:
            out.interrupts.append(interrupt)
        elif worker.host:
            out.to_workers.append(ToWorker(worker.host, interrupt))
        else:
            worker.interrupts.append(interrupt)

    def pause(self, run: Run | None, paused: bool, out: Effects) -> None:
        """Stop or resume granting leases to one run, or to all. Raises NotAllowed while an interlock pauses them."""
        if run is None:
            if not paused:
                self.interlocks.require("pause", "resumed")
            self.paused, self.paused_by = paused, ""
            out.records.append(MasterChanged(self.spec.name, paused))
        else:
            run.paused = paused
            run.changed(out)
            self.backlog.note(run)
        if paused:
            self.take_back_ahead(run, out)

    def on_resolve(self, run: Run, request: m.Resolve, output: Table | None, user: str, out: Effects) -> None:
        """An operator's word on a held task."""
        if output is not None and self.spec.outputs and request.action == "done":
            self.spec.outputs.check(output, request.index)
        run.resolve(request, output, user, out)
        self.on_doubt_lifted(run, request.index, out)
        self.backlog.note(run)

    # -- workers ------------------------------------------------------------------------------------------------------

    def _name_of(self, hello: m.WorkerHello, *, local: bool) -> str:
        """By what people know a worker: its head, where there is one."""
        if self.heads:
            return hello.head or self.spec.name
        return f"{self.spec.name}-{hello.pid}" if local else f"{hello.host}:{hello.pid}"

    def on_hello(self, hello: m.WorkerHello, address: bytes, *, local: bool, now: float, out: Effects) -> Worker:
        """A worker dials in, or is back."""
        worker = self.workers.get(hello.token)
        if worker is None:
            worker = self.workers[hello.token] = Worker(hello.token, address, hello.slots, local=local, now=now)
        worker.address = address
        worker.slots = max(1, hello.slots)
        worker.several = hello.several
        worker.batch, worker.shares = hello.batch, min(hello.shares, hello.slots) or worker.slots
        worker.dispatched = 0
        worker.waits_in_turn = out.turn
        worker.last_seen = now
        worker.pid = hello.pid
        worker.name = self._name_of(hello, local=local)
        if worker.state != "leaving":
            worker.state = "starting"
        self._reconcile(worker, hello.leases, out)
        self.roster.note(worker)
        spec = self.spec
        out.to_workers.append(
            ToWorker(
                address,
                m.Welcome(
                    self.epoch,
                    hello.session,
                    spec.name,
                    spec.driver,
                    dict(spec.options),
                    spec.parameters.fields,
                    spec.outputs.fields,
                    spec.heartbeat,
                    spec.lost_after,
                    spec.timeout,
                    spec.max_message,
                    several=True,
                ),
            )
        )
        if self.heads:
            if worker.settled:
                worker.tell_settled(out)
            self.heads.attach(worker, hello.head, out)
            self._note_head(worker)
        return worker

    def on_unusable(self, worker: Worker, why: str, out: Effects) -> None:
        """A worker cannot be set up (its function cannot be imported, say)."""
        if self.heads and why != self.trouble:  # of others supervision says so when it gives up; a guardian never does
            out.alarms.append(
                m.Alarm("error", self.spec.name, f"Master {self.spec.name!r}: {why}", out.wall, "crash_loop")
            )
        self.trouble = why
        self.heads.on_unusable(worker, why, out)

    def on_ready(self, worker: Worker) -> None:
        """Its driver is set up."""
        if worker.state == "starting":
            worker.state = "ready"
            self.trouble = ""
            self.roster.note(worker)

    def on_leave(self, worker: Worker, out: Effects) -> None:
        """It takes no further leases, and goes when it has none."""
        worker.state = "leaving"
        self.roster.note(worker)
        if not worker.leases:
            self._dismiss(worker, out)

    def on_lost(
        self, worker: Worker, kind: str, reason: str, started: Started | None, out: Effects, since: float = 0.0
    ) -> None:
        """A worker is gone. ``started`` says how far it had come; None: nobody knows.

        ``since`` when, in seconds since 1970; 0: just now.

        What may have started has used up an attempt; what cannot have started has not. Then `on_lost` of the
        configuration speaks.
        """
        self.workers.pop(worker.token, None)
        self.roster.note(worker)
        if self.heads:
            self.heads.detach(worker, out)
        if worker.state == "ready" or worker.leases:
            self.lost += 1
        for lease in list(worker.leases.values()):
            lease.lost = since
            begun = lease.first + (lease.n if started is None else started.of(lease))
            self.expire(lease, begun, kind, reason, out)

    def on_stall(self, seconds: float) -> None:
        """The daemon itself has not moved for so long: what workers said meanwhile is perhaps yet to be read."""
        for worker in self.workers.values():
            worker.last_seen += seconds

    def on_tick(self, now: float, out: Effects) -> None:
        """Notice workers that have fallen silent. Local processes are watched by their process id instead."""
        for lease in [lease for lease in self._expired.values() if not lease.is_wanted]:
            del self._expired[lease.id]  # its tasks were resolved or cancelled meanwhile
        for worker in [w for w in self.workers.values() if not w.local]:
            silence = now - worker.last_seen
            if silence > self.spec.lost_after:
                reason = f"worker {worker.name} was not heard of for {silence:.1f} s"
                since = UNKNOWN_SINCE if worker.state == "absent" else out.wall - silence
                self.on_lost(worker, "WorkerLost", reason, None, out, since)
                self.heads.reserve(worker, self.alone_until(now))
        if self._suspended:
            self.see_to_suspended(out)
        if self.heads:
            self.look_at_heads(now, out)

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def on_outcome(
        self, worker: Worker, outcome: m.Outcome, table: Table | None, times: Buffer | None, now: float, out: Effects
    ) -> None:
        """Tasks of a lease have ended. Takes what is still wanted, ignores the rest, settles the lease."""
        lease = worker.leases.get(outcome.lease) or self._expired.get(outcome.lease)
        if lease is None or lease.worker != worker.token:
            self.ignored += 1
            worker.settle(outcome.lease, out.turn)
            return
        lease.heard = now
        if outcome.n:
            worker.heard = now
        if self.heads and (not outcome.n or (outcome.final and outcome.doubt)):
            self.on_not_ended(worker, lease, outcome, out)
            return
        low, high = lease.first + outcome.position, lease.first + outcome.position + outcome.n
        is_news = lease.remaining.intersects(low, high)  # else it is said again, and is not to be charged again
        if lease.remaining.covers(low, high) and lease.run.open.covers(low, high):
            if low < high:
                self._accept(lease, worker, outcome, low, high, table, times, outcome.errors, out)
        else:
            for piece in lease.remaining.within(low, high):
                for start, stop in lease.run.open.within(*piece):
                    cut = cut_outcome(table, times, outcome.errors, start - low, stop - low)
                    self._accept(lease, worker, outcome, start, stop, *cut, out)
        if lease.id in worker.leases:
            if is_news:
                self._charge_time(lease, outcome)
                self.heads.on_done(worker, outcome, out)
            self._conclude(worker, lease, outcome, out)
        elif not lease.is_wanted:
            self._expired.pop(lease.id, None)
            worker.settle(lease.id, out.turn)
        self.backlog.note(lease.run)

    def _accept(
        self,
        lease: Lease,
        worker: Worker,
        outcome: m.Outcome,
        low: int,
        high: int,
        table: Table | None,
        times: Buffer | None,
        errors: tuple[m.TaskError, ...],
        out: Effects,
    ) -> None:
        frames: tuple[Buffer, ...] = tuple(table.frames) if table is not None else ()
        if times is not None:
            frames += (times,)
        head = EventHead(
            0,
            high - low,
            "done",
            low,
            len(frames),
            table.layout if table is not None else None,
            errors,
            worker.name,
            lease.attempt,
            outcome.started,
            outcome.finished,
            times is not None,
        )
        lease.remaining.remove(low, high)
        in_doubt = lease.run.held.count(low, high) if self.heads else 0
        lease.run.finish(head, frames, out)
        for index in range(low, high if in_doubt else low):  # it had been taken for lost
            self.on_doubt_lifted(lease.run, index, out)
        worker.tasks += high - low
        self.ended += high - low

    def _charge_time(self, lease: Lease, outcome: m.Outcome) -> None:
        """Learn what the tasks cost, and count it for their run."""
        run = lease.run
        seconds = max(0.0, outcome.finished - outcome.started)
        expected = lease.seconds * outcome.n / max(outcome.n, len(lease.remaining) + outcome.n)
        run.virtual_time += seconds - expected
        lease.seconds -= expected
        run.estimate.learn(outcome.n, seconds)
        self._task_seconds = run.estimate.seconds

    def _conclude(self, worker: Worker, lease: Lease, outcome: m.Outcome, out: Effects) -> None:
        """Give the slot back when the lease has ended."""
        # An earlier outcome of this lease may have been lost on the way; its worker sends it again.
        lease.final = lease.final or outcome.final
        if lease.final and not lease.remaining:
            self._end(lease, out)
            worker.settle(lease.id, out.turn)
            if worker.state == "leaving" and not worker.leases:
                self._dismiss(worker, out)
        self.roster.note(worker)

    def _dismiss(self, worker: Worker, out: Effects) -> None:
        worker.tell_settled(out)
        out.to_workers.append(ToWorker(worker.address, m.Goodbye("as it asked")))
        self.workers.pop(worker.token, None)
        self.roster.note(worker)
        if self.heads:
            self.heads.detach(worker, out)

    def settle_idle(self, out: Effects) -> None:
        """Tell workers which of their outcomes are on disk, and how many dispatches they must have got.

        Called once in a while: what rides on the next dispatch needs no message of its own.
        """
        for worker in self.workers.values():
            if (worker.settled or worker.leases) and worker.state != "absent":
                worker.tell_settled(out)

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def leased(self) -> int:
        """Tasks that workers have."""
        return sum(len(lease.remaining) for lease in self._leases.values())

    @property
    def task_seconds(self) -> float:
        """What a task takes: the mean over the runs with tasks waiting."""
        times = [run.estimate.seconds for run in self.backlog.runs if run.estimate.seconds] or [self._task_seconds]
        return sum(times) / len(times)

    def waiting(self) -> m.Waiting:
        """How much of this Master waits for people."""
        requests = self.backlog.tasks + len(self.requests) if self.requests else 0
        return m.Waiting(self.spec.name, self.epoch, self.changes, requests, len(self.requests), self.proposals.tasks)
