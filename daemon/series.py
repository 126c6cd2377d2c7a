"""Series in time: what evaluations tell of their progress, and what is monitored at heads. Sans-I/O.

A point that a worker tells waits for a moment (`GATHER_SECONDS`), or for the next turn that writes to the journal
anyway: sixty heads that are looked at once a second must not cost a sync of the disk each. Then it gets an *entry*
number, goes to the journal, and out to who follows.

The journal takes the points in two forms, as a log-structured store does (O'Neil et al., "The log-structured
merge-tree", 1996). New ones are appended to a small table in the order in which they come, which changes a page or two
a transaction however many series there are. When there are `FOLD_VALUES` of them, all are put together, a row a series,
and the small table is emptied. What it holds is in memory, too (`Tail`), so to put together reads nothing. Rejected: a
row a point for good (more than twice the room); a row a series that grows in place (each second, every head's pages
would be written anew).

Numbers: a point has a number within its series, without gaps; and an entry number, which grows over all series of all
starts of the daemon. Of a Master's samples and of a run's progress each publication says which entry came before, so
that a follower knows what it has missed, and asks for that (`ReadProgress`, `ReadSamples`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from taskmaster.bus import messages as m
from taskmaster.bus.status import HeadInfo, HeadValue
from taskmaster.daemon.effects import Effects, KeptPoint, PointsFolded, PointsKept
from taskmaster.daemon.leases import Lease
from taskmaster.daemon.spec import MonitorSpec
from taskmaster.daemon.tails import Point, ProgressKey, SampleKey, SeriesKey, Tail, piece

__all__ = ["SeriesBook", "Source"]

#: What a point waits at most for others to be written with.
GATHER_SECONDS = 0.2
#: Points of one series, and of all, that are taken in that time; more are dropped. A person sees a few a second.
GATHERED_OF_ONE = 200
GATHERED = 10_000
#: … or characters of them.
GATHERED_BYTES = 2 << 20
#: Values after which what is new is put together into rows: at 64 values a second every four minutes, in 20 to 50 ms.
#: Rows of fewer than some 200 points fill their pages badly. …
FOLD_VALUES = 16_384
#: … or bytes of them, where they are texts; or seconds, where they are few.
FOLD_BYTES = 1 << 20
FOLD_SECONDS = 3600.0
#: What one message may hold: values, and characters of a name and of a text.
MOST_VALUES = 64
NAME_CHARACTERS = 64
TEXT_CHARACTERS = 256
#: Times that can be: from 1970 to the year 5138, in seconds.
_LATEST = 1e11

_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Source:
    """Of what news are told together: a Master's samples (``run`` 0), or the progress of a run of it."""

    master: str
    run: int = 0


@dataclass(frozen=True, slots=True)
class _Told:
    """A point that was told and is not written down yet."""

    source: Source
    key: SeriesKey
    names: tuple[str, ...]
    point: Point
    values: Mapping[str, m.Scalar]


