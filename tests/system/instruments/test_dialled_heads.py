"""Heads whose processes run where the instruments are, and not where the daemon is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import probes
from helpers.cli import taskmaster
from helpers.daemon import Daemon, tcp
from helpers.places import StartDaemon
from helpers.probes import await_states, heads, outcomes, points
from helpers.waiting import PATIENCE, eventually

from taskmaster.drivers.simulated import Laboratory

HEADS = ("tip-1", "tip-2")


@pytest.fixture
def probe() -> Iterator[Laboratory]:
    with Laboratory("probe", heads=2, settling=0.02) as probe:
        yield probe


@pytest.fixture
def daemon(probe: Laboratory, start_daemon: StartDaemon) -> Daemon:
    return start_daemon({"stm": probes.stm(probe, HEADS, processes="elsewhere")}, **tcp())


@pytest.fixture
def elsewhere(daemon: Daemon, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``taskmaster worker`` on the other machine."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)}
    command = [sys.executable, "-m", "taskmaster", "worker", daemon.address, "stm"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        yield process
        process.kill()


def test_who_stops_what_nobody_has_reached_is_told_so(daemon: Daemon) -> None:
    said = taskmaster("stop", "stm", TASKMASTER=daemon.address)
    assert said.status == 12
    assert "Master 'stm' is stopped; 0 of " in said.out
    assert "NOT KNOWN TO BE SAFE: " in said.err
    for head in HEADS:
        assert f"stm/{head} (no worker has it; " in said.err


def test_they_work_through_a_restart_of_the_daemon_and_are_left_safe(
    probe: Laboratory, daemon: Daemon, elsewhere: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        assert not daemon.guardians()
        run = lab["stm"].open()
        run.tasks.put_many(points(60))
        probe.control.wait("tip-1", "POS", 5)
        daemon.restart()
        assert outcomes(run, 60)["done"] == 60
        assert max(probes.visits(probe, HEADS).values()) == 1
        daemon.stop()
        daemon.start()
        await_states(lab, "ready", "ready")
        workers = {info.pid for info in heads(lab).values()}
        mark = probe.control.mark()
        elsewhere.send_signal(signal.SIGINT)
        assert elsewhere.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
        eventually(lambda: all(probe.control.first_safe(head, mark) for head in HEADS), "both to be safe")
        await_states(lab, "away", "away")
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_second_one_on_that_machine_says_that_there_is_one(
    daemon: Daemon, elsewhere: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        said = taskmaster("worker", daemon.address, "stm", STATE_DIRECTORY=str(tmp_path))
        assert said.status != 0
        assert "another process here has the heads of Master 'stm'" in said.err
        elsewhere.send_signal(signal.SIGTERM)
        assert elsewhere.wait(PATIENCE) == 0
