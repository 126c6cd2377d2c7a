"""docs/heads.md: its head passes its own tests, as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from helpers.documents import code_blocks, document, section, tables
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE

from taskmaster.drivers.testing import CHECKS

TEXT = document("docs/heads.md")


def files(folder: Path) -> None:
    head, tests = code_blocks(TEXT, "python")
    (folder / "furnace.py").write_text(head)
    (folder / "test_furnace.py").write_text(tests)
    (folder / "lab.toml").write_text(*code_blocks(TEXT, "toml"))


def test_its_head_passes_the_suite(tmp_path: Path) -> None:
    files(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_furnace.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert f"{2 * len(CHECKS)} passed" in ran.stdout, ran.stdout + ran.stderr


def test_its_head_works_for_a_daemon(tmp_path: Path, start_daemon: StartDaemon) -> None:
    files(tmp_path)
    (declared,) = code_blocks(TEXT, "toml")
    furnace = tomllib.loads(declared)["masters"]["furnace"]
    with start_daemon({"furnace": {**furnace, "path": [str(tmp_path)]}}).connect() as lab:
        run = lab["furnace"].open()
        run.tasks.put_many([{"setpoint": 21.0}, {"setpoint": 22.0}])
        assert sorted(result.output for result in run.results) == [21.0, 22.0]


def test_every_check_is_explained() -> None:
    explained = [row[0] for row in tables(section(TEXT, "With the driver suite"))[0]]
    assert explained == [check.__name__ for check in CHECKS]
