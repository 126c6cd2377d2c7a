"""Playing what a run's learner was asked to a learner again, and comparing what it gives.

A run's record is two streams. One is of events, numbered by ``seq``: how tasks ended. The other is of tasks, numbered
by ``index``, with a note wherever the learner was asked: for how many points, and which event was the last it had been
told of. Both together are the exact interleaving of asks and tells. Between them is a queue: what the learner gives
joins it at its end, so does a failed point that is to be put again, and what is put leaves it at its front. So it needs
no more to know which task is which of the learner's points, although some were kept back for a while.

A :class:`Playback` goes through the second stream as far as the first has come. It is the part that a Loop which goes
on with a run has in common with :func:`~taskmaster.learners.replay.replay`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any, NamedTuple

from taskmaster.bus import values
from taskmaster.bus.errors import InvalidTask, TaskFailed
from taskmaster.bus.fields import Schema, shown
from taskmaster.bus.messages import AGAIN, BY_HAND, FOUND, KEPT, Ask
from taskmaster.bus.table import Table, pack_values
from taskmaster.learners.history import AskedBlock
from taskmaster.learners.protocol import Failable, Learner, Recalling, given
from taskmaster.learners.results import Result

__all__ = ["LOST", "Asked", "Divergence", "Playback", "Segment", "segments", "tell"]

#: What ``asked`` says in a record that was put together of several (see `merging`): the point whose turn it was had
#: been put, but is in none of them, for its loop was killed.
LOST = -4

#: Points that a divergence shows of each side, and results that it shows of those that were told before.
_SHOWN = 8
_SHOWN_RESULTS = 100


@dataclass(slots=True)
class Asked:
    """A point that the learner has given and that has not ended."""

    point: Any
    #: the last event that the learner had been told then
    after: int
    #: how often it has failed
    tries: int = 0
    #: what it had in common with equal points when it was put, see `key_of`; None where that is not known
    key: Hashable | None = None


@dataclass(frozen=True)
class Divergence:
    """Where a learner first gave something else than is recorded."""

    #: the number of the ask, from 0
    ask: int
    #: the last event that the learner had been told of, -1 if there was none
    after: int
    #: how many points it was asked for
    asked: int
    #: the first task that it would have been otherwise
    index: int
    #: what was put then, from that task on, and what the learner gives there now: up to 8 of either
    recorded: tuple[Any, ...]
    now: tuple[Any, ...]
    #: what it had been told since the ask before: the last hundred results
    told: tuple[Result, ...]
    #: in words
    why: str

    def __str__(self) -> str:
        told = f"events {self.told[0].seq} to {self.told[-1].seq}" if self.told else "nothing"
        return (
            f"{self.why} (ask {self.ask}, for {self.asked} points after event {self.after}; told since the ask before: "
            f"{told})"
        )


class Segment(NamedTuple):
    """Tasks that were put one behind the other because of one ask, as far as they lie in one block."""

    ask: Ask
    #: this is where it was asked, and not the continuation of it
    begins: bool
    block: AskedBlock
    low: int
    high: int

    @property
    def first(self) -> int:
        """The index of the first task."""
        return self.block.first + self.low

    @property
    def all_points(self) -> list[Any]:
        """What was put."""
        return self.block.points.rows()[self.low : self.high]

    @property
    def points(self) -> list[Any]:
        """What was put, up to what one looks at."""
        return self.block.points.rows()[self.low : min(self.high, self.low + _SHOWN)]


class Playback:
    """Asks ``learner`` where the record says that it was asked, and compares what it gives with what was put.

    ``blocks`` is the record, see :meth:`~taskmaster.learners.history.History.asks`; ``schema`` that of the Master's
    parameters. ``on_ask(segment, points)`` is called after each ask.
    """

    def __init__(
        self,
        learner: Learner,
        blocks: Iterable[AskedBlock],
        schema: Schema,
        on_ask: Callable[[Segment, Sequence[Any]], None] | None = None,
    ) -> None:
        self._learner = learner
        self._recalling = learner if isinstance(learner, Recalling) else None
        self._bits = _Bits(schema)
        self._on_ask = on_ask
        self._segments = segments(blocks)
        self._next = next(self._segments, None)
        #: the learner's points that have not been put, in the order in which they will be
        self.ready: deque[Asked] = deque()
        #: its points that were put and lost, and are to join those that are ready
        self.lost: deque[Asked] = deque()
        #: its points that have been put and not ended, by the index of their task; not those that it has not given
        self.asked: dict[int, Asked] = {}
        #: tasks below this have been put
        self.next_index = 0
        #: asks so far
        self.asks = 0
        #: where the learner was first at odds with the record; from there on it is not asked any more
        self.divergence: Divergence | None = None
        #: the learner is being asked, or has raised when it was
        self.is_asking = False
        #: of the last ask, the event that had been told before, and how many points fewer it gave than it was asked for
        self.vain = (-2, 0)
        self._last, self._number = Ask(0, -1, BY_HAND), 0
        self._failed: dict[int, Asked] = {}
        self._told: deque[Result] = deque(maxlen=_SHOWN_RESULTS)

    @property
    def is_over(self) -> bool:
        """Whether everything that is recorded has been put."""
        return self._next is None

    def has_due(self, seq: float, index: int) -> bool:
        """Whether :meth:`catch_up` would do anything."""
        following = self._next
        return following is not None and (following.ask.after < seq or self.next_index <= index)

    def catch_up(self, seq: float, index: int = -1) -> None:
        """Do what was done before event ``seq`` was told; in any case all until task ``index`` was put.

        If the learner raises, or ``on_ask``, it can be called again, and goes on there.
        """
        while (segment := self._next) is not None and (segment.ask.after < seq or self.next_index <= index):
            points = None
            if self.divergence is None:
                if segment.begins and segment.ask.asked > KEPT:
                    points = self._ask(segment)
                else:
                    self._go_on(segment)
            self.next_index += segment.high - segment.low
            self._next = next(self._segments, None)
            if points is not None and self._on_ask is not None:
                self._on_ask(segment, points)

    def on_told(self, result: Result) -> None:
        """The learner has been told how a task ended."""
        self._told.append(result)

    def is_put_again(self, asked: Asked, seq: int) -> bool | None:
        """Whether the record says that a point which failed by event ``seq`` was put again; None if it ends before."""
        following = self._next
        if following is None:
            return None
        if following.ask.asked != AGAIN or following.ask.after != seq:
            return False
        if self.divergence is None:
            self._failed[seq] = asked
        return True

    def _go_on(self, segment: Segment) -> None:
        """Go through a segment for which the learner was not asked."""
        ask, begins, _, low, high = segment
        if begins:
            if ask.asked == AGAIN and ask.after in self._failed:
                failed = self._failed.pop(ask.after)
                self.ready.append(Asked(failed.point, ask.after, failed.tries + 1))
            elif ask.asked == LOST:
                self._lose(segment)
            elif ask.asked == FOUND:
                self.ready.extend(self.lost)
                self.lost.clear()
            elif ask.asked == BY_HAND and low == high:
                self._diverge(segment, "the record has a gap: it does not say what the learner was asked here")
        if low < high and ask.asked != BY_HAND and self.divergence is None:
            if self._recalling is not None:
                self._recall(self._recalling, segment)
            self._match(segment)

    def _ask(self, segment: Segment) -> Sequence[Any]:
        """Go through a segment for which the learner was asked; what it gave."""
        ask, _, block, low, high = segment
        self.is_asking = True
        if self._recalling is None:
            points: Sequence[Any] = given(self._learner, ask.asked)
        else:
            points = self._recall(self._recalling, segment)
        self.is_asking = False
        self.vain = (ask.after, ask.asked - len(points))
        self._last, self._number = ask, self.asks
        is_one = len(points) == 1 == high - low and not self.ready
        if is_one and ask.asked == 1 and _is_plainly(points[0], block.points.rows()[low]):  # so it is nearly always
            self.asked[block.first + low] = Asked(points[0], ask.after)
        else:
            if self._recalling is None:
                self.ready.extend([Asked(point, ask.after) for point in points])
            if len(points) > ask.asked:
                self._diverge(segment, f"the learner gives {len(points)} points, though it is asked for {ask.asked}")
            elif low < high:
                self._match(segment)
        self._told.clear()
        self.asks += 1
        return points

    def _lose(self, segment: Segment) -> None:
        if self.ready and self.ready[0].after == segment.ask.after:
            self.lost.append(self.ready.popleft())
        elif self._recalling is None:  # of what nobody has on record that one recalls nothing
            self._diverge(segment, "the learner gives fewer points than it gave then")

    def _recall(self, learner: Recalling, segment: Segment) -> Sequence[Any]:
        """What was put, as given now; without what is ready, because it is put again."""
        after, points, ready = segment.ask.after, segment.all_points, self.ready
        again = list(takewhile(lambda asked: asked.after == after, islice(ready, len(points))))
        given = points[len(again) :]
        learner.recall(given)
        for _ in again:
            ready.popleft()
        ready.extendleft(reversed([*again, *(Asked(point, after) for point in given)]))
        return given

    def _match(self, segment: Segment) -> None:
        """The points in front are those of the segment, or it is here that the learner gives others."""
        ask, _, block, low, high = segment
        n, ready, after = high - low, self.ready, ask.after
        if ready and ready[0].after < after:
            self._diverge(segment, "the learner gave more points, at an earlier ask, than were put")
            return
        given = list(islice(ready, n))
        points = [asked.point for asked in given]
        same = self._bits.same(points, block.points, low, block.schema) if points else 0
        first = block.first + low
        for k in range(same):
            self.asked[first + k] = ready.popleft()
        if same < n:
            was = block.points.rows()[low + same]
            now = shown(given[same].point) if same < len(given) else "nothing"
            self._diverge(segment, f"task {first + same} was {shown(was)}, the learner now asks {now} there", same)

    def _diverge(self, segment: Segment, why: str, same: int = 0) -> None:
        at = segment._replace(low=segment.low + same)
        now = tuple(asked.point for asked in islice(self.ready, _SHOWN))
        last = self._last
        self.divergence = Divergence(
            self._number, last.after, last.asked, at.first, tuple(at.points), now, tuple(self._told), why
        )


def segments(blocks: Iterable[AskedBlock]) -> Iterator[Segment]:
    """The tasks of a record, cut at each ask and where a block ends."""
    ask, begins = Ask(0, -1, BY_HAND), False
    for block in blocks:
        low, n = 0, block.points.n
        for following in block.asks:
            offset = min(max(low, following.offset), n)
            if begins or offset > low:
                yield Segment(ask, begins, block, low, offset)
            ask, begins, low = following, True, offset
        if begins or low < n:
            yield Segment(ask, begins, block, low, n)
            begins = False


class _Bits:
    """Compares points as they travel, to the bit: NaN is itself, 0.0 is not -0.0, and 1 is not 1.0.

    What a Master's parameters make the same (1 and 1.0, where a number is declared) is the same, for it is so when it
    is put.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def same(self, points: Sequence[Any], table: Table, low: int, schema: Schema | None = None) -> int:
        """How many of the points, from the first on, are the rows of ``table`` from ``low`` on.

        ``schema`` is that of the table, if it has one of its own.
        """
        schema = self._schema if schema is None else schema
        rows = table.rows()
        if all(_is_plainly(point, rows[k]) for k, point in enumerate(points, low)):
            return len(points)
        try:
            packed = _pack(points, schema)
        except (InvalidTask, TypeError):
            packed = None  # there is one that could not be put at all
        if packed is not None and packed.layout == table.layout:
            recorded = table.slice(low, low + packed.n)
            if all(one == other for one, other in zip(packed.frames, recorded.frames)):
                return packed.n
        for k, point in enumerate(points):
            if not _is(point, rows[low + k], schema):
                return k
        return len(points)


