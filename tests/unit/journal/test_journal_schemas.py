"""Every table of the journal, in whatever way it is handled; and journals of every schema there ever was."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from helpers.ledger import Ledger, block, created, done, event, open_journal, read_ledger

from taskmaster.bus import messages as m
from taskmaster.daemon import chronicle, effects as e
from taskmaster.daemon.archiving import archive_run
from taskmaster.daemon.journal import Journal, migrations, sql
from taskmaster.daemon.journal.audit import by_hand as by_hand_entry, leave_entry, read_audit
from taskmaster.daemon.journal.backup import back_up, keep_before_migration, restore, verify
from taskmaster.daemon.journal.check import copy, report, salvage
from taskmaster.daemon.journal.checksums import connect
from taskmaster.daemon.journal.reading import RecordedRuns

#: What each step of the schema is, without comments and spaces. A step that journals have taken is not changed any
#: more: what they lack then is a step of its own.
STEPS = {
    1: "7ba66b81abd3b601",
    2: "ccccf5dad451fe04",
    3: "155ed5903cd78732",
    4: "924bdf2b6a15154d",
}
#: Of each table that has something of a run: where that is in the archive, or why it is not.
ARCHIVED = {
    "runs": "record",
    "writers": "record",
    "blocks": "record; its inputs among the results",
    "events": "record; outcomes among the results",
    "approvals": "record",
    "places": "record",
    "progress": "progress",
    "new_progress": "progress",
    "leases": "not: of tasks without an outcome",
    "checkpoints": "not: of tasks without an outcome",
    "claims": "not: of tasks without an outcome",
    "attempts": "not: each result says at which attempt it came",
    "going": "not: of a run that is deleted",
}
#: Of every other table, what it is about: none of it goes with a run.
NOT_OF_A_RUN = {
    "meta": "the journal",
    "layouts": "tables of all runs",
    "masters": "a Master",
    "heads": "a Master",
    "head_counts": "a Master",
    "head_log": "a Master",
    "monitors": "a Master",
    "samples": "a Master",
    "new_samples": "a Master",
    "audit": "who has done what, which is kept when a run goes",
    "sqlite_sequence": "numbers of runs and of entries, which are given once",
}
#: What commands that write to a journal leave there: an entry, and its number.
NOTES = {"audit", "sqlite_sequence"}
#: What is not taken along from a damaged journal, and why.
NOT_SALVAGED = {
    "going": "rows of deleted runs are not taken along",
    "meta": "when it was created is its own",
}
TURN: Sequence[e.Record] = (
    created(1, master="svm"),
    created(2, master="svm"),
    block(1, 0, [0.5, 1.5, 2.5]),
    block(2, 0, [0.5, 1.5]),
    done(1, 0, 0, [2.5, 3.5, 4.5]),
    done(2, 0, 0, [2.5, 3.5]),
    event(1, 3, "closed", 0, 1),
    e.RunChanged(1, True, False, 1),
    e.RunCounted(run=1, next_index=3, next_seq=4, done=3, failed=0, cancelled=0),
)
VALUES: Mapping[str, Any] = {"INTEGER": 0, "REAL": 5.0, "TEXT": "[]", "BLOB": b"x", "ANY": 1}


def tables(db: apsw.Connection) -> dict[str, list[str]]:
    """Every table, and its columns."""
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {name: [row[0] for row in db.execute("SELECT name FROM pragma_table_info(?)", (name,))] for name in names}


def contents(state: Path) -> dict[str, list[tuple[Any, ...]]]:
    with contextlib.closing(connect(state / "journal.db", write=False)) as db:
        return {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in tables(db)}


def by_hand(state: Path) -> list[tuple[str, str, str]]:
    """What was done to a journal by commands: who, in which role, and what."""
    with contextlib.closing(connect(state / "journal.db", write=False)) as db:
        return [(row[2], row[3], row[5]) for row in db.execute(sql.SELECT_ALL_AUDIT) if row[4].startswith("uid ")]


def salvaged_of(state: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The same, but for the counts of runs: these are made anew from the events at a start."""
    found = contents(state)
    return {**found, "runs": [row[:11] for row in found["runs"]]}


