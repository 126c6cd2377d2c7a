"""A Master whose tasks are evaluated by the heads of an instrument: what it does beside granting and taking outcomes.

What a head has to do (work, be safe) is decided in :mod:`taskmaster.daemon.heads`; here is what becomes of its tasks.
One that may have acted when its head was lost

- goes on, where it has left a checkpoint: at the same head, when that is back, within ``resume_within`` of the
  interruption; after that as ``resume_policy`` says;
- else is in doubt: the head is asked what has become of it, once it is back and safe, and if it cannot tell, a person
  is;
- is evaluated again, or fails, where the configuration says so (``on_lost``).

Sans-I/O, like the whole.
"""

from __future__ import annotations

from collections import Counter

from taskmaster.bus import messages as m
from taskmaster.bus.errors import InvalidOutput, NotAllowed
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.table import Table
from taskmaster.bus.text import format_duration
from taskmaster.daemon.effects import Asked, Checkpointed, Effects, LeaseGranted, MasterChanged
from taskmaster.daemon.interlocks import Interlocks
from taskmaster.daemon.leases import Lease, Worker
from taskmaster.daemon.losing import Losing
from taskmaster.daemon.run import Run
from taskmaster.daemon.spec import MasterSpec

__all__ = ["UNKNOWN_SINCE", "Instrument"]

#: Of a lease that was lost nobody knows when: while the daemon itself was not there.
UNKNOWN_SINCE = -1.0
#: What a worker that is alone may take after its ``deadman`` to make its head safe, and its guardian to end it.
DEADMAN_LENIENCY = 5.0


