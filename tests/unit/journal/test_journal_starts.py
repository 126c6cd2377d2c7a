"""Opening a journal: older and newer ones, other programs' files, folders that may not be written; what is numbered."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers.ledger import Ledger, block, created, open_journal, read_ledger
from helpers.ownership import nobody_special
from helpers.places import short_folder

from taskmaster.bus.errors import JournalDamaged, JournalError
from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal, journal, migrations
from taskmaster.daemon.journal.check import check_log, copy, salvage

TURN: Sequence[e.Record] = (created(1), block(1, 0, [0.5, 1.5]))


def write_journal(state: Path, *, in_order: bool = True) -> Ledger:
    written = Journal(state)
    written.begin_epoch(0.0)
    written.commit(TURN)
    ledger = read_ledger(written)
    written.close(in_order=in_order)
    return ledger


def contents(folder: Path) -> dict[str, bytes]:
    """Every file and what is in it, but for SQLite's index of the log, which says nothing that is not in the log."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }


# -- schemas ----------------------------------------------------------------------------------------------------------


def a_newer_release(monkeypatch: pytest.MonkeyPatch, migration: str) -> None:
    """One more step, as every release may bring."""
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", migrations.SCHEMA_VERSION + 1)
    monkeypatch.setitem(migrations.MIGRATIONS, migrations.SCHEMA_VERSION, migration)


NOTES = "CREATE TABLE notes (note TEXT NOT NULL) STRICT; INSERT INTO notes VALUES ('of the new release');"


@pytest.mark.parametrize("in_order", [True, False], ids=["stopped", "killed"])
def test_a_newer_journal_is_refused_and_left_alone(state: Path, in_order: bool) -> None:
    with pytest.MonkeyPatch.context() as later:
        a_newer_release(later, NOTES)
        ledger = write_journal(state, in_order=in_order)
    before = contents(state)

    check_log(state, "power")
    with pytest.raises(
        JournalError,
        match=rf"the journal {state}/journal.db was written by a newer release "
        rf"\(schema {migrations.SCHEMA_VERSION + 1}, this one knows {migrations.SCHEMA_VERSION}\); "
        "install that release, or use another state directory$",
    ):
        Journal(state)
    assert contents(state) == before

    with pytest.MonkeyPatch.context() as later:  # and the newer release goes on as if nothing had been
        a_newer_release(later, NOTES)
        again = open_journal(state)
        assert read_ledger(again) == ledger
        again.close()


