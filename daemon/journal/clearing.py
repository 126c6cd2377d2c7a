"""Runs that were deleted, and the rows that they leave: few go at once, many a few at a time.

To delete a million rows takes seconds, for which nobody would be served. So of a large run only the run itself is
deleted with its smaller tables, and it is noted in the table `going`; its blocks, events and progress go in later
turns, the last first: what is left at any moment is a run's beginning without a gap. A start goes on with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import apsw

from taskmaster.daemon.effects import Effects, RowsCleared
from taskmaster.daemon.journal import sql

if TYPE_CHECKING:
    from taskmaster.daemon.journal.journal import Journal

__all__ = ["Clearing", "clear_some", "delete_run", "still_named"]

#: Rows of a run that go at once with it, and that go in one turn later on; and bytes of what is in them.
ROWS = 1000
BYTES = 4 << 20
#: Between two such turns, in seconds.
_PAUSE = 0.05


def delete_run(cursor: apsw.Cursor, run: int) -> set[str]:
    """Delete a run with its small tables, and all of it if that is little; returns payload files that it named."""
    execute = cursor.execute
    for statement in sql.DELETE_RUN:
        execute(statement, (run,))
    execute(sql.INSERT_GOING, (run,))
    return clear_some(cursor, run)


def clear_some(cursor: apsw.Cursor, run: int) -> set[str]:
    """Delete some of the rows that a deleted run has left, the last first; returns payload files that they named."""
    files: set[str] = set()
    left = ROWS
    for select, delete in sql.CLEAR_RUN:
        end, size, rows = None, 0, 0
        for key, length, file in list(cursor.execute(select, (run, left))):
            if rows and size + length > BYTES:
                break
            end, size, rows = key, size + length, rows + 1
            if file is not None:
                files.add(file)
        if end is not None:
            cursor.execute(delete, (run, end))
        left -= rows
        if left <= 0 or size >= BYTES:
            return files
    if not any(cursor.execute(select, (run, 1)).get for select, _ in sql.CLEAR_RUN):
        cursor.execute(sql.DELETE_GOING, (run,))
    return files


class Clearing:
    """Has what deleted runs have left go, a little now and then."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        #: when :meth:`look` wants to be called
        self.next_look = 0.0

    def look(self, now: float, ready: Mapping[int, int], out: Effects) -> None:
        """If it is time: let go of some more."""
        if self._journal.going and now >= self.next_look:
            out.records.append(RowsCleared(min(self._journal.going)))
            self.next_look = now + _PAUSE

    def due(self) -> float:
        """When that is."""
        return self.next_look if self._journal.going else math.inf

    def committed(self) -> None:
        """The turn is on disk."""


def still_named(cursor: apsw.Cursor, names: Iterable[str]) -> set[str]:
    """Those payload files that any row names."""
    return {name for name in names if cursor.execute(sql.IS_NAMED, (name,)).get}
