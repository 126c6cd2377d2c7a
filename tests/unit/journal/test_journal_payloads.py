"""Large payloads, in files beside the database: when they are written, shared, missed, and cleared away."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.ledger import block, created, done, open_journal, read_ledger
from helpers.moments import at_each_moment

from taskmaster.bus.errors import JournalDamaged
from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.journal import INLINE_BYTES
from taskmaster.daemon.journal.payloads import Payloads

pytestmark = pytest.mark.usefixtures("short_log")

LARGE, OTHER = [b"x" * (INLINE_BYTES + 1)], [b"y" * (INLINE_BYTES + 1)]


def files(state: Path) -> set[Path]:
    return {path for path in (state / "payloads").rglob("*") if path.is_file()}


def test_what_is_larger_than_a_row_should_be_lies_in_a_file(state: Path) -> None:
    journal = Journal(state)
    as_row, as_file = block(1, 0, [bytes(INLINE_BYTES - 100)]), block(1, 1, LARGE)
    named = journal.commit([created(1), as_row, as_file])
    assert list(named) == [2], "by the record's position"
    (path,) = files(state)
    assert path.name == named[2]
    assert path.read_bytes() == b"".join(as_file.table.frames)
    journal.close()


def test_files_and_their_names_are_synced_before_the_row_that_names_them(
    state: Path, tmp_path: Path, durability: str
) -> None:
    """A power cut may keep the row and take what was not synced before it."""
    journal = open_journal(state, durability)
    moments = at_each_moment(state, tmp_path, lambda: journal.commit([created(1), block(1, 0, LARGE)]))
    journal.close()
    calls = [moment.name.split()[2] for moment in moments if "c_call" in moment.name]
    calls = calls[: calls.index("execute")]
    if durability == "crash":
        assert not {"fdatasync", "fsync"} & set(calls), "no promise, no wait"
    else:
        content, name = calls.index("fdatasync"), calls.index("replace")
        assert content < name
        assert calls[name:].count("fsync") == 3, "the names of the file, its folder and the folder of all"


def test_equal_content_is_one_file_until_nobody_needs_it(state: Path, durability: str) -> None:
    journal = open_journal(state, durability)
    journal.commit([created(1), created(2), block(1, 0, LARGE), block(2, 0, LARGE), done(2, 0, 0, LARGE)])
    assert len(files(state)) == 1
    journal.commit([e.RunDeleted(1)])
    assert len(files(state)) == 1
    assert read_ledger(journal).runs[2].inputs == LARGE
    journal.commit([e.RunDeleted(2)])
    assert files(state) == set()

    journal.commit([created(3), block(3, 0, LARGE)])  # it is not taken for written because it once was
    assert read_ledger(journal).runs[3].inputs == LARGE
    journal.close()


def test_what_is_put_again_leaves_the_file_as_it_is(state: Path, tmp_path: Path) -> None:
    """An earlier row needs it, and it may be mapped: it is never cut short, not even for a moment."""
    journal = Journal(state)
    journal.commit([created(1), block(1, 0, LARGE)])
    journal.close()
    (path,) = files(state)
    whole = path.read_bytes()

    journal = open_journal(state)  # another process, which does not know that it is there
    moments = at_each_moment(state, tmp_path, lambda: journal.commit([block(1, 1, LARGE)]))
    journal.close()
    assert len(moments) > 10
    for moment in moments:
        assert (moment / path.relative_to(state)).read_bytes() == whole, moment.name


@pytest.mark.parametrize("left", ["nobody needs it", "it was not finished"])
def test_leftovers_are_swept_at_a_start_and_nothing_else(state: Path, left: str) -> None:
    journal = Journal(state)
    journal.commit([created(1), block(1, 0, LARGE)])
    journal.close()
    needed = files(state)
    payloads = Payloads(state / "payloads", sync=False)
    orphan = payloads.path(payloads.write(OTHER))
    if left == "it was not finished":
        orphan = orphan.rename(orphan.with_name(orphan.name + ".part"))
        os.truncate(orphan, 1000)
    somebodys = state / "payloads" / "README"
    somebodys.write_text("not ours")
    mine = next(iter(needed)).with_name("notes.txt")
    mine.write_text("not ours either")

    journal = open_journal(state)
    assert files(state) == {*needed, orphan, somebodys, mine}, "not before all has been looked at"
    journal.begin_epoch(0.0)
    assert files(state) == {*needed, somebodys, mine}
    journal.close()


def test_a_file_that_is_gone_or_cut_short_is_missed_at_the_start(state: Path, durability: str) -> None:
    journal = open_journal(state, durability)
    journal.commit([created(1), block(1, 0, LARGE), done(1, 0, 0, OTHER)])
    journal.close()
    first, second = sorted(files(state))
    content = first.read_bytes()
    said = "a payload file is missing or cut short"
    damages: list[tuple[Callable[[], None], str]] = [
        (lambda: os.truncate(first, len(content) - 1), said),
        (lambda: os.truncate(first, 0), said),
        (first.unlink, said),
        (second.unlink, "2 payload files are missing or cut short"),
    ]
    for damage, said in damages:
        damage()
        with pytest.raises(JournalDamaged, match=rf"{said}, first {first}; 'taskmaster check --journal {state}'"):
            open_journal(state, durability)
    first.write_bytes(content)
    with pytest.raises(JournalDamaged, match=re.escape(str(second))):
        open_journal(state, durability)


def test_a_file_that_was_altered_is_noticed_when_it_is_read_and_named(state: Path) -> None:
    """To look through all of them at each start would take as long as there is data."""
    journal = Journal(state)
    journal.commit([created(1), block(1, 0, LARGE), done(1, 0, 0, [0.5])])
    journal.close()
    (path,) = files(state)
    with path.open("r+b") as file:
        file.seek(INLINE_BYTES // 2)
        file.write(b"z")
    journal = open_journal(state)
    with pytest.raises(
        JournalDamaged, match=rf"payload file {path} has changed since it was written; put it back from"
    ):
        read_ledger(journal)
    journal.close()


def test_a_queued_block_is_read_when_it_is_needed_and_holds_no_file_open(state: Path) -> None:
    journal = Journal(state)
    record = block(1, 0, [*LARGE, *OTHER, *LARGE])
    files_of = journal.commit([created(1), record])
    table = journal.stored_table(record.table.layout, 3, None, files_of[1])
    before = len(os.listdir("/proc/self/fd"))
    parts = [table.slice(k, k + 1) for k in range(3)]
    assert table.nbytes == record.table.nbytes
    assert len(os.listdir("/proc/self/fd")) == before
    assert [part.rows() for part in parts] == [LARGE, OTHER, LARGE]
    assert sum(part.nbytes for part in parts) == sum(record.table.slice(k, k + 1).nbytes for k in range(3))
    journal.close()


def test_what_is_read_holds_a_bounded_number_of_files_open(state: Path) -> None:
    payloads = Payloads(state / "payloads", sync=False)
    names = [payloads.write([b"%d" % k]) for k in range(200)]
    before = len(os.listdir("/proc/self/fd"))
    assert [bytes(payloads.read(name)) for name in names] == [b"%d" % k for k in range(200)]
    assert len(os.listdir("/proc/self/fd")) - before <= 64


def test_a_folder_that_a_killed_process_has_made_is_synced_by_the_next(state: Path, tmp_path: Path) -> None:
    """It may have died between making the folder and syncing its name."""
    killed = Payloads(state / "payloads", sync=True)
    killed.write(LARGE)
    payloads = Payloads(state / "payloads", sync=True)

    def write_and_sync() -> None:
        payloads.write(LARGE)
        payloads.sync()

    moments = at_each_moment(state, tmp_path, write_and_sync)
    calls = [moment.name.split()[2] for moment in moments if "c_call" in moment.name]
    assert calls.count("fsync") == 3, "the names of the file, its folder and the folder of all"
    payloads.write(OTHER)
    assert len(payloads._unsynced) <= 2, "what is known to be durable is not synced again"
