"""Reading the journal back for those who ask: pages of a run's events, and whether a block is there already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from taskmaster.bus import codec
from taskmaster.bus import messages as m
from taskmaster.bus.table import Buffer, Table
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.journal import Journal, split_frames
from taskmaster.daemon.run import Run

__all__ = ["read_page", "same_block"]

#: Bytes of a page: enough to make the request worth its while, little enough to keep a turn short.
PAGE_BYTES = 8 << 20
#: Rows of a page; with at most this many frames a message stays below its limit.
PAGE_ROWS = 1024
PAGE_FRAMES = 6000

_errors = msgspec.json.Decoder(tuple[m.TaskError, ...]).decode


def read_page(journal: Journal, run: Run, request: m.Replay) -> tuple[m.Page, list[Buffer]]:
    """The page that answers a Replay, with its frames. Raises JournalDamaged where it cannot be read whole."""
    heads: list[m.EventHead] = []
    frames: list[Buffer] = []
    size = events = 0
    layouts = journal.layouts()
    for row in journal.query(sql.SELECT_EVENTS, (run.id, max(0, request.since))):
        head, own = _event(journal, layouts, row)
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


def read_inputs(journal: Journal, layouts: dict[int, Any], run: int, low: int, high: int) -> Table:
    """The inputs of tasks ``low ≤ i < high``."""
    tables = []
    for first, n, layout, data, file in journal.query(sql.SELECT_BLOCKS_OF, (run, low, high)):
        start, stop = max(low, first) - first, min(high, first + n) - first
        if start < stop:
            tables.append(journal.stored_table(layouts[layout], n, data, file).slice(start, stop))
    return codec.merge(tables)


def same_block(journal: Journal, submit: m.Submit, table: Table) -> bool:
    """Whether the journal holds just this block under its number."""
    row = journal.query(sql.SELECT_BLOCK_DIGEST, (submit.run, submit.first)).get
    return row is not None and tuple(row) == (submit.n, table.digest())


def _event(journal: Journal, layouts: dict[int, Any], row: Sequence[Any]) -> tuple[m.EventHead, list[Buffer]]:
    seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file = row
    failures = _errors(errors) if errors else ()
    outputs = layouts[layout] if layout is not None else None
    frames: list[Buffer] = []
    if outputs is not None or timed:
        content = memoryview(data if file is None else journal.payloads.read(file))
        if outputs is not None:
            frames = split_frames(outputs, n - len(failures), content)
        if timed:
            frames.append(content[content.nbytes - 8 * n :])
    head = m.EventHead(seq, n, kind, first, len(frames), outputs, failures, worker, attempt, started, finished,
                       bool(timed))
    return head, frames
