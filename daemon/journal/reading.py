"""A journal that is only read, beside the daemon that works on it, or without one: its runs, and what is in them.

What is read is read in short transactions, so that the daemon's log can begin anew in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.errors import JournalDamaged, UnknownRun
from taskmaster.bus.status import RunInfo
from taskmaster.bus.table import Layout, Table
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.checksums import connect
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.pages import read_page
from taskmaster.daemon.journal.payloads import Payloads, size_of
from taskmaster.daemon.journal.schema import read_as_newest, require_known
from taskmaster.daemon.journal.stored import FiledTable, split_frames
from taskmaster.daemon.retention import ClosedRun
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import Resting, run_info
from taskmaster.learners.export import Batch, Fields, batch_of
from taskmaster.learners.marks import mark_of

__all__ = ["RecordedRuns"]

_PAGE_EVENTS = 4096
#: When the last event of a run was, and what the run takes.
_ENDED = "SELECT finished FROM events WHERE run = ? ORDER BY seq DESC LIMIT 1"
_SIZE = """
SELECT (SELECT coalesce(sum(coalesce(length(data), 0) + length(asks) + 100), 0) FROM blocks WHERE run = ?1)
     + (SELECT coalesce(sum(coalesce(length(data), 0) + coalesce(length(errors), 0) + 100), 0)
        FROM events WHERE run = ?1)
     + (SELECT coalesce(sum(length(points) + 50), 0) FROM progress WHERE run = ?1)
