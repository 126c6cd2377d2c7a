"""Is the journal whole? At the daemon's start, and for ``taskmaster check --journal``."""

from __future__ import annotations

import apsw

from taskmaster.bus.errors import JournalDamaged
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.journal import Journal, journal_error

__all__ = ["check_at_start"]


def check_at_start(journal: Journal) -> None:
    """Raise JournalDamaged unless the journal holds all that was ever acknowledged, as far as can be known."""
    try:
        verdict = [row[0] for row in journal.query("PRAGMA quick_check(10)")]
    except apsw.Error as error:
        raise journal_error(error, f"the journal {journal.path} cannot be read") from error
    if verdict != ["ok"]:
        raise JournalDamaged(f"the journal {journal.path} is damaged: {'; '.join(verdict)}")
    missing = journal.payloads.missing(name for (name,) in journal.query(sql.FILES))
    if missing:
        raise JournalDamaged(f"{len(missing)} payload files are missing or cut short, {journal.payloads.path(missing[0])} first")
