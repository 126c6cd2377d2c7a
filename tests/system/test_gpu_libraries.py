"""Masters of driver `gpu` whose functions take arrays of PyTorch or JAX: the libraries themselves, on the processor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import taskmaster
from helpers.daemon import EVALUATIONS, Daemon, toml
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually
from helpers.work import rows as work

from taskmaster.bus.errors import TaskFailed
from taskmaster.learners.client import Master

PARAMETERS = {"x": {}, "do": {"kind": "int"}}
COLUMNS: dict[str, Any] = {
    "y": {},
    "sine": {},
    "pair": {"shape": [2]},
    "above": {"kind": "bool"},
    "library": {"kind": "str"},
}


def rows(name: str, **keys: Any) -> dict[str, Any]:
    """A Master that evaluates a function of `work/rows.py` on the processor."""
    known = {"driver": "gpu", "device": "cpu", "function": f"rows:{name}", "path": [str(EVALUATIONS)]}
    return {**known, "parameters": PARAMETERS, "outputs": COLUMNS, **keys}


def ended(master: Master, points: Any) -> dict[int, Any]:
    """What came of points: outputs, or errors."""
    with master.open() as run:
        run.tasks.put_many(points)
        found: dict[int, Any] = {}
        while len(found) < len(points):
            result = run.results.get(PATIENCE)
            found[result.index] = result.output if result.outcome == "done" else result.error
        return found


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """Masters of one function, with the arrays of each library; and one where PyTorch is not installed."""
    masters = {
        f"{array}-{dtype}": rows("columns", array=array, dtype=dtype)
        for array in ("cupy", "torch", "jax")
        for dtype in ("float64", "float32")
    }
    masters["missing"] = without_torch(tmp_path_factory.mktemp("nowhere"))
    return start_shared_daemon(masters)


def without_torch(folder: Path) -> dict[str, Any]:
    """A Master in whose processes PyTorch is not installed."""
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return rows("columns", array="torch", env={"PYTHONPATH": path}, restarts=1)


@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_other_libraries_give_what_numpy_does(daemon: Daemon, library: str, dtype: str) -> None:
    points = np.column_stack([np.linspace(0, 1, 37), np.where(np.arange(37) % 9, 0, work.IS_NAN)])
    with daemon.connect() as lab:
        numpys, theirs = (ended(lab[f"{array}-{dtype}"], points) for array in ("cupy", library))
    assert [theirs[k]["library"] for k in range(37)] == [{"jax": "jax.numpy"}.get(library, library)] * 37
    assert all(np.isnan(theirs[k]["y"]) for k in range(0, 37, 9))
    for name in ("y", "pair", "above", "sine"):
        expected, got = (np.array([found[k][name] for k in range(37)]) for found in (numpys, theirs))
        assert got.dtype == expected.dtype
        # Each has a sine of its own, which differ in the last bit.
        close = {"rtol": 1e-14 if dtype == "float64" else 1e-6, "atol": 0.0} if name == "sine" else {"rtol": 0.0}
        assert np.allclose(got, expected, equal_nan=True, **close), name


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_just_the_rows_that_raise_fail_with_other_libraries_too(daemon: Daemon, library: str) -> None:
    points = [{"x": float(k), "do": work.RAISES if k in (3, 90) else 0} for k in range(100)]
    with daemon.connect() as lab:
        found = ended(lab[f"{library}-float64"], points)
    failed = {k: found.pop(k) for k in (3, 90)}
    assert {k: output["y"] for k, output in found.items()} == {k: 3.0 * k for k in range(100) if k not in failed}
    for error in failed.values():
        assert isinstance(error, TaskFailed)
        assert (error.kind, "a bad row" in str(error)) == ("ValueError", True)
        assert "drivers/gpu" not in error.traceback


def test_a_library_that_is_not_installed_is_named(daemon: Daemon) -> None:
    with daemon.connect() as lab:
        status = eventually(lambda: (s := lab["missing"].statistics()) and s.state == "crash loop" and s, "an error")
    assert "array = 'torch' needs PyTorch, which is not installed here" in status.reason
    assert "pip install torch" in status.reason


def test_check_looks_for_the_library(place: Path) -> None:
    file = place / "lab.toml"
    file.write_text(toml({"state": "state"}, {"jax": rows("columns", array="jax"), "torch": without_torch(place)}))
    said = taskmaster("check", str(file), "--connect")
    assert said.status == 3
    assert "the processor, as declared" in said.out
    [line] = [line for line in said.out.splitlines() if "is not installed" in line]
    assert line.startswith("Master 'torch': array = 'torch' needs PyTorch, which is not installed here: pip install")
