"""What can be kept of a damaged journal is kept, all of it, and nothing that hangs on what was lost."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from helpers.ledger import Ledger, block, created, done, event, open_journal, read_ledger

from taskmaster.bus.errors import JournalError
from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.check import report, salvage
from taskmaster.daemon.journal.journal import INLINE_BYTES, PAGE_BYTES

LARGE = [bytes([k]) * (INLINE_BYTES + 1) for k in range(4)]


@pytest.fixture
def whole(state: Path) -> Ledger:
    """A journal of three runs, the last of which was deleted: most of the first lies in payload files."""
    journal = Journal(state)
    journal.begin_epoch(5e6)
    journal.commit([created(1), e.WriterChanged(1, 1, "ada", 1e9, "wish"), e.MasterChanged("oven", False)])
    journal.commit([block(1, 0, [0.5, 1.5]), block(1, 2, LARGE[:1]), block(1, 3, LARGE[1:2]), block(1, 4, [2.5])])
    journal.commit([done(1, 0, 0, [0.25]), done(1, 1, 2, LARGE[2:3]), done(1, 2, 3, [0.75])])
    journal.commit([e.LeaseGranted((1, 1), 1, 1, 1, 1, "svm-1", True, 1e9), e.AttemptsCharged(1, 1, 2, 1)])
    journal.commit([e.LeaseGranted((1, 2), 1, 4, 1, 1, "svm-1", True, 1e9), e.AttemptsCharged(1, 4, 5, 1)])
    journal.commit([created(2, master="press"), block(2, 0, [1, 2, 3]), event(2, 0, "held", 1, 1)])
    journal.commit([e.RunChanged(2, True, True, -3), event(2, 1, "closed", 0, 1)])
    journal.commit([created(3)])
    journal.commit([e.RunDeleted(3)])
    ledger = read_ledger(journal)
    journal.close()
    return ledger


def paused(ledger: Ledger) -> Ledger:
    """Nothing is evaluated until somebody says so."""
    ledger.masters = {"svm": True, "press": True, "oven": True}
    return ledger


def payload_file(state: Path, content: bytes) -> Path:
    (path,) = (path for path in (state / "payloads").glob("??/*") if content[:100] in path.read_bytes())
    return path


def salvaged(state: Path) -> Ledger:
    """What is in the new journal, of which a daemon would find nothing wrong, and which leaves the old one alone."""
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    into = state.with_name("salvaged")
    assert salvage(state, into).ok
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before
    shutil.rmtree(state)  # nothing of the new one lies in it

    journal = open_journal(into)
    ledger = read_ledger(journal)
    assert journal.begin_epoch(0.0) == 5 * 10**9 + 1, "workers and clients of the old one can tell it from that"
    journal.close()
    return ledger


def test_of_a_whole_journal_everything_is_kept(state: Path, whole: Ledger) -> None:
    assert salvaged(state) == paused(whole)


def test_a_run_is_kept_up_to_the_first_task_that_is_lost(state: Path, whole: Ledger) -> None:
    """With the events about those, up to the first about another; other runs, all of it."""
    payload_file(state, LARGE[1]).unlink()
    shown = report(state)
    assert not shown.ok
    assert [run.line().partition("payload file")[0] for run in shown.runs] == [
        "run 1 svm/run 1: 3 of 5 tasks and 2 of 3 events can be kept: task 3: ",
        "run 2 press/run 2: whole, 3 tasks and 2 events",
    ]
    assert any("put payload files that are missing or changed back" in line for line in shown.lines())

    kept = salvaged(state)
    expected = paused(whole)
    run = expected.runs[1]
    del run.inputs[3:], run.events[2:], run.attempts[4], expected.leases[1, 2]
    run.next_seq, run.open, run.done = 2, {1}, 2
    assert kept == expected


def test_a_run_is_kept_up_to_the_first_event_that_is_lost(state: Path, whole: Ledger) -> None:
    """Its tasks are all kept; what was told of them later is not, for there may be no gap."""
    path = payload_file(state, LARGE[2])
    path.write_bytes(path.read_bytes()[::-1])
    kept = salvaged(state)
    expected = paused(whole)
    run = expected.runs[1]
    del run.events[1:]
    run.next_seq, run.open, run.done = 1, {1, 2, 3, 4}, 1
    assert kept == expected


def test_of_a_spoilt_page_what_lies_elsewhere_is_kept(state: Path, whole: Ledger) -> None:
    """Whichever page it is: what is kept is what was there, or the end is missing."""
    pages = (state / "journal.db").stat().st_size // PAGE_BYTES
    unreadable = 0
    for page in range(pages):
        spoilt = shutil.copytree(state, state.with_name(f"spoilt {page}"))
        with (spoilt / "journal.db").open("r+b") as file:
            file.seek(page * PAGE_BYTES + PAGE_BYTES - 500)
            file.write(os.urandom(400))
        assert not report(spoilt).ok, page
        into = state.with_name(f"salvaged {page}")
        try:
            salvage(spoilt, into)
        except JournalError:  # it was that of the tables' names, or of the layouts: nothing has a meaning without them
            unreadable += 1
            continue
        journal = open_journal(into)
        kept = read_ledger(journal)
        journal.close()
        for number, run in kept.runs.items():
            of = whole.runs[number]
            assert run.inputs == of.inputs[: len(run.inputs)]
            assert run.events == of.events[: len(run.events)]
    assert unreadable <= 4
    assert pages > 8


def test_a_journal_is_not_salvaged_into_something_else_or_from_under_a_daemon(state: Path, whole: Ledger) -> None:
    into = state.with_name("into")
    into.mkdir()
    (into / "thesis.tex").write_text("…")
    with pytest.raises(JournalError, match=rf"{into} is in use; name a new folder for what can be kept"):
        salvage(state, into)

    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, b"4711\n")
        with pytest.raises(JournalError, match=rf"a daemon \(process 4711\) is at work in {state}; stop it first"):
            salvage(state, state.with_name("new"))
    finally:
        os.close(descriptor)
    with pytest.raises(JournalError, match=f"there is no journal in {into}; name the state directory of a daemon"):
        salvage(into, state.with_name("new"))
    assert not state.with_name("new").exists()
