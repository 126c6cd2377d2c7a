"""docs/programmes.md: from the configuration to the first result, as a reader would type it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.cli import Program
from helpers.documents import code_blocks, document
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE

from taskmaster.drivers.simulated import Laboratory
from taskmaster.drivers.simulated.__main__ import parser

TEXT = document("docs/programmes.md")
(CONFIGURATION,) = code_blocks(TEXT, "toml")
CHECK, SERVE = (block.splitlines() for block in code_blocks(TEXT, "console"))


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(capsys, monkeypatch)


def test_its_configuration_is_right_and_rehearsed(typed: Program, tmp_path: Path) -> None:
    (tmp_path / "growth.toml").write_text(CONFIGURATION, encoding="utf-8")
    (line,) = CHECK
    _, _, command, name, option, *_ = shlex.split(line)
    said = typed(command, tmp_path / name, option)
    assert said.status == 0, said.err
    assert "its programme was rehearsed in 1 s" in said.out
    for sent in (r"task +TEMP:SP \d+\.\d\d\n", r" LIGHT:SP 0\n", r"safe +STANDBY\n"):
        assert re.search(sent, said.out), sent


def test_its_first_result(start_daemon: StartDaemon) -> None:
    chambers, serve = SERVE
    options = parser().parse_args(shlex.split(chambers)[4:-1])
    assert serve == "$ taskmaster serve growth.toml"
    growth = tomllib.loads(CONFIGURATION)["masters"]["growth"]
    assert options.factor == growth["programme"]["speed"]
    with Laboratory(options.simulator, count=options.count, factor=options.factor) as laboratory:
        (chamber,) = laboratory.heads
        daemon = start_daemon({"growth": {**growth, "resource": chamber.resource}})
        (program,) = code_blocks(TEXT, "python")
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "TASKMASTER": daemon.address},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert re.fullmatch(r"18 °C: \d\.\d\d g\n26 °C: \d\.\d\d g\n", ran.stdout), ran.stdout
        daemon.close()