def _pack(points: Sequence[Any], schema: Schema) -> Table:
    if schema.fields:
        return schema.pack_rows([schema.row(point) for point in points])
    return pack_values([values.keep(point) for point in points])


def _is(point: Any, recorded: Any, schema: Schema) -> bool:
    try:
        row = _pack([point], schema).rows()[0]
    except (InvalidTask, TypeError):
        return False
    return values.encode(row) == values.encode(recorded)


#: Of these, equal ones of one type are the same, but for zeros.
_PLAIN = frozenset({float, int, bool, str})


def _is_plainly(point: Any, recorded: Any) -> bool:
    """Whether these are the same beyond doubt, found out quickly; nearly all are."""
    kind = type(point)
    if kind is not type(recorded):
        return False
    if kind in _PLAIN:
        if point:
            return bool(point == recorded)
        return not recorded and (kind is not float or math.copysign(1.0, point) == math.copysign(1.0, recorded))
    if kind is not dict or len(point) != len(recorded):
        return False
    return all(name in recorded and _is_plainly(value, recorded[name]) for name, value in point.items())


def tell(learner: Learner, point: Any, result: Result) -> None:
    """Tell the learner what was measured; where somebody has edited its ``point``, that this one was not."""
    if result.is_edited:
        if isinstance(learner, Failable):
            why = f"it was edited before it was approved; {result.input!r} was evaluated in its place"
            learner.fail(point, TaskFailed(why, "Edited"))
        point = result.input
    learner.tell(point, result.output)
