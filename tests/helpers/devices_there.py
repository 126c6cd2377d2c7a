"""Whether there is a CUDA device for tests that need one."""

from __future__ import annotations

import importlib.util

from taskmaster.drivers.gpu.probe import probe

__all__ = ["NO_DEVICE"]


def _look() -> str:
    problem = str(probe()["problem"])
    if not problem and importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed (the extra [gpu])"
    return problem


#: Why tests that need a device are skipped; empty where there is one.
NO_DEVICE = _look()