def fill(db: apsw.Connection) -> None:
    """Have a row of run 1 and one of run 2 in every table that has none: whatever its columns are."""
    for table, columns in tables(db).items():
        types = dict(db.execute("SELECT name, type FROM pragma_table_info(?)", (table,)))
        for run in (1, 2):
            (there,) = next(db.execute(f"SELECT count(*) FROM {table}"))
            if table in ("sqlite_sequence", "layouts") or there >= run:
                continue
            special = {
                "run": run, "master": f"svm-{run}", "number": run, "key": f"key {run}", "n": 1, "metadata": "{}",
                "entry": run, "layout": 1, "names": '["x"]', "points": "[[0,1]]", "value": "1", "attempt": 1,
                "data": b"x" if types.get("data") == "BLOB" else "[1]",
            }  # fmt: skip
            row = [special.get(name, VALUES.get(types[name], 0)) for name in columns]
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A journal with two runs, one of them closed, that has something in every table."""
    folder = tmp_path / "state"
    folder.mkdir()
    journal = Journal(folder)
    journal.begin_epoch(0.0)
    journal.commit(TURN)
    journal.close()
    with contextlib.closing(connect(folder / "journal.db", write=True)) as db:
        fill(db)
    (folder / "mark").unlink()
    assert all(contents(folder).values()), "every table has something in it"
    return folder


# -- every table ------------------------------------------------------------------------------------------------------


def test_every_table_is_known(state: Path) -> None:
    """Whoever adds one has to say what becomes of it: when its run is deleted, archived, or the journal salvaged."""
    of_runs = {name for name, rows in contents(state).items() if name in ARCHIVED}
    with contextlib.closing(connect(state / "journal.db", write=False)) as db:
        there = tables(db)
    assert {name for name, columns in there.items() if "run" in columns} == set(ARCHIVED) == of_runs
    assert set(there) == set(ARCHIVED) | set(NOT_OF_A_RUN)
    assert set(chronicle.TABLES) == {name for name, where in ARCHIVED.items() if where.startswith("record")}


def test_a_deleted_run_leaves_nothing_in_any_table(state: Path) -> None:
    before = contents(state)
    with contextlib.closing(connect(state / "journal.db", write=True)) as db:
        db.execute("DELETE FROM going")
        db.execute("INSERT INTO going VALUES (2)")
    journal = open_journal(state)
    journal.commit([e.RunDeleted(1)])
    assert journal.going == {2}
    journal.close()
    with contextlib.closing(connect(state / "journal.db", write=False)) as db:
        for table in ARCHIVED:
            assert list(db.execute(f"SELECT run FROM {table} WHERE run = 1")) == [], table
            assert any(db.execute(f"SELECT 1 FROM {table} WHERE run = 2")), f"{table}: of another run"
    after = contents(state)
    for table in NOT_OF_A_RUN:
        assert after[table] == before[table]


def test_a_backup_and_a_copy_have_every_table(state: Path, tmp_path: Path) -> None:
    before = contents(state)
    made = back_up(state, tmp_path / "backup", 5.0)
    assert {name: table.rows for name, table in made.tables.items()} == {
        name: len(rows) for name, rows in before.items()
    }
    restore(tmp_path / "backup", tmp_path / "restored", resume=True)
    after = contents(tmp_path / "restored")
    assert {name for name in before if before[name] != after[name]} == NOTES
    assert set(before["audit"]) < set(after["audit"])
    assert by_hand(tmp_path / "restored") == [("local", "admin", "restore")]
    copy(state, tmp_path / "copy")
    after = contents(tmp_path / "copy")
    assert {name for name in before if before[name] != after[name]} == {"masters", *NOTES}, "these are paused"
    assert by_hand(tmp_path / "copy") == [("local", "admin", "copy")]


def test_what_is_salvaged_is_every_table(state: Path, tmp_path: Path) -> None:
    before = salvaged_of(state)
    salvage(state, tmp_path / "salvaged")
    after = salvaged_of(tmp_path / "salvaged")
    assert {name for name in before if before[name] != after[name]} == {"masters", *NOT_SALVAGED, *NOTES}
    assert set(before["audit"]) < set(after["audit"])
    assert by_hand(tmp_path / "salvaged") == [("local", "admin", "salvage")]
    stopped = {master: stop for master, _, stop in after["masters"]}
    assert stopped == {"svm": "", "svm-1": "[]", "svm-2": "[]"}


def test_the_record_of_a_run_has_all_that_its_results_lack(state: Path, tmp_path: Path) -> None:
    with contextlib.closing(RecordedRuns(state)) as runs:
        [run] = runs.closed()
        files = archive_run(runs, run, tmp_path / "archive")
    assert [file.name for file in files] == [
        "000001-run_1.parquet",
        "000001-run_1-record.jsonl.gz",
        "000001-run_1-progress.parquet",
    ]
    with gzip.open(files[1], "rt") as lines:
        said = [json.loads(line) for line in lines]
    assert {each["table"] for each in said} == set(chronicle.TABLES)
    [asked] = [each for each in said if each["table"] == "blocks"]
    assert (asked["first"], asked["n"], asked["user"], asked["asks"]) == (0, 3, "ada", [[0, -1, -1]])
    [closed] = [each for each in said if each["table"] == "events"]
    assert (closed["seq"], closed["kind"]) == (3, "closed")
    [about] = [each for each in said if each["table"] == "runs"]
    assert (about["name"], about["user"], about["metadata"]) == ("run 1", "ada", {"note": "of 1"})


def test_the_legs_of_a_run_over_several_masters_are_closed_when_all_are(tmp_path: Path) -> None:
    mark = {"routed": '["probe","chamber"]', "routed_leg": "0"}

    def legs(number: int, name: str, *, closed: int) -> list[e.Record]:
        """Two legs, of which so many are closed."""
        records: list[e.Record] = []
        for leg, master in enumerate(("probe", "chamber")):
            run = number + leg
            records += [
                msgspec.structs.replace(created(run, name, master), metadata={**mark, "routed_leg": str(leg)}),
                block(run, 0, [0.5]),
                done(run, 0, 0, [float(run)]),
                event(run, 1, "closed", 0, 1),
                e.RunChanged(run, leg < closed, False, 1),
                e.RunCounted(run, 1, 2, 1, 0, 0),
            ]
        return records

    (tmp_path / "state").mkdir()
    with contextlib.closing(Journal(tmp_path / "state")) as journal:
        journal.commit([*legs(1, "going on", closed=1), *legs(3, "ended", closed=2), created(5, "ended", "probe 2")])
    with contextlib.closing(RecordedRuns(tmp_path / "state")) as runs:
        closed = runs.closed()
    assert [run.run for run in closed] == [3, 4]
    assert closed[0].whole == closed[1].whole != ""


# -- every schema -----------------------------------------------------------------------------------------------------

#: What journals of development lack of schema 3: each is what was there at some time.
_SERIES = ("samples", "progress", "new_samples", "new_progress", "monitors")
_PEOPLE = ("approvals", "claims")
_PLACES = ("places", "checkpoints")
_WRITERS = ("writers.first", "writers.metadata", "writers.forked")
_TRIPPED = ("heads.tripped",)
_COUNTS = ("head_counts",)
_HEADS = ("heads", "head_log", *_COUNTS)
_THIRD = ("going", "files_of_blocks", "files_of_events")
_FOURTH = ("audit",)
_STOPS = ("masters.stopped", "leases.name")
_SECOND = (*_STOPS, *_WRITERS, *_HEADS, *_PLACES, *_SERIES, *_PEOPLE)
OLDER: dict[str, tuple[int, tuple[str, ...]]] = {
    "1, at first": (1, (*_SECOND, "writers.claim")),
    "1": (1, _SECOND),
    "2, with heads": (2, (*_WRITERS, *_TRIPPED, *_COUNTS, *_PLACES, *_SERIES, *_PEOPLE)),
    "2, and people": (2, (*_WRITERS, *_TRIPPED, *_COUNTS, *_PLACES, *_SERIES)),
    "2, and series": (2, (*_WRITERS, *_TRIPPED, *_COUNTS, *_PLACES, *_PEOPLE)),
    "2, and interlocks": (2, (*_WRITERS, *_COUNTS, *_PLACES, *_SERIES, *_PEOPLE)),
    "2, and places": (2, (*_WRITERS, *_TRIPPED, *_COUNTS, *_SERIES, *_PEOPLE)),
    "2, with places and series": (2, (*_WRITERS, *_TRIPPED, *_COUNTS, *_PEOPLE)),
    "2, with people and places": (2, (*_WRITERS, *_TRIPPED, *_COUNTS, *_SERIES)),
    "2, with interlocks and places": (2, (*_WRITERS, *_COUNTS, *_SERIES, *_PEOPLE)),
    "2, and series with these": (2, (*_WRITERS, *_COUNTS, *_PEOPLE)),
    "2, without counts of heads": (2, (*_WRITERS, *_COUNTS)),
    "2, with counts of heads": (2, _WRITERS),
    "2": (2, ()),
    "3": (3, ()),
}


def make_older(state: Path, version: int, lacking: Sequence[str]) -> None:
    """Take away what a journal of this version lacked."""
    with contextlib.closing(connect(state / "journal.db", write=True)) as db:
        for name in (*_FOURTH, *(_THIRD if version < 3 else ()), *lacking):
            table, _, column = name.partition(".")
            if column:
                db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
            else:
                db.execute(f"DROP {'INDEX' if table.startswith('files_') else 'TABLE'} {table}")
        db.execute(f"PRAGMA user_version = {version}")


def shape(state: Path) -> dict[str, Any]:
    """Tables with their columns, in any order, and indexes."""
    with contextlib.closing(connect(state / "journal.db", write=False)) as db:
        indexes = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")]
        return {**{name: sorted(columns) for name, columns in tables(db).items()}, "": sorted(indexes)}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A journal of this release, with what every release has known."""
    folder = tmp_path / "state"
    folder.mkdir()
    journal = Journal(folder)
    journal.begin_epoch(0.0)
    journal.commit(
        [
            *TURN,
            e.WriterChanged(2, 1, "ada", 1e9, ""),
            block(2, 2, [2.5]),
            e.LeaseGranted((7, 1), 2, 2, 1, 1, "svm-1", False, 1e9),
        ]
    )
    journal.close()
    (folder / "mark").unlink()
    return folder


