"""Is the journal whole? The whole answer, in the order in which it is asked for.

:func:`check_log` before the journal is opened, :func:`check_at_start` when it is open and before anybody is served, and
:func:`report`, :func:`copy` and :func:`salvage` for ``taskmaster check --journal``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.copying import copy
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.guards import LogCheck, check_log, damaged
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.journal.report import JournalReport, report
from taskmaster.daemon.journal.salvage import salvage

__all__ = ["JournalReport", "LogCheck", "check_at_start", "check_end", "check_log", "copy", "report", "salvage"]

#: How many tasks and events each run has, and how many it must have to be without a gap.
_COUNT_ALL = """
SELECT run, 'tasks', sum(n), max(first + n) FROM blocks GROUP BY run
UNION ALL
SELECT run, 'events', sum(n), max(seq + n) FROM events GROUP BY run
"""


def check_at_start(journal: Journal, before: LogCheck | None = None) -> None:
    """Raise JournalDamaged unless the journal, now that it is open, holds what was acknowledged as far as can be known:
    every page reads and checks, no run has a gap, every payload file is there in its full length.

    ``before`` is what :func:`check_log` had found. What payload files contain is checked when they are first read.
    Takes about a second for a database of 1 GB.
    """
    try:
        _check_pages(journal, before)
        for run, what, have, needed in journal.query(_COUNT_ALL):
            if have != needed:
                raise damaged(journal.folder, f"run {run} has {have} {what}, numbered up to {needed - 1}")
        missing = journal.payloads.missing(name for (name,) in journal.query(sql.FILES))
        if before is not None:
            check_end(journal.query, journal.folder, before)
    except (apsw.Error, OSError) as error:
        raise journal_error(error, f"the journal {journal.path} cannot be read") from error
    if missing:
        files = "a payload file is" if len(missing) == 1 else f"{len(missing)} payload files are"
        raise damaged(journal.folder, f"{files} missing or cut short, first {journal.payloads.path(missing[0])}")


def _check_pages(journal: Journal, before: LogCheck | None) -> None:
    if str(journal.query("PRAGMA checksum_verification").get) != "1":
        raise damaged(journal.folder, "its database does not say any more that its pages carry checksums")
    verdict = [row[0] for row in journal.query("PRAGMA quick_check(10)")]
    if verdict != ["ok"]:
        what = verdict[0].removeprefix("*** in database main ***\n").partition("\n")[0]
        if before is not None and before.expected is not None:
            what += " (its log is gone: another program may have moved it into the database, which spoils checksums)"
        raise damaged(journal.folder, what)


def check_end(query: Callable[..., Any], folder: Path, before: LogCheck) -> None:
    """Raise JournalDamaged unless what the mark says was recorded last is there, where the log cannot vouch for it."""
    expected = before.expected
    if expected is None:
        return
    statement = sql.LAST_SEQ if expected.what == "events" else sql.LAST_INDEX
    have = query(statement, (expected.run,)).get or 0
    if have < expected.number and not (before.or_deleted and not have):
        raise damaged(
            folder, f"run {expected.run} had {expected.number} {expected.what}, there are {have}", by_mark=True
        )
