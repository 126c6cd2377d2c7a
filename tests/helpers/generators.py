"""Generators of gest-api, as different as the interface allows."""

from __future__ import annotations

from typing import Any

import numpy as np
from gest_api.generator import Generator
from gest_api.vocs import VOCS

__all__ = ["Forgetful", "Herd", "Stuck", "Walker"]


class Walker(Generator):  # type: ignore[misc] # gest-api has no types
    """Steps from the best point it knows, however many are wanted; it numbers its points, and wants its numbers
    back."""

    returns_id = True

    def __init__(self, vocs: VOCS, seed: int = 0, step: float = 0.3) -> None:
        super().__init__(vocs)
        self.vocs = vocs
        self.rng = np.random.default_rng(seed)
        self.step = step
        self.best: dict[str, Any] | None = None
        self.pending: set[int] = set()
        self.ingested: list[dict[str, Any]] = []
        self.finalized = False
        self._next = 100

    def _validate_vocs(self, vocs: VOCS) -> None:
        if len(vocs.objectives) != 1:
            raise ValueError("a Walker goes by one objective")

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        return [self._suggested() for _ in range(num_points or 1)]

    def _suggested(self) -> dict[str, Any]:
        point: dict[str, Any] = {}
        for name, variable in self.vocs.variables.items():
            if hasattr(variable, "values"):
                point[name] = sorted(variable.values, key=str)[int(self.rng.integers(len(variable.values)))]
                continue
            low, high = variable.domain
            here = (low + high) / 2 if self.best is None else self.best[name]
            point[name] = float(np.clip(here + self.step * (high - low) * self.rng.normal(), low, high))
        self.pending.add(self._next)
        self._next += 1
        return {**point, **{name: one.value for name, one in self.vocs.constants.items()}, "_id": self._next - 1}

    def ingest(self, results: list[dict[str, Any]]) -> None:
        (objective,) = self.vocs.objectives
        for result in results:
            if "_id" in result:
                if result["_id"] not in self.pending:
                    raise ValueError(f"{result['_id']} is not pending")
                self.pending.discard(result["_id"])
            self.ingested.append(result)
            if result[objective] == result[objective] and (
                self.best is None or result[objective] < self.best[objective]
            ):
                self.best = result

    def finalize(self) -> None:
        self.finalized = True


class Herd(Walker):
    """Suggests whole generations only, draws from what all of a process share, and cannot bear a generation in
    parts."""

    returns_id = False
    size = 5

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        if num_points is not None:
            raise ValueError(f"a Herd moves as {self.size}")
        self.rng = np.random.default_rng(np.random.randint(2**31))  # many draw from what all of a process share
        return [{name: v for name, v in self._suggested().items() if name != "_id"} for _ in range(self.size)]

    def ingest(self, results: list[dict[str, Any]]) -> None:
        if len(results) > self.size:
            raise ValueError(f"a Herd of {self.size} came back as {len(results)}")
        super().ingest(results)


class Forgetful(Walker):
    """Knows nothing of points in flight: it suggests its next one again until it is told of it."""

    returns_id = False

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        values = np.random.default_rng(len(self.ingested)).random(len(self.vocs.variables))
        point = {
            name: float(variable.domain[0] + u * (variable.domain[1] - variable.domain[0]))
            for u, (name, variable) in zip(values, self.vocs.variables.items())
        }
        return [dict(point) for _ in range(num_points or 1)]


class Stuck(Walker):
    """Suggests these points, the very objects, again and again."""

    returns_id = False

    def __init__(self, vocs: VOCS, points: list[dict[str, Any]]) -> None:
        super().__init__(vocs)
        self.points = points

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        return self.points
