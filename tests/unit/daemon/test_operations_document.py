"""What docs/operations.md says of alarms, metrics and the hook is what there is."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from helpers.documents import code_blocks, document, section, tables

from taskmaster.bus import messages as m
from taskmaster.config.load import loads
from taskmaster.config.operations import OPERATIONS
from taskmaster.daemon.health import CREW_SECONDS, STILL_SECONDS
from taskmaster.daemon.hook import WAITING, environment_of, json_of
from taskmaster.daemon.reference import alarms_table, metrics_table

DOCUMENT = document("docs/operations.md")
MASTER = "[masters.svm]\ndriver = 'process'\nfunction = 'a:b'\n"


def test_the_tables_are_those_of_the_code() -> None:
    for name, table in (("alarms", alarms_table()), ("metrics", metrics_table())):
        assert table in DOCUMENT, f"put there what `python -m taskmaster.daemon.reference {name}` prints"


def test_the_hook_gets_what_its_table_says() -> None:
    alarm = m.Alarm("error", "svm", "it is broken", 5.0, "crash_loop", "", "raised")
    [listed] = tables(section(DOCUMENT, "A program that hears of them"))
    told = json_of("lab-7", alarm).decode()
    assert [f'"{row[0].strip("`")}"' for row in listed] == re.findall(r'("\w+"):', told)
    assert [row[1].strip("`") for row in listed] == list(environment_of("lab-7", alarm))
    assert f"At most {WAITING} alarms wait for it" in DOCUMENT


def test_the_times_of_health_are_right() -> None:
    text = section(DOCUMENT, "Health")
    assert f"has not turned for {STILL_SECONDS:g} seconds" in text
    assert f"for more than {CREW_SECONDS:g} seconds" in text


def test_its_configurations_are_right(tmp_path: Path) -> None:
    (tmp_path / "alarm.sh").write_text("#!/bin/sh\n")
    (tmp_path / "alarm.sh").chmod(0o700)
    sections = [loads(f"{block}\n{MASTER}", folder=tmp_path) for block in code_blocks(DOCUMENT, "toml")]
    for name, model in OPERATIONS.items():
        assert any(getattr(config, name) != model() for config in sections), name


def test_its_program_for_alarms_runs(tmp_path: Path) -> None:
    [script] = [block for block in code_blocks(DOCUMENT, "sh") if block.startswith("#!")]
    mail = tmp_path / "mail"
    mail.write_text(f'#!/bin/sh\necho "$2" > {tmp_path}/subject; cat > {tmp_path}/body\n')
    mail.chmod(0o700)
    alarm = m.Alarm("error", "svm", "it is broken", 5.0, "crash_loop", "", "raised")
    environment = {**os.environ, **environment_of("lab-7", alarm), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", script], env=environment, check=True, timeout=30)
    assert (tmp_path / "subject").read_text() == "TaskMaster: raised crash_loop\n"
    assert (tmp_path / "body").read_text() == "it is broken\n"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_key_of_its_sections_is_named(name: str) -> None:
    assert f"[{name}]" in DOCUMENT
