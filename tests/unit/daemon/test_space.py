"""Room on the disk: what is kept back for results is kept from submissions, given up in need, and laid down anew."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from helpers.disks import no_file_larger_than

from taskmaster.bus.errors import DiskFull
from taskmaster.daemon import diskshares
from taskmaster.daemon.conditions import disk_condition
from taskmaster.daemon.space import Space

MB = 1 << 20
KEEP = 8 * MB


class SmallDisk:
    """A folder as a disk of its own: what lies in it is taken off ``size`` bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size

    def free(self) -> int:
        return self.size - sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())

    def fill(self, name: str, size: int) -> None:
        """Other data on it."""
        with open(self.folder / name, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    disk = SmallDisk(tmp_path, 32 * MB)
    monkeypatch.setattr(Space, "_free", lambda self: disk.free())
    return disk


def reserve(disk: SmallDisk) -> int:
    path = disk.folder / "reserve"
    return path.stat().st_blocks * 512 if path.exists() else 0


def test_what_is_kept_back_is_really_taken(disk: SmallDisk) -> None:
    space = Space(disk.folder, KEEP)
    assert reserve(disk) == KEEP
    assert space.room


def test_submissions_are_taken_up_to_a_margin_and_counted_between_two_looks(disk: SmallDisk) -> None:
    space = Space(disk.folder, KEEP)
    left = disk.free() - MB
    taken = 0
    while put(space, 2 * MB):
        taken += 2 * MB
    assert left - 3 * MB < taken <= left
    space.look()  # nothing was written after all
    assert space.admits(2 * MB)


def test_a_submission_larger_than_the_room_is_refused_and_a_smaller_one_taken(disk: SmallDisk) -> None:
    space = Space(disk.folder, KEEP)
    assert not space.admits(24 * MB)
    assert space.admits(MB)


def test_a_full_disk_takes_no_submissions_until_there_is_room_again(
    disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taskmaster.daemon")
    space = Space(disk.folder, KEEP)
    disk.fill("other", 23 * MB + MB // 2)
    for _ in range(3):
        space.look()
    assert not space.admits(1)
    assert isinstance(space.error(), DiskFull)
    assert str(disk.folder) in str(space.error())
    os.truncate(disk.folder / "other", 22 * MB + MB // 2)
    space.look()
    assert not space.admits(1)  # a little more than was free when it ended, lest it flutters
    os.truncate(disk.folder / "other", 10 * MB)
    for _ in range(3):
        space.look()
    assert space.room
    assert [record.levelname for record in caplog.records if "room" in record.message] == ["ERROR", "INFO"]  # once


def test_a_commit_that_finds_no_room_gets_the_reserve_once(disk: SmallDisk) -> None:
    space = Space(disk.folder, KEEP)
    disk.fill("other", 24 * MB)
    assert space.use_reserve()
    assert reserve(disk) == 0
    assert not space.room
    assert not space.use_reserve()
    space.look()
    assert reserve(disk) == 0  # 8 MB are free: not enough to lay them down again, they may be needed
    (disk.folder / "other").unlink()
    space.look()
    assert reserve(disk) == KEEP
    assert space.room


def test_a_start_on_a_full_disk_gives_up_what_a_former_one_kept_back(disk: SmallDisk) -> None:
    Space(disk.folder, KEEP)
    disk.fill("other", 24 * MB)
    space = Space(disk.folder, KEEP)
    assert reserve(disk) == 0
    assert not space.room


def test_a_start_keeps_what_a_former_one_laid_down(disk: SmallDisk) -> None:
    Space(disk.folder, 12 * MB)
    inode = (disk.folder / "reserve").stat().st_ino
    space = Space(disk.folder, KEEP)
    assert reserve(disk) == KEEP
    assert (disk.folder / "reserve").stat().st_ino == inode
    assert space.room


def test_nothing_need_be_kept_back(disk: SmallDisk) -> None:
    space = Space(disk.folder, 0)
    assert not (disk.folder / "reserve").exists()
    assert space.room
    assert not space.use_reserve()


def test_a_reserve_that_cannot_be_laid_leaves_no_half_of_it(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    space = Space(disk.folder, KEEP)
    assert not space.room
    assert list(disk.folder.iterdir()) == []


def test_whether_there_is_room_is_seen_by_trying(disk: SmallDisk) -> None:
    space = Space(disk.folder, 0)
    assert not space.lacks(16 * MB)
    assert not (disk.folder / "probe").exists()
    assert space.lacks(64 * MB), "the disk has not so much"
    disk.size = 1 << 40
    with no_file_larger_than(16 * MB):
        assert space.lacks(32 * MB), "a limit of this user's counts as well"
    assert not (disk.folder / "probe").exists()


def put(space: Space, size: int, user: str = "") -> bool:
    """Put so much, if it may be."""
    if not space.admits(size, user):
        return False
    space.take(size, 1, user)
    return True


def test_one_key_does_not_have_all_of_it(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskshares, "LEAST_SHARE", MB)
    space = Space(disk.folder, KEEP)
    while put(space, MB, "mad"):
        pass
    assert space.room
    assert str(space.error("mad")).startswith(f"the disk of {disk.folder}: key 'mad' may not put more within a day (1")
    assert str(space.error("mad")).endswith("the rest is for others; have runs deleted, or more room made")
    [condition] = disk_condition(space, 0)
    assert (condition.kind, condition.subject) == ("excess", "mad")
    assert space.admits(MB, "anna")
    assert space.admits(MB), "whose machine it is"
    assert not space.bears(MB, "mad")
    assert space.bears(MB, "anna")
