"""What the log and the mark prove together, after a kill and after a power cut; and how the log is read for it."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from helpers.ledger import block, created, done, event
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as st_numpy

from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.guards import Verdict, judge
from taskmaster.daemon.journal.mark import Last, Mark, MarkFile, read_mark
from taskmaster.daemon.journal.wal import EMPTY, Generation, Log, checksums, read_log

#: Starts of the machine.
NOW, BEFORE = 2, 1

GENERATION = Generation(3, (2**32 - 1, 77))
NEXT = Generation(4, (0, 12345))
LOG = Log(GENERATION, frames=10, pages=5, commits=4)
MARK = Mark(NOW, True, False, GENERATION, 10, Last(1, "events", 8), True)


def verdict(log: Log = LOG, power_cut: bool = False, durability: str = "power", **mark: object) -> str:
    """``whole``, ``damaged``, ``remarked`` (what was not promised may be gone), or ``to be compared`` with the rest."""
    given = dataclasses.replace(MARK, synced=durability == "power", boot=BEFORE if power_cut else NOW, **mark)  # type: ignore[arg-type]
    found = judge(log, given, NOW, synced=durability == "power")
    if found.lost:
        return "damaged"
    return "to be compared" if found.expected else "remarked" if found.remark else "whole"


SHORTER = dataclasses.replace(LOG, frames=9)
ONE_BEHIND = dataclasses.replace(LOG, bad_frame=11, stranded=1)
TWO_BEHIND = dataclasses.replace(LOG, bad_frame=11, stranded=2)
OLDER = dataclasses.replace(LOG, generation=Generation(2, (2**32 - 2, 5)))


@pytest.mark.parametrize(
    ("log", "killed", "power_cut", "not_synced"),
    [
        # log, and what it is after: a kill; a power cut; a power cut where commits were not synced
        (LOG, "whole", "whole", "whole"),
        (dataclasses.replace(LOG, frames=12), "whole", "whole", "whole"),
        (dataclasses.replace(LOG, generation=NEXT, frames=1), "whole", "whole", "whole"),
        (SHORTER, "damaged", "damaged", "remarked"),
        (OLDER, "damaged", "damaged", "remarked"),
        (Log(bad_header=True), "damaged", "damaged", "remarked"),
        (ONE_BEHIND, "damaged", "remarked", "remarked"),
        (TWO_BEHIND, "damaged", "damaged", "remarked"),
        (EMPTY, "to be compared", "to be compared", "whole"),
    ],
    ids=["as it was", "longer", "begun anew", "shorter", "older", "bad header", "one behind", "two behind", "gone"],
)  # fmt: skip
def test_only_what_was_promised_to_be_there_is_missed(log: Log, killed: str, power_cut: str, not_synced: str) -> None:
    assert verdict(log) == verdict(log, durability="crash") == killed, "a kill takes nothing that was written"
    assert verdict(log, power_cut=True) == power_cut
    assert verdict(log, power_cut=True, durability="crash") == not_synced


def test_a_log_may_be_gone_that_was_about_to_be_deleted() -> None:
    assert verdict(EMPTY, settling=True) == "whole"
    assert verdict(EMPTY, last_is_all=False) == "damaged", "something was recorded of which nothing else would tell"


def test_without_a_mark_a_log_is_taken_at_its_word() -> None:
    assert judge(SHORTER, None, NOW, synced=True) == Verdict()
    assert judge(TWO_BEHIND, None, NOW, synced=True).lost


# -- the mark ---------------------------------------------------------------------------------------------------------


def test_the_mark_says_what_was_recorded_last(state: Path, durability: str) -> None:
    journal = Journal(state, durability)
    turns: list[tuple[list[e.Record], Last | None, bool]] = [
        ([created(1), block(1, 0, [0.5] * 4)], Last(1, "tasks", 4), True),
        ([e.MasterChanged("svm", True)], Last(1, "tasks", 4), False),
        ([created(2), block(2, 0, [0.5]), done(1, 0, 0, [0.5] * 3)], Last(1, "events", 3), True),
        ([event(2, 0, "held", 0, 1), e.RunDeleted(2)], Last(1, "events", 3), False),
        ([e.RunDeleted(1)], None, False),
    ]
    for turn, last, is_all in turns:
        journal.commit(turn)
        mark = read_mark(state)
        assert mark is not None
        assert (mark.last, mark.last_is_all, mark.synced) == (last, is_all, durability == "power")
    journal.close()
    mark = read_mark(state)
    assert mark is not None
    assert mark.settling


def test_a_mark_that_was_altered_is_not_believed(state: Path) -> None:
    journal = Journal(state)
    journal.commit([created(1)])
    journal.close()
    whole = (state / "mark").read_bytes()
    for at in range(len(whole)):
        (state / "mark").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="changed"):
            read_mark(state)
        (state / "mark").write_bytes(whole[:at])
        if at:
            with pytest.raises(ValueError, match="changed"):
                read_mark(state)
    MarkFile(state).close()  # makes a new one of it
    assert read_mark(state) is None


# -- the log ----------------------------------------------------------------------------------------------------------


def as_documented(words: list[int], s0: int, s1: int) -> tuple[int, int]:
    """https://sqlite.org/fileformat2.html#walcksm"""
    for at in range(0, len(words), 2):
        s0 = (s0 + words[at] + s1) % 2**32
        s1 = (s1 + words[at + 1] + s0) % 2**32
    return s0, s1


@given(
    st_numpy.arrays(np.uint32, st.tuples(st.integers(1, 3), st.integers(1, 6).map(lambda k: 2 * k))),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_checksums_are_those_of_the_document(
    words: np.ndarray[tuple[int, int], np.dtype[np.uint32]], s0: int, s1: int, skip: bool
) -> None:
    skipped = (0, 2) if skip and words.shape[1] > 2 else (0, 0)
    before = np.full((len(words), 2), [s0, s1], np.uint32)
    due = [as_documented(row.tolist()[skipped[1] :], s0, s1) for row in words]
    assert checksums(words, before, skipped).tolist() == [list(pair) for pair in due]


def test_what_is_read_of_a_log_is_what_sqlite_takes(tmp_path: Path) -> None:
    """A log that was begun anew, so that older frames lie behind the ones that count; cut off anywhere."""
    with sqlite3.connect(tmp_path / "db", isolation_level=None) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (x)")
        for _ in range(20):
            db.execute("INSERT INTO t VALUES (randomblob(9000))")
        db.execute("PRAGMA wal_checkpoint")
        for _ in range(4):
            db.execute("INSERT INTO t VALUES (randomblob(9000))")
        log = tmp_path / "db-wal"
        whole = read_log(log)
        assert whole.commits == 4
        assert log.stat().st_size > 32 + whole.frames * 4120
        shutil.copy(tmp_path / "db", tmp_path / "copy")
        for size in range(0, 32 + (whole.frames + 1) * 4120, 2060):
            (tmp_path / "copy-wal").write_bytes(log.read_bytes()[:size])
            (tmp_path / "copy-shm").unlink(missing_ok=True)
            found = read_log(tmp_path / "copy-wal")
            with sqlite3.connect(tmp_path / "copy") as copy:  # it recovers, and says how many frames there are
                (rows,) = copy.execute("SELECT count(*) FROM t").fetchone()
            copy.close()
            shutil.copy(tmp_path / "db", tmp_path / "copy")
            assert found.commits == rows - 20, size
    db.close()
