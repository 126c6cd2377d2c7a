"""What the owner of one key may fill of a disk, in pure arithmetic."""

from __future__ import annotations

import pytest

from taskmaster.daemon.diskshares import LEAST_SHARE, DiskShares

GB = 1 << 30
HALF_DAY = 12 * 3600.0


class Disk:
    """One on which there is nothing but what keys' owners put."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.shares = DiskShares()
        self.shares.look(0.0, size)

    def put(self, user: str, size: int) -> int:
        """As much as may be put of so much, in small pieces."""
        taken = 0
        while taken < size and self.shares.admits(user, 1 << 20, self.left):
            self.shares.take(user, 1 << 20)
            taken += 1 << 20
            self.left -= 1 << 20
        return taken


def test_each_leaves_as_much_as_it_takes() -> None:
    disk = Disk(32 * GB)
    for k, user in enumerate(["mad", "madder", "maddest"]):
        assert disk.put(user, 64 * GB) == pytest.approx(32 * GB / 2 ** (k + 1), rel=1e-3)
        assert user in disk.shares.refused
    assert disk.put("anna", GB) == GB, "there is room for others"
    assert "anna" not in disk.shares.refused
    assert disk.shares.refused["mad"] == (
        "key 'mad' may not put more within a day (17.2 GB) than is left free: the rest is for others"
    )


def test_it_is_forgotten_in_days() -> None:
    disk = Disk(32 * GB)
    disk.put("anna", 64 * GB)
    assert disk.put("anna", GB) == 0
    for hour in range(1, 13):
        disk.shares.look(3600.0 * hour, disk.left)
    assert disk.shares.refused == {}
    assert disk.put("anna", 64 * GB) == pytest.approx(4 * GB, rel=1e-3)


def test_who_measures_for_months_is_not_held_back() -> None:
    disk = Disk(100 * GB)
    for day in range(90):
        disk.shares.look(2 * HALF_DAY * day, disk.left)
        assert disk.put("anna", GB) == GB


def test_little_is_nobodys_fault() -> None:
    disk = Disk(0)
    disk.left = 0
    assert disk.put("anna", 2 * LEAST_SHARE) == LEAST_SHARE


def test_room_that_was_made_is_seen() -> None:
    disk = Disk(GB)
    disk.put("anna", GB)
    assert disk.shares.refused
    disk.left = 4 * GB
    assert disk.put("anna", 1 << 20) == 1 << 20
    disk.shares.look(1.0, disk.left)
    assert not disk.shares.refused
