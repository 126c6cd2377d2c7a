"""The records of several runs whose points one learner gave, the legs of a routed run, put together as one record.

A daemon knows of the leg that it has and of no other. So whoever drives the learner notes with each ask where it stands
among all of them (`taskmaster.bus.messages.Order`): its number, how many events had been told and how many tasks put
over all legs, and of which legs the events were that had been told since the ask before. An ask is recorded with the
tasks that are put next, whichever leg these go to. It is recorded with several legs as long as it is not known to be on
disk with one: so what is on disk of any leg has, of all legs, every ask up to there. The tasks of a leg are numbered by
the last ask before them; where others have gone elsewhere meanwhile, one is noted that says only the next number.

Sorted by their numbers, the asks and the tasks behind them are the record of one run. Numbers of tasks that are nowhere
were put shortly before the loop was killed and did not come to any disk, though later ones of other legs did: nothing
of them can have been told. Their places are marked (`LOST`), for the learner has given a point for each.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Schema
from taskmaster.bus.messages import BY_HAND, KEPT, Ask, Order
from taskmaster.learners.history import AskedBlock
from taskmaster.learners.playback import LOST, Segment, segments

__all__ = ["LegRecord", "MergedRecord"]


@dataclass
class LegRecord:
    """What is recorded of a leg."""

    #: ``MASTER/NAME``
    title: str
    #: of its Master's parameters
    schema: Schema
    blocks: Iterable[AskedBlock]
    #: how many tasks it has
    tasks: int


class _Piece(NamedTuple):
    """Tasks of a leg that lie one behind the other, and the ask before them if they are the first behind it."""

    #: the ask, and the first task, as numbered over all legs
    number: int
    first: int
    leg: int
    segment: Segment
    #: they were put by somebody else
    by_hand: bool

    @property
    def n(self) -> int:
        return self.segment.high - self.segment.low

    @property
    def ask(self) -> Ask:
        return self.segment.ask


def _place(piece: _Piece) -> tuple[int, int, bool]:
    """Where it belongs; what says only which tasks follow comes behind the ask itself, which another leg may have."""
    order = piece.ask.order
    return piece.number, piece.first, order is None or (piece.ask.asked == KEPT and not order.told)


class MergedRecord:
    """The records of all legs, read as one; it is read as it is used.

    ``keep`` has what was read for the sake of results given by :meth:`asks` later.
    """

    def __init__(self, legs: Sequence[LegRecord], *, keep: bool) -> None:
        #: the last ask, after which event it was, and the next task, as numbered over all legs: as far as it was read
        self.number = self.after = -1
        self.task = 0
        #: whether any of it was read
        self.is_begun = False
        self._legs = legs
        self._ahead: deque[AskedBlock] | None = deque() if keep else None
        self._blocks = self._merged()
        #: tasks so far
        self._tasks = 0
        #: of tasks of which no result was taken, by leg and index there, which they are here
        self._indices: list[dict[int, int]] = [{} for _ in legs]
        #: of which legs the events are that were told next, and how many it were of each
        self._order: deque[int] = deque()
        self._told = [0] * len(legs)
        self._last: Ask | None = None
        #: how what is put next is said to have been put: what the learner gave, or by hand
        self._how = BY_HAND

    def asks(self) -> Iterator[AskedBlock]:
        """Its tasks as they were put, with what the learner was asked; where one is not on record, :data:`LOST`."""
        while True:
            if self._ahead:
                yield self._ahead.popleft()
            elif (block := self._read()) is not None:
                yield block
            else:
                return

    def due(self) -> int | None:
        """Of which leg the next event was that was told; None if the record does not say so any more."""
        while not self._order and self._read_ahead():
            pass
        return self._order[0] if self._order else None

    def on_told(self) -> None:
        """That one was told."""
        self._order.popleft()

    def take(self, leg: int, index: int) -> int:
        """Which task of the whole run the task ``index`` of a leg is; its result has come."""
        indices = self._indices[leg]
        while index not in indices and self._read_ahead():
            pass
        if index not in indices:
            raise self._unfit(leg, f"its task {index} has ended and is not on record")
        return indices.pop(index)

    def add(self, leg: int, index: int, task: int) -> None:
        """One more has been put since."""
        self._indices[leg][index] = task

    def read_all(self) -> None:
        """Read what is left of it."""
        while self._read_ahead():
            pass

    def _read_ahead(self) -> bool:
        block = self._read()
        if block is not None and self._ahead is not None:
            self._ahead.append(block)
        return block is not None

    def _read(self) -> AskedBlock | None:
        self.is_begun = True
        return next(self._blocks, None)

    # -- merging ------------------------------------------------------------------------------------------------------

    def _merged(self) -> Iterator[AskedBlock]:
        streams = [self._pieces(leg) for leg in range(len(self._legs))]
        for piece in heapq.merge(*streams, key=_place):
            asks: list[Ask] = []
            if not piece.by_hand:
                self._go_to(piece, asks)
            if piece.n:
                self._say_how(piece, asks)
            if piece.n or asks:
                yield self._block(piece, asks)

    def _pieces(self, leg: int) -> Iterator[_Piece]:
        """What is recorded of a leg, cut at each ask, with its place in the whole."""
        number, first = -1, 0
        for segment in segments(self._legs[leg].blocks):
            order, n = segment.ask.order, segment.high - segment.low
            if order is None:
                if segment.ask.asked != BY_HAND:
                    why = "of what its learner was asked it is not recorded where that stands among all legs, by an"
                    raise self._unfit(leg, f"{why} older client or daemon")
                yield _Piece(number, first, leg, segment, True)
                continue
            if segment.begins:
                number, first = order.number, order.first
            yield _Piece(number, first, leg, segment, False)
            first += n

    def _go_to(self, piece: _Piece, asks: list[Ask]) -> None:
        """Note what was lost before a piece, and what the learner was asked there if that is news."""
        order = piece.ask.order
        assert order is not None
        is_new = piece.number > self.number
        lost = piece.first - self.task
        if (lost < 0 and piece.n) or not (is_new or self._agrees(piece)):
            raise self._unfit(piece.leg, "it contradicts the others")
        if lost > 0 and self._last is not None and self._last.asked != BY_HAND:
            asks += [Ask(0, self.after, LOST)] * lost
            self._how = KEPT
        self.task = max(self.task, piece.first) + piece.n
        if not is_new:
            return
        if piece.number > self.number + 1:
            asks.append(Ask(0, self.after, BY_HAND))  # with no task it says that there is a gap
            self._how = KEPT
        self.number, self.after, self._last = piece.number, order.after, piece.ask
        self._tell(piece.leg, order)
        if piece.ask.asked != BY_HAND:
            asks.append(Ask(0, order.after, piece.ask.asked))
            self._how = KEPT

    def _agrees(self, piece: _Piece) -> bool:
        """Whether an ask is the one that was read of another leg, or says only which tasks follow."""
        ask, last = piece.ask, self._last
        if not piece.segment.begins or ask.asked == KEPT or last is None:
            return True
        return (ask.asked, ask.order) == (last.asked, last.order)

    def _say_how(self, piece: _Piece, asks: list[Ask]) -> None:
        """Note that tasks were put by hand, or not any more."""
        is_by_hand = piece.by_hand or (self._last is not None and self._last.asked == BY_HAND)
        how = BY_HAND if is_by_hand else KEPT
        if how != self._how:
            asks.append(Ask(0, self.after, how))
            self._how = how

    def _block(self, piece: _Piece, asks: Sequence[Ask]) -> AskedBlock:
        _, _, block, low, high = piece.segment
        indices = self._indices[piece.leg]
        first, self._tasks = self._tasks, self._tasks + piece.n
        for k in range(piece.n):
            indices[block.first + low + k] = first + k
        return AskedBlock(first, block.points.slice(low, high), tuple(asks), self._legs[piece.leg].schema)

    def _tell(self, leg: int, order: Order) -> None:
        for told in order.told:
            if told >= len(self._legs):
                raise self._unfit(leg, f"it speaks of a leg {told}, and there are {len(self._legs)}")
            self._told[told] += 1
            if self._told[told] > self._legs[told].tasks:
                raise self._unfit(
                    told,
                    f"the learner was told how {self._told[told]} of its tasks ended, and it has "
                    f"{self._legs[told].tasks}: it was deleted and made anew, or its journal restored",
                )
        self._order.extend(order.told)

    def _unfit(self, leg: int, why: str) -> CallerError:
        others = ", ".join(record.title for k, record in enumerate(self._legs) if k != leg)
        return CallerError(
            f"run {self._legs[leg].title} does not go together with {others or 'itself'}: {why}. Begin a new run, "
            "under another name; what these have measured can be had of each: taskmaster runs export"
        )
