"""Pruning beside a daemon under load, by it, and without one: archived first, never what somebody may go on with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.circle import Circle
from helpers.daemon import Daemon, function
from helpers.disks import small_disk
from helpers.load import Load, master
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import messages as m
from taskmaster.bus.errors import Conflict, NotAllowed, UnknownRun
from taskmaster.daemon.journal.check import report
from taskmaster.daemon.journal.checksums import connect
from taskmaster.learners.client import Lab
from taskmaster.learners.export import export_run

RETENTION = '[retention]\nclosed = "1 s"\nevery = "1 s"\n'


def taskmaster(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskmaster", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def measured(lab: Lab, name: str, n: int = 20, *, master: str = "square", close: bool = True) -> int:
    """A run all of whose tasks have ended; returns its number."""
    run = lab[master].open(name)
    run.tasks.put_many([{"x": float(x)} for x in range(n)])
    assert len(list(run.results)) == n
    if close:
        run.close()
    return next(info.run for info in lab.runs(master) if info.name == name)


def names(lab: Lab) -> list[str]:
    return [info.name for info in lab.runs()]


def rows(folder: Path, run: int) -> dict[int, tuple[float, float]]:
    """index → input, output of an archived run."""
    [file] = [path for path in folder.glob(f"**/{run:06d}-*.parquet") if "progress" not in path.name]
    table = pq.read_table(file).to_pydict()
    return {index: (x, y) for index, x, y in zip(table["index"], table["x"], table["y"])}


def test_what_is_old_is_archived_and_deleted_beside_a_load(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"square": master()})
    config = daemon.folder / "daemon.toml"
    with daemon.connect() as lab:
        load = Load(lab["square"].open("load"), seed=7, large=True).start()
        old = [measured(lab, f"old {k}") for k in range(3)]
        measured(lab, "not closed", close=False)
        waiting = lab["square"].open("waiting")
        waiting.pause()
        waiting.tasks.put({"x": 1.0})
        waiting.flush()
        waiting.close()

        listed = json.loads(taskmaster("journal", "prune", config, "--closed", "0 s", "--dry-run", "--json").stdout)
        assert [each["run"] for each in listed] == old
        done = taskmaster("journal", "prune", config, "--closed", "0 s", "--archive", place / "archive")
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("3 runs deleted\n")
        assert sorted(names(lab)) == ["load", "not closed", "waiting"]
        for run in old:
            assert rows(place / "archive", run) == {x: (float(x), float(x * x)) for x in range(20)}
        load.await_results(100)
        load.finish()
        load.check(lab, daemon.state)
    daemon.stop()
    assert report(daemon.state).ok


def test_only_what_was_archived_is_deleted(start_daemon: StartDaemon) -> None:
    """The daemon has the last word: on a run that goes on, or is not as it was looked at."""
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab:
        number = measured(lab, "run")
        events = next(info.events for info in lab.runs())
        with pytest.raises(Conflict, match=f"has {events} events by now, not {events - 1}"):
            lab.ask(m.Prune(0, number, events - 1))
        again = lab["square"].open("run")
        with pytest.raises(NotAllowed, match="is not closed: its learner may go on with it"):
            lab.ask(m.Prune(0, number, events + 1))
        again.close()
        lab.ask(m.Prune(0, number, events + 2))
        with pytest.raises(UnknownRun):
            lab.ask(m.Prune(0, number, events + 2))


def test_with_keys_pruning_takes_the_daemons_own_user_or_an_admin(start_daemon: StartDaemon, place: Path) -> None:
    circle = Circle(place, start_daemon, {"square": master()})
    for name in ("learner", "operator", "admin"):
        circle.admit(name, name)
    with circle.connect("learner") as lab:
        runs = [measured(lab, f"run {k}") for k in range(3)]
        events = {info.run: info.events for info in lab.runs()}
        assert export_run(lab, lab.runs()[0], place / "run.csv") == 20, "the pages are asked for with the key, too"
        with pytest.raises(NotAllowed, match=r"key 'learner' \(learner\) may not prune the journal"):
            lab.ask(m.Prune(0, runs[0], events[runs[0]]))
    with circle.connect("operator") as lab, pytest.raises(NotAllowed, match="that takes the role admin"):
        lab.ask(m.Prune(0, runs[0], events[runs[0]]))
    with circle.connect("admin") as lab:
        lab.ask(m.Prune(0, runs[0], events[runs[0]]))
        done = taskmaster("journal", "prune", circle.daemon.folder / "daemon.toml", "--closed", "0 s", "--no-archive")
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("2 runs deleted\n")
        assert names(lab) == []


def test_the_daemon_prunes_by_itself(place: Path) -> None:
    daemon = Daemon(place / "d", {"square": master()})
    with (daemon.folder / "daemon.toml").open("a") as file:
        file.write(RETENTION)
    try:
        with daemon.start().connect() as lab:
            load = Load(lab["square"].open("load"), seed=8).start()
            old = [measured(lab, f"old {k}") for k in range(3)]
            eventually(lambda: names(lab) == ["load"], "the others to go")
            load.await_results(100)
            load.finish()
            load.check(lab, daemon.state)
            for run in old:
                assert len(rows(daemon.state / "archive", run)) == 20
                assert f"run {run} (square/old {run - 2}) is archived and deleted" in daemon.log
            assert lab.standing_alarms() == ()
        daemon.stop()
        assert report(daemon.state).ok
    finally:
        daemon.close()


def test_runs_that_cannot_be_archived_stay_and_that_is_an_alarm(place: Path) -> None:
    daemon = Daemon(place / "d", {"square": master()})
    (place / "file").write_text("no folder")
    with (daemon.folder / "daemon.toml").open("a") as file:
        file.write(f'{RETENTION}folder = "{place}/file/archive"\n')
    try:
        with daemon.start().connect() as lab:
            measured(lab, "old")
            [alarm] = eventually(lab.standing_alarms, "the alarm")
            assert (alarm.kind, alarm.level) == ("retention", "error")
            assert alarm.message.endswith(f"cannot be archived: {place}/file/archive: Not a directory")
            assert names(lab) == ["old"]
            (place / "file").unlink()
            eventually(lambda: not names(lab), "it to go")
            eventually(lambda: not lab.standing_alarms(), "the alarm to be over")
    finally:
        daemon.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small file system that this fills")
def test_a_full_disk_of_the_archive_costs_no_run(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab, small_disk(place / "small", 1 << 20) as disk:
        measured(lab, "old", n=2000)
        disk.leave(8192)
        full = taskmaster("journal", "prune", daemon.state, "--closed", "0 s", "--archive", disk.folder / "archive")
        assert full.returncode == 1
        assert "No space left on device" in full.stderr
        assert names(lab) == ["old"]
        assert [path for path in disk.folder.glob("archive/**/*") if path.is_file()] == []


def test_without_a_daemon_we_prune_ourselves_and_give_the_room_back(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"square": master(), "echo": function("echo")})
    with daemon.connect() as lab:
        kept = measured(lab, "kept", close=False)
        gone = measured(lab, "gone", n=3000)
        with lab["echo"].open("large") as run:
            run.tasks.put_many([f"{k} " * 20_000 for k in range(10)])
            assert len(list(run.results)) == 10
            run.close()
        beside = taskmaster("journal", "vacuum", daemon.state)
        assert (beside.returncode, f"a daemon is at work in {daemon.state}; stop it first" in beside.stderr) == (
            5,
            True,
        )
    daemon.stop()
    done = taskmaster("journal", "prune", daemon.state, "--closed", "0 s", "--archive", place / "archive")
    assert done.returncode == 0, done.stderr
    assert len(rows(place / "archive", gone)) == 3000
    assert list(daemon.state.glob("payloads/??/*")) == [], "payload files go with their run"
    assert report(daemon.state).ok
    vacuumed = taskmaster("journal", "vacuum", daemon.state, "--json")
    assert vacuumed.returncode == 0, vacuumed.stderr
    sizes = json.loads(vacuumed.stdout)
    assert sizes["after"] < sizes["before"] / 2
    assert taskmaster("journal", "check", daemon.state).returncode == 0
    with daemon.start().connect() as lab:
        assert [info.run for info in lab.runs()] == [kept]
        assert len(list(lab["square"].watch("kept").results)) == 20


def test_what_was_not_archived_is_gone_where_that_is_wanted(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab:
        measured(lab, "old")
        assert taskmaster("journal", "prune", daemon.state).returncode == 2, "which ones was not said"
        done = taskmaster("journal", "prune", daemon.state, "--size", "0", "--no-archive")
        assert (done.returncode, names(lab)) == (0, [])
    assert not (daemon.state / "archive").exists()


def test_a_large_run_goes_in_many_turns_and_nobody_waits(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab:
        run = lab["square"].open("large")
        for x in range(6000):
            run.tasks.put({"x": float(x)})
            if x % 50 == 0:
                run.flush()
        assert len(list(run.results)) == 6000
        run.close()
        number = next(info.run for info in lab.runs())
        lab.delete_run(number)
        assert names(lab) == []
        daemon.kill()
        daemon.start()
        assert measured(lab, "next") == number + 1
        eventually(lambda: not _going(daemon), "the rest to go")
    daemon.stop()
    assert report(daemon.state).ok
    assert [found.name for found in report(daemon.state).runs] == ["next"]


def _going(daemon: Daemon) -> list[Any]:
    with contextlib.closing(connect(daemon.state / "journal.db", write=False)) as db:
        return list(db.execute("SELECT run FROM going UNION ALL SELECT run FROM events WHERE run = 1 LIMIT 5"))


@pytest.mark.parametrize("command", ["prune", "vacuum"])
def test_killed_in_the_middle_nothing_is_lost(start_daemon: StartDaemon, place: Path, command: str) -> None:
    """What was archived is whole or not there, what is not archived is in the journal, which stays whole."""
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab:
        for k in range(6):
            measured(lab, f"old {k}", n=300)
        measured(lab, "kept", close=False)
    daemon.stop()
    options = ["--closed", "0 s", "--archive", str(place / "archive")] if command == "prune" else []
    for _ in range(6):
        before = _contents(daemon.state)
        process = subprocess.Popen(
            [sys.executable, "-m", "taskmaster", "journal", command, str(daemon.state), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await_change(process, daemon.state, before)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert report(daemon.state).ok
        there = {run.name for run in report(daemon.state).runs}
        archived = {
            path.stem.partition("-")[2].replace("_", " ")
            for path in (place / "archive").glob("square/*.parquet")
            if pq.read_table(path).num_rows == 300
        }
        assert there | archived == {"kept", *(f"old {k}" for k in range(6))}
    assert taskmaster("journal", command, daemon.state, *options).returncode == 0
    with daemon.start().connect() as lab:
        assert names(lab) == (["kept"] if command == "prune" else [*(f"old {k}" for k in range(6)), "kept"])


def await_change(process: subprocess.Popen[bytes], state: Path, before: object) -> None:
    eventually(lambda: process.poll() is not None or _contents(state) != before, "it to have begun")


def _contents(state: Path) -> object:
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in state.glob("journal.db*")]
