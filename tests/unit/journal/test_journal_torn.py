"""A commit that was cut off at any point: it is there as a whole or not at all, and what was acknowledged is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.ledger import Ledger, block, created, done, event, open_journal, read_ledger
from helpers.moments import at_each_moment

from taskmaster.bus.errors import JournalDamaged
from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.check import check_log
from taskmaster.daemon.journal.journal import INLINE_BYTES, PAGE_BYTES
from taskmaster.daemon.journal.mark import MARK, read_mark
from taskmaster.daemon.journal.wal import FRAME_HEADER_BYTES, HEADER_BYTES, read_log

pytestmark = pytest.mark.usefixtures("short_log")

LARGE = [b"x" * (INLINE_BYTES + 1)]
OTHER = [b"y" * (INLINE_BYTES + 1)]
FRAME = FRAME_HEADER_BYTES + PAGE_BYTES

#: Turns of a daemon, of all kinds. The seventh is one statement, and so a transaction without a BEGIN; the same content
#: comes in several payload files' place; run 1 goes, with its files, of which run 2 needs one.
TURNS: Sequence[Sequence[e.Record]] = (
    [created(1), e.WriterChanged(1, 1, "ada", 1e9, "wish")],
    [block(1, 0, [0.5, 1.5, 2.5]), e.LeaseGranted((1, 1), 1, 0, 3, 1, "svm-1", True, 1e9)],
    [block(1, 3, LARGE), block(1, 4, [{"x": 1, "text": "t" * 9000}])],
    [e.LeaseGranted((1, 1), 1, 1, 2, 2, "svm-2", False, 1e9), e.LeaseGranted((1, 2), 1, 4, 1, 1, "svm-1", True, 1e9)],
    [created(2), block(2, 0, LARGE), e.MasterChanged("oven", True)],
    [done(1, 0, 0, LARGE + OTHER, failed=[2]), e.LeaseEnded((1, 1)), e.AttemptsCharged(1, 2, 3, 2)],
    [block(1, 5, [3.5])],
    [event(1, 3, "held", 3, 3), event(1, 6, "released", 4, 1), event(1, 7, "cancelled", 5, 1)],
    [e.RunDeleted(1)],
    [block(2, 1, LARGE), done(2, 0, 0, OTHER)],
)


def ledgers(turns: Sequence[Sequence[e.Record]]) -> list[Ledger]:
    """What there is before the first turn, and after each."""
    now = Ledger()
    found = [deepcopy(now)]
    for turn in turns:
        for record in turn:
            now.apply(record)
        found.append(deepcopy(now))
    return found


def found_in(state: Path, durability: str) -> Ledger:
    """What a daemon that starts on this folder finds, which it may never call damaged."""
    journal = open_journal(state, durability)
    try:
        return read_ledger(journal)
    finally:
        journal.close(in_order=False)


# -- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_a_commit_that_is_killed_at_any_call_is_there_or_not(
    state: Path, tmp_path: Path, durability: str, turn: int
) -> None:
    *_, before, after = ledgers(TURNS[: turn + 1])
    journal = open_journal(state, durability)
    journal.begin_epoch(0.0)
    for earlier in TURNS[:turn]:
        journal.commit(earlier)
    moments = at_each_moment(state, tmp_path, lambda: journal.commit(TURNS[turn]))
    journal.close(in_order=False)

    seen = []
    for moment in moments:
        mark, log = read_mark(moment), read_log(moment / "journal.db-wal")
        assert mark is not None
        assert mark.frames <= log.frames, f"the mark leads the journal at {moment.name}"
        found = found_in(moment, durability)
        assert found in (before, after), moment.name
        seen.append(found == after)
    assert seen == sorted(seen), "once it is there it stays"
    assert not seen[0]
    assert seen[-1]
    assert found_in(state, durability) == after


@pytest.mark.parametrize("at", ["start", "tidying", "stop"])
def test_whatever_else_is_killed_at_any_call_loses_nothing(
    state: Path, tmp_path: Path, durability: str, at: str
) -> None:
    """The daemon's first steps, moving the log into the database, and the daemon's last steps."""
    expected = ledgers(TURNS)[-1]
    journal = open_journal(state, durability)
    epoch = journal.begin_epoch(0.0)
    for turn in TURNS:
        journal.commit(turn)

    def tidy() -> None:
        journal.checkpoint(idle=True)
        journal.commit([e.MasterChanged("oven", True)])  # which begins the log anew

    work: dict[str, Callable[[], object]] = {
        "start": lambda: journal.begin_epoch(0.0),
        "tidying": tidy,
        "stop": journal.close,
    }
    if at == "start":  # what a commit left that was killed before
        journal.payloads.write([b"nobody's"])
    moments = at_each_moment(state, tmp_path, work[at])
    if at != "stop":
        journal.close(in_order=False)
    assert len(moments) >= 4
    for moment in moments:
        assert found_in(moment, durability) == expected, moment.name
        again = Journal(moment, durability)
        assert again.begin_epoch(0.0) > epoch
        again.close(in_order=False)


def test_a_log_that_was_moved_into_the_database_in_part_is_moved_again(
    state: Path, tmp_path: Path, durability: str
) -> None:
    """Whichever pages had reached the database when it was cut off, whole or in half."""
    journal = Journal(state, durability)
    for turn in TURNS:
        journal.commit(turn)
    before = shutil.copytree(state, tmp_path / "before")
    journal.checkpoint(idle=True)
    journal.close(in_order=False)
    moved = (state / "journal.db").read_bytes()
    old = (before / "journal.db").read_bytes().ljust(len(moved), b"\0")
    assert moved != old
    for cut in range(PAGE_BYTES // 2, len(moved), PAGE_BYTES // 2):
        torn = shutil.copytree(before, tmp_path / f"torn at {cut}")
        (torn / "journal.db").write_bytes(moved[:cut] + old[cut:])
        assert found_in(torn, durability) == ledgers(TURNS)[-1], cut


@pytest.mark.parametrize("damage", [*(f"torn at {k}" for k in range(1, 32)), *(f"bit {k}" for k in range(0, 256, 5))])
def test_a_log_whose_header_alone_is_damaged_is_as_good_as_whole(
    state: Path, tmp_path: Path, durability: str, damage: str
) -> None:
    """Its first sector was being written when the power went, where it is begun anew; or a bit of it has flipped."""
    expected = ledgers(TURNS)[-1]
    journal = open_journal(state, durability)
    journal.begin_epoch(0.0)
    for turn in TURNS:
        journal.commit(turn)
    journal.checkpoint(idle=True)
    before = shutil.copytree(state, tmp_path / "before")
    journal.commit([created(3)])  # which begins the log anew
    journal.close(in_order=False)
    headers = [(path / "journal.db-wal").read_bytes()[:HEADER_BYTES] for path in (before, state)]
    assert headers[0] != headers[1]
    kind, _, at = damage.rpartition(" ")
    header = bytearray(headers[0])
    if kind == "bit":
        header[int(at) // 8] ^= 1 << int(at) % 8
    else:
        header[: int(at)] = headers[1][: int(at)]
    with (before / "journal.db-wal").open("r+b") as file:
        file.write(header)
    assert found_in(before, durability) == expected
    assert found_in(before, durability) == expected, "and so it stays"


@pytest.mark.parametrize("size", [1, 12, 31, 32])
@pytest.mark.parametrize("room", [0, PAGE_BYTES])
def test_a_log_that_was_cut_off_in_its_first_header_holds_nothing_that_is_missed(
    state: Path, durability: str, size: int, room: int
) -> None:
    """The first thing that is ever written to it, before anybody was told of anything."""
    Journal(state, durability).close(in_order=False)
    header = (state / "journal.db-wal").read_bytes()[:HEADER_BYTES]
    Journal(state, durability).close()
    (state / MARK).unlink()
    (state / "journal.db-wal").write_bytes(header[: size - 1] + b"?" + bytes(room))
    assert found_in(state, durability) == Ledger()


# -- the log cut short ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A journal in whose log all turns still lie; by turn, how many frames were in the log after it."""

    state: Path
    frames: tuple[int, ...]
    ledgers: tuple[Ledger, ...]

    def cut(self, to: Path, size: int) -> Path:
        """A copy of which the log is ``size`` bytes long."""
        shutil.copytree(self.state, to)
        os.truncate(to / "journal.db-wal", size)
        return to