def ledger_of(state: Path) -> Ledger:
    journal = open_journal(state)
    try:
        return read_ledger(journal)
    finally:
        journal.close()


@pytest.mark.parametrize("name", OLDER)
def test_a_journal_of_every_older_schema_is_brought_up_to_date(plain: Path, tmp_path: Path, name: str) -> None:
    expected = shape(plain)
    make_older(plain, *OLDER[name])
    older = contents(plain)
    assert shape(plain) != expected
    kept = keep_before_migration(plain, 5.0)
    assert kept is not None
    assert verify(kept).schema == OLDER[name][0]
    with contextlib.closing(Journal(plain)):
        pass
    assert shape(plain) == expected
    after = contents(plain)
    for table, rows in older.items():
        assert len(after[table]) == len(rows)
    assert report(plain).ok
    assert keep_before_migration(plain, 6.0) is None, "it is of this release now"
    restore(kept, tmp_path / "restored", resume=True)
    restored = contents(tmp_path / "restored")
    assert {name for name in older if older[name] != restored[name]} == {"meta"}, "it has no table for entries yet"
    with contextlib.closing(Journal(tmp_path / "restored")):
        pass
    assert by_hand(tmp_path / "restored") == [("local", "admin", "restore")]
    assert {name for name, _ in contents(tmp_path / "restored")["meta"]} == {name for name, _ in older["meta"]}


