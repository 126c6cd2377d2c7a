"""The benchmark suite runs and writes what it says, at a size at which its figures mean nothing. Nothing is timed."""

from __future__ import annotations

import importlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.devices_there import NO_DEVICE

ROOT = Path(__file__).resolve().parents[2]

VERDICTS = {"aim", "must", "BELOW MUST", "below aim", "not installed", ""}


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the suite as its users do."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_a_tiny_run_prints_a_table_and_writes_each_round_as_json(tmp_path: Path) -> None:
    figures = ["put", "round-trip", "rows", "scalars", "queued", "uneven", "loop", "replay", "simulated", "efficiency",
               "mappers", "joblib", "start", "import"]  # fmt: skip
    path = tmp_path / "figures.json"

    run = benchmarks("--quick", "--only", *figures, "--json", str(path), "--folder", str(tmp_path))

    assert run.returncode == 0, run.stderr
    assert "mean nothing" in run.stdout
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["format"] == 1
    assert written["machine"]["Python"].endswith(
        f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    )
    assert "--quick" in written["command"]
    rows: list[dict[str, Any]] = written["rows"]
    for row in rows:
        check_row(row)
        assert row["figure"] in run.stdout
    assert {row["rival"] for row in rows} >= {
        "ProcessPoolExecutor.submit", "Pool.apply_async", "dynamic, one by one", "StaticParallelMapper", "joblib, loky",
        "its ask and tell alone",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == [path], "daemons' folders were left behind"


def check_row(row: dict[str, Any]) -> None:
    """What a program may rely on."""
    assert row["ours"]
    assert all(isinstance(x, float) and math.isfinite(x) for x in row["ours"])
    assert row["verdict"] in VERDICTS
    assert row["conditions"]["wakeup"] > 0
    assert 0 <= row["conditions"]["neighbours"] <= 1
    if row["theirs"] is None:
        assert row["ratio"] is None
    else:
        assert len(row["theirs"]) == len(row["ours"])
        assert row["ratio"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "function"),
    [("daemon", "apsw.Cursor"), ("client", "taskmaster/learners/"), ("worker", "evaluated/functions.py")],
)
def test_a_profile_shows_the_process_that_was_asked_for(tmp_path: Path, process: str, function: str) -> None:
    run = benchmarks("--quick", "--only", "scalars", "--profile", process, "--folder", str(tmp_path))

    assert run.returncode == 0, run.stderr
    assert function in run.stdout
    assert str(ROOT) not in run.stdout


def test_the_picture_of_the_mappers_has_a_curve_for_each_and_plain_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    mapping = importlib.import_module("benchmarks.figures.mapping")
    found = mapping.measured(shares=(0.0005, 0.001), rounds=1)
    assert [title.partition(",")[0] for title in found] == ["equal light", "equal heavy", "growing", "random"]
    for curves in found.values():
        assert curves.keys() == {"StaticParallelMapper", "DynamicParallelMapper", "GuidedMapper", "SerialMapper",
                                 "joblib, loky"}  # fmt: skip
        sizes = [n for n, _ in curves["GuidedMapper"]]
        assert sizes == sorted(set(sizes)), "each is measured once"

    figure = mapping.draw(str(tmp_path / "mappers.svg"), {
        title: {name: [(6, 2.1), (200, 0.8), (2000, 0.55)] for name in curves} for title, curves in found.items()
    })  # fmt: skip
    assert (tmp_path / "mappers.svg").read_text(encoding="utf-8").startswith("<?xml")
    said = [label.get_text() for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
            for label in axis.get_ticklabels(which="both")]  # fmt: skip
    assert {"0.5", "1", "2", "10", "100", "1,000"} <= set(said)
    assert all(re.fullmatch(r"[\d.,]*", label) for label in said), said


@pytest.mark.slow
def test_a_timeline_names_every_piece_of_a_round_trip(tmp_path: Path) -> None:
    run = benchmarks("--quick", "--timeline", "--folder", str(tmp_path))

    assert run.returncode == 0, run.stderr
    for durability in ("crash", "power"):
        assert f"put to get, '{durability}'" in run.stdout
    for party in ("client", "daemon", "worker", "journal"):
        assert f"µs  {party}: " in run.stdout
    assert not list(tmp_path.iterdir()), "daemons' folders were left behind"


def test_a_partial_table_never_replaces_the_documents() -> None:
    run = benchmarks("--quick", "--write-docs")

    assert run.returncode == 2
    assert "whole table" in run.stderr


def test_the_benchmark_of_a_card_says_where_there_is_none() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu"]
    if NO_DEVICE:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 3
        assert run.stdout == f"no GPU: {NO_DEVICE}\n"


def test_the_benchmark_of_a_card_measures_nothing_where_results_are_wrong() -> None:
    """They are compared with float64 on the processor."""
    program = (
        "import numpy as np\n"
        "from benchmarks.figures.gpu import _rate\n"
        "rows = np.ones((4, 3))\n"
        "work = lambda by: _rate(lambda: rows.sum(axis=1) + by, rows, lambda rows: rows.sum(axis=1))()\n"
        "assert work(1e-12) > 0\n"
        "work(1e-3)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert "outputs are off by 0.001 from what the processor computes: nothing was measured" in run.stderr


@pytest.mark.slow
def test_the_benchmark_of_the_driver_gpu_runs_on_the_processor(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--folder", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    assert "mean nothing" in run.stdout
    for figure in ("heavy", "medium", "trivial, power", "round trip", "learners, a point each", "to another process"):
        assert figure in run.stdout
    assert list(tmp_path.iterdir()) == []
