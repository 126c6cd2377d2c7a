"""What `docs/journal.md` says about reading the journal is done here, on the journal of a daemon at work."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.daemon import function
from helpers.places import StartDaemon

from taskmaster.daemon.journal import sql

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
    tables = set(re.findall(r"CREATE TABLE (\w+)", "".join(sql.MIGRATIONS.values())))
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
        assert database.execute("PRAGMA user_version").fetchone() == (sql.SCHEMA_VERSION,)
    finally:
        database.close()
