"""Taking back what a busy worker has not begun, for one that has nothing to do: pure arithmetic.

Guided chunks make the slots finish together as far as the past tells the future. Where it does not (tasks that grow
with their index, one that takes a thousand times as long as its neighbours), the tail of a lease waits behind a slow
task while other slots are idle. Then its later half is queued again: a worker evaluates a lease in order, so that is
what it has most likely not begun. It is told to skip those tasks; should it have begun one all the same, the task is
evaluated twice and counts once. So this is for repeatable tasks only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskmaster.daemon.leases import Lease, Worker

__all__ = ["LOOK_SECONDS", "STEAL_SECONDS", "loot"]

#: Expected work that is worth a message to each of two workers.
STEAL_SECONDS = 0.002
#: How often leases are looked at again while a slot is idle.
LOOK_SECONDS = 0.005


def loot(workers: Iterable[Worker], now: float, turn: int) -> tuple[Lease, int, int] | None:
    """The lease and the indices ``low ≤ i < high`` to take back for an idle slot; None if nothing is worth it.

    What was granted in this very ``turn`` its worker has yet to hear of.
    """
    best: tuple[float, Lease, int, int] | None = None
    for worker in workers:
        for position, lease in enumerate(worker.leases.values()):
            if lease.run.paused or lease.turn == turn:
                continue
            begun = position < worker.slots
            found = _share(lease, now, begun=begun)
            if found is not None and (best is None or found[0] > best[0]):
                best = (found[0], lease, found[1], found[2])
    return None if best is None else best[1:]


def _share(lease: Lease, now: float, *, begun: bool) -> tuple[float, int, int] | None:
    """``(seconds it is worth, low, high)`` of what may be taken from one lease."""
    left = len(lease.remaining)
    if left < (2 if begun else 1):
        return None
    low, high = lease.remaining.last
    waiting = now - lease.heard
    expected = max(lease.seconds, 0.0) / left
    if begun and waiting <= max(STEAL_SECONDS, 2 * expected):
        # It moves on: its later half is worth what its tasks are expected to take.
        low = max(low, high - left // 2)
        worth = expected * (high - low)
    else:
        # It stands in one task, or has not begun at all: whatever is behind that will wait as long again.
        low = low + 1 if begun and left == high - low else low
        worth = max(waiting, expected * (high - low))
    return (worth, low, high) if worth > STEAL_SECONDS and low < high else None
