"""The workers of one Master, and which of them may take another lease. Pure state."""

from __future__ import annotations

from taskmaster.daemon.leases import Worker
from taskmaster.daemon.scheduling import AHEAD_SECONDS

__all__ = ["Roster"]

#: A worker that evaluates tasks together has leases of so many batches: of the one that it is in, and of the next two.
BATCHES_IN_HAND = 3


class Roster:
    """Workers by token, kept sorted by how much room they have, so that a grant costs nothing per worker.

    A worker may hold one lease for each of its slots, and one more for each ahead of time, so that it need not wait for
    the next while the daemon learns that it has finished the last.
    """

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        #: ready workers without a lease, the one that was busy last at the end; and those that may take another
        self._idle: dict[str, Worker] = {}
        self._partly: dict[str, Worker] = {}
        #: of all ready workers: slots (None: to be counted again), shares, and how many evaluate tasks together
        self._slots: int | None = None
        self._shares = self._gathering = 0

    @property
    def slots(self) -> int:
        """Evaluations at a time over all workers that are ready."""
        if self._slots is None:
            ready = [w for w in self.workers.values() if w.state == "ready" and w.is_available]
            self._slots = sum(worker.slots for worker in ready)
            self._shares = sum(worker.shares for worker in ready)
            self._gathering = sum(worker.batch > 0 for worker in ready)
        return self._slots

    @property
    def shares(self) -> int:
        """By how many what waits is divided: the slots, but of workers that evaluate many tasks together."""
        return self._shares if self.slots else 0

    @property
    def gathering(self) -> int:
        """How many of them evaluate many tasks together."""
        return self._gathering if self.slots else 0

    @property
    def has_idle(self) -> bool:
        """Whether a ready worker has nothing to do."""
        return bool(self._idle)

    @property
    def idle(self) -> list[Worker]:
        """Ready workers without a lease, the one that was busy last at the end."""
        return list(self._idle.values())

    @property
    def partly(self) -> list[Worker]:
        """Those that have leases, and may take another."""
        return list(self._partly.values())

    def note(self, worker: Worker) -> None:
        """Anything may have happened to this worker."""
        self._slots = None
        room = worker.state == "ready" and worker.is_available and worker.token in self.workers
        room = room and len(worker.leases) < 2 * worker.slots
        if room and not worker.leases:
            self._idle[worker.token] = worker
            self._partly.pop(worker.token, None)
        elif room:
            self._partly[worker.token] = worker
            self._idle.pop(worker.token, None)
        else:
            self._idle.pop(worker.token, None)
            self._partly.pop(worker.token, None)

    def granted(self, worker: Worker) -> None:
        """This worker, which had room, has got a lease."""
        if len(worker.leases) == 1:
            del self._idle[worker.token]
            self._partly[worker.token] = worker
        elif len(worker.leases) >= 2 * worker.slots:
            self._partly.pop(worker.token, None)

    def roomiest(self, task_seconds: float) -> Worker | None:
        """Whom to serve next: who was busy last, else one with a free slot, else the one with the least in hand.

        The one that was busy last still has its code and data in the processor's caches. A lease ahead of time is for
        tasks that are known to be short (``task_seconds``, 0 where nothing is known): a long one had better wait here,
        for whoever is free first.
        """
        if self._idle:
            return next(reversed(self._idle.values()))
        best: Worker | None = None
        least = AHEAD_SECONDS
        fewest = 0
        for worker in self._partly.values():
            if worker.batch:
                # Its own batches are what it evaluates one after the other: slots only say how many leases form them.
                tasks = worker.tasks_in_hand
                takes = len(worker.leases) < worker.shares or tasks < BATCHES_IN_HAND * worker.batch
                if takes and (best is None or tasks < fewest):
                    best, fewest = worker, tasks
                continue
            if len(worker.leases) < worker.slots:
                return worker
            hand = worker.seconds_in_hand / worker.slots
            if hand < least and 0 < task_seconds < AHEAD_SECONDS:
                best, least = worker, hand
        return best
