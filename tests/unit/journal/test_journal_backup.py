"""Backups: what is in one is what was there, also later; nothing is restored over anything, or served by mistake."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers.ledger import Ledger, block, created, done, open_journal, read_ledger
from helpers.ownership import nobody_special

from taskmaster.bus.errors import DiskFull, JournalDamaged, JournalError, JournalTooNew, StateLocked
from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal, backup as backups, migrations, sql
from taskmaster.daemon.journal.backup import (
    MANIFEST,
    RESTORING,
    back_up,
    keep_before_migration,
    read_manifest,
    require_state,
    restore,
    verify,
)
from taskmaster.daemon.journal.check import check_log, report
from taskmaster.daemon.journal.checksums import connect
from taskmaster.daemon.journal.schema import BEFORE
from taskmaster.daemon.lock import locked

LARGE = [float(i) for i in range(20_000)]
TURN: Sequence[e.Record] = (created(1), block(1, 0, [0.5, 1.5]), block(1, 2, LARGE), done(1, 0, 0, [2.5, 3.5]))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a journal in it, and the daemon gone."""
    folder = tmp_path / "state"
    folder.mkdir()
    journal = Journal(folder)
    journal.begin_epoch(0.0)
    journal.commit(TURN)
    journal.close()
    return folder


def ledger_of(state: Path) -> Ledger:
    journal = open_journal(state)
    try:
        return read_ledger(journal)
    finally:
        journal.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def payload_files(folder: Path) -> list[Path]:
    return sorted((folder / "payloads").glob("??/*"))


# -- making and restoring ---------------------------------------------------------------------------------------------


def test_what_was_there_is_there_again(state: Path, tmp_path: Path) -> None:
    before = ledger_of(state)
    made = back_up(state, tmp_path / "backup", 5.0)
    assert (made.runs, made.tasks, made.events, made.files, made.made) == (1, 20_002, 2, 1, 5.0)
    assert names(tmp_path / "backup") == [MANIFEST, "journal.db", "payloads"]
    assert verify(tmp_path / "backup") == made == read_manifest(tmp_path / "backup")

    assert restore(tmp_path / "backup", tmp_path / "new", resume=True) == made
    assert ledger_of(tmp_path / "new") == before
    assert report(tmp_path / "new").ok
    assert verify(tmp_path / "backup") == made, "it can be used again"


