"""Backups of a daemon at work: what it had acknowledged by then is in them, and comes back; the load goes on."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import recorded
from helpers.circle import Circle, bound_at
from helpers.disks import small_disk
from helpers.load import Load, master
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually
from zmq.utils import z85

from taskmaster.bus.errors import DiskFull, JournalDamaged, JournalError
from taskmaster.cli.exits import exit_code
from taskmaster.daemon.journal import backup as backups
from taskmaster.daemon.journal.backup import back_up, verify
from taskmaster.daemon.journal.check import report
from taskmaster.learners import connect


def taskmaster(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskmaster", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def test_backups_under_load_hold_what_was_acknowledged_when_they_were_made(
    start_daemon: StartDaemon, place: Path
) -> None:
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab:
        load = Load(lab["square"].open("run"), seed=1, window=2000, large=True).start()
        told: list[tuple[int, int]] = []
        for k in range(3):
            load.await_results(2000)
            told.append((load.run._core.acknowledged, len(load.results)))
            made = taskmaster("backup", daemon.folder / "daemon.toml", place / f"backup-{k}", "--json")
            assert made.returncode == 0, made.stderr
            assert json.loads(made.stdout)["tasks"] >= told[k][0]
        load.await_results(1)
        load.finish()
        load.check(lab, daemon.state)
        here = {result.seq: result for result in load.results}

        for k, (acknowledged, delivered) in enumerate(told):
            restored = place / f"r{k}" / "state"
            restored.parent.mkdir()
            done = taskmaster("restore", place / f"backup-{k}", restored)
            assert done.returncode == 0, done.stderr
            found = report(restored)
            assert found.ok
            [run] = found.runs
            assert run.tasks >= acknowledged
            assert run.events >= delivered
            outcomes = recorded.outcomes(restored, run.run)
            assert len(outcomes) >= delivered
            for outcome in outcomes:
                assert (outcome.index, outcome.kind) == (here[outcome.seq].index, here[outcome.seq].outcome)


def test_what_was_restored_goes_on_when_it_may(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab, lab["square"].open("run") as run:
        run.tasks.put_many([{"x": float(x)} for x in range(50)])
        assert len(list(run.results)) == 50
        run.pause()
        run.tasks.put_many([{"x": float(x)} for x in range(50, 60)])
        run.flush()
        assert taskmaster("backup", daemon.state, place / "backup").returncode == 0
    daemon.stop()
    refused = taskmaster("restore", place / "backup", daemon.folder / "daemon.toml")
    assert (refused.returncode, "is not empty (" in refused.stderr) == (exit_code(JournalError("")), True)
    daemon.state.rename(place / "before")
    restored = taskmaster("restore", place / "backup", daemon.folder / "daemon.toml")
    assert restored.returncode == 0
    assert "its Masters are paused" in restored.stdout
    with daemon.start().connect() as lab:
        assert lab.status().masters[0].state == "paused"
        run = lab["square"].open("run")
        lab["square"].resume()
        run.resume()
        assert sorted(result.index for result in run.results) == list(range(60))


def test_a_backup_has_no_keys_and_with_these_carried_over_all_is_as_it_was(
    start_daemon: StartDaemon, place: Path
) -> None:
    """On another machine, with its own configuration, whoever has pinned the daemon's key finds it there."""
    masters = {"square": master()}
    circle = Circle(place, start_daemon, masters)
    circle.admit("anna", "learner")
    with circle.connect("anna") as lab, lab["square"].open("run") as run:
        run.tasks.put_many({"x": np.arange(20_000.0)})
        run.flush()
        assert len(list(run.results)) == 20_000
    before = os.umask(0o022)
    try:
        assert taskmaster("backup", circle.daemon.folder / "daemon.toml", place / "backup").returncode == 0
    finally:
        os.umask(before)
    paths = [place / "backup", *(place / "backup").rglob("*")]
    assert {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths} == {(True, 0o700), (False, 0o600)}
    files = [path for path in paths if path.is_file()]
    assert len(files) > 2, "with payload files"
    for pair in (circle.own, *circle.pairs.values()):
        for secret in (pair.secret, pair.public, z85.encode(pair.secret), pair.text.encode()):
            assert not any(secret in path.read_bytes() for path in files)
    assert not [path.name for path in files if "key" in path.name]

    circle.daemon.stop()
    assert taskmaster("restore", place / "backup", place / "elsewhere").returncode == 0
    paths = [place / "elsewhere", *(place / "elsewhere").rglob("*")]
    assert {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths} == {(True, 0o700), (False, 0o600)}
    anywhere = "tcp://127.0.0.1:*"
    there = start_daemon(
        masters, name="e", state=str(place / "elsewhere"), keys=str(circle.keys), listen=anywhere, results=anywhere,
        workers=anywhere,
    )  # fmt: skip
    with connect(bound_at(there), key=circle.file("anna"), daemon_key=circle.own.text) as lab:
        assert lab["square"].statistics().state == "paused"
        assert len(list(lab["square"].watch("run").results)) == 20_000


