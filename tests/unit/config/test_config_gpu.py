"""What a user reads about a wrong Master of driver `gpu`: all of it without a device."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.complaints import complaints

from taskmaster.config.gpu import GpuOptions
from taskmaster.config.load import read
from taskmaster.daemon.devices import Device, devices_of
from taskmaster.daemon.plan import plan
from taskmaster.drivers.gpu.visible import NUMBER

HEAD = '[masters.m]\ndriver = "gpu"\n'
PARAMETERS = "parameters = { a = {}, b = {} }\noutputs = { y = {} }\n"
FUNCTION = f'{HEAD}function = "m:f"\n{PARAMETERS}'
SOURCE = 'extern "C" __global__ void f(const double* X, double* y, int n) { }'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.cu").write_text(SOURCE)
    return tmp_path


def kernel(signature: str = "const double* X, double* y, int n", name: str = "m.cu:f") -> str:
    return f'{HEAD}kernel = "{name}"\nsignature = "{signature}"\n{PARAMETERS}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FUNCTION, ""),
        (f'{FUNCTION}device = "cpu"\nbatch = 1\nlinger = "2 ms"\narray = "jax"\ndevices = [0, 1]', ""),
        (f"{HEAD}{PARAMETERS}", "function: is missing; for example function = 'lorenz:exponent', or kernel"),
        (f'{HEAD}function = "m:f"', "parameters: are missing: rows of numbers have columns"),
        (f'{FUNCTION}device = "gpu"', "device: expected 'cuda' or 'cpu', got 'gpu'"),
        (f"{FUNCTION}devices = [0, 0]", "devices: a device is named twice in [0, 0]"),
        (f"{FUNCTION}devices = [-1]", "devices: expected 'all' or the numbers of devices, such as [0, 1], got [-1]"),
        (f'{FUNCTION}devices = "some"', "devices: expected 'all' or the numbers of devices"),
        (f"{FUNCTION}batch = 0", "batch: expected at least 1, got 0"),
        (f'{FUNCTION}dtype = "float16"', "dtype: expected 'float64' or 'float32'"),
        (f"{FUNCTION}block = 128", "block: goes with kernel"),
        (f'{FUNCTION}env = {{ CUDA_VISIBLE_DEVICES = "1" }}', "env: CUDA_VISIBLE_DEVICES is set for each process"),
        (kernel(), ""),
        (kernel(name="m.cu:g"), "has no __global__ function 'g'; it has f"),
        (kernel(name="no.cu:f"), "cannot be read: No such file"),
        (kernel(name="m.cu"), "kernel: expected a file and the name of a kernel in it"),
        (kernel("double* X"), "signature: the number of rows, such as 'int n', is missing"),
        (kernel("const double* X, double* z, int n"), "signature: 'z' is none of X, Y, n, a parameter (a, b)"),
        (kernel("const dobule* X, int n"), "signature: 'const dobule* X' is no argument such as"),
        (f'{kernel()}device = "cpu"', "device: 'cpu' evaluates a Python function; a CUDA kernel needs a device"),
        (f'{kernel()}function = "m:f"', "kernel: a Master has a function or a kernel; remove one of the two"),
        (f'{kernel()}array = "torch"', "array: has no effect beside kernel; remove it"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, text: str, expected: str) -> None:
    found = complaints(text, folder)
    assert any(expected in line for line in found) if expected else not found, found


def test_parameters_are_numbers_of_one_shape(folder: Path) -> None:
    text = f'{HEAD}function = "m:f"\n[masters.m.parameters]\na = {{ kind = "str" }}\nb = {{ choices = ["x"] }}\n'
    found = complaints(f"{text}c = {{ shape = [-1] }}\nd = {{ choices = [1, 2] }}\ne = {{ shape = [3] }}", folder)
    assert [line.partition("parameters.")[2].partition(":")[0] for line in found] == ["a", "b", "c.shape"]


def test_each_device_has_a_worker_that_sees_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "lab.toml").write_text(f"{FUNCTION}devices = [0, 2]")
    config = read(folder / "lab.toml").config
    assert config is not None
    assert isinstance(config.masters["m"].options, GpuOptions)
    [master] = plan(config).masters
    assert master.devices is not None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert devices_of(master.devices) == [
        Device(0, {NUMBER: "0", "CUDA_VISIBLE_DEVICES": "0", **order}),
        Device(2, {NUMBER: "2", "CUDA_VISIBLE_DEVICES": "2", **order}),
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")  # what a scheduler has given this process
    assert [device.environment["CUDA_VISIBLE_DEVICES"] for device in devices_of(master.devices)] == ["GPU-a", "-1"]
