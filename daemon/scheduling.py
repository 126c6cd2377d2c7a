"""How many tasks the next lease takes: pure arithmetic. Of which run they are is in `backlog`.

Chunks follow *guided self-scheduling* (Polychronopoulos and Kuck, IEEE Trans. Computers C-36 (1987) 1425): each lease
takes a share ``1 / (2 P)`` of what remains for ``P`` slots, so that chunks shrink to one task at the end and all slots
finish together. Two bounds are added: a chunk is not worth more than some milliseconds of measured work
(:func:`chunk_seconds`), so that results flow and a mistaken estimate costs little; and it grows by at most
:data:`GROWTH` over what its run has proven, so that the first tasks of a run, which say nothing about the next, cannot
bind a thousand others to one worker.

What was in a chunk with a task that took its worker down is found innocent by *group testing in stages* (Li, J. Am.
Stat. Assoc. 57 (1962) 455, after Dorfman), see :func:`retry_size`.
"""

from __future__ import annotations

__all__ = ["CHUNK_BYTES", "CHUNK_SECONDS", "Estimate", "chunk_seconds", "chunk_size", "retry_size"]

#: Measured work in one lease, in seconds, at least …
CHUNK_SECONDS = 0.010
#: … and at most; it is this share of what a slot has before it.
LONGEST_CHUNK_SECONDS = 0.100
CHUNK_SHARE = 1 / 32
#: A slot that has this many seconds of work in hand is not given a further lease ahead of time.
AHEAD_SECONDS = 0.020
# (With chunks of more than that, a slot is given its next one when it has this much left.)
#: Largest factor between the chunk a run has completed and its next one.
GROWTH = 8
#: Input bytes of one lease; keeps a message well below the sockets' limit.
CHUNK_BYTES = 8 << 20
#: Weight of the newest chunk in the moving average of a task's duration.
_WEIGHT = 0.3
#: Assumed cost of a task of which nothing is known yet, in seconds, for sharing only.
UNKNOWN_SECONDS = 0.001


class Estimate:
    """What a run's tasks cost, from its outcomes."""

    __slots__ = ("largest", "seconds")

    def __init__(self) -> None:
        #: moving average of seconds a task; 0 before the first
        self.seconds = 0.0
        #: tasks of the largest chunk that has come back
        self.largest = 0

    def learn(self, n: int, seconds: float) -> None:
        """A worker needed ``seconds`` for ``n`` tasks."""
        each = max(seconds, 1e-9) / n
        # Weighted by the chunk's size against what is known, lest one odd task among thousands upset the average.
        weight = _WEIGHT if n * GROWTH >= self.largest else _WEIGHT * n * GROWTH / self.largest
        self.seconds = each if self.seconds == 0 else self.seconds + weight * (each - self.seconds)
        self.largest = max(n, min(self.largest, round(LONGEST_CHUNK_SECONDS / self.seconds) + 1))


def chunk_seconds(estimate: Estimate, queued: int, slots: int) -> float:
    """Work of one lease of a run with ``queued`` tasks waiting before ``slots`` slots, in seconds.

    Each lease costs a few messages and a commit, which on a small machine is taken from the evaluations themselves. A
    learner that waits for results has few tasks queued and gets them at once; who has queued seconds of work has not
    asked for its first result within milliseconds.
    """
    return min(LONGEST_CHUNK_SECONDS, max(CHUNK_SECONDS, CHUNK_SHARE * queued * estimate.seconds / max(1, slots)))


def chunk_size(estimate: Estimate, queued: int, slots: int, row_bytes: float) -> int:
    """Tasks of the next lease, at least 1, of a run with ``queued`` tasks waiting before ``slots`` slots."""
    if estimate.seconds == 0:
        return 1
    share = -(-queued // (2 * max(1, slots)))
    timely = round(chunk_seconds(estimate, queued, slots) / estimate.seconds)
    proven = GROWTH * max(1, estimate.largest)
    fitting = int(CHUNK_BYTES / row_bytes) if row_bytes else queued
    return max(1, min(share, timely, proven, fitting))


def retry_size(n: int, left: int) -> int:
    """How many of ``n`` tasks that lost a worker together share their next lease, where ``left`` evaluations are left.

    By halves, the one that is to blame would be found soonest, but its neighbours have lost ``log₂ n`` workers by then,
    which may be more than they are allowed. So where that is, parts are smaller, ``n^(1 - 1/left)``: then each task is
    alone when it has its last attempt, and none fails for what another did. One task to blame costs ``left`` workers at
    most, and some ``left · n^(1/left)`` leases, not ``n``.
    """
    if left < 2:
        return 1
    return max(1, min(n // 2, int(n ** (1 - 1 / left) + 1e-9)))
