"""The page about learners: its programs run as they stand, and say what they promise; so does the example."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import taskmaster
from helpers.documents import ROOT, code_blocks, document, section

from taskmaster.bus.fields import Field
from taskmaster.learners import registry
from taskmaster.learners.inorder import InOrder

PAGE = "docs/learners.md"


def python(folder: Path, *arguments: str) -> str:
    """What a program prints, started in an empty folder."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_programs_run_from_the_first_line_to_the_last(tmp_path: Path) -> None:
    text = document(PAGE)
    programs = [
        code
        for title in ("Write your own", "Loop", "Simulation")
        for code in code_blocks(section(text, title), "python")
    ]
    printed = python(tmp_path, "-c", "\n".join(programs))
    assert re.search(r"^200 points, best -0\.0", printed, re.MULTILINE)
    done = re.search(r"^(\d+) done, (\d+) failed, (\d+) deaths, (.*)% idle$", printed, re.MULTILINE)
    assert done is not None
    assert int(done[1]) == pytest.approx(8 * 1000 * 6, rel=0.1), "a thousand hours of eight heads, ten minutes each"
    assert int(done[3]) == pytest.approx(8 * 1000 / 20, rel=0.3)
    assert re.search(r"^learner +workers", printed, re.MULTILINE)
    assert (tmp_path / "study.png").stat().st_size > 5000


def test_its_commands_run(tmp_path: Path) -> None:
    for line in code_blocks(section(document(PAGE), "Simulation"), "console")[0].splitlines():
        command = line.removeprefix("$ taskmaster ")
        said = taskmaster(*[part.strip('"') for part in re.findall(r'"[^"]*"|\S+', command)], folder=tmp_path)
        assert said.status == 0, said.err
        assert said.out.splitlines()[0].startswith("learner")


def spans(text: str, column: int, rows: str) -> list[str]:
    """What is set as code in a column of the table that has these words in its heading."""
    table = text[text.index(rows) :].partition("\n\n")[0].splitlines()[2:]
    return [code for row in table for code in re.findall(r"`([^`]+)`", row.split("|")[column])]


def test_what_it_says_to_choose_can_be_had_by_that_name() -> None:
    x, y = Field("x", min=0, max=1), Field("y", min=0.1, max=1)
    seed, outputs = Field("seed", kind="int", min=0, max=99), [Field(name) for name in ("loss", "heat", "yield")]
    commands = spans(section(document(PAGE), "Choose"), 3, "| you want | learner |")
    assert len(commands) > 12
    for command in commands:
        name, *options = shlex.split(command)
        given = dict(option.split("=", 1) for option in options)
        if name == "human":
            continue
        parameters = [seed] if name == "adaptive:AverageLearner" else [x] if "Integrator" in name else [x, y]
        assert registry.create(name, parameters, outputs[:1] if "adaptive" in name else outputs, options=given)


def test_what_is_around_a_learner_can_be_had_by_its_options() -> None:
    parameters = [Field("x", min=0, max=1), Field("y", min=0, max=1), Field("dose", min=0.01, max=1)]
    parameters.append(Field("filter", kind="str", choices=("red", "green")))
    codes = spans(section(document(PAGE), "Our own"), 3, "| wrapper | does |")
    given = dict(code.split("=", 1) for code in codes)
    assert given.keys() == {
        f"wrap.{name}" for name in ("travel", "ahead", "in-order", "dedup", "pending", "log", "output", "negate")
    }
    learner = registry.create("sobol", parameters, [Field("mass"), Field("colour")], options=given)
    assert isinstance(learner, InOrder)
    for point in learner.ask(8):
        learner.tell(point, {"mass": 1.0, "colour": 2.0})


def test_the_learner_of_the_page_has_fifteen_lines() -> None:
    [code] = code_blocks(section(document(PAGE), "Write your own"), "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


def test_the_example_compares_learners_and_draws_them(tmp_path: Path) -> None:
    printed = python(tmp_path, str(ROOT / "examples" / "compare_learners.py"), "study.png").splitlines()
    assert len(printed) == 1 + 6
    assert (tmp_path / "study.png").stat().st_size > 5000
