"""Points and outputs as a Loop looks at them: whether two are the same, whether one is a NaN."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

__all__ = ["has_nan", "key_of", "same_point"]


def same_point(one: Any, other: Any) -> bool:
    """Whether these are the same point, one of which may have been to the daemon and back."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_point(value, other[key]) for key, value in one.items())
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(np.asarray(one), np.asarray(other), equal_nan=False))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_point, one, other))
    return bool(one == other)


def key_of(point: Any) -> Hashable | None:
    """What equal points of one learner have in common; None where that is not worth while to find out."""
    key: Hashable = tuple(point.values()) if type(point) is dict else point
    try:
        hash(key)
    except TypeError:  # it holds an array, or a list
        return None
    return key


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
