"""Slew-limited setting: the values between the one that holds and the one that is wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

__all__ = ["steps"]

#: A step that is too long by rounding alone is not cut in two.
_ROUNDING = 1e-9


def steps(
    start: Mapping[str, float], end: Mapping[str, float], step: Mapping[str, float]
) -> Iterator[dict[str, float]]:
    """Evenly spaced values by parameter, from the first after ``start`` to ``end`` itself, both inclusive of the last.

    All parameters arrive together; none changes by more than its ``step`` at a time. The last one is ``end`` to the
    digit, and is there even if nothing changes.
    """
    n = max((math.ceil(abs(end[name] - start[name]) / step[name] - _ROUNDING) for name in end), default=1)
    for i in range(1, max(n, 1)):
        yield {name: start[name] + (end[name] - start[name]) * (i / n) for name in end}
    yield dict(end)
