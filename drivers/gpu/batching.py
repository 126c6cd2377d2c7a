"""Which rows form the next batch, and how many a batch may have: pure decisions, see `engine` for what is done.

Batches form by themselves, as the daemon's transactions do: what comes while the device is busy waits, and is the next
batch when it is free (TensorFlow Serving's and Triton's batchers wait for a time instead, which costs latency where
load is low; who wants that sets ``linger``). A further batch is begun beside one that is under way when it is worth a
launch of its own: when it is full, or at least half of what is under way. Then copies and kernels of the two overlap,
and many learners with a point each settle into two groups that take turns.

Rows that have lost a worker before are evaluated alone, lease by lease, with nothing else under way: the daemon gives
such in ever smaller leases (:func:`taskmaster.daemon.scheduling.retry_size`), at last alone, and whoever kills the
worker then is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from taskmaster.bus.messages import LeaseId
from taskmaster.drivers.protocol import Assignment

__all__ = ["Batch", "Piece", "Sizing", "Waiting"]

#: Rows of a batch before anything is known of the time it takes.
FIRST_ROWS = 1024
#: A launch that takes less than this may have more rows, whatever that gains.
SHORT_SECONDS = 0.005
#: One that takes longer gets more only where that gains throughput …
LONG_SECONDS = 0.020
#: … and never beyond this: whoever cancels, or waits for a result, waits for its end.
LONGEST_SECONDS = 1.0
#: Throughput that counts as more, or as the same.
_MORE, _SAME = 1.15, 0.9
_GROWTH = 4
#: Weight of the newest launch in the moving average of a size's throughput.
_WEIGHT = 0.3
#: A batch of so much of the limit tells something about the limit.
_FULL = 0.75
#: Of the memory that is free, or that the pool holds, what batches may take.
_MEMORY_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Piece:
    """Tasks at positions ``low ≤ p < high`` of a lease."""

    assignment: Assignment
    low: int
    high: int

    @property
    def n(self) -> int:
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are evaluated in one launch."""

    pieces: tuple[Piece, ...]
    #: nothing else is to be under way
    alone: bool = False

    @property
    def rows(self) -> int:
        return sum(piece.n for piece in self.pieces)

    def cut(self, at: int) -> tuple[Batch, Batch]:
        """The first ``at`` rows, and the others."""
        first: list[Piece] = []
        for k, piece in enumerate(self.pieces):
            if at < piece.n:
                middle = piece.low + at
                head = [Piece(piece.assignment, piece.low, middle)] if at else []
                rest = (Piece(piece.assignment, middle, piece.high), *self.pieces[k + 1 :])
                return Batch((*first, *head), self.alone), Batch(rest, self.alone)
            at -= piece.n
            first.append(piece)
        return self, Batch((), self.alone)


class _Entry:
    __slots__ = ("assignment", "at", "since")

    def __init__(self, assignment: Assignment, since: float) -> None:
        self.assignment = assignment
        #: the first position that is in no batch yet
        self.at = 0
        self.since = since


