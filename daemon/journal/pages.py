"""Reading the journal back for those who ask: pages of a run's events, and whether a block is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apsw
import msgspec

from taskmaster.bus import codec
from taskmaster.bus import messages as m
from taskmaster.bus.errors import JournalDamaged
from taskmaster.bus.table import Buffer, Layout, Table
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.journal.payloads import Payloads
from taskmaster.daemon.journal.stored import split_frames
from taskmaster.daemon.run import Run

__all__ = ["read_event", "read_inputs", "read_page", "same_block"]

#: Bytes of a page: enough to make the request worth its while, little enough to keep a turn short.
PAGE_BYTES = 8 << 20
#: Rows of a page; with at most this many frames a message stays below its limit.
PAGE_ROWS = 1024
PAGE_FRAMES = 6000

_errors = msgspec.json.Decoder(tuple[m.TaskError, ...]).decode


def read_page(journal: Journal, run: Run, request: m.Replay) -> tuple[m.Page, list[Buffer]]:
    """The page that answers a Replay, with its frames. Raises JournalError where it cannot be read whole."""
    try:
        return _read_page(journal, run, request)
    except apsw.Error as error:
        raise journal_error(error, f"the events of run {run.name!r} of Master {run.master!r} cannot be read") from error


def _read_page(journal: Journal, run: Run, request: m.Replay) -> tuple[m.Page, list[Buffer]]:
    heads: list[m.EventHead] = []
    frames: list[Buffer] = []
    size = events = 0
    layouts = journal.layouts()
    for row in journal.query(sql.SELECT_EVENTS, (run.id, max(0, request.since))):
        head, own = read_event(journal.payloads, layouts, row)
        if request.inputs and head.kind in ("done", "cancelled", "held", "released"):
            table = read_inputs(journal, layouts, run.id, head.first, head.first + head.n)
            own = [*own, *table.frames]
            head = msgspec.structs.replace(head, frames=len(own), inputs=table.layout)
        heads.append(head)
        frames += own
        events += head.n
        size += sum(memoryview(frame).nbytes for frame in own)
        if size > PAGE_BYTES or len(heads) >= PAGE_ROWS or len(frames) > PAGE_FRAMES or events >= request.limit:
            break
    return m.Page(request.id, run.id, run.next_seq, tuple(heads), run.writer), frames


def read_inputs(journal: Journal, layouts: Mapping[int, Layout], run: int, low: int, high: int) -> Table:
    """The inputs of tasks ``low ≤ i < high``. Raises JournalDamaged where they are not all there."""
    tables = []
    for first, n, layout, data, file in journal.query(sql.SELECT_BLOCKS_OF, (run, low, high)):
        start, stop = max(low, first) - first, min(high, first + n) - first
        if start < stop:
            tables.append(journal.stored_table(layouts[layout], n, data, file).slice(start, stop))
    if sum(table.n for table in tables) != high - low:
        raise JournalDamaged(f"run {run}: not all inputs of its tasks {low} to {high - 1} are in the journal")
    return codec.merge(tables)


def same_block(journal: Journal, submit: m.Submit, table: Table) -> bool:
    """Whether the journal holds just this block under its number."""
    row = journal.query(sql.SELECT_BLOCK_DIGEST, (submit.run, submit.first)).get
    return row is not None and tuple(row) == (submit.n, table.digest())


def read_event(
    payloads: Payloads, layouts: Mapping[int, Layout], row: Sequence[Any]
) -> tuple[m.EventHead, list[Buffer]]:
    """The head and the frames of a row of `sql.SELECT_EVENTS`. Raises JournalDamaged where they do not fit."""
    seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file = row
    try:
        failures = _errors(errors) if errors else ()
        outputs = layouts[layout] if layout is not None else None
    except (KeyError, msgspec.DecodeError) as error:
        raise JournalDamaged(f"event {seq} of its run cannot be understood: {error!r}") from error
    frames: list[Buffer] = []
    if outputs is not None or timed:
        content = memoryview(data if file is None else payloads.read(file))
        times = content.nbytes - 8 * n if timed else content.nbytes
        if times < 0:
            raise JournalDamaged(f"event {seq} of its run is cut short")
        if outputs is not None:
            frames = split_frames(outputs, n - len(failures), content[:times])
        if timed:
            frames.append(content[times:])
    head = m.EventHead(
        seq, n, kind, first, len(frames), outputs, failures, worker, attempt, started, finished, bool(timed)
    )
    return head, frames