def test_what_is_restored_is_paused(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup", 0.0)
    restore(tmp_path / "backup", tmp_path / "new")
    assert ledger_of(tmp_path / "new").masters == {"svm": True}
    assert ledger_of(state).masters == {}


def test_what_a_killed_writer_has_left_in_its_log_is_backed_up(state: Path, tmp_path: Path) -> None:
    journal = Journal(state)
    journal.begin_epoch(0.0)
    journal.commit([block(1, 20_002, [4.5])])
    journal.close(in_order=False)
    assert back_up(state, tmp_path / "backup", 0.0).tasks == 20_003


def test_a_backup_is_of_one_moment_while_its_writer_goes_on(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is written, and a run deleted with its files, between the copy of the database and that of the files."""
    journal = Journal(state)
    journal.begin_epoch(0.0)
    copy = backups._table_sums
    turns: Iterator[Sequence[e.Record]] = iter(
        [[e.RunDeleted(1), created(2), block(2, 0, [1.0])], [block(2, 1, [2.0])]]
    )

    def meanwhile(db: object) -> object:
        sums = copy(db)  # type: ignore[arg-type]
        if (turn := next(turns, None)) is not None:
            journal.commit(turn)
        return sums

    monkeypatch.setattr(backups, "_table_sums", meanwhile)
    made = back_up(state, tmp_path / "backup", 0.0)
    journal.close()
    assert made.runs == 1
    restore(tmp_path / "backup", tmp_path / "new", resume=True)
    ledger = ledger_of(tmp_path / "new")
    assert report(tmp_path / "new").ok
    assert sum(len(run.inputs) for run in ledger.runs.values()) == made.tasks


def test_a_backup_of_a_journal_that_lost_its_end_is_refused(state: Path, tmp_path: Path) -> None:
    journal = Journal(state)
    journal.begin_epoch(0.0)
    journal.commit([block(1, 20_002, [4.5])])
    journal.close(in_order=False)
    (state / "journal.db-wal").unlink()
    with pytest.raises(JournalDamaged, match="run 1 had 20003 tasks, there are 20002"):
        back_up(state, tmp_path / "backup", 0.0)
    assert names(tmp_path) == ["state"], "nothing is left"


def test_payload_files_are_shared_where_that_is_asked_for(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup", 0.0, link=True)
    assert [file.stat().st_ino for file in payload_files(tmp_path / "backup")] == [
        file.stat().st_ino for file in payload_files(state)
    ]
    assert verify(tmp_path / "backup").files == 1


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_left_alone(state: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "diary").write_text("Dear diary")
    with pytest.raises(JournalError, match="there is there already; name a new folder"):
        back_up(state, tmp_path / "there", 0.0)
    with pytest.raises(JournalError, match=r"there is no folder .*nowhere for the backup x; make it first"):
        back_up(state, tmp_path / "nowhere" / "x", 0.0)
    with pytest.raises(JournalError, match=f"inner is in the folder that is backed up, {state}; name one elsewhere"):
        back_up(state, state / "inner", 0.0)
    with pytest.raises(JournalError, match="there is no journal in"):
        back_up(tmp_path / "there", tmp_path / "backup", 0.0)
    back_up(state, tmp_path / "backup", 0.0)
    with pytest.raises(
        JournalError, match=rf"{tmp_path}/there is not empty \(diary\).*: mv {tmp_path}/there {tmp_path}/there.before"
    ):
        restore(tmp_path / "backup", tmp_path / "there")
    assert names(tmp_path / "there") == ["diary", "lock"]


def test_nothing_is_restored_where_a_daemon_is_at_work(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup", 0.0)
    with locked(tmp_path / "new"), pytest.raises(StateLocked, match=r"a daemon is at work in .*new; stop it, move"):
        restore(tmp_path / "backup", tmp_path / "new")


def test_no_daemon_works_on_a_backup_or_on_half_of_one(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    back_up(state, backup, 0.0)
    with pytest.raises(JournalError, match=rf"{backup} is a backup, .*: taskmaster restore {backup} NEW-STATE"):
        require_state(backup)

    with monkeypatch.context() as broken:
        broken.setattr(backups, "pause_all", lambda folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore(backup, new)
    with pytest.raises(JournalError, match=f"interrupted; finish that first: taskmaster restore {backup} {new}"):
        require_state(new)
    restore(backup, new, resume=True)
    require_state(new)
    assert RESTORING not in names(new)
    assert ledger_of(new) == ledger_of(state)


def test_a_folder_that_is_no_backup_is_named(state: Path, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=f"{state} is no backup: there is no backup.json in it; name a folder that"):
        restore(state, tmp_path / "new")
    back_up(state, tmp_path / "backup", 0.0)
    (tmp_path / "backup" / MANIFEST).write_text("{")
    with pytest.raises(JournalDamaged, match=r"backup.json cannot be understood"):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def flip(path: Path, byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 4]))


@pytest.mark.parametrize("what", ["journal.db", "a payload file"])
def test_a_backup_that_has_changed_is_not_restored(state: Path, tmp_path: Path, what: str) -> None:
    back_up(state, tmp_path / "backup", 0.0)
    pages = (tmp_path / "backup" / "journal.db").stat().st_size // 4096
    for page in range(pages if what == "journal.db" else 1):
        shutil.rmtree(tmp_path / "changed", ignore_errors=True)
        shutil.copytree(tmp_path / "backup", tmp_path / "changed")
        path = tmp_path / "changed" / what if what == "journal.db" else payload_files(tmp_path / "changed")[0]
        flip(path, page * 4096 + 4000)
        with pytest.raises(JournalDamaged):
            restore(tmp_path / "changed", tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_rows_that_another_program_has_changed_are_found(state: Path, tmp_path: Path) -> None:
    """Every page is as it should be, and yet it is not what was backed up."""
    back_up(state, tmp_path / "backup", 0.0)
    db = connect(tmp_path / "backup" / "journal.db", write=True)
    db.execute("UPDATE runs SET name = 'another'")
    db.close()
    with pytest.raises(JournalDamaged, match="not what was backed up is in its table runs"):
        verify(tmp_path / "backup")


# -- room -------------------------------------------------------------------------------------------------------------


def test_a_backup_for_which_there_is_no_room_is_not_begun(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "_free", lambda folder: 100_000)
    with pytest.raises(DiskFull, match=r"no room for a backup in .*: it takes \d+ kB, 100 kB are free"):
        back_up(state, tmp_path / "backup", 0.0)
    assert names(tmp_path) == ["state"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be somebody else")
def test_what_cannot_be_written_is_said(state: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)
    for path in (state, *state.rglob("*")):
        path.chmod(0o777)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    with nobody_special(), pytest.raises(JournalError, match=r"cannot be backed up to .*backup: .*Permission denied"):
        back_up(state, tmp_path / "theirs" / "backup", 0.0)


# -- other releases ---------------------------------------------------------------------------------------------------


def a_newer_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", migrations.SCHEMA_VERSION + 1)
    monkeypatch.setitem(migrations.MIGRATIONS, migrations.SCHEMA_VERSION, "CREATE TABLE notes (note TEXT) STRICT;")


def test_before_its_tables_are_changed_a_journal_is_kept_as_it_was(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ledger_of(state)
    assert keep_before_migration(state, 0.0) is None
    with monkeypatch.context() as later:
        a_newer_release(later)
        with locked(state):
            kept = keep_before_migration(state, 0.0)
            assert kept == state / f"{BEFORE}{migrations.SCHEMA_VERSION}"
            assert keep_before_migration(state, 0.0) == state / f"{BEFORE}{migrations.SCHEMA_VERSION}-2", (
                "nothing is lost"
            )
            shutil.rmtree(state / f"{BEFORE}{migrations.SCHEMA_VERSION}-2")
        migrated = open_journal(state)
        migrated.commit([created(7)])
        assert list(migrated.query("SELECT * FROM notes")) == []
        migrated.close()
    newer = migrations.SCHEMA_VERSION + 1

    check_log(state, "power")
    with pytest.raises(
        JournalTooNew, match=rf"schema {newer}, this one knows {newer - 1}.*: taskmaster restore {kept} "
    ):
        Journal(state)
    for look in (lambda: back_up(state, tmp_path / "backup", 0.0), lambda: report(state)):
        with pytest.raises(JournalTooNew, match="install that release"):
            look()
    restore(kept, tmp_path / "new", resume=True)
    assert ledger_of(tmp_path / "new") == before


def test_a_backup_of_a_newer_release_is_refused(state: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as later:
        a_newer_release(later)
        open_journal(state).close()
        back_up(state, tmp_path / "backup", 0.0)
    with pytest.raises(JournalTooNew, match=r"the backup in .*backup was written by a newer release"):
        restore(tmp_path / "backup", tmp_path / "new")


def test_a_journal_of_the_first_schema_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with monkeypatch.context() as first:
        first.setattr(migrations, "SCHEMA_VERSION", 1)
        db = connect(state / "journal.db", write=True)
        db.execute(sql.PRAGMAS)
        db.execute(migrations.MIGRATIONS[1])
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO runs (run, master, name, seed, created, user, metadata, priority) "
                   "VALUES (1, 'svm', 'old', 7, 1e9, 'ada', '{}', 0)")  # fmt: skip
        db.close()
    kept = keep_before_migration(state, 0.0)
    assert kept is not None
    ledger = ledger_of(state)
    assert [run.created.name for run in ledger.runs.values()] == ["old"]
    assert report(state).ok
    assert read_manifest(kept).schema == 1
    restore(kept, tmp_path / "again", resume=True)
    assert ledger_of(tmp_path / "again") == ledger, (
        "what was kept is of the first schema, and is brought up to date, too"
    )
