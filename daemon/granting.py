"""Which task goes to which worker, and when it is taken back: the half of a Master that hands out.

What comes back, and what becomes of it, is in :mod:`taskmaster.daemon.master`. How many tasks a lease takes, whose turn
it is and what is worth taking back is arithmetic, in `scheduling` and `stealing`; the `roster` knows who has room.
Sans-I/O, like the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count

from taskmaster.bus import messages as m
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import LeaseId
from taskmaster.daemon.approval import Proposals
from taskmaster.daemon.backlog import Backlog
from taskmaster.daemon.effects import Dispatched, Effects, LeaseEnded, LeaseGranted, ToWorker
from taskmaster.daemon.heads import HeadBook
from taskmaster.daemon.leases import Lease, Worker
from taskmaster.daemon.roster import Roster
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import Resting
from taskmaster.daemon.scheduling import AHEAD_SECONDS, CHUNK_BYTES, UNKNOWN_SECONDS, chunk_seconds, chunk_size
from taskmaster.daemon.spec import MasterSpec
from taskmaster.daemon.stealing import LOOK_SECONDS, loot

__all__ = ["Granting"]

#: Age at which a repeatable task's lease is written down.
RECORD_SECONDS = 0.5
#: Tasks that take no longer are given to a head ahead of time.
SHORT_SECONDS = 10.0
#: Work of a head's lease, where its tasks are quick: after a power cut all of them are in doubt.
STRETCH_SECONDS = 0.02
#: What has ended of it waits so long for others to be reported with: if its worker is killed, it is in doubt.
HOLD_SECONDS = 0.02


@dataclass(slots=True)
class Sums:
    """Over the runs of a Master that are laid aside: how many are not closed, and what became of their tasks."""

    runs: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0


class Granting:
    """One Master's runs, the room its workers have, and the leases that are out."""

    def __init__(self, spec: MasterSpec, epoch: int) -> None:
        self.spec = spec
        self.epoch = epoch
        #: of an instrument
        self.heads = HeadBook(spec.name, epoch, spec.heads, spec.quarantine_after)
        self.paused = False
        #: but for those that are laid aside, of which only the sums are known here
        self.runs: dict[int, Run] = {}
        self.resting = Sums()
        self.roster = Roster()
        self.workers = self.roster.workers
        self._leases: dict[LeaseId, Lease] = {}
        #: leases of lost workers: an outcome that arrives after all is taken while its task is queued again
        self._expired: dict[LeaseId, Lease] = {}
        #: numbers of leases; those of one daemon share them, for a lease is known by its number alone
        self.lease_numbers: Iterator[int] = count(1)
        #: tasks that were interrupted, and wait to go on from their checkpoints: run and index
        self._suspended: set[tuple[int, int]] = set()
        #: runs with tasks waiting
        self.backlog = Backlog()
        #: runs with tasks that wait for approval
        self.proposals = Proposals()
        #: when `dispatch` should be called again, though nothing may have happened
        self.look_again = math.inf

    # -- runs ---------------------------------------------------------------------------------------------------------

    def add_run(self, run: Run) -> None:
        """Take up a run: a new one, or one from the journal."""
        self.runs[run.id] = run
        self.backlog.note(run)
        self.proposals.note(run)

    def remove_run(self, run: Run) -> None:
        """Forget a run without open tasks."""
        del self.runs[run.id]
        self.backlog.forget(run)
        self.proposals.note(run)

    def rest(self, run: Resting, change: int) -> None:
        """A run is laid aside (``change`` 1), or it was (-1)."""
        resting = self.resting
        resting.runs += change * (not run.closed)
        resting.done += change * run.done
        resting.failed += change * run.failed
        resting.cancelled += change * run.cancelled

    @property
    def leased_runs(self) -> Iterator[Run]:
        """The runs of all leases whose outcomes may still be heard of."""
        return (lease.run for lease in chain(self._leases.values(), self._expired.values()))

    def prioritise(self, run: Run, priority: int, out: Effects) -> None:
        """Serve a run before those of lower priority."""
        if run.priority != priority:
            run.priority = priority
            run.changed(out)
            self.backlog.note(run)

    # -- dispatching --------------------------------------------------------------------------------------------------

    def dispatch(self, now: float, out: Effects) -> None:
        """Grant leases while there are tasks and room. Called once a turn, after everything else."""
        self.look_again = math.inf
        if self.heads:
            self._dispatch_to_heads(now, out)
            return
        while not self.paused:
            run = self.backlog.next()
            if run is None:
                if self.roster.has_idle and self._leases and self.spec.repeatable and self._steal(now, out):
                    continue
                return
            worker = self.roster.roomiest(run.estimate.seconds)
            if worker is None:
                return
            self._grant(run, worker, now, out)

    def _dispatch_to_heads(self, now: float, out: Effects) -> None:
        """Tasks for each head that is free: the next that may be evaluated there. Longest idle ones come first.

        One at a time, unless they are so quick that getting each would cost more than evaluating it: then a head is
        given a few milliseconds of them. It is given the next ahead of time, shortly before it should need them. What
        it has not begun is not lost with it, and taken back for another one that is free, should it be late.
        """
        if self.paused:
            return
        for worker in self.roster.idle if self.backlog.tasks else ():
            self._grant_to_head(worker, now, out)
        for worker in self.roster.partly if self.backlog.tasks else ():
            if not self._ends_soon(worker, now):
                continue
            early = worker.seconds_left(now) - AHEAD_SECONDS
            if early <= 0:
                self._grant_to_head(worker, now, out)
            else:
                self.look_again = min(self.look_again, now + early)
        self._ask_back(now, out)

    def _grant_to_head(self, worker: Worker, now: float, out: Effects) -> None:
        head = self.heads.of(worker)
        if head is None:
            return
        for run in self.backlog.in_order():
            found = run.first_for(head.fits)
            if found is not None and (not worker.leases or self._is_short(run, found[0])):
                self._grant(run, worker, now, out, found)
                return

    def _ends_soon(self, worker: Worker, now: float) -> bool:
        """Whether it is known when a head will have ended what it is in, and it is not late with that."""
        first = worker.first
        return (
            first is not None
            and bool(first.remaining)
            and first.is_timed
            and self._is_short(first.run, next(first.remaining.indices()))
            and worker.is_late_at(now) > 0
        )

    @staticmethod
    def _is_short(run: Run, index: int, limit: float = SHORT_SECONDS) -> bool:
        return 0 < run.estimate.seconds < limit and index not in run.checkpoints

    def _ask_back(self, now: float, out: Effects) -> None:
        """Have heads that stand in a task for longer than they should give back what is behind it.

        What was granted ahead of time is had back in any case: it can be cancelled then, and give way to what has come
        meanwhile. The rest of the tasks that were granted together is only where another head is free for them.
        """
        free = [head for worker in self.roster.idle if (head := self.heads.of(worker)) is not None]
        for worker in self.roster.workers.values():
            if len(worker.leases) < 2 and not free:
                continue
            late = worker.is_late_at(now)
            for k, lease in enumerate(worker.leases.values()):
                low, high = lease.remaining.last if lease.remaining else (0, 0)
                if (
                    lease.is_asked_back
                    or high - low < (1 if k else 2)
                    or not (k or any(head.fits(lease.run.places[high - 1]) for head in free))
                ):
                    continue
                if late > 0:
                    self.look_again = min(self.look_again, now + late)
                else:
                    lease.is_asked_back = True
                    self._revoke(lease, [(lease.first, lease.first + lease.n)], out)

    def take_back_ahead(self, run: Run | None, out: Effects) -> None:
        """Have heads give back what they were given ahead of time, of one run or of all: it is not to begin."""
        for worker in self.workers.values() if self.heads else ():
            for k, lease in enumerate(worker.leases.values()):
                if (run is None or lease.run is run) and (k or lease.n > 1):
                    self._revoke(lease, [(lease.first, lease.first + lease.n)], out)

    def _steal(self, now: float, out: Effects) -> bool:
        """Queue again what a busy worker has not begun, if a slot is idle and it is worth it."""
        found = loot(self.workers.values(), now, out.turn)
        if found is None:
            if any(lease.n > 1 for lease in self._leases.values()):
                self.look_again = now + LOOK_SECONDS
            return False
        lease, low, high = found
        lease.seconds *= 1 - (high - low) / len(lease.remaining)
        lease.remaining.remove(low, high)
        lease.run.queued.add(low, high)
        self._revoke(lease, [(low, high)], out)
        if lease.recorded:
            self._record(lease, out)
        self.backlog.note(lease.run)
        return True

    def _grant(self, run: Run, worker: Worker, now: float, out: Effects, among: tuple[int, int] | None = None) -> None:
        """A lease of the next tasks of a run, or of the first of those ``among``, for a worker that has room."""
        estimate = run.estimate
        size, hold = 1, 0.0
        if among is not None and self._is_short(run, among[0], AHEAD_SECONDS):
            size = min(self._chunk_size(run), max(1, int(STRETCH_SECONDS / estimate.seconds)))
            hold = HOLD_SECONDS if size > 1 else 0.0
        elif among is None and self.spec.repeatable:
            hold = chunk_seconds(estimate, len(run.queued), self.roster.shares) / 2
            size = max(self._chunk_size(run), self._batch_size(run, worker))
        low, high = run.take(size, self.spec.max_attempts) if among is None else run.take_among(*among, size)
        lease = Lease((self.epoch, next(self.lease_numbers)), run, worker.token, low, high - low, run.attempt(low))
        lease.granted = lease.heard = now
        lease.since, lease.turn = out.wall, out.turn
        lease.name = worker.name
        lease.is_timed = estimate.seconds > 0
        lease.seconds = (high - low) * (estimate.seconds or UNKNOWN_SECONDS)
        self.backlog.clock = max(self.backlog.clock, run.virtual_time)
        run.virtual_time += lease.seconds
        self.backlog.note(run)
        self._leases[lease.id] = lease
        worker.hold(lease)
        if self._expired:
            self._forget_expired(run, low, high)
        self.roster.granted(worker)
        if not self.spec.repeatable:
            self._record(lease, out)
        tables = run.inputs(low, high)
        worker.dispatched += 1
        # Evaluating a repeatable task whose submission is then lost is harmless: nobody was told it was taken.
        early = worker.waits_in_turn != out.turn and self.spec.repeatable and run.submitted_in(low, high, out.turn)
        if not early:
            worker.waits_in_turn = out.turn
        # What was settled in this very turn is not on disk when an early dispatch leaves.
        settled = () if early and worker.settled_in_turn == out.turn else worker.take_settled()
        checkpoint = run.checkpoints.get(low)
        token = checkpoint.token if checkpoint is not None else None
        message = m.Dispatch(lease.id, run.id, low, high - low, tables[0].layout, lease.attempt, settled, hold, token)
        (out.early if early else out.dispatches).append(
            Dispatched(worker.address, message, tables, joins=worker.several)
        )

    def _chunk_size(self, run: Run) -> int:
        row_bytes = run.input_bytes / max(1, len(run.open))
        size = chunk_size(run.estimate, len(run.queued), self.roster.shares, row_bytes)
        return min(size, self.spec.largest_chunk or size)

    def _batch_size(self, run: Run, worker: Worker) -> int:
        """What a worker that evaluates many tasks together has of a run at least, with its like sharing it evenly."""
        if not worker.batch:
            return 1
        size = min(worker.batch, -(-len(run.queued) // self.roster.gathering))
        return min(size, self.spec.largest_chunk or size, max(1, self._fitting(run)))

    @staticmethod
    def _fitting(run: Run) -> int:
        return CHUNK_BYTES * max(1, len(run.open)) // max(1, run.input_bytes)

    # -- leases -------------------------------------------------------------------------------------------------------

    def record_leases(self, now: float, out: Effects) -> None:
        """Write down the leases of repeatable tasks that have become old.

        They serve the next start: a worker that has dialled in may go on with them, a task that takes the daemon down
        is charged for it. Neither matters for what takes milliseconds, and most leases do: those are never written. (A
        lease of tasks that are not repeatable is on disk before its dispatch leaves.)
        """
        for lease in self._leases.values():
            if not lease.recorded and lease.remaining and now - lease.granted > RECORD_SECONDS:
                self._record(lease, out)

    def _record(self, lease: Lease, out: Effects) -> None:
        worker = self.workers[lease.worker]
        lease.recorded = True
        n = lease.remaining.end - lease.first  # what was taken back from its end is not its own any more
        out.records.append(
            LeaseGranted(
                lease.id, lease.run.id, lease.first, n, lease.attempt, lease.worker, worker.local, out.wall, lease.name
            )
        )

    def _forget_expired(self, run: Run, low: int, high: int) -> None:
        """These tasks have a new lease: the former ones are not the last any more."""
        former = [
            lease
            for lease in self._expired.values()
            if lease.run is run and low < lease.first + lease.n and lease.first < high
        ]
        for lease in former:
            lease.remaining.remove(low, high)
            if not lease.remaining:
                del self._expired[lease.id]

    def _revoke(self, lease: Lease, parts: Sequence[tuple[int, int]], out: Effects) -> None:
        worker = self.workers.get(lease.worker)
        if parts and worker is not None:
            positions = tuple((low - lease.first, high - lease.first) for low, high in parts)
            out.to_workers.append(ToWorker(worker.address, m.Revoke(lease.id, positions)))

    def _end(self, lease: Lease, out: Effects) -> None:
        self._leases.pop(lease.id, None)
        worker = self.workers.get(lease.worker)
        if worker is not None:
            worker.drop(lease.id)
        if lease.recorded:
            out.records.append(LeaseEnded(lease.id))

    def restore_lease(self, record: LeaseGranted, run: Run, now: float) -> Lease:
        """A lease from before the daemon's start. Its worker is absent until it dials in again, or is given up.

        To be called for the newest lease first: an older one may have lost some of its tasks to it.
        """
        worker = self.workers.get(record.worker)
        if worker is None:
            worker = Worker(record.worker, b"", 1, local=record.local, now=now)
            worker.state = "absent"
            worker.name = record.name or record.worker
            self.workers[record.worker] = worker
        lease = Lease(record.lease, run, record.worker, record.first, record.n, record.attempt)
        lease.remaining = IntervalSet(run.queued.within(record.first, record.first + record.n))
        lease.recorded = True
        lease.since = record.time
        lease.name = worker.name
        for low, high in lease.remaining:
            run.queued.remove(low, high)
        self.backlog.note(run)
        self._leases[lease.id] = lease
        worker.hold(lease)
        worker.leases = {lease.id: lease, **worker.leases}  # oldest first, as they are evaluated
        return lease

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Evaluations at a time over all workers that are ready, or by people."""
        return self.spec.people or self.roster.slots

    @property
    def busy(self) -> bool:
        """Whether any lease is out."""
        return bool(self._leases)
