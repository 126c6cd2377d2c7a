"""The examples run as they stand, and print what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.documents import ROOT, code_blocks, document, section
from PIL import Image


def run_program(folder: Path, *arguments: str) -> list[str]:
    """What a program prints, line by line; started in an empty folder, as somebody else's would be."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


def test_the_first_steps_print_results_as_they_are_ready(tmp_path: Path) -> None:
    printed = run_program(tmp_path, str(ROOT / "examples" / "first_steps.py"))
    assert printed[:4] == ["put 6.0", "put 1.0", "put 2.0", "put 1.5"]
    assert sorted(line.strip() for line in printed[4:]) == ["1.0 → 1.0", "1.5 → 2.25", "2.0 → 4.0", "6.0 → 36.0"]
    assert printed[4].strip() != "6.0 → 36.0", "the slowest was put first and is not ready first"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_digits_are_explored_and_drawn(tmp_path: Path) -> None:
    printed = run_program(tmp_path, str(ROOT / "examples" / "svm_digits.py"), "25", "map.png")
    assert printed[0].startswith("25 points, best so far 0.9")
    assert printed[1].startswith("best: 0.9")
    assert printed[2] == f"map:  {tmp_path / 'map.png'}"
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        ("adaptive_runner", [r"\d+ points, the highest at 0\.[23]\d"]),
        ("grid_search", [r"0\.98 with \{'C': .*, 'gamma': .*\}"]),
        ("minimise", [r"the minimum is at \[1\. 1\.\]", "800 steps around it"]),
        ("mapping", [r"(\d+) by SerialMapper", r"\1 by GuidedMapper"]),
        ("in_asyncio", [r"\[1, 1, 2, 6, 24, 120, 720, 5040\]", "given up: .*", "6"]),
        ("several_masters", [r"64 points in 1\.\d h: (\d+) by the probe, (\d+) by the model"]),
    ],
)
def test_libraries_and_loops_use_a_master(tmp_path: Path, name: str, promised: list[str]) -> None:
    printed = run_program(tmp_path, str(ROOT / "examples" / f"{name}.py"))
    assert re.fullmatch("\n".join(promised), "\n".join(printed)), printed
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_loop_is_watched_and_drawn(tmp_path: Path) -> None:
    printed = run_program(tmp_path, str(ROOT / "examples" / "watch_a_loop.py"), "120", "ring.png")
    assert printed[-1] == "120 points in ring.png"
    assert all(re.fullmatch(r"at \{'x': .*\}: the detector is saturated; it goes on", line) for line in printed[:-1])
    with Image.open(tmp_path / "ring.png") as picture:
        assert picture.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["ring.png"]


def test_every_example_runs_in_a_test_and_is_found_from_a_document() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "system").glob("test_*.py"))
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for path in sorted((ROOT / "examples").rglob("*.py")):
        assert f"{path.stem}" in tests, f"{path.name} is in no test"
        assert f"examples/{path.relative_to(ROOT / 'examples')}" in pages, f"no document mentions {path.name}"


def test_the_ten_lines_of_the_readme_print_what_it_says(tmp_path: Path) -> None:
    ten_lines = section(document("README.md"), "Ten lines")
    code, [promised] = code_blocks(ten_lines, "python")[0], code_blocks(ten_lines, "")
    assert sorted(run_program(tmp_path, "-c", code)) == sorted(promised.splitlines())
