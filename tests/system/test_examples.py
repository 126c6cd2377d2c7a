"""The examples run as they stand, and print what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def test_the_ten_lines_of_the_readme_print_what_it_says(tmp_path: Path) -> None:
    ten_lines = section(document("README.md"), "Ten lines")
    code, [promised] = code_blocks(ten_lines, "python")[0], code_blocks(ten_lines, "")
    assert sorted(run_program(tmp_path, "-c", code)) == sorted(promised.splitlines())
