"""The latest points of series in time, which are not put together into rows of the journal yet. Pure state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from taskmaster.bus import messages as m

__all__ = ["Point", "ProgressKey", "SampleKey", "Segment", "SeriesKey", "Tail", "piece"]


class ProgressKey(NamedTuple):
    """The progress of one evaluation of a task."""

    run: int
    task: int
    attempt: int


class SampleKey(NamedTuple):
    """A monitored value of a head."""

    master: str
    head: str
    name: str


SeriesKey: TypeAlias = ProgressKey | SampleKey

#: Points of a row of the journal at most: a page can be cut between rows.
ROW_POINTS = 1024


class Point(NamedTuple):
    """One point of a series: when, in milliseconds since 1970; its values, JSON, separated by commas."""

    time: int
    values: str


@dataclass(slots=True)
class Segment:
    """Points ``first …`` of a series that have the same names, what a row of the journal holds."""

    first: int
    names: tuple[str, ...]
    points: list[Point] = field(default_factory=list)
    #: entry number of the last
    entry: int = 0

    @property
    def n(self) -> int:
        """How many."""
        return len(self.points)

    @property
    def text(self) -> str:
        """The points as they are stored and sent: JSON, times in milliseconds after the first one's."""
        start = self.points[0].time
        return f"[{','.join([f'[{time - start},{values}]' for time, values in self.points])}]"


class Tail:
    """The latest points of one series."""

    __slots__ = ("next", "segments")

    def __init__(self, next_point: int = 0) -> None:
        #: number of the point that is next
        self.next = next_point
        self.segments: list[Segment] = []

    def append(self, names: tuple[str, ...], point: Point, entry: int) -> None:
        """One more."""
        last = self.segments[-1] if self.segments else None
        if last is None or last.names != names or last.n == ROW_POINTS:
            last = Segment(self.next, names)
            self.segments.append(last)
        last.points.append(point)
        last.entry = entry
        self.next += 1

    def since(self, first: int) -> Iterator[Segment]:
        """The points from the one of this number on."""
        for segment in self.segments:
            skipped = max(0, first - segment.first)
            if not skipped:
                yield segment
            elif skipped < segment.n:
                yield Segment(first, segment.names, segment.points[skipped:], segment.entry)


def piece(key: SeriesKey, segment: Segment) -> m.Piece:
    """A segment of a series as it is sent."""
    start, points = segment.points[0].time, segment.text
    if isinstance(key, ProgressKey):
        return m.Piece(segment.first, segment.n, segment.names, start, points, key.task, key.attempt)
    return m.Piece(segment.first, segment.n, segment.names, start, points, head=key.head)