"""
_FILES_OF_RUN = """
SELECT file FROM blocks WHERE run = ?1 AND file IS NOT NULL
UNION SELECT file FROM events WHERE run = ?1 AND file IS NOT NULL
"""
_USED = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
#: Rows of progress behind a key, a page of them; and the latest points, which are few.
_PROGRESS = """
SELECT task, attempt, first, n, names, start, points FROM progress
WHERE run = ?1 AND (task, attempt, first) > (?2, ?3, ?4) ORDER BY task, attempt, first LIMIT 200
"""
_NEW_PROGRESS = "SELECT task, attempt, names, time, data FROM new_progress WHERE run = ? ORDER BY task, attempt, entry"
_names = msgspec.json.Decoder(tuple[str, ...]).decode


class RecordedRuns:
    """The runs of a state directory. Raises JournalError, JournalTooNew where there are none to be read."""

    #: what exports call the source
    name: str

    def __init__(self, state: Path, declared: Mapping[str, Fields] | None = None, *, immutable: bool = False) -> None:
        """``declared``: the parameters and outputs of Masters, as far as they are known.

        ``immutable``: nobody writes to it, and nothing is left beside it: a backup.
        """
        self._declared = declared or {}
        self.path = state / "journal.db"
        self.name = str(state)
        self.payloads = Payloads(state / "payloads", sync=False)
        try:
            self._db = connect(self.path, write=False, immutable=immutable)
            with contextlib.ExitStack() as undone:
                undone.callback(self._db.close)
                require_known(self._db, self.path)
                read_as_newest(self._db)
                undone.pop_all()
        except apsw.Error as error:
            raise journal_error(error, f"the journal {self.path} cannot be read") from error

    def close(self) -> None:
        """Let go of it."""
        self._db.close()

    # -- as a journal is read -----------------------------------------------------------------------------------------

    def query(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        """Rows of a statement, all at once. Raises JournalError."""
        try:
            return list(self._db.execute(statement, values))
        except apsw.Error as error:
            raise journal_error(error, f"the journal {self.path} cannot be read") from error

    def layouts(self) -> dict[int, Layout]:
        """Every layout by its number."""
        return {number: msgspec.json.decode(text, type=Layout) for number, text in self.query(sql.SELECT_LAYOUTS)}

    def stored_table(self, layout: Layout, n: int, data: bytes | None, file: str | None) -> Table:
        """The table in a row."""
        if file is not None:
            return FiledTable(self.payloads, file, layout, n)
        return Table(layout, n, split_frames(layout, n, data or b""))

    # -- runs ---------------------------------------------------------------------------------------------------------

    def info(self, number: int) -> RunInfo:
        """A run. Raises UnknownRun."""
        return run_info(self._run(number))

    def _run(self, number: int) -> Run:
        for row in self.query(sql.SELECT_RUN, (number,)):
            return self._counted(row).waken()
        raise UnknownRun(f"run {number} is not in the journal {self.path} any more")

    def _counted(self, row: Sequence[Any]) -> Resting:
        """A run as it is; a daemon writes down once a second how far it counts."""
        state, (next_index, next_seq) = _resting(row), row[16:]
        ended = {"done": state.done, "failed": state.failed, "cancelled": state.cancelled}
        if next_seq > state.next_seq:
            for kind, n, failed in self.query(sql.COUNT_EVENTS, (state.run, state.next_seq)):
                ended[kind] += n - failed
                ended["failed"] += failed
        return msgspec.structs.replace(state, next_index=next_index, next_seq=next_seq, **ended)

    def closed(self) -> list[ClosedRun]:
        """The closed runs all of whose tasks have an outcome; the one that ended first, first.

        Of a run over several Masters the legs end together, with the last of them.
        """
        found: list[ClosedRun] = []
        going_on: set[str] = set()
        for row in self.query(sql.SELECT_RUNS):
            state = self._counted(row)
            if state.closed and state.done + state.failed + state.cancelled == state.next_index:
                times = self.query(_ENDED, (state.run,))
                when = times[0][0] if times else state.created
                named = state.run, state.master, state.name
                found.append(ClosedRun(*named, when, state.next_index, state.next_seq, _whole(state)))
            else:
                going_on.add(_whole(state))
        ends: dict[str, float] = {}
        for run in found:
            ends[run.whole] = max(run.ended, ends.get(run.whole, run.ended))
        found = [
            msgspec.structs.replace(run, ended=ends[run.whole]) if run.whole else run
            for run in found
            if not run.whole or run.whole not in going_on
        ]
        return sorted(found, key=lambda run: (run.ended, run.whole, run.run))

    def size_of(self, number: int) -> int:
        """Bytes that a run takes, about: its rows, and its payload files, though others may need these, too."""
        files = sum(size_of(name) for (name,) in self.query(_FILES_OF_RUN, (number,)))
        return int(self.query(_SIZE, (number,))[0][0]) + files

    def used(self) -> int:
        """Bytes that the journal takes: its pages in use, and payload files."""
        files = sum(size_of(name) for (name,) in self.query(sql.FILES))
        return int(self.query(_USED)[0][0]) + files

    # -- as exports read ----------------------------------------------------------------------------------------------

    def fields(self, master: str) -> Fields:
        """What a Master declares; a journal does not know that, its tables speak for themselves."""
        return self._declared.get(master, ((), ()))

    def batches(self, run: int, until: int) -> Iterator[Batch]:
        """What has become of the tasks of a run. Raises UnknownRun, JournalError where it ends early."""
        known, since = self._run(run), 0
        while since < until:
            page, frames = read_page(self, known, m.Replay(0, run, since, _PAGE_EVENTS, inputs=True))
            began, at = since, 0
            for head in page.events:
                own, at = frames[at : at + head.frames], at + head.frames
                since = head.seq + head.n
                if head.kind in ("done", "cancelled"):
                    yield batch_of(head, own)
            if since == began:
                self._run(run)
                raise JournalDamaged(f"run {run} has no event {since}, and should have {until}")

    def progress(self, run: int) -> Iterator[list[m.Piece]]:
        """What the evaluations of a run have told of their progress, page by page."""
        after = (-1, -1, -1)
        while rows := self.query(_PROGRESS, (run, *after)):
            after = rows[-1][:3]
            yield [
                m.Piece(first, n, _names(names), start, points, task, attempt)
                for task, attempt, first, n, names, start, points in rows
            ]
        yield [
            m.Piece(0, 1, _names(names), time, f"[[0,{data[1:]}]", task, attempt)
            for task, attempt, names, time, data in self.query(_NEW_PROGRESS, (run,))
        ]


def _whole(state: Resting) -> str:
    """What the legs of one run over several Masters have in common; empty for a run by itself."""
    mark = mark_of(msgspec.json.decode(state.metadata))
    return "" if mark is None or mark.forked_from else f"{state.name} {mark.masters}"


def _resting(row: Sequence[Any]) -> Resting:
    return Resting(*(*row[:8], bool(row[8]), bool(row[9]), *row[10:16]))
