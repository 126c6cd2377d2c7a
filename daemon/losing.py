"""What becomes of the tasks of a worker that is lost, or that was, and is back.

Those that cannot have started wait again. Of those that may have, some are evaluated again, some fail, and some are
held until somebody says what became of them, as `on_lost` of the configuration says; what heads do with theirs beside
that is in :mod:`taskmaster.daemon.instrument`. The lease is kept as long as an outcome of it would still be taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import LeaseId
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.granting import Granting
from taskmaster.daemon.leases import Lease, Worker
from taskmaster.daemon.run import Run

__all__ = ["Losing"]


class Losing(Granting):
    """One Master's leases that have lost their workers."""

    def expire(self, lease: Lease, begun: int, kind: str, reason: str, out: Effects) -> None:
        """A lease has lost its worker; tasks below ``begun`` may have been evaluated."""
        run = lease.run
        self._end(lease, out)
        still_open = IntervalSet()
        for low, high in lease.remaining:
            middle = min(max(begun, low), high)
            if low < middle:
                self._lose(lease, low, middle, kind, reason, out)
            run.queued.add(middle, high)
            self._on_unbegun(run, middle, high)
            for part in run.open.within(low, high):
                still_open.add(*part)
        lease.remaining = still_open
        if still_open:
            self._expired[lease.id] = lease
        self.backlog.note(run)

    def _lose(self, lease: Lease, low: int, high: int, kind: str, reason: str, out: Effects) -> None:
        """Tasks that had, or may have, started on a worker that was lost."""
        if self.spec.on_lost == "hold":
            lease.run.charge(low, high, out)
            self._hold(lease.run, low, high, lease.name, lease.attempt, reason, out)
        else:
            self._lose_repeatable(lease, low, high, kind, reason, out)

    def _lose_repeatable(self, lease: Lease, low: int, high: int, kind: str, reason: str, out: Effects) -> None:
        """The same where the task may be evaluated again, or is to fail."""
        run, spec = lease.run, self.spec
        for first, end, used in run.attempts.pieces(low, high):
            if spec.on_lost == "retry" and used + 1 < spec.max_attempts:
                run.charge(first, end, out)
                run.queued.add(first, end)
            else:
                text = f"{reason} (attempt {used + 1} of {spec.max_attempts})" if used else reason
                run.fail(first, end, kind, text, lease.name, used + 1, out)

    def _hold(self, run: Run, low: int, high: int, worker: str, attempt: int, reason: str, out: Effects) -> None:
        """Somebody has to say what became of these tasks."""
        run.hold(low, high, reason, worker, attempt, out)

    def _on_unbegun(self, run: Run, low: int, high: int) -> None:
        """Tasks wait again that had been granted, as if they had not been."""

    def restore_unrecorded(self, run: Run, index: int, attempt: int, reason: str, out: Effects) -> None:
        """A queued task that was being evaluated when the daemon died, under a lease too young to be recorded.

        The note that says so outlives the commit that takes it into account: an ``attempt`` that was charged already
        is not charged again.
        """
        if index in run.queued and run.attempt(index) == attempt:
            run.queued.remove(index, index + 1)
            lease = Lease((0, 0), run, "", index, 1, attempt)
            self._lose(lease, index, index + 1, "WorkerLost", reason, out)
            self.backlog.note(run)

    # -- workers that are back ----------------------------------------------------------------------------------------

    def _reconcile(self, worker: Worker, held: Sequence[LeaseId], out: Effects) -> None:
        """Bring what a (returning) worker holds and what it was granted together.

        A lease it does not know of never reached it, and never will (`docs/protocol.md`, sessions): nothing of it has
        started. One that had expired meanwhile is its own again as far as its tasks are still waiting. What is its own
        no more it hears of right after the welcome: a head may have it in hand, and somebody else be at it.
        """
        known = set(held)
        for lease in [lease for lease in worker.leases.values() if lease.id not in known]:
            self.expire(lease, lease.first, "", "", out)
        for lease_id in held:
            expired = self._expired.get(lease_id)
            if expired is not None and expired.worker == worker.token:
                self._take_back(worker, expired, out)
            elif lease_id not in worker.leases:
                worker.settle(lease_id, out.turn)

    def _take_back(self, worker: Worker, lease: Lease, out: Effects) -> None:
        run = lease.run
        in_doubt = IntervalSet([part for piece in lease.remaining for part in run.open.within(*piece)])
        waiting = [part for piece in in_doubt for part in run.queued.within(*piece)]
        in_doubt.remove_all(IntervalSet(waiting))
        wanted = in_doubt or IntervalSet(waiting)
        if not in_doubt:
            del self._expired[lease.id]
        if not wanted:
            worker.settle(lease.id, out.turn)
            return
        self._revoke(lease, wanted.gaps(lease.first, lease.first + lease.n), out)
        if in_doubt:
            return  # their outcomes, when they come, are still taken as late ones
        lease.remaining = IntervalSet(waiting)
        for low, high in waiting:
            run.queued.remove(low, high)
        self.backlog.note(run)
        self._leases[lease.id] = lease
        worker.hold(lease)
        self._record(lease, out)
