"""Points and outputs as a Loop looks at them: whether two are the same, whether one is a NaN."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, cast

import numpy as np

__all__ = ["has_nan", "key_of", "same_point", "was_changed"]

#: Larger arrays are images, and not looked through for each task.
_MOST_BYTES = 4096


def same_point(one: Any, other: Any) -> bool:
    """Whether these are the same point, one of which may have been to the daemon and back."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_point(value, other[key]) for key, value in one.items())
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(np.asarray(one), np.asarray(other), equal_nan=False))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_point, one, other))
    return bool(one == other)


def was_changed(point: Any, evaluated: Any) -> bool:
    """Whether a learner's ``point`` is not what was ``evaluated`` any more; what it has noted with it is its own."""
    if isinstance(point, Mapping) and isinstance(evaluated, Mapping):
        return any(name not in point or was_changed(point[name], value) for name, value in evaluated.items())
    if has_nan(evaluated):  # which equals nothing
        return repr(point) != repr(evaluated)
    return not same_point(point, evaluated)


def key_of(point: Any) -> Hashable | None:
    """What equal points of one learner have in common; None where that is not worth while to find out."""
    key: Any = tuple(point.values()) if type(point) is dict else point
    try:
        hash(key)
    except TypeError:  # it holds an array, or a list
        return _frozen(key)
    return cast("Hashable", key)


def _frozen(value: Any) -> Hashable | None:
    """The same of what can be changed where it is: arrays that are not large, and what is made of them."""
    if isinstance(value, np.ndarray):
        is_small = value.nbytes <= _MOST_BYTES and not value.dtype.hasobject
        return (value.dtype.str, value.shape, value.tobytes()) if is_small else None
    if isinstance(value, Mapping):
        value = tuple(value.items())
    if not isinstance(value, (list, tuple)):
        return value if isinstance(value, Hashable) else None
    parts = tuple(part if part is None else _frozen(part) for part in value)
    return None if any(part is None and item is not None for part, item in zip(parts, value, strict=True)) else parts


def has_nan(output: Any) -> bool:
    """Whether there is a NaN among an output's numbers."""
    if type(output) is float:
        return output != output
    if isinstance(output, Mapping):
        return any(map(has_nan, output.values()))
    if isinstance(output, (np.ndarray, np.floating, complex)):
        array = np.asarray(output)
        return array.dtype.kind in "fc" and bool(np.isnan(array).any())
    return isinstance(output, (list, tuple)) and any(map(has_nan, output))
