"""Others read the journal while the daemon writes: they see one moment of it, and the daemon does not notice them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.ledger import block, block_of, created, done, open_journal, read_ledger

from taskmaster.bus.table import pack_columns
from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.journal import INLINE_BYTES
from taskmaster.daemon.journal.wal import read_log

TESTS = Path(__file__).resolve().parents[2]
LARGE = b"x" * (INLINE_BYTES + 1)

#: Any program that reads as `docs/journal.md` says: one transaction, in which it looks as often as it is told to.
READER = """
import sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}/journal.db?mode=ro", uri=True, isolation_level=None)
db.execute("BEGIN")
for line in sys.stdin:
    if line.strip() == "end":
        db.execute("COMMIT")
    print(*db.execute("SELECT count(*), total(n) FROM blocks").fetchone(), flush=True)
"""


@contextmanager
def beside(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Another process."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )
    try:
        yield process
    finally:
        process.communicate(timeout=60)


def ask(reader: subprocess.Popen[str], what: str = "look") -> list[float]:
    assert reader.stdin is not None
    assert reader.stdout is not None
    print(what, file=reader.stdin, flush=True)
    return [float(word) for word in reader.stdout.readline().split()]


@pytest.fixture
def locked(state: Path) -> Iterator[None]:
    """The state directory is a daemon's, which is at work."""
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, b"4711\n")
    yield
    os.close(descriptor)


@pytest.mark.usefixtures("short_log")
def test_a_reader_sees_one_moment_and_holds_nobody_up(state: Path, durability: str) -> None:
    journal = open_journal(state, durability)
    journal.commit([created(1), block(1, 0, [0.5, 1.5])])
    with beside("-c", READER, str(state)) as reader:
        assert ask(reader) == [1, 2]
        for first in range(2, 202, 2):
            journal.commit([block(1, first, [0.5, 1.5])])
            journal.checkpoint(idle=True)
        assert ask(reader) == [1, 2], "its moment is over when it says so"
        frames = read_frames(state)
        assert frames > 100, "the log keeps what it reads"
        assert ask(reader, "end") == [101, 202], "then it sees everything"

        journal.checkpoint(idle=True)
        journal.commit([block(1, 202, [0.5])])
        assert read_frames(state) < frames, "and the log begins anew"
        ask(reader)
        ledger = read_ledger(journal)
        journal.close()  # while it still has the database open
    again = open_journal(state, durability)
    assert read_ledger(again) == ledger
    again.close()


def read_frames(state: Path) -> int:
    return read_log(state / "journal.db-wal").frames


@pytest.mark.usefixtures("locked", "short_log")
def test_a_check_beside_a_daemon_at_work_finds_nothing_wrong(state: Path, durability: str) -> None:
    """Runs come and go meanwhile, with payload files; one that stays gets values of ever new layouts."""
    journal = open_journal(state, durability)
    journal.commit([created(1), block(1, 0, [0.5] * 1000), created(2)])
    for seq in range(1000):  # enough for a look at it to take a while
        journal.commit([done(1, seq, seq, [0.5])])
    with beside("-m", "helpers.reports", str(state)) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "looking\n"
        for at in range(250):
            run = at + 3
            journal.commit([created(run), block(run, 0, [LARGE + bytes([at])])])
            journal.commit([block_of(2, at, pack_columns({f"x{at}": [0.5]}, 1)), done(2, at, at, [0.5])])
            journal.commit([done(run, 0, 0, [0.5]), e.RunCounted(run, 1, 1, 1, 0, 0)])
            journal.checkpoint(idle=True)
            if at % 2:
                journal.commit([e.RunDeleted(run), e.RunDeleted(run - 1)])
        ledger = read_ledger(journal)
        answers = reader.communicate(timeout=60)[0].splitlines()
    assert len(answers) == 1, answers
    assert answers[0].endswith(" whole, beside 4711")
    assert read_ledger(journal) == ledger
    journal.close()
    again = Journal(state, durability)
    assert read_ledger(again) == ledger
    again.close()
