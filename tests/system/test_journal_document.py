"""What `docs/journal.md` says about reading the journal is done here, on the journal of a daemon at work."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import taskmaster
from helpers.daemon import function, tcp
from helpers.load import Load, master
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE

from taskmaster.daemon.journal import migrations

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "journal.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("points", [1000, 20_000], ids=["in rows", "in payload files"])
def test_a_few_lines_read_what_was_measured_while_the_daemon_runs(start_daemon: StartDaemon, points: int) -> None:
    code = re.search(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert code is not None
    master = function("square", parameters={"x": {}}, outputs={"y": {}})
    daemon = start_daemon({"square": master})
    x = np.arange(float(points))
    with daemon.connect() as lab, lab["square"].open() as run:
        run.tasks.put_many(x.reshape(-1, 1))
        run.tasks.put({"x": -3.0})
        assert len(list(run.results)) == points + 1
        found: dict[str, Any] = {}
        exec(code[1].replace("STATE", str(daemon.state)), found)
        try:
            assert np.array_equal(found["inputs"], [*x, -3.0])
            assert np.array_equal(found["outputs"], found["inputs"] ** 2)
        finally:
            found["db"].close()
    assert bool(list((daemon.state / "payloads").glob("??/*"))) == (points > 8192)


def test_every_table_and_every_file_is_described(start_daemon: StartDaemon) -> None:
    tables = set(re.findall(r"CREATE TABLE (\w+)", "".join(migrations.MIGRATIONS.values())))
    described = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.partition("## Tables")[2].partition("## ")[0], re.MULTILINE))
    assert described == tables

    daemon = start_daemon({"square": function("square")}, keep_free=1)
    files = DOCUMENT.partition("## The state directory")[2].partition("## ")[0]
    known = {name.rstrip("/") for name in re.findall(r"`([\w.-]+/?)`", files)} | {"control", "results", "workers"}
    assert {entry.name for entry in os.scandir(daemon.state)} <= known


def test_the_version_of_the_schema_is_where_it_says(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"square": function("square")})
    database = sqlite3.connect(f"file:{daemon.state}/journal.db?mode=ro", uri=True)
    try:
        assert database.execute("PRAGMA user_version").fetchone() == (migrations.SCHEMA_VERSION,)
    finally:
        database.close()


def test_a_copy_is_made_beside_a_busy_daemon_and_served_by_another(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"square": master()})
    with daemon.connect() as lab:
        load = Load(lab["square"].open("load"), seed=1, large=True).start()
        load.await_results(300)
        copied = taskmaster("check", "--journal", str(daemon.state), "--copy", str(place / "copy"))
        assert copied.status == 0, copied.err
        assert "It is whole." in copied.out
        load.await_results(100)
        load.finish()
        load.check(lab, daemon.state)
    other = start_daemon({"square": master()}, name="other", state=str(place / "copy"), **tcp())
    with other.connect() as lab, lab["square"].watch("load") as run:
        assert [run.results.get(PATIENCE).seq for _ in range(300)] == list(range(300))
        assert lab["square"].statistics().state == "paused"
    again = taskmaster("check", "--journal", str(daemon.state), "--copy", str(place / "copy"))
    assert again.status != 0
    assert "is in use; name a new folder" in again.err


@pytest.mark.parametrize("running", [True, False])
def test_what_another_program_has_copied_can_be_made_one_of_ours_again(
    start_daemon: StartDaemon, place: Path, running: bool
) -> None:
    daemon = start_daemon({"square": function("square")})
    with daemon.connect() as lab, lab["square"].open("run") as run:
        run.tasks.put_many([{"x": float(k)} for k in range(500)])
        assert len(list(run.results)) == 500
    if not running:
        daemon.stop()
    (place / "copy").mkdir()
    source = sqlite3.connect(f"file:{daemon.state}/journal.db?mode=ro", uri=True)
    copy = sqlite3.connect(place / "copy" / "journal.db")
    source.backup(copy)
    source.close()
    copy.close()
    checked = taskmaster("check", "--journal", str(place / "copy"))
    assert checked.status == 7
    salvaged = taskmaster("check", "--journal", str(place / "copy"), "--salvage", str(place / "new"))
    assert salvaged.status == 0, salvaged.err
    assert "500 tasks, 501 events" in salvaged.out
    other = start_daemon({"square": function("square")}, name="other", state=str(place / "new"), **tcp())
    with other.connect() as lab, lab["square"].watch("run") as run:
        assert [run.results.get(PATIENCE).output for _ in range(500)] == [float(k) ** 2 for k in range(500)]