@pytest.mark.parametrize("name", OLDER)
def test_of_a_journal_of_every_older_schema_the_same_is_salvaged_and_archived(
    plain: Path, tmp_path: Path, name: str
) -> None:
    expected = salvaged_of(plain)
    make_older(plain, *OLDER[name])
    salvage(plain, tmp_path / "salvaged")
    after = salvaged_of(tmp_path / "salvaged")
    for table in ("runs", "writers", "blocks", "events", "leases"):
        assert after[table] == expected[table]
    with contextlib.closing(RecordedRuns(plain)) as runs:
        [run] = runs.closed()
        assert len(archive_run(runs, run, tmp_path / "archive")) == 2
        assert read_audit(runs, m.ReadAudit(1)) == m.AuditPage(1), "it has no such record"


def test_an_entry_is_given_no_number_again_where_the_last_ones_are_lost(state: Path, tmp_path: Path) -> None:
    with contextlib.closing(connect(state / "journal.db", write=True)) as db:
        db.execute("UPDATE sqlite_sequence SET seq = 41 WHERE name = 'audit'")
    salvage(state, tmp_path / "salvaged")
    with contextlib.closing(connect(tmp_path / "salvaged" / "journal.db", write=False)) as db:
        assert [row[0] for row in db.execute(sql.SELECT_ALL_AUDIT)] == [1, 2, 42]


def test_entries_that_somebody_has_deleted_are_missed(plain: Path) -> None:
    with contextlib.closing(Journal(plain)) as journal:
        journal.commit([by_hand_entry(f"step {k}") for k in range(6)])
    assert not [remark for remark in report(plain).remarks if "who has done what" in remark]
    for entry, place in (
        (3, "lacks 1 of its entries 1 to 6: some in between"),
        (6, "lacks 2 of its entries 1 to 6: its end"),
    ):
        with contextlib.closing(connect(plain / "journal.db", write=True)) as db:
            db.execute("DELETE FROM audit WHERE entry = ?", (entry,))
        [remark] = [remark for remark in report(plain).remarks if "who has done what" in remark]
        assert place in remark


def test_entries_of_an_older_journal_are_salvaged_where_they_wait(plain: Path, tmp_path: Path) -> None:
    make_older(plain, 3, ())
    leave_entry(plain, by_hand_entry("vacuum", {"before": 5}))
    salvage(plain, tmp_path / "salvaged")
    assert [what for *_, what in by_hand(tmp_path / "salvaged")] == ["vacuum", "salvage"]


def test_no_step_that_journals_have_taken_is_changed() -> None:
    def fingerprint(step: str) -> str:
        return hashlib.sha256(re.sub(r"\s+", " ", re.sub(r"--.*", "", step)).strip().encode()).hexdigest()[:16]

    assert {number: fingerprint(step) for number, step in migrations.MIGRATIONS.items()} == STEPS
    assert set(STEPS) == set(range(1, migrations.SCHEMA_VERSION + 1))
