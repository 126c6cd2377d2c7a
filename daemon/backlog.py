"""The runs of one Master that have tasks waiting: how much that is in all, and whose turn it is. Pure state.

Both are asked for with every submission and every lease, so neither may look at all runs: a lab that keeps ten thousand
paused scans has them waiting here. Totals are kept as differences, and the order as a heap whose entries are not taken
out when they become wrong, but passed over when they come up (and thrown away together when they are too many).

Runs share a Master by *start-time fair queueing* (Goyal, Vin and Cheng, SIGCOMM 1996), in seconds of evaluation: the
run with the least virtual time goes next; a run that was idle starts at the clock of those that were not, so it can
neither save up time nor be starved. A higher priority goes first whatever the clocks say.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush
from typing import TypeAlias

from taskmaster.daemon.run import Run

__all__ = ["Backlog"]

#: (−priority, virtual time, number of the run): the least is next.
_Key: TypeAlias = tuple[int, float, int]

#: So many entries of the heap may be out of date, beside as many as there are runs, before they are thrown away.
_STALE = 64


class Backlog:
    """Told of a run by :meth:`note` whenever its queue, its priority, its clock or its pause has changed."""

    def __init__(self) -> None:
        #: tasks waiting, and bytes of the inputs of the runs they are of
        self.tasks = self.bytes = 0
        #: virtual time of the run served last
        self.clock = 0.0
        self._runs: dict[int, Run] = {}
        #: what of each run is in the totals
        self._noted: dict[int, tuple[int, int]] = {}
        self._heap: list[_Key] = []
        #: the one entry of each run in the heap that counts
        self._keys: dict[int, _Key] = {}
        #: runs whose entry may be out of date; none is made before there is a choice
        self._changed: set[int] = set()

    @property
    def runs(self) -> Collection[Run]:
        """Those with tasks waiting, paused ones as well."""
        return self._runs.values()

    def note(self, run: Run) -> None:
        """Anything may have happened to this run."""
        number, tasks = run.id, len(run.queued)
        if number in self._runs:
            if not tasks:
                self.forget(run)
                return
            known = self._noted[number]
            self.tasks += tasks - known[0]
            self.bytes += run.input_bytes - known[1]
        elif tasks:
            run.virtual_time = max(run.virtual_time, self.clock)
            self._runs[number] = run
            self.tasks += tasks
            self.bytes += run.input_bytes
        else:
            return
        self._noted[number] = (tasks, run.input_bytes)
        self._changed.add(number)

    def forget(self, run: Run) -> None:
        """It has no task waiting."""
        if self._runs.pop(run.id, None) is not None:
            tasks, size = self._noted.pop(run.id)
            self.tasks -= tasks
            self.bytes -= size
            self._keys.pop(run.id, None)
            self._changed.discard(run.id)

    def next(self) -> Run | None:
        """The run whose turn it is: highest priority, then least virtual time, then age; None if all are paused."""
        if len(self._runs) < 2:  # as it is most often
            for only in self._runs.values():
                return None if only.paused else only
            return None
        self._put_in_order()
        while self._heap:
            key = self._heap[0]
            run = self._runs.get(key[2])
            if run is not None and self._keys.get(run.id) == key:
                if not run.paused:
                    return run
                del self._keys[run.id]
            heappop(self._heap)
        return None

    def in_order(self) -> list[Run]:
        """All runs with tasks waiting that are not paused, as their turns come."""
        runs = [run for run in self._runs.values() if not run.paused]
        if len(runs) > 1:
            runs.sort(key=lambda run: (-run.priority, run.virtual_time, run.id))
        return runs

    def _put_in_order(self) -> None:
        for number in self._changed:
            run = self._runs[number]
            key = (-run.priority, run.virtual_time, number)
            if not run.paused and self._keys.get(number) != key:
                self._keys[number] = key
                heappush(self._heap, key)
        self._changed.clear()
        if len(self._heap) > 2 * len(self._keys) + _STALE:
            self._heap = sorted(self._keys.values())
