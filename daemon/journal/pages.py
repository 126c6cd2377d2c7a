"""Reading the journal back for those who ask: pages of a run's events, and whether a block is there already."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import apsw
from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.bus.cut import cut_outcome
from taskmaster.bus.errors import Conflict, JournalDamaged
from taskmaster.bus.table import Buffer, Layout, Table
from taskmaster.daemon.effects import Recheck
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.payloads import Payloads
from taskmaster.daemon.journal.stored import read_event
from taskmaster.daemon.run import Run

__all__ = ["Readable", "read_inputs", "read_page", "recheck", "same_block"]

#: Bytes of a page, header and all, and of one piece of a row: enough that asking costs little (from 256 kB on a million
#: results are read back equally fast), little enough to keep a turn short and not to fill a slow line.
PAGE_BYTES = 512 << 10
#: Rows of a page; with at most this many frames a message stays below its limit.
PAGE_ROWS = 1024
PAGE_FRAMES = 6000
#: Characters of an error's text that are sent; the journal has the rest.
ERROR_TEXT = 256 << 10


class Readable(Protocol):
    """A journal, as far as it is read here."""

    payloads: Payloads

    def query(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        """Rows of a statement of `sql`."""

    def layouts(self) -> dict[int, Layout]:
        """Every layout by its number."""

    def stored_table(self, layout: Layout, n: int, data: bytes | None, file: str | None) -> Table:
        """The table in a row."""


@dataclass(frozen=True)
class _Piece:
    """Some or all of the events of a row, as a page takes them."""

    head: m.EventHead
    frames: list[Buffer]
    size: int


def read_page(journal: Readable, run: Run, request: m.Replay) -> tuple[m.Page, list[Buffer]]:
    """The page that answers a Replay, with its frames. Raises JournalError where it cannot be read whole.

    It starts with the event asked for. A row that does not fit with others begins the next page; one that is too large
    for any is cut, however it is made up: outputs and inputs lie in the frames, errors in the header, which has a
    limit of its own.
    """
    try:
        return _read_page(journal, run, request)
    except apsw.Error as error:
        raise journal_error(error, f"the events of run {run.name!r} of Master {run.master!r} cannot be read") from error


def _read_page(journal: Readable, run: Run, request: m.Replay) -> tuple[m.Page, list[Buffer]]:
    heads: list[m.EventHead] = []
    frames: list[Buffer] = []
    size = events = 0
    layouts = journal.layouts()
    edits = _edits(journal, layouts, run.id)
    for row in journal.query(sql.SELECT_EVENTS, (run.id, max(0, request.since))):
        head, own = read_event(journal.payloads, layouts, row)
        low = max(0, request.since - head.seq)
        if low >= head.n:
            break  # the last row, and the number asked for lies behind it
        piece = _piece(journal, layouts, edits, run.id, head, own, low, request.inputs)
        if heads and (size + piece.size > PAGE_BYTES or len(frames) + len(piece.frames) > PAGE_FRAMES):
            break
        heads.append(piece.head)
        frames += piece.frames
        events += piece.head.n
        size += piece.size
        cut = piece.head.seq + piece.head.n < head.seq + head.n
        if cut or len(heads) >= PAGE_ROWS or events >= request.limit:
            break
    return m.Page(request.id, run.id, run.next_seq, tuple(heads), run.writer, run.next_index), frames


def _piece(
    journal: Readable,
    layouts: Mapping[int, Layout],
    edits: Mapping[int, Table],
    run: int,
    head: m.EventHead,
    frames: list[Buffer],
    low: int,
    inputs: bool,
) -> _Piece:
    """A row's events from the one at position ``low`` on: all of them, or as many as make a page. At least one.

    Where a task was edited, whoever has put it has another input: then it is sent whether it was asked for or not.
    """
    tables: list[Table] = []
    high = head.n
    end = head.first + head.n
    is_about_tasks = head.kind in ("done", "cancelled", "held", "released")
    edited = [index for index in edits if head.first + low <= index < end] if is_about_tasks else []
    if is_about_tasks and (inputs or edited):
        tables = _inputs_within(journal, layouts, edits, run, head.first + low, end, PAGE_BYTES)
        high = low + sum(table.n for table in tables)
    size = codec.size_of(head) + sum(map(len, frames))
    if low or high < head.n or size > PAGE_BYTES:
        head, frames = _cut(head, frames, low, high)
        size = codec.size_of(head) + sum(map(len, frames))
    if tables:
        table = codec.merge(tables).slice(0, head.n)
        frames = [*frames, *table.frames]
        size += table.nbytes
        there = tuple(sorted(index - head.first for index in edited if head.first <= index < head.first + head.n))
        head = replace(head, frames=len(frames), inputs=table.layout, edited=there)
    return _Piece(head, frames, size)


def _cut(head: m.EventHead, frames: Sequence[Buffer], low: int, high: int) -> tuple[m.EventHead, list[Buffer]]:
    """A row's events at positions ``low ≤ p < high``, or as many of the first of these as make a page."""
    errors = head.errors
    at = head.outputs.frame_count if head.outputs is not None else 0
    outputs = Table(head.outputs, head.n - len(errors), frames[:at]) if head.outputs is not None else None
    times = frames[at] if head.timed else None
    positions = [error.position for error in errors]
    sizes = list(accumulate(map(codec.size_of, errors), initial=0))

    def size(end: int) -> int:
        k, stop = bisect_left(positions, low), bisect_left(positions, end)
        rows = outputs.slice(low - k, end - stop).nbytes if outputs is not None else 0
        return rows + sizes[stop] - sizes[k] + (8 * (end - low) if head.timed else 0)

    high = low + max(1, bisect_right(range(low + 1, high + 1), PAGE_BYTES, key=size))
    outputs, times, errors = cut_outcome(outputs, times, errors, low, high)
    own = [*(outputs.frames if outputs is not None else ()), *((times,) if times is not None else ())]
    cut = replace(
        head,
        seq=head.seq + low,
        n=high - low,
        first=head.first + low,
        frames=len(own),
        outputs=outputs.layout if outputs is not None else None,
        errors=tuple(map(_shortened, errors)),
    )
    return cut, own


