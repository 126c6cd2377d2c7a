"""The sections about running a daemon: what they come to, and what may be left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskmaster.cli.cautions import cautions
from taskmaster.config.load import Config, loads
from taskmaster.daemon.plan import plan

MASTER = "\n[masters.svm]\ndriver = 'process'\nfunction = 'a:b'\n"


def read(text: str, folder: str | Path = "/tmp") -> Config:
    return loads(f"{text}{MASTER}", folder=folder)


def test_nothing_is_done_that_nobody_asked_for() -> None:
    operations = plan(read("")).operations
    assert (operations.alarm_command, operations.metrics, bool(operations.retention)) == ((), None, False)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("9469", "127.0.0.1:9469"),
        ("'9469'", "127.0.0.1:9469"),
        ("':9469'", "127.0.0.1:9469"),
        ("'localhost:9469'", "127.0.0.1:9469"),
        ("'0.0.0.0:80'", "0.0.0.0:80"),
        ("'[::1]:80'", "[::1]:80"),
    ],
)
def test_metrics_are_for_this_machine_unless_another_address_is_named(written: str, address: str) -> None:
    assert plan(read(f"[metrics]\nlisten = {written}")).operations.metrics == address


def test_a_program_is_relative_to_the_file_or_one_of_path(tmp_path: Path) -> None:
    (tmp_path / "alarm.sh").touch(0o700)
    config = read("[alarms]\ncommand = ['./alarm.sh', 'lab 7']\ntimeout = '5 s'\ndisk_low = '2 GB'", tmp_path)
    operations = plan(config).operations
    assert operations.alarm_command == (str(tmp_path / "alarm.sh"), "lab 7")
    assert (operations.alarm_timeout, operations.disk_low) == (5.0, 2_000_000_000)
    assert plan(read("[alarms]\ncommand = ['logger', '-t', 'x']")).operations.alarm_command == ("logger", "-t", "x")


def test_runs_are_archived_in_the_state_folder_unless_said_otherwise(tmp_path: Path) -> None:
    rules = plan(read("[daemon]\nstate = 'state'\n[retention]\nclosed = '30 d'", tmp_path)).operations.retention
    assert (rules.closed, rules.size, rules.archive) == (30 * 86400.0, None, str(tmp_path / "state" / "archive"))
    rules = plan(read("[retention]\nsize = '2 GB'\nfolder = 'old'", tmp_path)).operations.retention
    assert (rules.size, rules.archive) == (2_000_000_000, str(tmp_path / "old"))
    assert plan(read("[retention]\nsize = '2 GB'\narchive = 'none'")).operations.retention.archive is None


def test_what_promises_less_than_one_may_think_is_said() -> None:
    def said(text: str) -> list[str]:
        return [caution.key for caution in cautions(read(text))]

    assert said("[metrics]\nlisten = 9469\n[retention]\nclosed = '1 d'") == []
    assert said("[metrics]\nlisten = '0.0.0.0:9469'") == ["metrics.listen"]
    assert said("[retention]\nclosed = '1 d'\narchive = 'none'") == ["retention.archive"]
    assert said("[retention]\narchive = 'none'") == []