def test_an_older_journal_gets_what_it_lacks(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = write_journal(state)
    a_newer_release(monkeypatch, NOTES)
    for _ in range(2):  # once
        migrated = open_journal(state)
        assert read_ledger(migrated) == ledger
        assert list(migrated.query("SELECT note FROM notes")) == [("of the new release",)]
        migrated.close()


def test_a_migration_that_cannot_be_finished_changes_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = write_journal(state)
    with monkeypatch.context() as faulty:
        a_newer_release(faulty, NOTES + "INSERT INTO nowhere VALUES (1);")
        with pytest.raises(JournalError, match=rf"{state}/journal.db cannot be opened: .*nowhere"):
            Journal(state)
    old = open_journal(state)
    assert read_ledger(old) == ledger
    assert list(old.query("PRAGMA user_version")) == [(migrations.SCHEMA_VERSION,)]
    assert list(old.query("SELECT name FROM sqlite_schema WHERE name = 'notes'")) == []
    old.close()


# -- what is no journal -----------------------------------------------------------------------------------------------


def test_what_is_no_database_is_named_and_left_alone(state: Path) -> None:
    (state / "journal.db").write_text("Dear diary, " * 1000)
    before = contents(state)
    check_log(state, "power")
    with pytest.raises(JournalDamaged, match=rf"the journal {state}/journal.db cannot be opened: .*not a database"):
        Journal(state)
    assert contents(state) == before


def test_another_programs_database_is_named_and_left_alone(state: Path) -> None:
    with sqlite3.connect(state / "journal.db") as other:
        other.execute("CREATE TABLE diary (day TEXT, entry TEXT)")
    other.close()
    before = contents(state)
    check_log(state, "power")
    with pytest.raises(JournalError, match=rf"{state}/journal.db is a database, but no journal; move it away, or"):
        Journal(state)
    assert contents(state) == before


# -- what may not be written ------------------------------------------------------------------------------------------

REMEDY = "must belong to the user who runs the daemon"


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A state directory that everybody can get at, as far as its own modes say."""
    with short_folder() as place:
        place.chmod(0o755)
        folder = place / "state"
        folder.mkdir()
        yield folder
        folder.chmod(0o700)


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
@pytest.mark.parametrize("written", [False, True], ids=["empty", "in use"])
def test_a_folder_of_somebody_else_is_named_with_the_remedy(anybodys: Path, mode: int, written: bool) -> None:
    if written:
        write_journal(anybodys)
    anybodys.chmod(mode)
    with nobody_special(), pytest.raises(JournalError, match=REMEDY) as caught:
        open_journal(anybodys)
    assert not isinstance(caught.value, JournalDamaged), "nothing is lost"
    assert str(anybodys) in str(caught.value)


@pytest.mark.parametrize("name", ["journal.db", "mark", "payloads"])
def test_a_file_of_somebody_else_is_named_with_the_remedy(anybodys: Path, name: str) -> None:
    """Somebody had once started the daemon as root, say."""
    write_journal(anybodys)
    anybodys.chmod(0o777)
    for path in anybodys.iterdir():
        path.chmod(0o666)
    (anybodys / "payloads").mkdir()
    (anybodys / name).chmod(0o500 if name == "payloads" else 0o400)
    with nobody_special(), pytest.raises(JournalError, match=REMEDY) as caught:
        open_and_put(anybodys)
    assert not isinstance(caught.value, JournalDamaged)
    assert str(anybodys) in str(caught.value)


def open_and_put(state: Path) -> None:
    opened = open_journal(state)
    try:
        opened.commit([block(1, 2, [b"x" * (journal.INLINE_BYTES + 1)])])
    finally:
        opened.close(in_order=False)


# -- what is numbered -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_log")
def test_epochs_increase_whatever_the_clock_says(state: Path, durability: str) -> None:
    epochs = []
    for clock in (1e9, 1e9, 0.0, -1e9, 5e8, 2e9, 1e9):
        opened = open_journal(state, durability)
        epochs.append(opened.begin_epoch(clock))
        opened.close(in_order=len(epochs) % 2 == 0)
    ms = 10**12
    assert epochs == [ms, ms + 1, ms + 2, ms + 3, ms + 4, 2 * ms, 2 * ms + 1]


@pytest.mark.usefixtures("short_log")
@pytest.mark.parametrize("in_order", [True, False], ids=["stopped", "killed"])
def test_the_number_of_a_deleted_run_is_not_given_again(state: Path, durability: str, in_order: bool) -> None:
    for start in range(3):
        opened = open_journal(state, durability)
        run = read_ledger(opened).last_run + 1
        assert run == 2 * start + 1
        opened.commit([created(run), created(run + 1)])
        opened.commit([e.RunDeleted(run + 1)])
        if start == 1:
            opened.commit([e.RunDeleted(run), e.RunDeleted(1)])
        opened.close(in_order=in_order)


def test_a_folder_is_made_as_private_as_what_is_in_it(state: Path) -> None:
    """What a laboratory measures is nobody else's, whatever the user's mask."""
    mask = os.umask(0)
    try:
        opened = Journal(state)
        opened.commit([created(1), block(1, 0, [b"x" * (journal.INLINE_BYTES + 1)])])
        written = set(state.iterdir())
        loose = [path for path in state.rglob("*") if path.stat().st_mode & 0o077]
        opened.close()
        made = [copy(state, state.with_name("copied")), salvage(state, state.with_name("salvaged"))]
    finally:
        os.umask(mask)
    assert {path.name for path in written} == {"journal.db", "journal.db-wal", "journal.db-shm", "mark", "payloads"}
    loose += [path for each in made for path in each.folder.rglob("*") if path.stat().st_mode & 0o077]
    assert loose == []
