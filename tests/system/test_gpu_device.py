"""The driver `gpu` on a CUDA device: skipped, with the reason, where there is none."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.daemon import EVALUATIONS, Daemon
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import TaskFailed
from taskmaster.config.shipped import example
from taskmaster.learners.client import Lab, Master

pytestmark = pytest.mark.gpu

BREAKS, HANGS = 2, 3


def master(**keys: Any) -> dict[str, Any]:
    """A Master of one device."""
    known = {"driver": "gpu", "devices": [0], "path": [str(EVALUATIONS)], "outputs": {"y": {}}}
    return {**known, "parameters": {"x": {}}, **keys}


def doubled(**keys: Any) -> dict[str, Any]:
    """That of the tests' kernel."""
    kernel = {"kernel": f"{Path(EVALUATIONS) / 'devices.cu'}:doubled", "signature": "const double* X, double* y, int n"}
    return master(**{**kernel, "parameters": {"x": {}, "do": {}}, **keys})


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    lorenz = example("lorenz.cu")
    plane: dict[str, Any] = {"parameters": {"rho": {}, "sigma": {}}, "outputs": {"exponent": {}}}
    return start_shared_daemon(
        {
            "product": master(function="rows:product", parameters={"a": {}, "b": {}}),
            "function": master(**{**plane, "function": "lorenz:exponent", "path": [str(lorenz.parent)]}),
            "kernel": master(
                **{**plane, "kernel": f"{lorenz}:exponent", "signature": "const double* X, double* exponent, int n"}
            ),
            "doubled": doubled(),
            "hasty": doubled(timeout="2 s"),
            "greedy": master(function="rows:greedy"),
        }
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def ended(master: Master, rows: Any) -> dict[int, Any]:
    """What came of rows: outputs, or errors."""
    with master.open() as run:
        run.tasks.put_many(rows)
        found: dict[int, Any] = {}
        while len(found) < len(rows):
            result = run.results.get(PATIENCE)
            found[result.index] = result.output if result.outcome == "done" else result.error
        return found


def outputs(master: Master, rows: Any) -> Any:
    found = ended(master, rows)
    return np.array([found[k] for k in range(len(rows))])


@pytest.mark.parametrize("n", [1, 1000, 300_000])
def test_it_computes_what_the_processor_does(lab: Lab, n: int) -> None:
    rows = np.random.default_rng(n).random((n, 2))
    assert np.array_equal(outputs(lab["product"], rows), rows[:, 0] * rows[:, 1])


def test_the_shipped_function_and_kernel_agree_with_the_processor(lab: Lab) -> None:
    spec = importlib.util.spec_from_file_location("lorenz", example("lorenz.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = np.column_stack([np.linspace(0.5, 20, 300), np.full(300, 10.0)])  # below chaos: rounding is not amplified
    expected = module.exponent(rows)
    assert np.allclose(outputs(lab["function"], rows), expected, rtol=1e-6, atol=1e-9)
    assert np.allclose(outputs(lab["kernel"], rows), expected, rtol=1e-6, atol=1e-9)


def test_a_row_with_an_illegal_address_is_found_and_the_others_are_evaluated(lab: Lab) -> None:
    rows = np.column_stack([np.arange(1000.0), np.zeros(1000)])
    rows[321, 1] = BREAKS
    found = ended(lab["doubled"], rows)
    error = found.pop(321)
    assert isinstance(error, TaskFailed)
    assert error.kind == "DeviceFailed"
    assert found == {k: 2.0 * k for k in range(1000) if k != 321}
    assert outputs(lab["doubled"], rows[:10]).tolist() == [2.0 * k for k in range(10)], "and it goes on"


def test_a_kernel_that_hangs_falls_to_the_time_out(lab: Lab) -> None:
    rows = np.column_stack([np.arange(4.0), [0, 0, HANGS, 0]])
    found = ended(lab["hasty"], rows)
    error = found.pop(2)
    assert isinstance(error, TaskFailed)
    assert error.kind == "TaskTimeout"
    assert found == {0: 0.0, 1: 2.0, 3: 6.0}


def test_what_does_not_fit_into_its_memory_is_evaluated_in_smaller_batches(lab: Lab) -> None:
    rows = np.arange(8192.0).reshape(-1, 1)  # 512 GiB, at once
    assert outputs(lab["greedy"], rows).tolist() == (2 * rows[:, 0]).tolist()
    device = eventually(lambda: lab["greedy"].statistics().workers[0].device, "a word of the device's")
    assert device.batch << 26 <= device.memory, "and what does not fit is remembered"
    assert lab["greedy"].statistics().lost == 0


def test_status_says_what_it_does(lab: Lab) -> None:
    outputs(lab["product"], np.ones((1000, 2)))
    device = eventually(lambda: lab["product"].statistics().workers[0].device, "a word of the device's")
    assert device.memory > device.free > 0
    assert device.name != "cpu"


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_other_libraries_share_its_memory(start_daemon: StartDaemon, library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    daemon = start_daemon({"other": master(function=f"rows:{library}_double", array=library)})
    rows = np.linspace(0, 1, 5000).reshape(-1, 1)
    with daemon.connect() as lab:
        assert np.allclose(outputs(lab["other"], rows), 2 * np.sin(rows[:, 0]), rtol=1e-12)
