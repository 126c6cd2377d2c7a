"""Which CUDA devices there are: asked of the driver's own libraries, without CuPy, and in a process that ends then.

``python -m taskmaster.drivers.gpu.probe`` writes JSON: the ``devices`` that CUDA shows to a process, each with name,
memory and compute capability; ``driver``, the version of the kernel's; ``cuda``, the newest version that it knows;
``cupy``, that of CuPy, if it is installed; and ``problem``, why there is none, where there is none.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from taskmaster.drivers.gpu.visible import counting

__all__ = ["probe"]

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
_VERSION = Path("/proc/driver/nvidia/version")
_NO_DRIVER = "no NVIDIA driver is installed here (there is no libcuda.so.1)"


class _Failed(Exception):
    """A call of the driver's failed."""


def probe() -> dict[str, Any]:
    """What there is."""
    found: dict[str, Any] = {"devices": [], "driver": _driver_version(), "cuda": "", "cupy": _cupy(), "problem": ""}
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {**found, "problem": _NO_DRIVER}
    try:
        _call(library, "cuInit", 0)
        found["cuda"] = _cuda_version(library)
        found["devices"] = [_device(library, number) for number in range(_count(library))]
    except _Failed as failed:
        found["problem"] = str(failed)
    if not found["devices"] and not found["problem"]:
        found["problem"] = "CUDA shows no device to this process (is CUDA_VISIBLE_DEVICES set?)"
    return found


def _cupy() -> str:
    """CuPy's version, by whatever name it was installed, without importing it."""
    names = metadata.packages_distributions().get("cupy", ())
    return metadata.version(names[0]) if names else ""


def _driver_version() -> str:
    try:
        first = _VERSION.read_text().splitlines()[0]
    except (OSError, IndexError):
        return ""
    return next((word for word in first.split() if word[:1].isdigit() and "." in word), "")


def _call(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    result = getattr(library, name)(*arguments)
    if result:
        text = ctypes.c_char_p()
        library.cuGetErrorString(result, ctypes.byref(text))
        raise _Failed(f"{name}: {(text.value or b'error').decode()} ({result})")


def _cuda_version(library: ctypes.CDLL) -> str:
    version = ctypes.c_int()
    _call(library, "cuDriverGetVersion", ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _count(library: ctypes.CDLL) -> int:
    count = ctypes.c_int()
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    return count.value


def _device(library: ctypes.CDLL, number: int) -> dict[str, Any]:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _call(library, "cuDeviceGet", ctypes.byref(device), number)
    _call(library, "cuDeviceGetName", name, len(name), device)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        _call(library, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return {
        "number": number,
        "name": name.value.decode(errors="replace"),
        "memory": memory.value,
        "capability": ".".join(capability),
    }


if __name__ == "__main__":
    os.environ.update(counting())
    sys.stdout.write(json.dumps(probe()))
