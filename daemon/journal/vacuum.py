"""A journal in the hands of another program than the daemon, which is not at work: to prune it, and to give the room
that deleted runs have left back to the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from taskmaster.bus.errors import DiskFull, StateLocked
from taskmaster.bus.text import format_size
from taskmaster.daemon.effects import RowsCleared
from taskmaster.daemon.journal.audit import by_hand
from taskmaster.daemon.journal.backup import require_state
from taskmaster.daemon.journal.check import check_at_start, check_log
from taskmaster.daemon.journal.copying import require_journal
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.lock import locked

__all__ = ["alone_with", "clear", "vacuum"]

#: VACUUM writes the database anew, then all of that to the log, then that back.
_COPIES = 2


@contextmanager
def alone_with(state: Path) -> Iterator[Journal]:
    """The journal of a state directory in which no daemon works, checked as at a daemon's start, to be written.

    Raises StateLocked where one does, and whatever such a start does. One of an older release is left as it is.
    """
    try:
        require_journal(state)
        with locked(state):
            require_state(state)
            before = check_log(state, "power")
            journal = Journal(state, migrate=False)
            in_order = False
            try:
                check_at_start(journal, before)
                yield journal
                in_order = True
            finally:
                journal.close(in_order=in_order)
    except StateLocked as error:
        raise StateLocked(f"a daemon is at work in {state}; stop it first") from error
    except apsw.Error as error:
        raise journal_error(error, f"the journal in {state} cannot be read") from error


def clear(journal: Journal) -> None:
    """Let all rows go that deleted runs have left."""
    while journal.going:
        journal.commit([RowsCleared(min(journal.going))])
        journal.checkpoint(idle=False)


def vacuum(state: Path) -> tuple[int, int]:
    """Write the database anew, without what is unused; returns its bytes before and after.

    Interrupted, all is as it was. Raises StateLocked where a daemon is at work, DiskFull where there is no room for a
    second and a third copy meanwhile, JournalError.
    """
    os.environ["SQLITE_TMPDIR"] = str(state)  # what was measured is not for a folder that everybody shares
    with alone_with(state) as journal:
        clear(journal)
        before = journal.statistics()
        needed, free = _COPIES * (before.size - before.unused), before.free
        if free < needed:
            raise DiskFull(
                f"to write the journal in {state} anew takes {format_size(needed)} meanwhile, {format_size(free)} are "
                "free; make room first. What is unused in it is used again by what is recorded next"
            )
        journal.vacuum()
        journal.commit([by_hand("vacuum", {"before": before.size, "unused": before.unused})])
    return before.size, (state / "journal.db").stat().st_size
