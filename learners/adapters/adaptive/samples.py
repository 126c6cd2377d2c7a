"""Learners of what is noisy: AverageLearner and AverageLearner1D."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners.adapters.adaptive.forms import Form, Key, check_limits, check_seed, floats, whole_seed
from taskmaster.learners.protocol import Point

__all__ = ["SeededLine", "Seeds"]


class Seeds(Form):
    """AverageLearner: the point is a seed, 0, 1, 2, …"""

    @property
    def width(self) -> int:
        return 1

    def key(self, point: Point, names: Sequence[str] | None) -> Key:
        (seed,) = floats(point[names[0]] if names and isinstance(point, Mapping) else point)
        return (whole_seed(seed),)

    def point(self, native: Any, names: Sequence[str] | None) -> Point:
        return int(native) if names is None else {names[0]: int(native)}

    def unasked(self, key: Key) -> Any:
        return key[0]

    def check(self, fields: Sequence[Field]) -> None:
        check_seed(self.kind, fields[0])


class SeededLine(Form):
    """AverageLearner1D: a seed and a coordinate; or the coordinate alone, where the Master's own noise is averaged.

    Which one, the number of parameters says. A seed's parameter stands first, or is called ``seed``.
    """

    repeats = True

    def __init__(self, learner: Any) -> None:
        super().__init__(learner)
        self._bounds = (float(learner.bounds[0]), float(learner.bounds[1]))
        #: the next seed at each place
        self._next: Counter[float] = Counter()

    @property
    def width(self) -> None:
        return None

    def ask(self, n: int) -> list[Any]:
        natives = []
        for seed, x in super().ask(n):
            number = max(self._next[x], len(self.learner._data_samples.get(x, ())))
            if number != seed:  # that one is pending already, or will be told as another
                if seed >= self._next[x]:
                    self.learner.pending_points.discard((seed, x))
                self.learner.tell_pending((number, x))
            self._next[x] = number + 1
            natives.append((number, x))
        return natives

    def knows(self, native: Any) -> bool:
        return False

    def _places(self, names: Sequence[str]) -> tuple[int | None, int]:
        """Where among the parameters the seed is, and the coordinate."""
        if len(names) == 1:
            return None, 0
        return (1, 0) if "seed" in names[1:] else (0, 1)

    def key(self, point: Point, names: Sequence[str] | None) -> Key:
        if names is None or not isinstance(point, Mapping):
            seed, x = floats(point)
            return whole_seed(seed), x
        key = floats([point[name] for name in names])
        at, place = self._places(names)
        return key if at is None else (whole_seed(key[at]), key[place])

    def point(self, native: Any, names: Sequence[str] | None) -> Point:
        seed, x = int(native[0]), float(native[1])
        if names is None:
            return seed, x
        at, place = self._places(names)
        return {name: seed if k == at else x for k, name in enumerate(names)} if at is not None else {names[place]: x}

    def unasked(self, key: Key) -> Any:
        x = key[-1]
        if not self._bounds[0] <= x <= self._bounds[1]:
            return None
        seed = key[0] if len(key) == 2 else max(self._next[x], len(self.learner._data_samples.get(x, ())))
        self._next[x] = max(self._next[x], seed + 1)
        return seed, x

    @property
    def npoints(self) -> int:
        return int(self.learner.nsamples)

    def check(self, fields: Sequence[Field]) -> None:
        if len(fields) > 2:
            raise CallerError(f"{self.kind} has a coordinate and a seed, but the Master has {len(fields)} parameters")
        at, place = self._places([field.name for field in fields])
        check_limits(self.kind, fields[place], self._bounds)
        if at is not None:
            check_seed(self.kind, fields[at])
