"""Series in time, as the clients show them: what was told so far as arrays, and what comes as it comes.

Without sockets, like the rest of the clients' core: :class:`Following` says what to ask, is given the answers and what
is published, and hands out points, each once and in the order of its series.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from taskmaster.bus import messages as m
from taskmaster.bus.errors import ProtocolError, TaskMasterError, UnknownRun

__all__ = [
    "Following",
    "ProgressFollowing",
    "ProgressPoint",
    "Sample",
    "SamplesFollowing",
    "Series",
    "gathered",
    "points_of",
]

#: Points that wait to be taken; while there are more, what is published is dropped, and asked for later.
HELD_POINTS = 100_000
#: Series of which it is known how far they have come here. A page can hold points that were taken before, of what came
#: since the daemon last put points together: those are some thousands at most.
KNOWN = 20_000

_rows = msgspec.json.Decoder(list[list[Any]]).decode


@dataclass(frozen=True)
class Series:
    """Points of one series: when, and the values by their names."""

    #: seconds since 1970, float64 of shape (n,)
    time: NDArray[np.float64]
    #: of the same shape: float64 with NaN for what could not be had, or objects where there is anything but numbers
    values: dict[str, NDArray[Any]]
    #: of progress: which evaluation of the task this is, from 1; 0 if there was none
    attempt: int = 0
    units: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The values of one name. Raises KeyError."""
        return self.values[name]


@dataclass(frozen=True)
class ProgressPoint:
    """What the evaluation of a task has told."""

    index: int
    attempt: int
    #: seconds since 1970
    time: float
    values: dict[str, m.Scalar]


@dataclass(frozen=True)
class Sample:
    """A monitored value of a head."""

    head: str
    name: str
    #: seconds since 1970
    time: float
    #: None: it could not be had
    value: m.Scalar


def gathered(pieces: Sequence[m.Piece], begin: float = -np.inf, end: float = np.inf) -> Series:
    """The points of one series between two times. A value that a point lacks is None, or NaN among numbers."""
    times: list[float] = []
    columns: dict[str, list[Any]] = {name: [] for one in pieces for name in one.names}
    for one in pieces:
        rows = [row for row in points_of(one) if begin <= row[0] <= end]
        times += [row[0] for row in rows]
        own = dict(zip(one.names, zip(*(row[1:] for row in rows)))) if rows else {}
        for name, column in columns.items():
            column += own.get(name, (None,) * len(rows))
    values = {name: _array(column) for name, column in columns.items()}
    return Series(np.array(times, np.float64), values, pieces[-1].attempt if pieces else 0)