class Instrument(Losing):
    """One Master's heads, and the tasks that these have, or have lost."""

    def __init__(self, spec: MasterSpec, epoch: int) -> None:
        super().__init__(spec, epoch)
        #: which interlock has paused it and why, as far as is known
        self.paused_by = ""
        self.interlocks = Interlocks(spec.name, spec.interlocks, self.heads, self._pause_all)

    # -- heads --------------------------------------------------------------------------------------------------------

    def on_head(self, worker: Worker, report: m.HeadReport, out: Effects) -> None:
        """How the head of a worker is."""
        self.heads.on_report(worker, report, out)
        self.interlocks.on_head(worker)
        self._note_head(worker)
        for run_id, index in self.heads.to_ask(worker):
            run = self.runs.get(run_id)
            if run is not None and index in run.held:
                self._ask_about(worker, run, index, out)
            else:
                self.heads.resolved(run_id, index, out)

    def on_watched(self, worker: Worker, message: m.Tripped | m.Polled, now: float, out: Effects) -> None:
        """What a worker has seen of an interlock."""
        if isinstance(message, m.Tripped):
            self.interlocks.on_tripped(worker, message, out)
        else:
            self.interlocks.on_polled(worker, message, now, out)
        self._note_heads()

    def _dispatch_to_heads(self, now: float, out: Effects) -> None:
        if not self.interlocks.blind:
            super()._dispatch_to_heads(now, out)

    def look_at_heads(self, now: float, out: Effects) -> None:
        """Once in a while: values that are too old, and heads that are not safe for too long."""
        self.interlocks.on_tick(now, out)
        self.heads.on_tick(now, out)
        self._note_heads()

    def _pause_all(self, why: str, out: Effects) -> bool:
        """Grant nothing more, until somebody resumes it; whether anything was granted before."""
        if self.paused:
            return False
        self.paused, self.paused_by = True, why
        self.take_back_ahead(None, out)
        out.records.append(MasterChanged(self.spec.name, paused=True))
        return True

    def unserved(self) -> tuple[int, m.Where | None]:
        """How many tasks wait for heads of which none works, and what the most of them ask for."""
        counts: Counter[m.Where] = Counter()
        for run in self.backlog.runs if self.heads else ():
            for where, n in run.waiting_for():
                if not self.heads.serve(where):
                    counts[where] += n
        return counts.total(), max(counts, key=counts.__getitem__, default=None)

    def _note_head(self, worker: Worker) -> None:
        """Anything may have happened to the head of this worker."""
        head = self.heads.of(worker)
        worker.is_available = head is None or head.is_available
        self.roster.note(worker)

    def _note_heads(self) -> None:
        for worker in self.workers.values():
            self._note_head(worker)

    def stop(self, user: str, reason: str, out: Effects) -> None:
        """Emergency stop: every head to its safe state, now. Raises NotAllowed for a Master that has no heads."""
        self.require_heads()
        self.heads.stop(user, reason, out)
        self._note_heads()

    def reset(self, user: str, reason: str, out: Effects) -> None:
        """Undo :meth:`stop`; whether its interlocks hold is asked before."""
        self.require_heads()
        self.heads.reset(user, reason, out)
        self._note_heads()

    def set_head(self, name: str, inside: bool, user: str, reason: str, out: Effects) -> None:
        """Take a head out of service, or put it back. Raises NotAllowed while one of its interlocks does not hold."""
        self.require_heads()
        if inside:
            self.interlocks.require("safe", f"put back: head {name!r}", iter([self.heads.named(name)]))
        self.heads.set_in(name, inside, user, reason, out)
        self._note_heads()

    def require_heads(self) -> None:
        """Raise NotAllowed where there are none."""
        if not self.heads:
            raise NotAllowed(
                f"Master {self.spec.name!r} is no instrument: it has no heads that could be stopped, moved or asked for"
            )

    def alone_until(self, now: float) -> float:
        """Until when a worker may be driving its head that hears nothing of the daemon from ``now`` on."""
        return now + self.spec.deadman + DEADMAN_LENIENCY

    def restore_lease(self, record: LeaseGranted, run: Run, now: float) -> Lease:
        """A lease from before the daemon's start, whose worker may be driving its head."""
        lease = super().restore_lease(record, run, now)
        self.heads.reserve(self.workers[record.worker], self.alone_until(now))
        return lease

    # -- what a head says of its tasks, other than outcomes -----------------------------------------------------------

    def on_not_ended(self, worker: Worker, lease: Lease, outcome: m.Outcome, out: Effects) -> None:
        """Tasks that a head will not begin, or of which it does not know how they ended."""
        if not outcome.final:
            self._on_given_back(worker, lease, outcome.position, out)
        elif lease.id in worker.leases:
            self._on_unfinished(worker, lease, outcome, out)
        else:
            self._on_late_word(worker, lease, outcome, out)

    def _on_unfinished(self, worker: Worker, lease: Lease, outcome: m.Outcome, out: Effects) -> None:
        """A head has lost its connection in a task that may have acted, or gives back those that have not begun."""
        begun = lease.first + outcome.position + outcome.n
        kind, reason = "InDoubt", "its head does not know how it ended"
        if outcome.errors:
            kind, reason = outcome.errors[0].kind, outcome.errors[0].message
        worker.settle(lease.id, out.turn)
        was_wanted = lease.remaining.intersects(lease.first + outcome.position, lease.first + outcome.position + 1)
        self.expire(lease, begun, kind, reason, out)
        self._expired.pop(lease.id, None)  # its worker has had the last word on it
        if outcome.errors and was_wanted:  # that it was broken off because it was cancelled says nothing of the head
            self.heads.on_failure(worker, kind, reason, out)
        self._note_heads()
        if outcome.doubt:  # its head waits for this
            worker.tell_settled(out)

    def _on_given_back(self, worker: Worker, lease: Lease, position: int, out: Effects) -> None:
        """A head will not begin the tasks of a lease from this position on; it is still in one before."""
        run, before = lease.run, len(lease.remaining)
        rest = lease.remaining.within(lease.first + position, lease.first + lease.n)
        if lease.id not in worker.leases:
            self._release(lease, lease.first + position, worker, out)
        elif rest:
            for low, high in rest:
                lease.remaining.remove(low, high)
                run.queued.add(low, high)
            lease.seconds *= len(lease.remaining) / before
            if lease.recorded and lease.remaining:
                self._record(lease, out)
        self.backlog.note(run)

    def _on_late_word(self, worker: Worker, lease: Lease, outcome: m.Outcome, out: Effects) -> None:
        """The same of a lease that had been given up before: what has not begun is in doubt no more."""
        worker.settle(lease.id, out.turn)
        del self._expired[lease.id]
        self._release(lease, lease.first + outcome.position + outcome.n, worker, out)
        self.backlog.note(lease.run)
        if outcome.doubt:
            worker.tell_settled(out)

    def _release(self, lease: Lease, begun: int, worker: Worker, out: Effects) -> None:
        """What of a lease that was given up has not begun, from ``begun`` on, is in doubt no more."""
        for index in lease.remaining.indices():
            if index >= begun and index in lease.run.held:
                lease.run.release(index, worker.name, out)
                self.on_doubt_lifted(lease.run, index, out)

    def on_checkpoint(self, worker: Worker, message: m.Checkpoint, out: Effects) -> None:
        """From here the evaluation of a worker's task can go on."""
        lease = worker.leases.get(message.lease) or self._expired.get(message.lease)
        if lease is None or lease.worker != worker.token:
            return
        run, index = lease.run, lease.first + min(message.position, lease.n - 1)
        known = run.checkpoints.get(index)
        if known is not None and (known.lease, known.number) >= (lease.id, message.number):
            return
        self.heads.on_checkpoint(worker)
        head = self.heads.had_by(worker.name)
        if index in run.open and head is not None:
            at = run.id, index, lease.attempt, head.spec.name, lease.id
            run.keep(Checkpointed(*at, message.number, message.time, message.token), out)

    # -- tasks that a head has lost -----------------------------------------------------------------------------------

    def _lose(self, lease: Lease, low: int, high: int, kind: str, reason: str, out: Effects) -> None:
        """Of the tasks that had, or may have, started at a head that was lost some go on."""
        run = lease.run
        goes_on: list[int] = []
        if self.heads:
            known = run.checkpoints
            goes_on = [k for k in range(low, high) if k in known and known[k].attempt == lease.attempt]
        for index in goes_on:
            unknown = run.checkpoints[index].time if lease.lost == UNKNOWN_SINCE else out.wall
            run.suspend(index, lease.lost if lease.lost > 0 else unknown, out)
            self._suspended.add((run.id, index))
        for first, end in IntervalSet((k, k + 1) for k in goes_on).gaps(low, high):
            super()._lose(lease, first, end, kind, reason, out)

    def _hold(self, run: Run, low: int, high: int, worker: str, attempt: int, reason: str, out: Effects) -> None:
        super()._hold(run, low, high, worker, attempt, reason, out)
        if self.heads:
            self.heads.hold(worker, run.id, low, high, out)
            self._note_heads()

    def on_doubt_lifted(self, run: Run, index: int, out: Effects) -> None:
        """A task is not in doubt any more; it may be that it waits to go on."""
        if self.heads:
            self.heads.resolved(run.id, index, out)
            self._note_heads()
            if index in run.checkpoints and index in run.open:
                self._suspended.add((run.id, index))

    def _on_unbegun(self, run: Run, low: int, high: int) -> None:
        """Tasks wait again that had been granted; one that was to go on is interrupted as before."""
        for index in [index for index in run.checkpoints if low <= index < high]:
            if run.checkpoints[index].lost:
                self._suspended.add((run.id, index))

    def see_to_suspended(self, out: Effects) -> None:
        """Once in a while: do what the configuration says with tasks that have been interrupted for too long."""
        for run_id, index in list(self._suspended):
            run = self.runs.get(run_id)
            checkpoint = run.checkpoints.get(index) if run is not None else None
            if run is None or checkpoint is None or not checkpoint.lost:
                self._suspended.discard((run_id, index))
            elif index not in run.queued:
                self._suspended.discard((run_id, index))  # it goes on, or somebody is being asked
            elif out.wall - checkpoint.lost > self.spec.resume_within and self.spec.resume_policy != "resume":
                self._suspended.discard((run_id, index))
                self._on_long_interruption(run, checkpoint, out)

    def _on_long_interruption(self, run: Run, checkpoint: Checkpointed, out: Effects) -> None:
        index, policy = checkpoint.index, self.spec.resume_policy
        worker = checkpoint.head or self.spec.name
        lasted, limit = format_duration(round(out.wall - checkpoint.lost)), format_duration(self.spec.resume_within)
        reason = f"it was interrupted for more than resume_within = {limit} (for {lasted} by now)"
        if policy == "restart":
            run.charge(index, index + 1, out)
            run.drop_checkpoints(index, index + 1, out)
        elif policy == "fail":
            run.fail(index, index + 1, "Interrupted", reason, worker, checkpoint.attempt, out)
        else:
            run.queued.remove(index, index + 1)
            run.charge(index, index + 1, out)
            self._hold(run, index, index + 1, worker, checkpoint.attempt, reason, out)
        self.backlog.note(run)

    # -- tasks in doubt -----------------------------------------------------------------------------------------------

    def restore_doubts(self, run: Run, out: Effects) -> None:
        """Tasks of a run that were in doubt before this start: the heads that had them stay safe."""
        for index, doubt in run.held.after(-1):
            self.heads.hold(doubt.worker, run.id, index, index + 1, out)

    def restore_checkpoints(self, run: Run) -> None:
        """Tasks of a run that had been interrupted before this start go on at the heads where they were."""
        for index, checkpoint in run.checkpoints.items():
            if checkpoint.lost and index in run.queued:
                self._suspended.add((run.id, index))

    def _ask_about(self, worker: Worker, run: Run, index: int, out: Effects) -> None:
        """Ask a head what has become of a task that it had."""
        tables = run.inputs(index, index + 1)
        checkpoint = run.checkpoints.get(index)
        token = checkpoint.token if checkpoint is not None else b""
        question = m.Reconcile(run.id, index, run.attempts[index], tables[0].layout, token)
        out.questions.append(Asked(worker.address, question, tables))

    def on_reconciled(self, worker: Worker, found: m.Reconciled, output: Table | None, out: Effects) -> None:
        """What a head has found out about a task in doubt. Where it cannot tell, the task waits for a person."""
        run = self.runs.get(found.run)
        head = self.heads.of(worker)
        if run is None or head is None or (run.id, found.index) not in head.doubts:
            return
        index = found.index
        if index not in run.held or found.attempt != run.attempts[index] or found.state == "unknown":
            return
        if found.state == "done":
            try:
                if output is None or output.n != 1:
                    raise InvalidOutput("there is no output")
                if self.spec.outputs:
                    self.spec.outputs.check(output, index)
            except InvalidOutput as error:
                text = f"head {head.spec.name!r}: what it says of task {index} of run {run.id} cannot be taken: {error}"
                out.alarms.append(m.Alarm("warning", self.spec.name, text, out.wall))
                return
            run.found_done(index, output, worker.name, out)
        else:
            run.release(index, worker.name, out)
        self.on_doubt_lifted(run, index, out)
        self.backlog.note(run)
