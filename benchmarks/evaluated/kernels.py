"""The kernels that the driver `gpu` is measured with, by CuPy on a device and by numpy on the processor.

A row is ``(a, b, k)``: of ``a`` the sine is taken ``k`` times, so what a row costs is in the rows themselves.
"""

from __future__ import annotations

import functools
import time
from typing import Any

_SOURCE = "double x = a; for (int i = 0; i < (int)k; ++i) x = sin(x + b); y = x;"


@functools.cache
def _kernel() -> Any:
    import cupy

    return cupy.ElementwiseKernel("float64 a, float64 b, float64 k", "float64 y", _SOURCE, "benchmark_sines")


def sines(rows: Any) -> Any:
    """``k`` times the sine."""
    if type(rows).__module__.startswith("cupy"):
        return _kernel()(rows[:, 0], rows[:, 1], rows[:, 2])
    import numpy as np

    x, b = rows[:, 0], rows[:, 1]
    for _ in range(int(rows[0, 2])):
        x = np.sin(x + b)
    return x


def product(rows: Any) -> Any:
    """As good as no work: what is measured is what it takes to get it done."""
    return rows[:, 0] * rows[:, 1]


def short_product(rows: Any) -> Any:
    """The same in four bytes."""
    return (rows[:, 0] * rows[:, 1]).astype("float32")


def product_of_point(point: dict[str, float]) -> float:
    """The same for a point with names."""
    return point["a"] * point["b"]


def steady(rows: Any) -> Any:
    """A launch that takes ``k`` milliseconds whatever rows it has, as long trajectories do."""
    time.sleep(float(rows[0, 2]) / 1e3)
    return product(rows)
