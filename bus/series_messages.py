"""What is said of series in time, progress of tasks and monitored values of heads, see `messages`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from taskmaster.bus.wire import Count, Message, Name, Seconds

__all__ = ["Piece", "ReadProgress", "ReadSamples", "SeriesCursor", "SeriesNews", "SeriesPage"]

#: Where a page of series ends and the next begins: task and attempt, or head and name; then the number of a point.
SeriesCursor: TypeAlias = tuple[Count | str, Count | str, Count]


class ReadProgress(Message, tag="read_progress"):
    """What the evaluations of a run have told of their progress: a page of it, by tasks, attempts and time.

    Of one ``task``, of one ``attempt`` at it, or all. Of what was recorded before entry ``since``, some may come, too.
    """

    id: Count
    run: Count
    task: Count | None = None
    attempt: Count | None = None
    since: Count = 0
    after: tuple[Count, Count, Count] = (0, 0, 0)


class ReadSamples(Message, tag="read_samples"):
    """Monitored values of a Master's heads: a page of them, by heads, names and time.

    Of one ``head``, of one ``name``, or all; from ``begin`` to ``end`` in seconds since 1970 (some outside may come,
    too).
    """

    id: Count
    master: Name
    head: Name | None = None
    name: Name | None = None
    begin: Seconds | None = None
    end: Seconds | None = None
    since: Count = 0
    after: tuple[Name, Name, Count] = ("", "", 0)


class Piece(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Points ``first … first + n - 1`` of one series: of a task (``attempt`` ≥ 1), or of a head's value.

    ``points`` is JSON as it lies in the journal: ``[[t, value of each of names], …]``, t in milliseconds after
    ``start``, which is in milliseconds since 1970.
    """

    first: int
    n: int
    names: tuple[str, ...]
    start: int
    points: str
    task: int = 0
    attempt: int = 0
    head: str = ""


class SeriesPage(Message, tag="series_page"):
    """Answer to ReadProgress and ReadSamples; goes on at ``after``, unless that is null.

    It has everything with entry numbers up to ``latest`` of the first page when all pages are there. ``units`` are
    those of monitored values, by their names.
    """

    id: int
    latest: int
    pieces: tuple[Piece, ...] = ()
    after: SeriesCursor | None = None
    units: dict[str, str] = msgspec.field(default_factory=dict)


class SeriesNews(Message, tag="series"):
    """Publication: what was recorded of a Master's samples (``run`` 0), or of a run's progress.

    ``after`` is the entry number of the last point before these, ``latest`` that of the last of them; without pieces it
    is a beacon, or says that there are too many to be published. Up to ``folded`` points may come in pages together
    with older ones. ``over``: the run is closed and its tasks have ended.
    """

    master: str
    run: int
    epoch: int
    after: int
    latest: int
    folded: int
    pieces: tuple[Piece, ...] = ()
    over: bool = False
