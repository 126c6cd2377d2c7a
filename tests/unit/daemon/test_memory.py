"""What memory there is for the daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskmaster.daemon.memory import machine_bytes, resident_bytes


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """The file by which a process knows its control group."""
    path = tmp_path / "cgroup"
    path.write_text("0::/system.slice/taskmaster.service\n")
    return path


def limit(groups: Path, name: str, value: str) -> None:
    (groups / name).parent.mkdir(parents=True, exist_ok=True)
    (groups / name).write_text(f"{value}\n")


def test_a_service_that_is_given_less_has_less_than_the_machine(tmp_path: Path, cgroup: Path) -> None:
    groups = tmp_path / "groups"
    whole = machine_bytes(groups, cgroup)
    assert resident_bytes() < whole == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit(groups, "system.slice/taskmaster.service/memory.max", "max")
    assert machine_bytes(groups, cgroup) == whole
    limit(groups, "system.slice/memory.max", str(3 << 20))
    assert machine_bytes(groups, cgroup) == 3 << 20
    limit(groups, "system.slice/taskmaster.service/memory.high", str(1 << 20))
    assert machine_bytes(groups, cgroup) == 1 << 20


def test_without_control_groups_there_is_what_the_machine_has(tmp_path: Path) -> None:
    assert machine_bytes(tmp_path, tmp_path / "none") > resident_bytes()
