"""Series in time in the journal: written, read back at a start, and let go when they are old. See `daemon.series`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Effects, MonitorDeclared, PointsFolded, PointsKept, SamplesPruned
from taskmaster.daemon.journal import sql
from taskmaster.daemon.tails import Point, ProgressKey, SampleKey, Segment, SeriesKey

if TYPE_CHECKING:
    from taskmaster.daemon.journal.journal import Journal

__all__ = ["Pruning", "restore_series", "writers"]

#: Rows of samples that are let go in one turn, some megabytes at most; and monitored values looked at for that.
PRUNED_ROWS = 64
PRUNE_LOOKS = 8

_json = msgspec.json.Encoder().encode
_names = msgspec.json.Decoder(tuple[str, ...]).decode


def writers(cursor: apsw.Cursor) -> dict[type, Callable[[Any], object]]:
    """What writes the records of series, by their types."""
    return {
        PointsKept: lambda record: _keep(cursor, record),
        PointsFolded: lambda record: _fold(cursor, record),
        MonitorDeclared: lambda r: cursor.execute(sql.SET_MONITOR, (r.master, r.head, r.name, r.unit, r.retention)),
        SamplesPruned: lambda r: cursor.execute(sql.DELETE_EXPIRED, (r.master, r.head, r.name, r.before, PRUNED_ROWS)),
    }


def _keep(cursor: apsw.Cursor, record: PointsKept) -> None:
    for point in record.points:
        if isinstance(point.key, SampleKey):
            cursor.execute(sql.INSERT_NEW_SAMPLE, (point.entry, *point.key, point.time, point.values))
        else:
            names = _json(point.names).decode()
            cursor.execute(sql.INSERT_NEW_PROGRESS, (point.entry, *point.key, point.time, names, f"[{point.values}]"))


def _fold(cursor: apsw.Cursor, record: PointsFolded) -> None:
    for key, segment in record.rows:
        row = (*key, segment.first, segment.n, segment.entry, *_span(segment))
        if isinstance(key, SampleKey):
            cursor.execute(sql.INSERT_SAMPLES, (*row, segment.text))
        else:
            cursor.execute(sql.INSERT_PROGRESS, (*row, _json(segment.names).decode(), segment.text))
    for statement in sql.EMPTY_NEW:
        cursor.execute(statement)


def _span(segment: Segment) -> tuple[int, int]:
    """When a segment begins, and the latest of its times: the clock may have been set back in between."""
    return segment.points[0].time, max(point.time for point in segment.points)


# -- at a start -------------------------------------------------------------------------------------------------------


def restore_series(core: Core, journal: Journal, now: float, out: Effects) -> None:
    """Give ``core`` the series that may go on, when it has its leases; note what the configuration says of them."""
    declared = {row[:3]: row[3:] for row in journal.query(sql.SELECT_MONITORS)}
    for master in core.masters.values():
        for head, monitors in master.spec.monitors.items():
            for name, monitor in monitors.items():
                key = SampleKey(master.spec.name, head, name)
                _restore_end(core, journal, key)
                if declared.get(tuple(key)) != (monitor.unit, monitor.retention):
                    out.records.append(MonitorDeclared(*key, monitor.unit, monitor.retention))
        for run in master.runs.values() if master.heads else ():
            for low, _ in list(run.open)[:1]:  # an evaluation may go on where it was
                for task, attempt, end in journal.query(sql.ENDS_OF_PROGRESS, (run.id, low)):
                    if task in run.open:
                        core.series.restore_end(ProgressKey(run.id, task, attempt), end)
    _restore_new(core, journal, now)


def _restore_end(core: Core, journal: Journal, key: SeriesKey) -> None:
    statement = sql.END_OF_SAMPLES if isinstance(key, SampleKey) else sql.END_OF_PROGRESS
    if (end := journal.query(statement, key).get) is not None:
        core.series.restore_end(key, end)


def _restore_new(core: Core, journal: Journal, now: float) -> None:
    found: list[tuple[int, SeriesKey, tuple[str, ...], Point]] = []
    for entry, master, head, name, time, value in journal.query(sql.SELECT_NEW_SAMPLES):
        found.append((entry, SampleKey(master, head, name), (name,), Point(time, value)))
    for entry, run, task, attempt, time, names, data in journal.query(sql.SELECT_NEW_PROGRESS):
        found.append((entry, ProgressKey(run, task, attempt), _names(names), Point(time, data[1:-1])))
    for key in {key for _, key, _, _ in found}:
        _restore_end(core, journal, key)  # also of those that do not go on: they are put together like the others
    for entry, key, point_names, point in sorted(found):
        core.series.restore_point(entry, key, point_names, point, now)


# -- what is old ------------------------------------------------------------------------------------------------------


class Pruning:
    """Finds what of the samples has been kept for long enough: a few rows at a time, one value after the other.

    What the configuration does not declare any more is kept as long as it said last.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._at: tuple[str, str, str] = ("", "", "")

    def look(self, wall: float, out: Effects) -> None:
        """Once in a while, at ``wall`` seconds since 1970: have some of it deleted, if there is any."""
        for _ in range(PRUNE_LOOKS):
            row = next(iter(self._journal.query(sql.NEXT_MONITOR, self._at)), None)
            if row is None:
                self._at = ("", "", "")
                return
            master, head, name, retention = row
            before = int((wall - retention) * 1e3)
            if self._journal.query(sql.COUNT_EXPIRED, (master, head, name, before, PRUNED_ROWS)).get:
                out.records.append(SamplesPruned(master, head, name, before))
                return  # and look for more of it the next time
            self._at = (master, head, name)
