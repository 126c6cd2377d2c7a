"""Values for programs that do not know numpy: what JSON can say, and nothing it cannot."""

from __future__ import annotations

import base64
import datetime
import json
import math
from typing import Any

import numpy as np

__all__ = ["dumps", "plain"]


def plain(value: Any) -> Any:
    """``value`` in terms of null, booleans, numbers, text, lists and dicts.

    Arrays and tuples become lists, times ISO 8601, bytes base64. JSON has no NaN and no infinities; they become
    ``"NaN"``, ``"Infinity"``, ``"-Infinity"``, as Protocol Buffers writes them. A complex number becomes
    ``{"real": …, "imag": …}``.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _unusual(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.ndarray):
        return value.tolist() if _is_finite(value) else plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, complex):
        return {"real": plain(value.real), "imag": plain(value.imag)}
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"a value of type {type(value).__name__} cannot have come from a task")


def dumps(value: Any) -> str:
    """``value`` as JSON on one line."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _is_finite(array: np.ndarray[Any, Any]) -> bool:
    return array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool(np.isfinite(array).all()))


def _unusual(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
