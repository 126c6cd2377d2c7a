"""Reading back what a run's learner was asked, with the points that it gave: pages of the blocks as they were put."""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice

import apsw

from taskmaster.bus import messages as m
from taskmaster.bus.errors import JournalDamaged
from taskmaster.bus.table import Buffer, Layout, Table, concatenate
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.journal.pages import PAGE_BYTES, PAGE_ROWS
from taskmaster.daemon.journal.stored import decode_asks
from taskmaster.daemon.run import Run

__all__ = ["read_asks"]

#: What an ask takes in a page, at most.
_ASK_BYTES = 24
#: Rows of a page read from the journal at most: that many were put one by one, each with an ask of its own.
_ROWS_READ = 16 * PAGE_ROWS


class _Piece:
    """Tasks that lie one behind the other in tables of one layout: a page takes them as one block."""

    def __init__(self, first: int, table: Table, asks: tuple[m.Ask, ...]) -> None:
        self.first = first
        self.n = 0
        self.layout: Layout = table.layout
        self._tables: list[Table] = []
        self._asks: list[m.Ask] = []
        self.add(table, asks)

    def add(self, table: Table, asks: tuple[m.Ask, ...]) -> None:
        self._asks += [m.Ask(self.n + ask.offset, ask.after, ask.asked, ask.order) for ask in asks] if self.n else asks
        self._tables.append(table)
        self.n += table.n

    def made(self) -> tuple[m.BlockHead, Table]:
        table = self._tables[0] if len(self._tables) == 1 else concatenate(self._tables)
        head = m.BlockHead(self.first, self.n, self.layout, self.layout.frame_count, tuple(self._asks))
        return head, table


def read_asks(journal: Journal, run: Run, request: m.ReadAsks) -> tuple[m.AsksPage, list[Buffer]]:
    """The page that answers a ReadAsks, with its frames. Raises JournalError where it cannot be read whole.

    It starts with the task asked for. A block that is too large for any page is cut between tasks; small ones that lie
    side by side come as one, which changes nothing of what they say.
    """
    try:
        return _read_asks(journal, run, request)
    except apsw.Error as error:
        raise journal_error(error, f"the tasks of run {run.name!r} of Master {run.master!r} cannot be read") from error


def _read_asks(journal: Journal, run: Run, request: m.ReadAsks) -> tuple[m.AsksPage, list[Buffer]]:
    layouts = journal.layouts()
    pieces: list[_Piece] = []
    end, left = request.first, PAGE_BYTES
    query = journal.query(sql.SELECT_ASKS, (run.id, request.first))
    for first, n, number, data, file, text in islice(query, _ROWS_READ):
        if first + n <= end:
            break  # the last block, and the task asked for lies behind it
        if first > end:
            raise JournalDamaged(f"run {run.id}: its tasks {end} to {first - 1} are not in the journal")
        asks = _cut(decode_asks(text), end - first, n + 1)  # there may be some behind its last task
        table = journal.stored_table(layouts[number], n, data, file).slice(end - first, n)
        fitting = _fitting(table, left - _ASK_BYTES * len(asks))
        if fitting < table.n and pieces:
            break  # the next page begins with it
        if max(1, fitting) < table.n:  # a single task is not parted from what was asked behind it
            fitting = max(1, fitting)
            table, asks = table.slice(0, fitting), _cut(asks, 0, fitting)
        if pieces and pieces[-1].layout == table.layout and table.in_memory:
            pieces[-1].add(table, asks)
        else:
            pieces.append(_Piece(end, table, asks))
        end += table.n
        left -= table.nbytes + _ASK_BYTES * len(asks)
        if len(pieces) >= PAGE_ROWS or end < first + n:
            break
    made = [piece.made() for piece in pieces]
    page = m.AsksPage(request.id, run.id, run.next_index, tuple(head for head, _ in made))
    return page, [frame for _, table in made for frame in table.frames]


def _cut(asks: tuple[m.Ask, ...], low: int, high: int) -> tuple[m.Ask, ...]:
    """Those that began in the rows ``low ≤ k < high`` of their block, with offsets from ``low``."""
    return tuple(m.Ask(ask.offset - low, ask.after, ask.asked, ask.order) for ask in asks if low <= ask.offset < high)


def _fitting(table: Table, most: int) -> int:
    """How many of the first rows have at most so many bytes."""
    if table.nbytes <= most:
        return table.n
    return bisect_right(range(1, table.n + 1), most, key=lambda rows: table.slice(0, rows).nbytes)