def _shortened(error: m.TaskError) -> m.TaskError:
    """An error that alone fits a header, whatever an older worker has reported."""
    kind, message, traceback = (
        text if len(text) <= ERROR_TEXT else f"{text[:ERROR_TEXT]}… ({len(text)} characters)"
        for text in (error.kind, error.message, error.traceback)
    )
    made_of = error.made_of if len(error.made_of) <= ERROR_TEXT else b""
    return m.TaskError(error.position, kind, message, traceback, made_of)


def read_inputs(journal: Readable, layouts: Mapping[int, Layout], run: int, low: int, high: int) -> Table:
    """The inputs of tasks ``low ≤ i < high``. Raises JournalDamaged where they are not all there."""
    return codec.merge(_inputs_within(journal, layouts, _edits(journal, layouts, run), run, low, high, None))


def _edits(journal: Readable, layouts: Mapping[int, Layout], run: int) -> dict[int, Table]:
    """The inputs of those tasks of a run that were edited: a person has typed each of them, so they are few."""
    rows = journal.query(sql.SELECT_EDITED, (run,))
    return {index: journal.stored_table(layouts[layout], 1, data, None) for index, layout, data in rows}


def _inputs_within(
    journal: Readable,
    layouts: Mapping[int, Layout],
    edits: Mapping[int, Table],
    run: int,
    low: int,
    high: int,
    most: int | None,
) -> list[Table]:
    """The inputs of tasks ``low ≤ i < high``, or of as many of these as have ``most`` bytes together, but of one."""
    tables: list[Table] = []
    size, end = 0, low
    for first, n, layout, data, file in journal.query(sql.SELECT_BLOCKS_OF, (run, low, high)):
        start, stop = max(low, first), min(high, first + n)
        if start != end or start >= stop:
            break
        block = journal.stored_table(layouts[layout], n, data, file).slice(start - first, stop - first)
        for table in _with_edits(block, start, edits):
            if most is not None and size + table.nbytes > most:
                fitting = _fitting(table, most - size)
                if fitting or not tables:
                    tables.append(table.slice(0, max(1, fitting)))
                return tables
            tables.append(table)
            size += table.nbytes
        end = stop
    if end != high:
        raise JournalDamaged(f"run {run}: not all inputs of its tasks {low} to {high - 1} are in the journal")
    return tables


def _with_edits(table: Table, first: int, edits: Mapping[int, Table]) -> list[Table]:
    """The inputs of the tasks from ``first`` on, as they were edited."""
    tables: list[Table] = []
    at = 0
    for index in sorted(index for index in edits if first <= index < first + table.n) if edits else ():
        if at < index - first:
            tables.append(table.slice(at, index - first))
        tables.append(edits[index])
        at = index - first + 1
    return [*tables, table.slice(at, table.n)] if at < table.n else tables


def _fitting(table: Table, most: int) -> int:
    """How many of the first rows have at most so many bytes."""
    return bisect_right(range(1, table.n + 1), most, key=lambda rows: table.slice(0, rows).nbytes)


def same_block(journal: Readable, submit: m.Submit, table: Table) -> bool:
    """Whether the journal holds just this block under its number."""
    row = journal.query(sql.SELECT_BLOCK_DIGEST, (submit.run, submit.first)).get
    return row is not None and tuple(row) == (submit.n, table.digest())


def recheck(journal: Readable, run: Run, said: Recheck) -> m.Done:
    """What an answer to a task that has ended gets: it is taken where the journal holds just this one.

    Raises Conflict where it holds another outcome.
    """
    answer = said.answer
    row = journal.query(sql.SELECT_OUTCOME, (answer.run, answer.index)).get
    if row is None:
        raise JournalDamaged(f"run {answer.run}: task {answer.index} has ended, and the journal does not say how")
    head, frames = read_event(journal.payloads, journal.layouts(), row)
    if head.n == 1 and head.worker == said.worker and _is_same(head, frames, said):
        return m.Done(answer.id, 1)
    how = "was cancelled" if head.kind == "cancelled" else f"has been answered by {head.worker.removeprefix('human:')}"
    raise Conflict(f"run {run.name!r}: task {answer.index} {how}; this answer was not taken")


def _is_same(head: m.EventHead, frames: Sequence[Buffer], said: Recheck) -> bool:
    if said.table is None:
        return [error.message for error in head.errors] == [said.answer.reason]
    return head.outputs is not None and Table(head.outputs, 1, frames).digest() == said.table.digest()
