"""Reads runs row by row and looks at everything: for a journal of which it is not known whether it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import apsw
import msgspec

from taskmaster.bus import codec
from taskmaster.bus.errors import JournalDamaged, JournalError, ProtocolError
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.table import Layout, Table
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.payloads import Payloads
from taskmaster.daemon.journal.stored import read_event, split_frames

__all__ = ["Row", "RunScan", "Source"]

#: The rows of a run: found by their key; and by going through the table from its start, which also reaches rows before
#: a damaged page where the way down to them leads past one.
SELECT_BLOCK_ROWS = tuple(
    f"SELECT first, n, layout, asks, digest, time, user, data, file FROM blocks WHERE {where}"
    for where in ("run = ? ORDER BY first", "+run = ?")
)
SELECT_EVENT_ROWS = tuple(
    "SELECT seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file FROM events "
    f"WHERE {where}"
    for where in ("run = ? ORDER BY seq", "+run = ?")
)
#: What events may be about; of the second kind there is one for each task.
_ABOUT_THE_RUN = frozenset({"closed", "reopened"})
_OUTCOMES = frozenset({"done", "cancelled"})
_ABOUT_TASKS = _OUTCOMES | {"held", "released"}

Row: TypeAlias = tuple[Any, ...]


class Source:
    """A journal's database, open for reading, and its payload files."""

    def __init__(self, db: apsw.Connection, payloads: Payloads) -> None:
        self.db = db
        self.payloads = payloads
        self.layouts: dict[int, Layout] = {}
        self.read_layouts()

    def read_layouts(self) -> None:
        """What the tables mean. Raises apsw.Error, or JournalDamaged where that cannot be understood."""
        try:
            for number, text in self.db.execute(sql.SELECT_LAYOUTS):
                self.layouts[number] = msgspec.json.decode(text, type=Layout)
        except msgspec.DecodeError as error:
            raise JournalDamaged(f"the layouts of its tables cannot be understood: {error}") from error

    def table(self, layout: int, n: int, data: bytes | None, file: str | None) -> Table:
        """The table in a row, checked. Raises JournalError."""
        if layout not in self.layouts:
            raise JournalDamaged(f"there is no layout {layout}")
        known = self.layouts[layout]
        content = data if file is None else self.payloads.read(file)
        if content is None:
            raise JournalDamaged("a table is not there")
        try:
            return Table.checked(known, n, split_frames(known, n, content))
        except ProtocolError as error:
            raise JournalDamaged(f"a table cannot be understood: {error}") from error


class RunScan:
    """One run, read from its start as far as it is whole: run through :meth:`block_rows`, then :meth:`event_rows`."""

    def __init__(self, source: Source, run: int) -> None:
        self.run = run
        #: so many tasks and events, from the first, are whole
        self.tasks = self.events = 0
        #: why there are no more
        self.troubles: list[str] = []
        self._source = source
        self._ended = IntervalSet()

    def block_rows(self) -> Iterator[Row]:
        """Rows of blocks: first, n, layout, asks, digest, time, user, data, file."""
        try:
            for row in self._rows(SELECT_BLOCK_ROWS, lambda: self.tasks):
                self._check_block(row)
                self.tasks += row[1]
                yield row
        except (apsw.Error, JournalError) as error:
            self.troubles.append(f"task {self.tasks}: {_words(error)}")

    def event_rows(self) -> Iterator[Row]:
        """Rows of events, as `sql.SELECT_EVENTS` has them."""
        try:
            for row in self._rows(SELECT_EVENT_ROWS, lambda: self.events):
                self._check_event(row)
                self.events += row[1]
                yield row
        except (apsw.Error, JournalError) as error:
            self.troubles.append(f"event {self.events}: {_words(error)}")

    def _rows(self, statements: tuple[str, ...], end: Callable[[], int]) -> Iterator[Row]:
        """The rows of this run, from ``end()`` on, by whichever way leads furthest."""
        for k, statement in enumerate(statements):
            try:
                rows = self._source.db.execute(statement, (self.run,))
                yield from rows if k == 0 else (row for row in rows if row[0] >= end())
            except apsw.Error:
                if k == len(statements) - 1:
                    raise
            else:
                return

    def _check_block(self, row: Row) -> None:
        first, n, layout, _, digest, _, _, data, file = row
        if first != self.tasks:
            raise JournalDamaged(f"a gap, the next one is {first}")
        table = self._source.table(layout, n, data, file)
        content = bytes.fromhex(file.partition("-")[0]) if file is not None else None
        if table.digest(content) != digest:
            raise JournalDamaged("it is not what was submitted")

    def _check_event(self, row: Row) -> None:
        seq, n, kind, first = row[:4]
        if seq != self.events:
            raise JournalDamaged(f"a gap, the next one is {seq}")
        head, frames = read_event(self._source.payloads, self._source.layouts, row)
        try:
            codec.event_tables(head, frames)
        except ProtocolError as error:
            raise JournalDamaged(f"it cannot be understood: {error}") from error
        if kind in _ABOUT_THE_RUN:
            return
        if kind not in _ABOUT_TASKS:
            raise JournalDamaged(f"it is of the unknown kind {kind!r}")
        if first + n > self.tasks:
            raise JournalDamaged(f"its task {max(first, self.tasks)} is not there, or cannot be read")
        if kind in _OUTCOMES:
            for low, _ in self._ended.within(first, first + n):
                raise JournalDamaged(f"task {low} has a second outcome")
            self._ended.add(first, first + n)


def _words(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, JournalError):
        return str(error)
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
        return "it lies on a page that does not check"
    return f"it cannot be read ({error})"
