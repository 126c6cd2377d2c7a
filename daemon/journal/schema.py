"""Which release a journal is of: the version of its tables, and what is refused where that is a newer one."""

from __future__ import annotations

from pathlib import Path

import apsw

from taskmaster.bus.errors import JournalTooNew
from taskmaster.daemon.journal import sql

__all__ = ["BEFORE", "require_known", "schema_version", "too_new"]

#: How the folders begin in which a journal is kept as it was before its tables were brought up to date.
BEFORE = "before-schema-"


def schema_version(db: apsw.Connection) -> int:
    """The version of the tables; 0 where there are none."""
    return int(db.execute("PRAGMA user_version").get)


def require_known(db: apsw.Connection, path: Path) -> int:
    """The same. Raises JournalTooNew where these are not the tables of this release, or of an older one."""
    version = schema_version(db)
    if version > sql.SCHEMA_VERSION:
        raise JournalTooNew(too_new(f"the journal {path}", version, path.parent))
    return version


def too_new(what: str, version: int, state: Path | None = None) -> str:
    """What an older release says of a newer one's work, and what to do."""
    kept = sorted(state.glob(f"{BEFORE}{version}*")) if state is not None else []
    way_back = (
        ". To go back to how it was before the upgrade, without what was recorded since: taskmaster restore "
        f"{kept[-1]} NEW-STATE"
        if kept
        else ""
    )
    return (
        f"{what} was written by a newer release (schema {version}, this one knows {sql.SCHEMA_VERSION}); install that "
        f"release, or use another state directory{way_back}"
    )