def _array(values: list[Any]) -> NDArray[Any]:
    """Numbers as float64; what is not a number, and whole numbers that it does not hold, as objects."""
    if all(value is None or type(value) is float or (type(value) is int and abs(value) <= 2**53) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    array = np.empty(len(values), object)
    array[:] = values
    return array


def points_of(piece: m.Piece) -> list[tuple[Any, ...]]:
    """Seconds since 1970, then the values. Raises ProtocolError."""
    try:
        rows = _rows(piece.points)
        points = [((piece.start + row[0]) / 1e3, *row[1:]) for row in rows]
    except (msgspec.DecodeError, TypeError, IndexError) as error:
        raise ProtocolError(f"points of a series that cannot be understood: {error}") from error
    if len(points) != piece.n or any(len(row) != 1 + len(piece.names) for row in rows):
        raise ProtocolError("points of a series that are not as many as they should be")
    return points


Point = TypeVar("Point", ProgressPoint, Sample)


class Following(Generic[Point]):
    """Points of the series of one source as they come, those before it was begun first unless ``new_only``.

    Use: subscribe to ``topic``; give publications to :meth:`on_news`; as long as :meth:`question` says something, ask
    that and give the answer to :meth:`on_page`; take with :meth:`take`.
    """

    def __init__(self, topic: bytes, *, new_only: bool) -> None:
        self.topic = topic
        #: why nothing more comes
        self.error: TaskMasterError | None = None
        #: something has come by the topic, so the subscription holds
        self.is_confirmed = False
        self._new_only = new_only
        #: all entries of the source up to this one were seen; None: nothing is known yet
        self._seen: int | None = None if new_only else 0
        #: up to which it goes, as far as is known
        self._latest = 0
        self._over = False
        self._points: deque[Point] = deque()
        #: how many points of a series were taken
        self._have: OrderedDict[tuple[Any, Any], int] = OrderedDict()
        #: pages are being asked for: where they go on, and what will have been seen when the last is there
        self._sweeping = False
        self._cursor: Any = None
        self._sweep_to: int | None = None
        #: … of which nothing is taken: what is new is to be told from what has been
        self._discarding = False

    # -- what the daemon says -----------------------------------------------------------------------------------------

    def on_news(self, news: m.SeriesNews | m.Gone) -> None:
        """A publication."""
        self.is_confirmed = True
        if isinstance(news, m.Gone):
            self.error = self.error or UnknownRun(f"run {news.run}, whose progress is followed, was deleted")
            return
        self._over = news.over
        self._latest = max(self._latest, news.latest)
        if self._seen is None:
            self._seen = news.folded
            self._discarding = news.latest > news.folded
        if self._sweeping or self._discarding or news.after > self._seen or len(self._points) >= HELD_POINTS:
            return  # what is missing is asked for
        if news.latest > self._seen:
            self._take_in(news.pieces)
            self._seen = news.latest

    def on_page(self, page: m.SeriesPage) -> None:
        """The answer to :meth:`question`."""
        if self._sweep_to is None:
            self._sweep_to = page.latest
        self._take_in(page.pieces)
        self._cursor = page.after
        if page.after is None:
            self._seen = max(self._seen or 0, self._sweep_to)
            self._sweeping, self._discarding, self._sweep_to = False, False, None

    def _take_in(self, pieces: Iterable[m.Piece]) -> None:
        for piece in pieces:
            key = self._key(piece)
            known = self._have.pop(key, 0)
            if not self._discarding:
                self._points += self._made(piece, max(0, known - piece.first))
            self._have[key] = max(known, piece.first + piece.n)
            if len(self._have) > KNOWN:
                self._have.popitem(last=False)

    # -- what to ask, and what has come -------------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether there is something to take, to ask, or to raise."""
        return bool(self._points) or self._is_behind or self.is_over or self.error is not None

    @property
    def _is_behind(self) -> bool:
        return self._sweeping or (self.is_confirmed and self._seen is not None and self._latest > self._seen)

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come, and all that came was taken."""
        return self._over and not self._is_behind and not self._points

    def question(self) -> m.ReadProgress | m.ReadSamples | None:
        """What to ask now; nothing as long as there are points to take."""
        if self._points or not self._is_behind or self._seen is None:
            return None
        self._sweeping = True
        return self._ask(self._seen, self._cursor)

    def take(self) -> Point | None:
        """The next point that has come."""
        return self._points.popleft() if self._points else None

    # -- what the kinds differ in -------------------------------------------------------------------------------------

    def _key(self, piece: m.Piece) -> tuple[Any, Any]:
        raise NotImplementedError

    def _made(self, piece: m.Piece, skipped: int) -> Iterator[Point]:
        raise NotImplementedError

    def _ask(self, since: int, after: Any) -> m.ReadProgress | m.ReadSamples:
        raise NotImplementedError


class ProgressFollowing(Following[ProgressPoint]):
    """The progress of a run's tasks."""

    def __init__(self, topic: bytes, run: int, *, new_only: bool) -> None:
        super().__init__(topic, new_only=new_only)
        self._run = run

    def _key(self, piece: m.Piece) -> tuple[int, int]:
        return piece.task, piece.attempt

    def _made(self, piece: m.Piece, skipped: int) -> Iterator[ProgressPoint]:
        for time, *values in points_of(piece)[skipped:]:
            yield ProgressPoint(piece.task, piece.attempt, time, dict(zip(piece.names, values)))

    def _ask(self, since: int, after: Any) -> m.ReadProgress:
        return m.ReadProgress(0, self._run, since=since, after=after or (0, 0, 0))


class SamplesFollowing(Following[Sample]):
    """Monitored values of a Master's heads: of one, of one name, or all."""

    def __init__(self, topic: bytes, master: str, head: str | None, name: str | None, *, new_only: bool) -> None:
        super().__init__(topic, new_only=new_only)
        self._master = master
        self._head = head
        self._name = name

    def _key(self, piece: m.Piece) -> tuple[str, str]:
        return piece.head, piece.names[0] if piece.names else ""

    def _made(self, piece: m.Piece, skipped: int) -> Iterator[Sample]:
        head, name = self._key(piece)
        if self._head in (None, head) and self._name in (None, name):
            for time, value in points_of(piece)[skipped:]:
                yield Sample(head, name, time, value)

    def _ask(self, since: int, after: Any) -> m.ReadSamples:
        return m.ReadSamples(0, self._master, self._head, self._name, since=since, after=after or ("", "", 0))
