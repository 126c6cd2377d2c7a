"""Arrays of PyTorch and JAX between the driver `gpu` and a user's function: these libraries, without a card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.documents import ROOT

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.base import DriverContext
from taskmaster.drivers.gpu.arrays import adapter
from taskmaster.drivers.gpu.driver import GpuDriver

MODULES = {"torch": "torch", "jax": "jax.numpy"}
#: What the rows are filled with.
ROWS = (np.arange(10) % 7).reshape(5, 2)


@pytest.fixture(scope="module", params=MODULES)
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What helpers/exchange.py finds out about a library; see there for why it is asked in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "helpers.exchange", request.param],
        cwd=ROOT / "tests",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == "", "nothing is said to a worker's log for nothing"
    return {"library": request.param, **json.loads(ran.stdout)}


@pytest.mark.parametrize("dtype", ["float64", "float32", "whole", "bool"])
def test_a_function_is_given_the_rows_themselves(found: dict[str, Any], dtype: str) -> None:
    seen = found[dtype]
    assert seen["module"] == MODULES[found["library"]]
    assert seen["dtype"] == {"whole": "int64"}.get(dtype, dtype)
    assert seen["is there"], "nothing was copied"
    assert seen["shape"] == ([8, 2] if found["library"] == "jax" else [5, 2])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_outputs_are_what_numpy_computes(found: dict[str, Any], dtype: str) -> None:
    outputs = found[dtype]["outputs"]
    x = ROWS.astype(dtype)
    assert outputs == {
        "y": [dtype, (3 * x[:, 0]).tolist()],
        "across": [dtype, x[:, 0].tolist()],
        "pair": [dtype, (2 * x).tolist()],
        "picture": [dtype, np.stack([x, x, x], 2).tolist()],
        "flag": ["bool", (x[:, 0] > 2).tolist()],
        "half": ["float32", x[:, 0].tolist()],
        "single": ["float32", x[:, 0].tolist()],
        "count": outputs["count"],
    }
    assert len(set(outputs["count"][1])) == 1
    assert outputs["count"][0] == ("int32" if found["library"] == "jax" and dtype == "float32" else "int64")


def test_whatever_a_function_returns_comes_back(found: dict[str, Any]) -> None:
    assert found["rows as they are"] == ["float64", ROWS.astype(float).tolist()]
    assert found["a list"] == ["list", ROWS[:, 0].astype(float).tolist()]
    assert found["numpy's"] == ["float64", ROWS[:, 1].astype(float).tolist()]
    assert found["outward"], "nothing was copied"
    if found["library"] == "torch":
        assert found["conjugated"] == ["float64", (-ROWS.astype(float)).tolist()]
        assert found["differentiated"] == ["float64", (2.0 * ROWS).tolist()]


def test_what_is_compiled_for_each_size_gets_few_of_them(found: dict[str, Any]) -> None:
    assert found["sizes"] == ([1, 4, 8, 8] if found["library"] == "jax" else [1, 3, 5, 8])


def test_errors_are_the_functions_and_too_little_memory_is_known_as_such(found: dict[str, Any]) -> None:
    assert found["raised"] == "ValueError: a bad row"
    assert found["memory"].startswith("OutOfMemory: "), found["memory"]


def test_without_cuda_it_is_said_that_the_library_has_none(found: dict[str, Any]) -> None:
    name = {"torch": "PyTorch", "jax": "JAX"}[found["library"]]
    said = found.get("cuda", "")
    if said:  # else there is a device, and a build for it
        assert said.startswith(f"array = '{found['library']}': {name} ")
        assert "which is installed here, finds no CUDA device" in said


@pytest.mark.parametrize("library", MODULES)
def test_without_the_library_it_is_said_which(library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)  # how Python itself marks a module that cannot be imported
    options = {"device": "cpu", "array": library, "function": "rows:product"}
    driver = GpuDriver(DriverContext("m", options, Schema((Field("x"),), "m"), Schema((), "m", "output")))
    name = {"torch": "PyTorch", "jax": "JAX"}[library]
    with pytest.raises(
        ConfigError, match=rf"Master 'm': array = '{library}' needs {name}.*: pip install {library}, or"
    ):
        driver.open()


def test_a_library_that_is_there_and_broken_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("import a_library_of_its_own\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_library_of_its_own"):
        adapter("torch", on_cpu=True)
    sys.modules.pop("torch", None)