class Waiting:
    """The leases that a worker has, as far as they are in no batch yet: first come, first served.

    The order is that of their numbers, as whoever asks what a lost worker had begun takes for granted.
    """

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()
        self._leases: set[LeaseId] = set()
        #: how many rows, those counted that have been revoked since they came
        self.rows = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, lease: object) -> bool:
        """Whether any of a lease is in no batch yet."""
        return lease in self._leases

    @property
    def first(self) -> Assignment | None:
        """Whose turn it is."""
        return self._entries[0].assignment if self._entries else None

    @property
    def is_alone(self) -> bool:
        """Whether what comes next is to be evaluated with nothing else under way."""
        return bool(self._entries) and self._entries[0].assignment.attempt > 1

    def add(self, assignment: Assignment, now: float) -> None:
        """A lease has come."""
        self._entries.append(_Entry(assignment, now))
        self._leases.add(assignment.lease)
        self.rows += assignment.n

    def due(self, limit: int, linger: float) -> float | None:
        """When an idle device may begin what waits; None: nothing does."""
        if not self._entries:
            return None
        if not linger or self.rows >= limit or self.is_alone:
            return 0.0
        return self._entries[0].since + linger

    def take(self, limit: int, leases: int) -> Batch:
        """The next batch, of up to ``limit`` rows of up to ``leases`` leases."""
        pieces: list[Piece] = []
        alone = self.is_alone
        while self._entries and limit > 0 and leases > 0:
            entry = self._entries[0]
            if pieces and (alone or entry.assignment.attempt > 1):
                break
            limit -= self._take_of(entry, limit, pieces)
            if entry.at < entry.assignment.n:
                break
            self._entries.popleft()
            self._leases.discard(entry.assignment.lease)
            leases -= 1
        return Batch(tuple(pieces), alone)

    def _take_of(self, entry: _Entry, limit: int, pieces: list[Piece]) -> int:
        """Up to ``limit`` rows of one lease, those left out that are revoked; how many. It has one piece at least."""
        assignment, taken, before = entry.assignment, 0, entry.at
        empty = True
        for low, high in _wanted(assignment, entry.at):
            if taken == limit:
                break
            high = min(high, low + limit - taken)
            pieces.append(Piece(assignment, low, high))
            taken += high - low
            entry.at = high
            empty = False
        if not _has_more(assignment, entry.at):
            if empty:  # all that was left of it is revoked: that has to be said
                pieces.append(Piece(assignment, assignment.n, assignment.n))
            entry.at = assignment.n
        self.rows -= entry.at - before
        return taken


def _wanted(assignment: Assignment, at: int) -> Iterator[tuple[int, int]]:
    if not assignment.revoked:
        if at < assignment.n:
            yield at, assignment.n
        return
    yield from list(assignment.revoked.gaps(at, assignment.n))


def _has_more(assignment: Assignment, at: int) -> bool:
    return next(_wanted(assignment, at), None) is not None


class Sizing:
    """How many rows a batch may have, from what launches took.

    A device has most throughput from some size on, which depends on the kernel and the card: below it, a launch takes
    as long however few rows it has. So the size grows as long as launches are short, or throughput grows with it; and
    goes back to a smaller one that is as good where launches are long, so that results flow.
    """

    def __init__(self, most: int, depth: int = 1) -> None:
        """``depth`` batches are under way at a time, and share the memory."""
        self.most = most
        self._depth = depth
        self._rows = min(most, FIRST_ROWS)
        #: throughput by size
        self._rates: dict[int, float] = {}
        #: what memory did not allow; remembered
        self._ceiling = most
        #: what it would allow, as far as that is known
        self._fits = most

    @property
    def rows(self) -> int:
        """Of the next batch, at most."""
        return max(1, min(self._rows, self._ceiling, self._fits))

    def landed(self, rows: int, seconds: float) -> None:
        """A launch of so many rows took so long."""
        limit = self.rows
        if rows < _FULL * limit:
            return
        rate = rows / max(seconds, 1e-9)
        known = self._rates.get(limit)
        rate = self._rates[limit] = rate if known is None else known + _WEIGHT * (rate - known)
        expected = limit / rate
        smaller = max((size for size in self._rates if size < limit), default=0)
        gains = not smaller or rate > _MORE * self._rates[smaller]
        if expected < SHORT_SECONDS or (gains and expected * _GROWTH < LONGEST_SECONDS):
            self._rows = min(self.most, limit * _GROWTH)
        elif smaller and expected > LONG_SECONDS and self._rates[smaller] >= _SAME * rate:
            self._rows = smaller
        elif expected > LONGEST_SECONDS and limit > 1:
            self._rows = max(1, limit // _GROWTH)

    def failed(self) -> None:
        """Rows of a batch raise: not so many at once, where each of them may."""
        self._rows = min(self._rows, FIRST_ROWS)

    def needs(self, row_bytes: float, available: int) -> None:
        """A row takes so much of the device's memory, of which so much is free or the pool's own."""
        if row_bytes > 0 and available > 0:
            self._fits = int(_MEMORY_SHARE * available / row_bytes / self._depth)

    def out_of_memory(self, rows: int) -> int:
        """So many were too many; how many are to be tried, from now on."""
        self._ceiling = max(1, min(self._ceiling, rows // 2))
        return self._ceiling
