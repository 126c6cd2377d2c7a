"""A journal of an older release under a real daemon: kept as it was, brought up to date, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon
from helpers.disks import small_disk
from helpers.load import Load, master
from helpers.older import make_older

from taskmaster.daemon.journal import migrations
from taskmaster.daemon.journal.backup import read_manifest, restore, verify
from taskmaster.daemon.journal.check import report
from taskmaster.daemon.journal.checksums import connect
from taskmaster.daemon.journal.schema import BEFORE

KILLS = 12


def tables(state: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that is in blocks and events."""
    with contextlib.closing(connect(state / "journal.db", write=False)) as db:
        return {name: list(db.execute(f"SELECT * FROM {name} ORDER BY 1, 2")) for name in ("blocks", "events")}


@pytest.fixture
def daemon(place: Path) -> Any:
    """A daemon that has measured something and stopped, and whose journal is of the schema before."""
    daemon = Daemon(place / "d", {"square": master()}, durability="power")
    try:
        with daemon.start().connect() as lab:
            load = Load(lab["square"].open("run"), seed=4, large=True).start()
            load.await_results(5000)
            load.finish()
        daemon.stop()
        make_older(daemon.state)
        yield daemon
    finally:
        daemon.close()
        print(daemon.log)


def test_killed_again_and_again_it_is_brought_up_to_date_in_the_end(daemon: Daemon, place: Path) -> None:
    before = tables(daemon.state)
    chance = random.Random(3)
    for _ in range(KILLS):
        daemon.launch()
        threading.Event().wait(chance.uniform(0.1, 0.8))  # the one thing that a random moment can be waited for by
        daemon.kill()
    with daemon.start().connect() as lab:
        assert "the journal is of an older release and is brought up to date; as it was, it is kept in" in daemon.log
        assert {len(rows) for rows in tables(daemon.state).values()} >= {len(before["blocks"])}
        assert [info.name for info in lab.runs()] == ["run"]
        again = lab["square"].open("again")
        again.tasks.put({"x": 3.0})
        assert [result.output for result in again.results] == [9.0]
    daemon.stop()
    now = tables(daemon.state)
    assert [row for row in now["blocks"] if row[0] == 1] == before["blocks"]
    assert [row for row in now["events"] if row[0] == 1] == before["events"]
    kept = sorted(daemon.state.glob(f"{BEFORE}{migrations.SCHEMA_VERSION}*"))
    assert kept
    for folder in kept:
        assert verify(folder).schema == 2
    restore(kept[0], place / "older", resume=True)
    assert tables(place / "older") == before
    assert read_manifest(kept[0]).tasks == sum(row[2] for row in before["blocks"])
    for folder in kept:
        shutil.rmtree(folder)
    assert report(daemon.state).ok, "payload files that were shared are its own again"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small file system that this fills")
def test_without_room_to_keep_it_nothing_is_changed(daemon: Daemon, place: Path) -> None:
    before = tables(daemon.state)
    aside = place / "aside"
    daemon.state.rename(aside)
    with small_disk(daemon.state, 64 << 20) as disk:
        for path in aside.iterdir():
            if path.is_dir():
                shutil.copytree(path, daemon.state / path.name)
            elif not path.is_socket():
                shutil.copy(path, daemon.state)
        disk.leave(1 << 20)
        daemon.launch()
        assert daemon.wait() == 1
        assert "no room for a backup in" in daemon.log
        assert tables(daemon.state) == before
        assert report(daemon.state).ok
        disk.leave(40 << 20)
        daemon.start()
        daemon.stop()
        assert list(daemon.state.glob(f"{BEFORE}*"))