class SeriesBook:
    """All series of one daemon. ``is_open`` says whether a task of a run has no outcome yet."""

    def __init__(self, epoch: int, is_open: Callable[[int, int], bool]) -> None:
        self._epoch = epoch
        self._is_open = is_open
        #: points that were not taken: there were too many, or they did not fit
        self.dropped = 0
        #: points taken since the start
        self.taken = 0
        #: when :meth:`flush` is to be called
        self.due = math.inf
        #: epochs are milliseconds since 1970: no start of a daemon sees a million points in each of these
        self._entry = epoch * 1000
        self._gathered: list[_Told] = []
        self._gathered_of: dict[SeriesKey, int] = {}
        self._gathered_bytes = 0
        self._tails: dict[SeriesKey, Tail] = {}
        #: values and bytes in the tails, and when the first of them came, in monotonic seconds
        self._values = self._bytes = 0
        self._fold_at = math.inf
        #: entry number of the last point of each source, where there was one since the start
        self._latest: dict[Source, int] = {}
        #: of all other sources: theirs is not higher
        self._floor = self._entry
        #: points up to this entry are in rows with older ones
        self._folded = self._entry
        #: what was told last, for people
        self._progress: dict[ProgressKey, tuple[float, Mapping[str, m.Scalar]]] = {}
        self._samples: dict[tuple[str, str], dict[str, HeadValue]] = {}

    # -- what workers tell --------------------------------------------------------------------------------------------

    def on_progress(self, master: str, lease: Lease | None, message: m.Progress, now: float) -> None:
        """What a task's evaluation has yielded, under the lease of this worker that it names (None: it has none)."""
        index = lease.first + message.position if lease is not None else -1
        if lease is None or message.position >= lease.n or index not in lease.remaining or not _fits(message):
            self.dropped += 1
            return
        source, key = Source(master, lease.run.id), ProgressKey(lease.run.id, index, lease.attempt)
        self._gather(source, key, message.time, message.values, now)

    def on_samples(
        self, master: str, head: str, monitors: Mapping[str, MonitorSpec], message: m.Samples, now: float
    ) -> None:
        """Monitored values of a head. Those that are not declared are dropped."""
        if not _fits(message):
            self.dropped += len(message.values)
            return
        for name, value in message.values.items():
            if name in monitors:
                self._gather(Source(master), SampleKey(master, head, name), message.time, {name: value}, now)
            else:
                self.dropped += 1

    def _gather(self, source: Source, key: SeriesKey, time: float, values: Mapping[str, m.Scalar], now: float) -> None:
        n = self._gathered_of.get(key, 0)
        if n >= GATHERED_OF_ONE or len(self._gathered) >= GATHERED or self._gathered_bytes >= GATHERED_BYTES:
            self.dropped += 1
            return
        self._gathered_of[key] = n + 1
        text = _json(list(values.values()))[1:-1].decode()
        self._gathered_bytes += len(text)
        self._gathered.append(_Told(source, key, tuple(values), Point(round(time * 1e3), text), values))
        self.due = min(self.due, now + GATHER_SECONDS)

    # -- a turn -------------------------------------------------------------------------------------------------------

    def end_turn(self, now: float, out: Effects) -> None:
        """Write down what was told, if it is time or something else is written anyway; put together what has piled up.

        The last in a turn to add records.
        """
        if self._gathered and (out.records or now >= self.due):
            self.flush(now, out)
        if self._values >= FOLD_VALUES or self._bytes >= FOLD_BYTES or now >= self._fold_at:
            self._fold(out)

    def flush(self, now: float, out: Effects) -> None:
        """Write down all that was told so far, and have it published."""
        told, self._gathered = self._gathered, []
        self._gathered_of.clear()
        self._gathered_bytes = 0
        self.due = math.inf
        firsts: dict[Source, dict[SeriesKey, int]] = {}
        kept = []
        for one in told:
            tail = self._tails.setdefault(one.key, Tail())
            firsts.setdefault(one.source, {}).setdefault(one.key, tail.next)
            kept.append(self._keep(one, tail))
        if kept:
            out.records.append(PointsKept(tuple(kept)))
            self.taken += len(kept)
            self._fold_at = min(self._fold_at, now + FOLD_SECONDS)
        last = {one.source: point.entry for one, point in zip(told, kept)}
        for source, series in firsts.items():
            pieces = (piece(key, part) for key, first in series.items() for part in self._tails[key].since(first))
            news = replace(self.news(source), latest=last[source], pieces=tuple(pieces))
            self._latest[source] = last[source]
            out.news.append(news)

    def _keep(self, told: _Told, tail: Tail) -> KeptPoint:
        self._entry += 1
        tail.append(told.names, told.point, self._entry)
        self._values += len(told.names)
        self._bytes += len(told.point.values) + sum(map(len, told.names))
        key, time = told.key, told.point.time / 1e3
        if isinstance(key, ProgressKey):
            self._progress[key] = time, told.values
        else:
            self._samples.setdefault((key.master, key.head), {})[key.name] = HeadValue(told.values[key.name], time)
        return KeptPoint(self._entry, key, told.names, *told.point)

    def _fold(self, out: Effects) -> None:
        """Put all that is new together into rows, and forget the series that have ended."""
        rows = tuple((key, segment) for key, tail in self._tails.items() for segment in tail.segments)
        if rows:
            out.records.append(PointsFolded(rows))
        self._folded = self._entry
        self._values = self._bytes = 0
        self._fold_at = math.inf
        for key, tail in list(self._tails.items()):
            tail.segments = []
            if isinstance(key, ProgressKey) and not self._is_open(key.run, key.task):
                del self._tails[key]
                self._progress.pop(key, None)
        runs = {key.run for key in self._tails if isinstance(key, ProgressKey)}
        for source in [source for source in self._latest if source.run and source.run not in runs]:
            del self._latest[source]
            self._floor = self._entry

    def forget_run(self, run: int) -> None:
        """A run is deleted."""
        self._gathered = [one for one in self._gathered if one.source.run != run]
        for key in [key for key in self._tails if isinstance(key, ProgressKey) and key.run == run]:
            del self._tails[key]
            self._progress.pop(key, None)
        for source in [source for source in self._latest if source.run == run]:
            del self._latest[source]

    # -- restoring ----------------------------------------------------------------------------------------------------

    def restore_end(self, key: SeriesKey, next_point: int) -> None:
        """A series that may go on has this many points in rows of the journal."""
        self._tails[key] = Tail(next_point)

    def restore_point(self, entry: int, key: SeriesKey, names: tuple[str, ...], point: Point, now: float) -> None:
        """A point that is not put together yet; in the order of their entries, after the ends of their series."""
        self._folded = min(self._folded, entry - 1)
        self._entry = self._floor = max(self._entry, entry)
        self._tails.setdefault(key, Tail()).append(names, point, entry)
        self._values += len(names)
        self._bytes += len(point.values) + sum(map(len, names))
        self._fold_at = min(self._fold_at, now + FOLD_SECONDS)

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def latest(self) -> int:
        """The last entry number that was given."""
        return self._entry

    def news(self, source: Source) -> m.SeriesNews:
        """Where a source stands, without anything new."""
        latest = self._latest.get(source, self._floor)
        return m.SeriesNews(source.master, source.run, self._epoch, latest, latest, self._folded)

    def tails(self, of: int | str) -> Iterator[tuple[SeriesKey, Tail]]:
        """The latest points of a run (by its number) or of a Master's heads (by its name), by their keys."""
        found = [(key, tail) for key, tail in self._tails.items() if key[0] == of]
        return iter(sorted(found, key=lambda pair: pair[0][1:]))

    def shown(self, info: HeadInfo, monitors: Mapping[str, MonitorSpec]) -> HeadInfo:
        """A head with its latest values, and the latest progress of its task."""
        known = self._samples.get((info.master, info.head), {})
        values = {name: replace(known[name], unit=monitor.unit) for name, monitor in monitors.items() if name in known}
        task = info.task
        if task is not None:
            time, progress = self._progress.get(ProgressKey(task.run, task.index, task.attempt), (0.0, {}))
            task = replace(task, progress=dict(progress), time=time)
        return replace(info, task=task, values=values)


def _fits(message: m.Progress | m.Samples) -> bool:
    """Whether a message keeps within the limits."""
    if not (0 < len(message.values) <= MOST_VALUES and 0 <= message.time <= _LATEST):
        return False
    return all(
        0 < len(name) <= NAME_CHARACTERS and not (isinstance(value, str) and len(value) > TEXT_CHARACTERS)
        for name, value in message.values.items()
    )
