"""Pages of series in time, for those who ask: what is put together in the journal, then what is new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Any, NamedTuple, TypeAlias

import apsw
import msgspec

from taskmaster.bus import messages as m
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.series import SeriesBook
from taskmaster.daemon.tails import piece

__all__ = ["read_series"]

#: Characters of points in a page: what keeps a turn short, and costs little to ask for.
PAGE_CHARACTERS = 256 << 10
#: Rows looked at for a page, most of which may not be wanted.
PAGE_ROWS = 2048
#: The end of time, in milliseconds.
_EVER = 2**53

_names = msgspec.json.Decoder(tuple[str, ...]).decode

#: Within a run or a Master: (task, attempt), or (head, name of the value).
Key: TypeAlias = tuple[Any, Any]


class _Row(NamedTuple):
    """Points of a series from number ``first`` on; no piece where they are not wanted."""

    key: Key
    first: int
    piece: m.Piece | None


def read_series(
    journal: Journal, book: SeriesBook, question: m.ReadProgress | m.ReadSamples, units: dict[str, str]
) -> m.SeriesPage:
    """The page that answers, with the ``units`` of values. Raises JournalError where it cannot be read.

    Series come one after the other, each with what is put together and then what is new: whatever is recorded, or put
    together, between two pages, all that was there at the first of them is in one of them.
    """
    wanted = _Wanted.of(question)
    pieces: list[m.Piece] = []
    characters = rows = 0
    after: m.SeriesCursor | None = None
    try:
        for row in merge(_stored(journal, wanted), _new(book, wanted), key=lambda row: (row.key, row.first)):
            if wanted.ends_before(row.key):
                break
            if characters >= PAGE_CHARACTERS or rows >= PAGE_ROWS:
                after = (*row.key, row.first)
                break
            rows += 1
            if row.piece is not None:
                pieces.append(row.piece)
                characters += len(row.piece.points)
    except apsw.Error as error:
        raise journal_error(error, "series in time cannot be read from the journal") from error
    return m.SeriesPage(question.id, book.latest, tuple(pieces), after, units)


@dataclass(frozen=True)
class _Wanted:
    """What a question asks for, in either kind of series."""

    #: number of the run, or name of the Master
    source: int | str
    #: task and attempt, or head and name, where only these are wanted
    first: Any
    second: Any
    #: where the page begins: a key, and the number of a point
    after: tuple[Any, Any, int]
    since: int
    #: milliseconds since 1970
    begin: int = 0
    end: int = _EVER

    @classmethod
    def of(cls, question: m.ReadProgress | m.ReadSamples) -> _Wanted:
        if isinstance(question, m.ReadProgress):
            start = (question.task or 0, (question.attempt or 0) if question.task is not None else 0, 0)
            after = max(question.after, start)
            return cls(question.run, question.task, question.attempt, after, question.since)
        begin = _milliseconds(question.begin, 0)
        end = _milliseconds(question.end, _EVER)
        name = (question.name or "") if question.head is not None else ""
        cursor = max(question.after, (question.head or "", name, 0))
        return cls(question.master, question.head, question.name, cursor, question.since, begin, end)

    def has(self, key: Key) -> bool:
        """Whether a series is asked for."""
        return self.first in (None, key[0]) and self.second in (None, key[1])

    def is_behind(self, key: Key, end: int) -> bool:
        """Whether points of a series up to this number were in the page before: the row before the cursor, if any."""
        return key == self.after[:2] and 0 < end <= self.after[2]

    def ends_before(self, key: Key) -> bool:
        """Whether neither this series nor any behind it is asked for."""
        if self.first is None:
            return False
        return bool(key[0] > self.first or (self.second is not None and key[1] > self.second))


def _milliseconds(seconds: float | None, otherwise: int) -> int:
    """Of a number of seconds since 1970, whatever it is."""
    if seconds is None:
        return otherwise
    return round(min(max(seconds * 1e3, 0), _EVER))


def _stored(journal: Journal, wanted: _Wanted) -> Iterator[_Row]:
    if isinstance(wanted.source, int):
        rows = journal.query(sql.SELECT_PROGRESS, (wanted.source, *wanted.after, wanted.since))
        for task, attempt, first, n, start, names, points in rows:
            if wanted.is_behind((task, attempt), first + n):
                continue
            found = None
            if points is not None and wanted.has((task, attempt)):
                found = m.Piece(first, n, _names(names), start, points, task, attempt)
            yield _Row((task, attempt), first, found)
        return
    values = (wanted.source, *wanted.after, wanted.since, wanted.begin, wanted.end)
    for head, name, first, n, start, points in journal.query(sql.SELECT_SAMPLES, values):
        if wanted.is_behind((head, name), first + n):
            continue
        found = None
        if points is not None and wanted.has((head, name)):
            found = m.Piece(first, n, (name,), start, points, head=head)
        yield _Row((head, name), first, found)


def _new(book: SeriesBook, wanted: _Wanted) -> Iterator[_Row]:
    for key, tail in book.tails(wanted.source):
        own = key[1:]
        if own < wanted.after[:2]:
            continue
        first = wanted.after[2] if own == wanted.after[:2] else 0
        for segment in tail.since(first):
            is_wanted = segment.entry > wanted.since and wanted.has(own)
            yield _Row(own, segment.first, piece(key, segment) if is_wanted else None)
