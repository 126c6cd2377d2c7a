"""Whose arrays a user's function takes and returns; and what its results come to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import numpy as np

from taskmaster.bus.errors import ConfigError, InvalidOutput

__all__ = ["Adapter", "adapter", "columns_of", "missing", "namespace", "padded_rows"]

#: What people call the libraries, and where it says how each is installed for a device.
_CALLED: Mapping[str, tuple[str, str]] = {
    "torch": ("PyTorch", "https://pytorch.org/get-started"),
    "jax": ("JAX", "https://docs.jax.dev/en/latest/installation.html"),
}

_STEPPED = (GeneratorType, CoroutineType, AsyncGeneratorType)


def namespace(array: Any) -> Any:
    """The module that an array is of: `numpy`, `cupy`, `torch` or `jax.numpy`. A function that takes its functions from
    there runs on a device and, with ``device = "cpu"``, without one."""
    library = type(array).__module__.partition(".")[0]
    if library in ("jax", "jaxlib"):
        return sys.modules["jax.numpy"]
    return sys.modules[library]


class Adapter:
    """Between the device's own arrays (numpy's, CuPy's) and those of the user's function. This one: the same."""

    #: whether a function is compiled anew for each number of rows, so that there should be few of these
    few_sizes = False

    def inward(self, array: Any) -> Any:
        """An array for the function."""
        return array

    def outward(self, array: Any) -> Any:
        """An array of the function's: one that the device, or numpy, has."""
        return array

    def require_cuda(self) -> None:
        """Raise ConfigError where the library is there, and cannot use a CUDA device."""

    def scope(self, stream: Any) -> Any:
        """What is done within is done on this stream; None where there is none."""
        return None

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether that is what is wrong."""
        return isinstance(error, MemoryError)

    def trim(self) -> None:
        """Let go of memory that is only held."""

    def held(self) -> tuple[int, int]:
        """Bytes of the device that a library's own pool holds, and those of them that are in no use."""
        return 0, 0


class _Torch(Adapter):
    def __init__(self, dtype: str, *, on_cpu: bool) -> None:
        import torch

        self._torch = torch

    def require_cuda(self) -> None:
        if not self._torch.cuda.is_available():
            raise ConfigError(_without_cuda("torch", self._torch.__version__))

    def inward(self, array: Any) -> Any:
        return self._torch.from_dlpack(array)

    def outward(self, array: Any) -> Any:
        if not isinstance(array, self._torch.Tensor):
            return array
        # What is only marked as conjugated or negated, and bfloat16, others cannot read.
        array = array.detach().resolve_conj().resolve_neg().contiguous()
        if array.dtype == self._torch.bfloat16:
            array = array.float()
        if array.device.type == "cpu":
            return array.numpy()
        import cupy

        return cupy.from_dlpack(array)

    def scope(self, stream: Any) -> Any:
        return self._torch.cuda.stream(self._torch.cuda.ExternalStream(stream.ptr))

    def is_out_of_memory(self, error: BaseException) -> bool:
        # On the processor it is an error without a class of its own.
        return isinstance(error, (MemoryError, self._torch.cuda.OutOfMemoryError)) or (
            isinstance(error, RuntimeError) and "can't allocate memory" in str(error)[:200]
        )

    def trim(self) -> None:
        if self._torch.cuda.is_initialized():
            self._torch.cuda.empty_cache()

    def held(self) -> tuple[int, int]:
        if not self._torch.cuda.is_initialized():
            return 0, 0
        reserved = self._torch.cuda.memory_reserved()
        return reserved, reserved - self._torch.cuda.memory_allocated()


class _Jax(Adapter):
    few_sizes = True

    def __init__(self, dtype: str, *, on_cpu: bool) -> None:
        if on_cpu:  # else what a function makes anew would be on a device that JAX has found
            os.environ.setdefault("JAX_PLATFORMS", "cpu")
        # JAX would take three quarters of the device's memory for itself, beside which CuPy's pool has its rows.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax

        if dtype == "float64":  # else it would make singles of the rows
            jax.config.update("jax_enable_x64", True)
        self._jax = jax

    def require_cuda(self) -> None:
        try:
            self._jax.devices("cuda")
        except RuntimeError as error:
            raise ConfigError(_without_cuda("jax", self._jax.__version__)) from error

    def inward(self, array: Any) -> Any:
        return self._jax.dlpack.from_dlpack(array)

    def outward(self, array: Any) -> Any:
        if not isinstance(array, self._jax.Array):
            return array
        if array.dtype.name == "bfloat16":
            array = array.astype("float32")
        if next(iter(array.devices())).platform == "cpu":
            return np.asarray(array)
        import cupy

        return cupy.from_dlpack(array)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)[:200]

    def held(self) -> tuple[int, int]:
        figures = self._jax.local_devices()[0].memory_stats() or {}
        used = figures.get("bytes_in_use", 0)
        return max(used, figures.get("pool_bytes", 0)), max(0, figures.get("pool_bytes", 0) - used)


def _without_cuda(array: str, version: str) -> str:
    name, where = _CALLED[array]
    return (
        f"array = {array!r}: {name} {version}, which is installed here, finds no CUDA device; how to install it for "
        f"one: {where}; 'device = \"cpu\"' evaluates on the processor, for development and tests"
    )


_ADAPTERS: Mapping[str, Callable[..., Adapter]] = {"torch": _Torch, "jax": _Jax}


def missing(array: str, error: object = "") -> str:
    """What to say where the library that ``array`` of the configuration names is not installed."""
    name, where = _CALLED[array]
    because = f" ({error})" if error else ""
    return f"array = {array!r} needs {name}, which is not installed here{because}: pip install {array}, or see {where}"


def adapter(array: str, dtype: str = "float64", *, on_cpu: bool = False) -> Adapter:
    """For ``array``, ``dtype`` and ``device`` of the configuration.

    Raises ConfigError where that library is not installed; what else goes wrong when it is imported comes through.
    """
    if array not in _ADAPTERS:
        return Adapter()
    try:
        return _ADAPTERS[array](dtype, on_cpu=on_cpu)
    except ModuleNotFoundError as error:
        if error.name not in (array, "jaxlib"):
            raise
        raise ConfigError(missing(array, error)) from error


def padded_rows(n: int) -> int:
    """The next number of rows a function is compiled for: a power of two, so that there are few."""
    return 1 << max(0, n - 1).bit_length()


def columns_of(result: Any, n: int, outward: Callable[[Any], Any]) -> Any:
    """What a function returned for ``n`` rows: an array of that length, or a dict of such. Raises what is wrong."""
    if isinstance(result, _STEPPED):
        raise InvalidOutput("a function of batches returns the columns of its outputs, and cannot yield")
    if isinstance(result, Mapping):
        return {str(name): _column(outward(column), n, f"column {name!r}") for name, column in result.items()}
    return _column(outward(result), n, "what the function returned")


def _column(array: Any, n: int, what: str) -> Any:
    shape = getattr(array, "shape", None)
    if shape is None:
        try:
            length = len(array)
        except TypeError:
            raise TypeError(
                f"{what} must have one value for each of the {n} rows, not be a {type(array).__name__}"
            ) from None
        shape = (length,)
    if not shape or shape[0] != n:
        raise ValueError(f"{what} has the shape {tuple(shape)} for {n} rows")
    return array
