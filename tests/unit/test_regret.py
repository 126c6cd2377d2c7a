"""The functions that optimisers are compared on have the minima that they are said to have, and the figures run."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

MINIMA = {
    "Branin": [np.pi, 2.275],
    "Hartmann6": [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573],
    "Levy-8": [1.0] * 8,
}


@pytest.fixture(autouse=True)
def benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_every_problem_has_the_minimum_that_regret_is_measured_from() -> None:
    problems: dict[str, Any] = importlib.import_module("benchmarks.figures.regret").PROBLEMS
    rng = np.random.default_rng(1)
    for name, make in problems.items():
        problem = make(3)
        lows, highs = np.array(problem.bounds).T
        values = [problem.evaluate(rng.uniform(lows, highs)) for _ in range(200)]
        assert min(values) > problem.minimum, name
        if name in MINIMA:
            assert problem.evaluate(np.array(MINIMA[name])) == pytest.approx(problem.minimum, abs=1e-4)


def test_the_figures_run_at_a_size_at_which_they_mean_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "regret", "gp", "--folder", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stderr
    assert "| Branin | " in run.stdout
    assert "ask of the Gaussian process" in run.stdout
