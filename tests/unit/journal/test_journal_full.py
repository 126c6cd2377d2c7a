"""A disk that is full, wherever in a commit that shows: nothing of it is there, and it goes on when there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import pytest
from helpers.disks import SmallDisk, no_file_larger_than, small_disk
from helpers.ledger import Ledger, block, created, done, open_journal, read_ledger

from taskmaster.bus.errors import DiskFull, JournalDamaged, JournalError
from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.journal import INLINE_BYTES, PAGE_BYTES

pytestmark = pytest.mark.usefixtures("short_log")

ENOUGH = 2 << 20
LARGE = [bytes([k]) * (INLINE_BYTES + 1) for k in range(3)]

FIRST: Sequence[e.Record] = (created(1), block(1, 0, [0.5] * 10))
#: Turns that need room in payload files, or for the log.
TURNS: dict[str, Sequence[e.Record]] = {
    "payload files": (created(2), block(2, 0, LARGE[:1]), done(1, 0, 0, LARGE[1:2])),
    "the log": (created(2), *(block(2, k, [{"text": "t" * 30_000}]) for k in range(25))),
}
LATER: Sequence[e.Record] = (done(2, 0, 0, LARGE[2:]),)


def ledger_of(*turns: Sequence[e.Record]) -> Ledger:
    ledger = Ledger()
    for turn in turns:
        for record in turn:
            ledger.apply(record)
    return deepcopy(ledger)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of four megabytes."""
    try:
        with small_disk(tmp_path / "disk", 4 << 20) as disk:
            yield disk
    except OSError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("where", TURNS)
def test_a_commit_that_finds_no_room_can_be_repeated_as_it_is(disk: SmallDisk, durability: str, where: str) -> None:
    """The daemon keeps at it until there is room; submissions that come meanwhile are told to wait."""
    journal = open_journal(disk.folder, durability)
    journal.begin_epoch(0.0)
    journal.commit(FIRST)
    for room in range(0, 15 * PAGE_BYTES, PAGE_BYTES):
        disk.leave(room)
        with pytest.raises(DiskFull, match=rf"{disk.folder}/journal.db could not be written: no room left on the disk"):
            journal.commit(TURNS[where])
        assert read_ledger(journal) == ledger_of(FIRST), "nothing of it is there"
    disk.leave(ENOUGH)
    journal.commit(TURNS[where])
    journal.commit(LATER)
    journal.close(in_order=False)

    again = open_journal(disk.folder, durability)
    assert read_ledger(again) == ledger_of(FIRST, TURNS[where], LATER)
    again.close()


def test_a_daemon_that_is_killed_on_a_full_disk_starts_on_it(disk: SmallDisk, durability: str) -> None:
    """What was not committed is gone, its files are cleared away, and there is no talk of damage."""
    for room in range(0, 200_000, 3 * PAGE_BYTES):
        disk.leave(ENOUGH)
        journal = Journal(disk.folder, durability)
        known = read_ledger(journal)
        disk.leave(room)
        with pytest.raises(DiskFull):
            journal.commit(
                [created(known.last_run + 1), *(block(known.last_run + 1, k, LARGE[k:][:1]) for k in range(3))]
            )
        journal.close(in_order=False)
        disk.leave(ENOUGH)
        again = open_journal(disk.folder, durability)
        assert read_ledger(again) == known
        again.begin_epoch(0.0)
        assert list((disk.folder / "payloads").glob("??/*")) == []
        again.commit([created(known.last_run + 1)])
        again.commit([e.RunDeleted(known.last_run + 1)])
        again.close(in_order=room % 2 == 0)


@pytest.mark.parametrize("pages", range(9))
@pytest.mark.parametrize("new", [True, False], ids=["made", "opened"])
def test_a_journal_for_which_there_is_no_room_at_all_says_so(disk: SmallDisk, new: bool, pages: int) -> None:
    if not new:
        Journal(disk.folder).close()
    disk.leave(pages * PAGE_BYTES)
    with pytest.raises(DiskFull, match=rf"the journal {disk.folder}/journal.db c.*: no room left on the disk"):
        Journal(disk.folder).begin_epoch(0.0)
    disk.leave(ENOUGH)
    journal = open_journal(disk.folder)
    assert read_ledger(journal) == Ledger()
    journal.close()


def test_tidying_up_waits_for_room(disk: SmallDisk, durability: str) -> None:
    """The log is not moved then, and nothing is wrong with it."""
    journal = open_journal(disk.folder, durability)
    journal.commit(FIRST)
    journal.commit([block(1, 10, [{"text": "t" * 60_000}])])
    disk.leave(0)
    journal.checkpoint(idle=True)
    assert read_ledger(journal) == ledger_of(FIRST, [block(1, 10, [{"text": "t" * 60_000}])])
    disk.leave(ENOUGH)
    journal.checkpoint(idle=True)
    journal.close()


@pytest.mark.parametrize("size", [PAGE_BYTES // 2, 3 * PAGE_BYTES, 40_000, INLINE_BYTES, 100_000])
def test_a_disk_that_fails_in_another_way_loses_nothing_that_was_committed(
    state: Path, durability: str, size: int
) -> None:
    """What is on disk is not known then: the daemon ends, and begins with what is there."""
    journal = open_journal(state, durability)
    journal.commit(FIRST)
    journal.close()
    journal = open_journal(state, durability)
    with no_file_larger_than(size):
        failed = None
        for first in range(10, 30):
            try:
                journal.commit([block(1, first, [{"text": "t" * 3_000}]), created(first), block(first, 0, LARGE[:1])])
            except JournalError as error:
                failed = error
                break
        journal.close(in_order=False)
    assert failed is not None
    assert not isinstance(failed, (DiskFull, JournalDamaged))
    assert str(state) in str(failed)

    again = open_journal(state, durability)
    found = read_ledger(again)
    assert len(found.runs) == 1 + first - 10
    assert len(found.runs[1].inputs) == first
    assert set(found.runs) == {1, *range(10, first)}, "each turn is there as a whole, or not at all"
    again.commit([created(first)])
    again.close()
