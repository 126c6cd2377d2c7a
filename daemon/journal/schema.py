"""Which release a journal is of: the version of its tables, what it lacks, and what is refused where it is newer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import apsw

from taskmaster.bus.errors import JournalTooNew
from taskmaster.daemon.journal import migrations, sql
from taskmaster.daemon.journal.audit import take_over_pending
from taskmaster.daemon.journal.failures import transaction

__all__ = ["BEFORE", "bring_up_to_date", "read_as_newest", "require_known", "schema_version", "too_new"]

#: How the folders begin in which a journal is kept as it was before its tables were brought up to date.
BEFORE = "before-schema-"
#: Up to this version, development added to the steps before it in place: a journal may lack some of what they make.
#: From here on a step that was once committed is not changed any more (`tests/unit/journal/test_journal_schemas.py`).
_GREW_IN_PLACE = 2
#: The one that brought the record of who has done what.
_WITH_AUDIT = 4
#: What a row of before has in a column that is new and has no default.
_NEUTRAL = {"TEXT": "''", "BLOB": "x''"}


def schema_version(db: apsw.Connection) -> int:
    """The version of the tables; 0 where there are none."""
    return int(db.execute("PRAGMA user_version").get)


def require_known(db: apsw.Connection, path: Path) -> int:
    """The same. Raises JournalTooNew where these are not the tables of this release, or of an older one."""
    version = schema_version(db)
    if version > migrations.SCHEMA_VERSION:
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
        f"{what} was written by a newer release (schema {version}, this one knows {migrations.SCHEMA_VERSION}); "
        f"install that release, or use another state directory{way_back}"
    )


def bring_up_to_date(db: apsw.Connection, version: int) -> None:
    """Take the steps that a journal of this version lacks, each in one transaction. Raises apsw.Error."""
    for step in range(version + 1, migrations.SCHEMA_VERSION + 1):
        with transaction(db):
            if step == _GREW_IN_PLACE + 1:
                for statement in _completing(db, _GREW_IN_PLACE):
                    db.execute(statement)
            db.execute(migrations.MIGRATIONS[step])
            if step == _WITH_AUDIT:
                take_over_pending(db)
            if step == 1:
                db.execute(sql.SET_META, ("created", time.time()))
            db.execute(f"PRAGMA user_version = {step}")


def read_as_newest(db: apsw.Connection) -> None:
    """Have a journal that is only read look as if it were of this release, whichever it is of. Raises apsw.Error.

    What it lacks is defined for this connection alone: tables without rows, and views with the columns of today.
    """
    if not 0 < schema_version(db) < migrations.SCHEMA_VERSION:
        return
    for name, lacking in _lacking(db, migrations.SCHEMA_VERSION):
        reference = _reference(migrations.SCHEMA_VERSION)[name]
        if lacking is None:
            if reference.columns:
                db.execute(f"CREATE TEMP TABLE {name} ({', '.join(column.name for column in reference.columns)})")
            continue
        added = ", ".join(f"{column.default} AS {column.name}" for column in lacking)
        db.execute(f"CREATE TEMP VIEW {name} AS SELECT *, {added} FROM main.{name}")


class _Column(NamedTuple):
    name: str
    type: str
    #: what older rows have there, in SQL
    default: str


class _Made(NamedTuple):
    """A table or an index."""

    sql: str
    #: of a table
    columns: tuple[_Column, ...]


@cache
def _reference(version: int) -> dict[str, _Made]:
    """The tables and indexes of a version, as its steps make them."""
    with contextlib.closing(apsw.Connection(":memory:")) as db:
        for step in range(1, version + 1):
            db.execute(migrations.MIGRATIONS[step])
        found = list(
            db.execute("SELECT name, type, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
        )
        return {name: _Made(text, _columns(db, name) if kind == "table" else ()) for name, kind, text in found}


def _columns(db: apsw.Connection, table: str) -> tuple[_Column, ...]:
    rows = db.execute('SELECT name, type, "notnull", dflt_value FROM pragma_table_info(?)', (table,))
    return tuple(
        _Column(name, kind, default or (_NEUTRAL.get(kind, "0") if required else "NULL"))
        for name, kind, required, default in rows
    )


def _lacking(db: apsw.Connection, version: int) -> Iterator[tuple[str, list[_Column] | None]]:
    """What a journal lacks of a version: tables and indexes (None), and columns of tables that it has."""
    there = {name for (name,) in db.execute("SELECT name FROM main.sqlite_schema")}
    for name, made in _reference(version).items():
        if name not in there:
            yield name, None
        elif made.columns:
            known = {column.name for column in _columns(db, name)}
            if lacking := [column for column in made.columns if column.name not in known]:
                yield name, lacking


def _completing(db: apsw.Connection, version: int) -> list[str]:
    statements = []
    for name, lacking in _lacking(db, version):
        if lacking is None:
            statements.append(_reference(version)[name].sql)
        for column in lacking or ():
            rule = "" if column.default == "NULL" else f" NOT NULL DEFAULT {column.default}"
            statements.append(f"ALTER TABLE {name} ADD COLUMN {column.name} {column.type}{rule}")
    return statements
