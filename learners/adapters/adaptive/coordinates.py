"""Learners of coordinates: Learner1D, Learner2D, LearnerND, IntegratorLearner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from taskmaster.bus.fields import Field
from taskmaster.learners.adapters.adaptive.forms import Form, Key, check_limits, floats
from taskmaster.learners.protocol import Point

__all__ = ["ON_ANOTHER", "Coordinates", "Integral"]

#: What LearnerND's error says when rounding puts a suggestion onto a pending point.
ON_ANOTHER = "Point already in triangulation"
#: What IntegratorLearner's error says when all intervals are as small as they can be.
_NOTHING_LEFT = "No way to improve"


class Coordinates(Form):
    """Learner1D, Learner2D, LearnerND: floats within bounds."""

    def __init__(self, learner: Any, adaptive: ModuleType) -> None:
        super().__init__(learner)
        self._is_line = isinstance(learner, adaptive.Learner1D)
        self._asks_singly = isinstance(learner, adaptive.LearnerND)
        self.box, self._corners = _domain(learner, self._is_line)

    @property
    def width(self) -> int:
        return len(self.box)

    def key(self, point: Point, names: Sequence[str] | None) -> Key:
        if type(point) is float and self._is_line:
            return (point,)
        key = floats([point[name] for name in names or ()] if isinstance(point, Mapping) else point)
        if len(key) != len(self.box):
            raise ValueError
        return key

    def point(self, native: Any, names: Sequence[str] | None) -> Point:
        if names is None and type(native) is float:
            return native
        key = floats(native)
        return self.unasked(key) if names is None else dict(zip(names, key, strict=True))

    def unasked(self, key: Key) -> Any:
        return key[0] if self._is_line else key

    def ask(self, n: int) -> list[Any]:
        if not self._asks_singly:
            return super().ask(n)
        try:
            return super().ask(1)
        except ValueError as error:
            if ON_ANOTHER not in str(error):
                raise
            return []

    def is_needed(self, key: Key) -> bool:
        return self._corners(key)

    def check(self, fields: Sequence[Field]) -> None:
        for field, bounds in zip(fields, self.box, strict=True):
            check_limits(self.kind, field, bounds)


class Integral(Coordinates):
    """IntegratorLearner: floats of which it needs each, and takes no others."""

    needs_all = True

    def __init__(self, learner: Any, adaptive: ModuleType) -> None:
        super().__init__(learner, adaptive)
        self._is_line = True
        self.box = [(float(learner.bounds[0]), float(learner.bounds[1]))]

    def ask(self, n: int) -> list[Any]:
        try:
            return Form.ask(self, n)
        except RuntimeError as error:
            if _NOTHING_LEFT not in str(error):
                raise
            return []

    def unasked(self, key: Key) -> Any:
        return key[0] if key[0] in self.learner.x_mapping else None

    def point(self, native: Any, names: Sequence[str] | None) -> Point:
        return float(native) if names is None else {names[0]: float(native)}

    def is_needed(self, key: Key) -> bool:
        return True

    def is_done(self) -> bool:
        return bool(self.learner.data) and bool(self.learner.done())


def _domain(learner: Any, is_line: bool) -> tuple[list[tuple[float, float]], Callable[[Key], bool]]:
    """The box around the learner's domain, and which points are corners that it needs."""
    if is_line or np.ndim(getattr(learner.bounds, "points", learner.bounds)) == 1:
        return [(float(learner.bounds[0]), float(learner.bounds[1]))], lambda key: False
    if hasattr(learner.bounds, "vertices"):  # a scipy.spatial.ConvexHull
        vertices = frozenset(map(floats, learner.bounds.points[learner.bounds.vertices]))
        return [(min(side), max(side)) for side in zip(*vertices, strict=True)], vertices.__contains__
    box = [(float(low), float(high)) for low, high in learner.bounds]
    return box, lambda key: all(value in ends for value, ends in zip(key, box, strict=True))