def test_nothing_is_restored_beside_a_daemon(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"square": master()})
    assert taskmaster("backup", daemon.state, place / "backup").returncode == 0
    refused = taskmaster("restore", place / "backup", daemon.state)
    assert refused.returncode == 5
    assert f"a daemon is at work in {daemon.state}; stop it" in refused.stderr


def test_a_daemon_does_not_start_on_a_backup(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"square": master()})
    assert taskmaster("backup", daemon.state, daemon.folder / "backup").returncode == 0
    daemon.stop()
    daemon.configure({"square": master()}, state="backup")
    refused = taskmaster("serve", daemon.folder / "daemon.toml")
    assert refused.returncode == 1
    assert "is a backup, which would be none any more; restore it" in refused.stderr
    assert verify(daemon.folder / "backup").runs == 0


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_killed_in_the_middle_nothing_passes_for_whole(start_daemon: StartDaemon, place: Path, name: str) -> None:
    """Whatever it has left is no backup, or no state that anybody would serve; and it can be done again."""
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab:
        load = Load(lab["square"].open("run"), seed=2, large=True).start()
        load.await_results(20_000)
        load.finish()
    made = back_up(daemon.state, place / "whole", 0.0)
    into = place / "new"
    source = daemon.state if name == "backup" else place / "whole"
    begun = place / (".new.partial" if name == "backup" else "new")
    for files in range(5):
        process = subprocess.Popen(
            [sys.executable, "-m", "taskmaster", name, str(source), str(into)], stdout=subprocess.DEVNULL
        )
        await_files(process, begun, files)
        process.kill()
        process.wait()
        if name == "backup" and into.exists():
            assert verify(into).tasks == made.tasks
            break
        if name == "restore" and (into / "journal.db").exists() and not (into / "restoring").exists():
            break
        if (into / "restoring").exists():
            with pytest.raises(JournalError, match="interrupted; finish that first"):
                backups.require_state(into)
    if not (into / "journal.db").exists() or (into / "restoring").exists():
        assert taskmaster(name, source, into).returncode == 0
    assert report(into).ok
    assert sum(run.tasks for run in report(into).runs) == made.tasks


def await_files(process: subprocess.Popen[bytes], folder: Path, more_than: int) -> None:
    """Wait until a process has ended, or has made so many files."""
    eventually(lambda: process.poll() is not None or len(_files(folder)) > more_than, "it has begun")


def _files(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in folder.rglob("*") if path.is_file()]
    return []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small file system that this fills")
def test_a_disk_that_fills_up_amid_a_backup(
    start_daemon: StartDaemon, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of the backup, the daemon has noticed nothing, and on a larger disk it can be had."""
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab, small_disk(place / "small", 4 << 20) as disk:
        disk.leave(300_000)
        load = Load(lab["square"].open("run"), seed=3, large=True).start()
        load.await_results(50_000)
        with pytest.raises(DiskFull, match=r"no room for a backup in .*small: it takes "):
            back_up(daemon.state, disk.folder / "backup", 0.0)

        monkeypatch.setattr(backups, "_free", lambda folder: 1 << 40)  # another program takes it meanwhile
        with pytest.raises(DiskFull, match=r"no room for the backup .*nothing is left there; choose another disk"):
            back_up(daemon.state, disk.folder / "backup", 0.0)
        assert [path.name for path in disk.folder.iterdir()] == ["ballast"]

        full = taskmaster("backup", daemon.state, disk.folder / "backup")
        assert (full.returncode, "choose another disk" in full.stderr) == (1, True)
        assert taskmaster("backup", daemon.state, place / "backup").returncode == 0
        load.finish()
        load.check(lab, daemon.state)
    assert report(daemon.state).ok


def test_a_backup_that_has_rotted_says_so(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab, lab["square"].open("run") as run:
        run.tasks.put_many([{"x": float(x)} for x in range(50)])
        assert len(list(run.results)) == 50
    assert taskmaster("backup", daemon.state, place / "backup").returncode == 0
    with (place / "backup" / "journal.db").open("r+b") as file:
        file.seek(3 * 4096 + 4000)
        file.write(b"rot")
    refused = taskmaster("restore", place / "backup", place / "new")
    assert refused.returncode == exit_code(JournalDamaged("")) == 7
    assert f"the backup in {place}/backup is damaged" in refused.stderr
    assert not (place / "new").exists()
