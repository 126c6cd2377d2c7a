"""Is the journal whole? At the daemon's start, and for ``taskmaster check --journal``."""

from __future__ import annotations

import os

import apsw

from taskmaster.bus.errors import JournalDamaged
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.journal import MARK, Journal, boot_id, journal_error

__all__ = ["check_at_start"]


def check_at_start(journal: Journal) -> None:
    """Raise JournalDamaged unless the journal holds all that was ever acknowledged, as far as can be known."""
    try:
        verdict = [row[0] for row in journal.query("PRAGMA quick_check(10)")]
    except apsw.Error as error:
        raise journal_error(error, f"the journal {journal.path} cannot be read") from error
    if verdict != ["ok"]:
        raise JournalDamaged(f"the journal {journal.path} is damaged: {'; '.join(verdict)}")
    number = int(journal.meta("commit") or 0)
    mark = os.pread(os.open(journal.folder / "mark", os.O_RDONLY | os.O_CLOEXEC), MARK.size, 0)
    if len(mark) == MARK.size:
        last, boot = MARK.unpack(mark)
        lost_by_power = boot != boot_id() and journal.durability == "crash"
        if last > number and not lost_by_power:
            raise JournalDamaged(
                f"the journal {journal.path} ends with transaction {number}, but {last} was written: "
                f"{last - number} are lost"
            )
    missing = journal.payloads.missing(name for (name,) in journal.query(sql.FILES))
    if missing:
        raise JournalDamaged(f"{len(missing)} payload files are missing or cut short, {journal.payloads.path(missing[0])} first")
