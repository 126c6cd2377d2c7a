"""Copying a run's beginning to another run, within one transaction.

The fork has the first ``at`` events as they are, and the tasks that had been put by then: those before the first of
which the record says that it was put when a later event had been told. Of these tasks, the ones that had not ended keep
the outcomes that they had later, in that order, behind those events: what was measured is not measured again. Tasks
without any outcome are open. Rows are copied by SQLite, and payload files are named twice, not copied; only a row that
is cut is made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from taskmaster.bus.cut import cut_outcome
from taskmaster.bus.errors import NotAllowed
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import Ask, EventHead
from taskmaster.bus.table import Table
from taskmaster.daemon.blocks import Block
from taskmaster.daemon.effects import BlockAppended, EventAppended, RunForked
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.stored import decode_asks, encode_asks, read_event

if TYPE_CHECKING:
    from taskmaster.daemon.journal.journal import Journal

__all__ = ["MOST_ROWS", "Fork", "require_forkable"]

#: Rows of a run that are copied at most, for nobody is served meanwhile: a second's work. Those of a run that was put
#: one by one are as many as its tasks and its events.
MOST_ROWS = 1 << 20


def require_forkable(journal: Journal, run: int) -> int:
    """How many rows of a run are copied. Raises NotAllowed where it has too many for one go."""
    rows = int(journal.query(sql.COUNT_ROWS, (run,)).get)
    if rows > MOST_ROWS:
        raise NotAllowed(
            f"run {run} takes {rows} rows of the journal, and only one of up to {MOST_ROWS} is forked; export it, or "
            "replay it to a learner over a new run"
        )
    return rows


class Fork:
    """One fork; the run's own row is there already."""

    def __init__(self, journal: Journal, record: RunForked) -> None:
        self._journal = journal
        self._record = record
        self._ids = (record.run, record.source)

    def write(
        self, append_block: Callable[[BlockAppended], None], append_event: Callable[[EventAppended], None]
    ) -> bool:
        """Copy everything; returns whether the run is closed."""
        source, at = self._record.source, self._record.at
        query, ids = self._journal.query, self._ids
        end = self._copy_blocks(append_block)
        query(sql.COPY_EVENTS, (*ids, at))
        next_seq = self._copy_outcomes(end, append_event)
        for low, high in self._held(end):
            head = EventHead(next_seq, high - low, "released", low, worker="fork", started=self._record.created)
            append_event(EventAppended(self._record.run, replace(head, finished=head.started), ()))
            next_seq += high - low
        for low, high in self._ended():  # one that is open is evaluated again, and tells of its progress itself
            query(sql.COPY_PROGRESS, (*ids, low, high))
            query(sql.COPY_NEW_PROGRESS, (*ids, low, high))
        query(sql.COPY_APPROVALS, (*ids, end))
        query(sql.COPY_PLACES, (*ids, end))
        query(sql.COPY_WRITERS, (*ids, end))
        query(sql.SET_LAST_WRITER, ids[:1])
        return bool(query(sql.LAST_SWITCH, (source, at)).get == "closed")

    def _copy_blocks(self, append: Callable[[BlockAppended], None]) -> int:
        """Copy the tasks that had been put; returns where they end."""
        source, at = self._record.source, self._record.at
        query, layouts = self._journal.query, self._journal.layouts()
        end, behind = self.end()
        query(sql.COPY_BLOCKS, (*self._ids, end))
        for first, n, layout, text, time, user, data, file in list(query(sql.SELECT_BLOCK_ACROSS, (source, end))):
            table = self._journal.stored_table(layouts[layout], n, data, file).slice(0, end - first)
            table = Table(table.layout, table.n, table.frames)  # in memory, where it comes from a file
            asks = tuple(ask for ask in decode_asks(text) if ask.offset < table.n and ask.after < at)
            block = Block(first, table)
            append(BlockAppended(self._record.run, first, table.n, asks, time, user, block, table))
        self._set_last_asks(behind)
        return end

    def end(self) -> tuple[int, tuple[Ask, ...]]:
        """Where the tasks end that had been put; and what the learner had been asked and not answered behind these."""
        source, at = self._record.source, self._record.at
        query = self._journal.query
        told_of = int(query(sql.TASKS_OF_EVENTS, (source, at)).get or 0)
        for first, n, text in list(query(sql.FIRST_ASKED_SINCE, (source, at))):
            asks = decode_asks(text)
            position = next(k for k, ask in enumerate(asks) if ask.after >= at)
            end = first + asks[position].offset
            behind = tuple(ask for ask in asks[:position] if first + ask.offset >= end)
            if first + n == end:
                behind = ()  # they stand behind the last task of a block that is copied whole, and come with it
            return (end, behind) if end >= told_of else (told_of, ())  # else the record contradicts itself
        return int(query(sql.LAST_INDEX, (source,)).get or 0), ()

    def _set_last_asks(self, behind: tuple[Ask, ...]) -> None:
        """What the learner was asked behind the last task goes with the last block, as far as it was asked by then."""
        query, run, at = self._journal.query, self._record.run, self._record.at
        for first, n, text in list(query(sql.LAST_BLOCK, (run,))):
            asks = decode_asks(text)
            kept = [ask for ask in asks if ask.offset < n or ask.after < at]
            if behind or len(kept) < len(asks):
                kept += [Ask(n, ask.after, ask.asked, ask.order) for ask in behind]
                query(sql.SET_ASKS, (encode_asks(kept), run, first))

    def _copy_outcomes(self, end: int, append: Callable[[EventAppended], None]) -> int:
        """Copy the outcomes that come behind those events, of tasks below ``end``; returns where the events end."""
        query, source, at = self._journal.query, self._record.source, self._record.at
        next_seq = at
        for seq, n, first in list(query(sql.OUTCOMES_BEHIND, (source, at, end))):
            number = seq if seq < at else next_seq
            fitting = min(n, end - first)
            if fitting == n:
                query(sql.COPY_EVENT, (*self._ids, seq, number))
            else:
                append(self._cut(seq, number, fitting))
            next_seq = number + fitting
        return int(next_seq)

    def _cut(self, seq: int, number: int, n: int) -> EventAppended:
        """The first ``n`` events of a row, from another number on."""
        journal = self._journal
        (row,) = journal.query(sql.SELECT_EVENT, (self._record.source, seq))
        head, frames = read_event(journal.payloads, journal.layouts(), row)
        at = head.outputs.frame_count if head.outputs is not None else 0
        outputs = Table(head.outputs, head.n - len(head.errors), frames[:at]) if head.outputs is not None else None
        outputs, times, errors = cut_outcome(outputs, frames[at] if head.timed else None, head.errors, 0, n)
        own: list[Any] = [*(outputs.frames if outputs is not None else ()), *((times,) if times is not None else ())]
        layout = outputs.layout if outputs is not None else None
        cut = replace(head, seq=number, n=n, frames=len(own), outputs=layout, errors=tuple(errors))
        return EventAppended(self._record.run, cut, tuple(own))

    def _held(self, end: int) -> IntervalSet:
        """The tasks that are in doubt by those events, and have no outcome: in the fork they are not."""
        held = IntervalSet()
        for kind, first, n, *_ in self._journal.query(sql.SELECT_HELD, (self._record.run,)):
            if kind == "held":
                held.add(first, min(first + n, end))
            else:
                held.remove(first, first + n)
        for low, high in self._ended():
            held.remove(low, high)
        return held

    def _ended(self) -> IntervalSet:
        """The tasks of the fork that have an outcome."""
        ended = IntervalSet()
        for first, n in self._journal.query(sql.SELECT_ENDED, (self._record.run,)):
            ended.add(first, first + n)
        return ended
