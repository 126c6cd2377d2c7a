"""The record of who has done what, in the journal: written, read, and kept by programs other than the daemon, too."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import apsw
import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.status import AuditEntry
from taskmaster.daemon.auditing import by_daemon
from taskmaster.daemon.effects import Audited, AuditPruned, Effects
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.checksums import connect
from taskmaster.daemon.journal.failures import journal_error, transaction

if TYPE_CHECKING:
    from taskmaster.daemon.journal.journal import Journal

__all__ = ["KEYS", "PENDING", "AuditRetention", "by_hand", "leave_entry", "read_audit", "row_of", "take_over_pending"]

#: What is in `meta` under these: the keys that were in force last, and entries for a table that is not there yet.
KEYS = "keys"
PENDING = "audit"
#: Entries that are looked at for one message, and bytes of those in it.
_LOOKED_AT = 4096
_PAGE_BYTES = 256 << 10
#: Old entries that are let go in one turn, seconds until the next of them, and until it is looked for the first time.
_PRUNED = 4096
_AGAIN_SECONDS = 1.0
_FIRST_SECONDS = 60.0
#: What an entry takes in a message, at most, beside its texts.
_ROW_BYTES = 128

_json = msgspec.json.Encoder().encode
_about = msgspec.json.Decoder(dict[str, Any]).decode
_entries = msgspec.json.Decoder(list[Audited]).decode


def row_of(entry: Audited) -> tuple[Any, ...]:
    """An entry as SQL's parameters; it gets the next number."""
    e = entry
    about = _json(e.about).decode()
    return None, e.time, e.user, e.role, e.origin, e.what, e.master, about, e.outcome, e.why, e.times


# -- reading ----------------------------------------------------------------------------------------------------------


class _Readable(Protocol):
    def query(self, statement: str, values: tuple[Any, ...] = ()) -> Any: ...


def read_audit(journal: _Readable, request: m.ReadAudit) -> m.AuditPage:
    """A page of what was asked for. So much is looked at and no more, however little of it is that.

    Raises JournalError where it cannot be read.
    """
    try:
        return _page(journal, request)
    except apsw.Error as error:
        raise journal_error(error, "the record of who has done what cannot be read") from error


def _page(journal: _Readable, request: m.ReadAudit) -> m.AuditPage:
    [(first, last)] = journal.query(sql.AUDIT_ENDS)
    if first is None or request.after >= last:
        return m.AuditPage(request.id, (), request.after)
    behind = max(request.after, first - 1)
    end = min(behind + _LOOKED_AT, last)
    since = -math.inf if request.since is None else request.since
    until = math.inf if request.until is None else request.until
    found: list[AuditEntry] = []
    size = 0
    for row in journal.query(sql.SELECT_AUDIT, (behind, end, since, until, request.user, request.master)):
        size += _ROW_BYTES + sum(len(value) for value in row if isinstance(value, str))
        if found and size > _PAGE_BYTES:
            end = found[-1].entry
            break
        found.append(_entry(row))
    return m.AuditPage(request.id, tuple(found), end, end < last)


def _entry(row: Sequence[Any]) -> AuditEntry:
    entry, time, user, role, origin, what, master, about, outcome, why, times = row
    return AuditEntry(entry, time, user, role, origin, what, master, _about(about), outcome, why, times)


# -- keeping ----------------------------------------------------------------------------------------------------------


class AuditRetention:
    """Lets old entries go, a few thousand at a time: a keeper of the broker. That they have gone is on record."""

    def __init__(self, journal: Journal, age: float, every: float, trusts_clock: Callable[[], bool]) -> None:
        self._journal = journal
        self._age = age
        self._every = every
        self._trusts_clock = trusts_clock
        self._next = time.monotonic() + min(every, _FIRST_SECONDS)

    def due(self) -> float:
        """When it wants to look again."""
        return self._next

    def look(self, now: float, ready: Mapping[int, int], out: Effects) -> None:
        """Have what is too old deleted: from the beginning on, so that what is left is without a gap."""
        if now < self._next:
            return
        self._next = now + self._every
        if not self._trusts_clock():
            return
        [(first, _)] = self._journal.query(sql.AUDIT_ENDS)
        last = self._journal.query(sql.EXPIRED_AUDIT, (out.wall - self._age, _PRUNED)).get
        if first is None or last < first:
            return
        out.records.append(AuditPruned(last))
        by_daemon("prune_audit", out, about={"first": first, "last": last})
        if last - first + 1 >= _PRUNED:
            self._next = now + _AGAIN_SECONDS

    def committed(self) -> None:
        """It is on disk."""


# -- beside the daemon ------------------------------------------------------------------------------------------------


def by_hand(what: str, about: Mapping[str, Any] | None = None) -> Audited:
    """What somebody does to a journal by a command while no daemon is at work."""
    return Audited(time.time(), "local", "admin", _who_we_are(), what, "", dict(about or {}))


def _who_we_are() -> str:
    """Our user, and the one who had logged in before that, if it is another."""
    own = os.getuid()
    with contextlib.suppress(OSError, ValueError):
        login = int(Path("/proc/self/loginuid").read_text())
        if login not in (own, 2**32 - 1):
            return f"uid {own} (logged in as uid {login}) pid {os.getpid()}"
    return f"uid {own} pid {os.getpid()}"


def leave_entry(folder: Path, entry: Audited) -> None:
    """Put it on record in a journal that nobody works on, of this release or an older one. Raises apsw.Error.

    One that has no table for it yet keeps it until it gets that.
    """
    with contextlib.closing(connect(folder / "journal.db", write=True)) as db, transaction(db):
        if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'audit' AND type = 'table'").get:
            db.execute(sql.INSERT_AUDIT, row_of(entry))
            return
        pending = db.execute(sql.GET_META, (PENDING,)).get
        kept = _entries(pending) if pending else []
        db.execute(sql.SET_META, (PENDING, _json([*kept, entry]).decode()))


def take_over_pending(db: apsw.Connection) -> None:
    """The journal has got its table: what it has kept till now goes there. Raises apsw.Error."""
    pending = db.execute(sql.GET_META, (PENDING,)).get
    if pending:
        for entry in _entries(pending):
            db.execute(sql.INSERT_AUDIT, row_of(entry))
        db.execute("DELETE FROM meta WHERE key = ?", (PENDING,))
