"""Reading back who has opened a run for writing, and what they said of themselves."""

from __future__ import annotations

import apsw
import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.status import WriterInfo
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.journal.pages import PAGE_BYTES, PAGE_ROWS
from taskmaster.daemon.run import Run

__all__ = ["read_writers"]

#: What a row takes in a message, at most, beside what its writer said of itself.
_ROW_BYTES = 320

_metadata = msgspec.json.Decoder(dict[str, str]).decode


def read_writers(journal: Journal, run: Run, request: m.ReadWriters) -> m.WriterList:
    """The writers of a run behind the one asked for, as many as fit. Raises JournalError where they cannot be read."""
    found: list[WriterInfo] = []
    size = 0
    try:
        for writer, first, user, time, text, forked in journal.query(sql.SELECT_WRITERS, (run.id, request.after)):
            size += _ROW_BYTES + len(text)
            if found and (size > PAGE_BYTES or len(found) >= PAGE_ROWS):
                return m.WriterList(request.id, run.id, tuple(found), more=True)
            found.append(WriterInfo(writer, first, user, time, _metadata(text), bool(forked)))
    except apsw.Error as error:
        raise journal_error(
            error, f"the writers of run {run.name!r} of Master {run.master!r} cannot be read"
        ) from error
    return m.WriterList(request.id, run.id, tuple(found))