@pytest.fixture
def written(state: Path, durability: str) -> Written:
    Journal(state, durability).close()  # the tables are in the database
    journal = Journal(state, durability)
    turns = [turn for turn in TURNS if e.RunDeleted(1) not in turn]  # whose files are gone, whatever the log says
    frames = [0]
    for turn in turns:
        journal.commit(turn)
        frames.append(read_log(state / "journal.db-wal").frames)
    journal.close(in_order=False)
    return Written(state, tuple(frames), tuple(ledgers(turns)))


@pytest.mark.parametrize("beyond", [0, 1, FRAME_HEADER_BYTES, FRAME - 1], ids="{} bytes beyond a frame".format)
def test_a_log_that_was_cut_short_holds_the_turns_before_the_cut(
    written: Written, tmp_path: Path, durability: str, beyond: int
) -> None:
    """It is damaged if it holds less than was acknowledged, which only the mark knows."""
    acknowledged = written.frames[-1]
    assert acknowledged > 2 * len(written.frames)
    for kept in range(acknowledged):
        state = written.cut(tmp_path / str(kept), HEADER_BYTES + kept * FRAME + beyond)
        with pytest.raises(JournalDamaged, match=r"frames of its log are missing; 'taskmaster check --journal "):
            check_log(state, durability)

        (state / MARK).unlink()
        turns = sum(frames <= kept for frames in written.frames) - 1
        assert found_in(state, durability) == written.ledgers[turns], f"{kept} of {acknowledged} frames"


def test_a_log_that_is_gone_is_missed(written: Written, durability: str) -> None:
    (written.state / "journal.db-wal").unlink()
    with pytest.raises(JournalDamaged, match="had"):
        open_journal(written.state, durability)


def test_a_torn_end_that_nobody_was_told_of_is_no_damage(written: Written, tmp_path: Path, durability: str) -> None:
    """The first frames of one more commit."""
    journal = Journal(shutil.copytree(written.state, tmp_path / "more"), durability)
    journal.commit([created(3), block(3, 0, [{"text": "t" * 20_000}])])
    journal.close(in_order=False)
    log = (tmp_path / "more" / "journal.db-wal").read_bytes()
    assert len(log) >= HEADER_BYTES + (written.frames[-1] + 4) * FRAME
    for size in range(HEADER_BYTES + written.frames[-1] * FRAME, len(log), FRAME // 2):
        state = shutil.copytree(written.state, tmp_path / str(size))
        (state / "journal.db-wal").write_bytes(log[:size])
        assert found_in(state, durability) == written.ledgers[-1], size
