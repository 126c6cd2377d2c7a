"""The examples of our own learners run as they stand, and find what they look for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.devices_there import NO_DEVICE
from helpers.documents import ROOT
from helpers.waiting import PATIENCE


def printed(folder: Path, example: str, typed: str = "") -> str:
    """What an example prints, started in an empty folder."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example)],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert list(folder.iterdir()) == [], "nothing is left behind"
    return result.stdout


def test_a_gaussian_process_follows_the_valley(tmp_path: Path) -> None:
    found = re.fullmatch(r"([\d.]+) at x = (\S+), y = (\S+)\n", printed(tmp_path, "gp_optimise.py"))
    assert found is not None
    assert float(found[1]) < 0.5


def test_evolution_finds_the_highest_dent(tmp_path: Path) -> None:
    assert re.fullmatch(r"(1\.9\d*|2\.0000) at a = 0\.\d+, b = 0\.\d+\n", printed(tmp_path, "evolution.py"))


def test_three_temperatures_share_the_points(tmp_path: Path) -> None:
    counts = [int(count) for count in re.findall(r"T = \d+: (\d+) points", printed(tmp_path, "balancing.py"))]
    assert len(counts) == 3
    assert sum(counts) == 120
    assert counts[0] > counts[2]


def test_a_learner_sees_what_is_put_around_it(tmp_path: Path) -> None:
    found = re.fullmatch(r"mass (\S+) with a dose of (\S+) at (\S+) °C\n", printed(tmp_path, "around_a_learner.py"))
    assert found is not None
    assert float(found[1]) > 0.98
    assert 5e-4 < float(found[2]) < 2e-3


def test_a_person_types_points_and_is_shown_the_results(tmp_path: Path) -> None:
    shown = printed(tmp_path, "ask_a_person.py", "3\n\n-5\n\nend\n")
    assert "3.0 → 9.0" in shown
    assert shown.endswith("largest: (-5.0, 25.0)\n")


def test_the_lorenz_system_is_mapped_in_batches(tmp_path: Path) -> None:
    found = re.fullmatch(
        r"(\d+) points, (\d+) of them chaotic, the first at rho = ([\d.]+)\n", printed(tmp_path, "lorenz_map.py")
    )
    assert found is not None
    assert int(found[1]) >= 300
    assert 50 < int(found[2]) < int(found[1])
    assert 10 < float(found[3]) < 30, "it is 24.7 at sigma = 10"


@pytest.mark.skipif(not NO_DEVICE, reason="there is a CUDA device here")
def test_without_a_device_the_example_says_so_and_ends(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / "lorenz_map.py", "cuda"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "driver 'gpu'" in run.stderr.splitlines()[-1]
    assert 'device = "cpu"' in run.stderr.splitlines()[-1]
