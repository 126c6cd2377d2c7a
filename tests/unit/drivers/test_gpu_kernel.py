"""What a CUDA kernel is declared and called with; its arithmetic, on the processor where there is a compiler."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskmaster.bus.fields import Field, Schema
from taskmaster.config.kernels import Argument, parse_kernel, parse_signature, problems, source_problem
from taskmaster.config.shipped import example
from taskmaster.drivers.gpu.kernel import Kernel, kernel_function

#: Has a kernel be a function of the processor that is called for one thread after the other.
SHIM = """
#include <math.h>
#define __global__
#define __device__
struct Index { int x; };
static Index blockIdx, blockDim, threadIdx;
#include "%s"
extern "C" void launch(int blocks, int block, const double* X, double* y, int n)
{
    blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x) exponent(X, y, n);
}
"""


def test_a_kernel_is_named_by_file_and_name() -> None:
    assert parse_kernel("folder/lorenz.cu:exponent") == ("folder/lorenz.cu", "exponent")
    for wrong in ("lorenz.cu", "lorenz.cu:", ":exponent", "lorenz.cu:a b"):
        with pytest.raises(ValueError, match="expected a file and the name of a kernel"):
            parse_kernel(wrong)


def test_a_signature_is_as_in_the_source() -> None:
    text = "const double* __restrict__ X, float *y, unsigned long long n, const int  *k"
    assert parse_signature(text) == (
        Argument("X", "<f8", True, True),
        Argument("y", "<f4", True, False),
        Argument("n", "<u8", False, False),
        Argument("k", "<i4", True, True),
    )
    for wrong in ("double", "dobule* X", "", "const double& X", "double** X"):
        with pytest.raises(ValueError, match="is no argument such as"):
            parse_signature(wrong)


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("const double* X, double* y, int n", ""),
        ("const double* a, const double* b, double* Y, long long n", ""),
        ("const double* X, double* y", "the number of rows"),
        ("const double* X, int n", "nothing is written to the output 'y'"),
        ("const double* X, const double* y, int n", "cannot write"),
        ("const double* X, double* y, double n", "a whole number"),
        ("const double* X, double* y, int n, int m", "'m' is none of X, Y, n"),
        ("const double* X, double* y, double* Y, int n", "Y is all outputs"),
        ("double X, double* y, int n", "so a pointer"),
        ("const double* X, double* y, double* y, int n", "twice"),
    ],
)
def test_what_is_wrong_with_a_signature_is_seen_without_a_device(signature: str, expected: str) -> None:
    found = problems(parse_signature(signature), ("a", "b"), ("y",))
    assert expected in " | ".join(found)
    assert bool(found) == bool(expected)


def test_a_source_without_the_kernel_is_seen_without_a_device(tmp_path: Path) -> None:
    file = tmp_path / "a.cu"
    assert "No such file" in source_problem(file, "f")
    file.write_text('extern "C" __global__ void other(int n) {}')
    assert source_problem(file, "f").endswith("has no __global__ function 'f'; it has other")
    assert source_problem(file, "other") == ""
    file.write_text("__global__ void f(int n) {}")
    assert 'declared extern "C"' in source_problem(file, "f")


class Launched:
    """Stands for CuPy's kernel: notes what it is called with, and writes outputs."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, grid: Any, block: Any, arguments: Any) -> None:
        self.calls.append((grid, block, arguments))
        for argument in arguments:
            if isinstance(argument, np.ndarray) and argument.dtype == "<f4":
                argument[...] = 1


def test_a_kernel_is_called_with_what_its_signature_says() -> None:
    parameters = Schema((Field("a"), Field("b", shape=(2,)), Field("c")), "m")
    outputs = Schema((Field("y"), Field("z", shape=(3,))), "m", "output")
    signature = "const double* X, const long long* c, const double* b, float* y, float* z, int n"
    launched = Launched()
    kernel = Kernel(launched, signature, 128, parameters, outputs, np)
    rows = np.arange(4000.0).reshape(1000, 4)
    result = kernel(rows)
    [(grid, block, (x, c, b, y, z, n))] = launched.calls
    assert (grid, block, n, n.dtype) == ((8,), (128,), 1000, np.dtype("i4"))
    assert x is rows
    assert (c.dtype, c.flags.c_contiguous, c.tolist()) == (np.dtype("i8"), True, rows[:, 3].tolist())
    assert (b.shape, b.flags.c_contiguous, b.tolist()) == ((1000, 2), True, rows[:, 1:3].tolist())
    assert result == {"y": y, "z": z}
    assert (y.shape, z.shape) == ((1000,), (1000, 3))


def test_headers_beside_a_source_are_found_and_compiled_anew_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[tuple[str, ...]] = []
    module = types.ModuleType("cupy")

    def raw_module(code: str, options: tuple[str, ...]) -> Any:
        compiled.append(options)
        return types.SimpleNamespace(get_function=lambda name: None)

    vars(module)["RawModule"] = raw_module
    monkeypatch.setitem(sys.modules, "cupy", module)
    source = tmp_path / "m.cu"
    options = {"kernel": f"{source}:f", "signature": "const double* X, double* y, int n", "compile": ("-DA",)}
    schemas = Schema((Field("a"),), "m"), Schema((Field("y"),), "m", "output")
    source.write_text('extern "C" __global__ void f() { }')
    kernel_function(options, *schemas)
    assert compiled == [("-DA",)]
    source.write_text('#include "one.h"\n#include <math.h>\nextern "C" __global__ void f() { }')
    (tmp_path / "one.h").write_text('#include "two.h"\n#include "one.h"\n')
    for text in ("#define TWO 2", "#define TWO 3"):
        (tmp_path / "two.h").write_text(text)
        kernel_function(options, *schemas)
    before, after = compiled[1:]
    assert before[:2] == after[:2] == ("-DA", f"-I{tmp_path}")
    assert before != after


def test_a_kernel_may_write_all_outputs_at_once() -> None:
    outputs = Schema((Field("y"), Field("z")), "m", "output")
    kernel = Kernel(Launched(), "const double* X, float* Y, long long n", 256, Schema((Field("a"),), "m"), outputs, np)
    assert kernel(np.zeros((5, 1))).tolist() == [[1, 1]] * 5
    outputs = Schema((Field("y"), Field("z", shape=(2,))), "m", "output")
    kernel = Kernel(Launched(), "const double* X, float* Y, long long n", 256, Schema((Field("a"),), "m"), outputs, np)
    found = kernel(np.zeros((5, 1)))
    assert (found["y"].shape, found["z"].shape) == ((5,), (5, 2))


def test_the_shipped_kernel_computes_what_the_shipped_function_does(tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    source, library = tmp_path / "shim.cpp", tmp_path / "shim.so"
    source.write_text(SHIM % example("lorenz.cu"))
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True, timeout=120)
    rows = np.column_stack(
        [np.linspace(0.5, 20, 30), np.full(30, 10.0)]
    )  # below chaos, where rounding is not amplified
    got = np.zeros(len(rows))
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (rows, got)]
    ctypes.CDLL(str(library)).launch(1, 64, *pointers, len(rows))
    import importlib.util

    spec = importlib.util.spec_from_file_location("lorenz", example("lorenz.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    expected = module.exponent(rows)
    assert np.isfinite(expected).all()
    assert np.allclose(got, expected, rtol=1e-6, atol=1e-9)
