"""What a function of rows gets and gives in the arrays of another library, on the processor, as JSON.

``python -m helpers.exchange torch``, in a process of its own: one that has used JAX must not fork any more, and those
of the tests do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from taskmaster.bus.errors import ConfigError
from taskmaster.drivers.gpu.arrays import Adapter, adapter, namespace
from taskmaster.drivers.gpu.device import CpuDevice, OutOfMemory

__all__ = ["exchange"]

#: Bytes that no machine has.
_TOO_MUCH = 1 << 50


def exchange(library: str) -> dict[str, Any]:
    """All that there is to know of ``torch`` or ``jax``."""
    found: dict[str, Any] = {}
    for dtype in ("float32", "float64"):  # JAX's mode of 64 bits is never left again
        there = adapter(library, dtype, on_cpu=True)
        found[dtype] = _rows(there, np.dtype(dtype).str)
        found[dtype]["outputs"] = _shown(_evaluate(there, np.dtype(dtype).str, _outputs))
    found["whole"] = _rows(there, "<i8")
    found["bool"] = _rows(there, "|b1")
    found["sizes"] = _sizes(there)
    found["raised"] = _error(there, _raise)
    found["memory"] = _error(there, _take_all)
    found["rows as they are"] = _shown(_evaluate(there, "<f8", lambda rows: rows))
    found["a list"] = _shown(_evaluate(there, "<f8", lambda rows: [float(x) for x in rows[:, 0]]))
    found["numpy's"] = _shown(_evaluate(there, "<f8", lambda rows: np.asarray(rows)[:, 1]))
    found["outward"] = _is_shared_outward(there, library)
    if library == "torch":
        import torch

        found["conjugated"] = _shown(_evaluate(there, "<f8", lambda rows: torch.complex(rows, rows).conj().imag))
        found["differentiated"] = _shown(_evaluate(there, "<f8", lambda rows: (rows * 2).requires_grad_()))
    try:
        there.require_cuda()
    except ConfigError as error:
        found["cuda"] = str(error)
    return found


def _fill(into: Any) -> None:
    into[...] = np.arange(into.size).reshape(into.shape) % 7


def _evaluate(there: Adapter, dtype: str, function: Callable[[Any], Any], n: int = 5) -> Any:
    return CpuDevice(function, 2, dtype, there).begin(_fill, n).outputs()


def _rows(there: Adapter, dtype: str) -> dict[str, Any]:
    """What the function is given, and whether it is where it was filled in."""
    seen: dict[str, Any] = {}

    def fill(into: Any) -> None:
        seen["at"] = into.ctypes.data
        _fill(into)

    def function(rows: Any) -> Any:
        seen.update(dtype=str(rows.dtype).rpartition(".")[2], shape=list(rows.shape), module=namespace(rows).__name__)
        seen["is there"] = _pointer(rows) == seen.pop("at")
        return rows[:, 0]

    seen["outputs"] = _shown(CpuDevice(function, 2, dtype, there).begin(fill, 5).outputs())
    return seen


def _pointer(array: Any) -> int:
    return int(array.data_ptr() if hasattr(array, "data_ptr") else array.unsafe_buffer_pointer())


def _outputs(rows: Any) -> dict[str, Any]:
    """Columns of every kind."""
    xp = namespace(rows)
    half = rows[:, 0].bfloat16() if hasattr(rows, "bfloat16") else rows[:, 0].astype("bfloat16")
    single = rows[:, 0].float() if hasattr(rows, "float") else rows[:, 0].astype("float32")
    return {
        "y": 3 * rows[:, 0],
        "across": rows.T[0],
        "pair": rows * 2,
        "picture": xp.stack([rows, rows, rows], 2),
        "count": (rows[:, 1] > 2).sum() + 0 * (rows[:, 0] > 99),
        "flag": rows[:, 0] > 2,
        "half": half,
        "single": single,
    }


def _sizes(there: Adapter) -> list[int]:
    """How many rows the function was given, for some numbers of them."""
    sizes: list[int] = []

    def function(rows: Any) -> Any:
        sizes.append(len(rows))
        return rows[:, 0]

    for n in (1, 3, 5, 8):
        assert len(_evaluate(there, "<f8", function, n)) == n
    return sizes


def _raise(rows: Any) -> Any:
    raise ValueError("a bad row")


def _take_all(rows: Any) -> Any:
    xp = namespace(rows)
    return xp.zeros(_TOO_MUCH, dtype=xp.uint8)[: len(rows)] + 0 * rows[:, 0]


def _error(there: Adapter, function: Callable[[Any], Any]) -> str:
    try:
        _evaluate(there, "<f8", function)
    except (OutOfMemory, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def _is_shared_outward(there: Adapter, library: str) -> bool:
    array = there.inward(np.arange(6.0).reshape(3, 2)) * 2
    outside = there.outward(array)
    return bool(outside.ctypes.data == _pointer(array))


def _shown(outputs: Any) -> Any:
    """An array's type and values."""
    if isinstance(outputs, dict):
        return {name: _shown(column) for name, column in outputs.items()}
    if isinstance(outputs, list):
        return ["list", outputs]
    return [str(outputs.dtype), outputs.tolist()]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(exchange(sys.argv[1])))
