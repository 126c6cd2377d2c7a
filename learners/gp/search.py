"""The search for the point that promises most: many points are looked at, the best of them are climbed from.

How many is fixed by how many points are known, never by the time that it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.optimize import minimize

from taskmaster.learners.space import Floats, Ints, Space

__all__ = ["Score", "propose"]

#: Points ``(m, columns)`` and whether their slopes are wanted → scores ``(m,)`` and slopes ``(m, columns)``.
Score: TypeAlias = Callable[[Floats, bool], tuple[Floats, Floats]]

#: Deviations of the points that are tried around good ones, in edges of the cube.
_NEAR = (0.1, 0.02, 0.004)
#: From so many points the score is climbed.
_STARTS = 4
#: Steps of a climb, and of one after a step of a parameter that goes in steps: most of the way is behind it.
_STEPS = 40
_STEPS_BETWEEN = 10
#: Rounds of steps of one parameter at a time, where some go in steps.
_ROUNDS = 4


def propose(space: Space, score: Score, around: Floats, rng: np.random.Generator, many: int) -> Floats:
    """Points of ``space``, ``(m, columns)``, the most promising first.

    ``many`` points are looked at anywhere, and as many near the rows of ``around``, ``(k, columns)``.
    """
    candidates = space.snap(
        np.concatenate([space.spread(rng.random((many, space.varied))), _near(space, around, rng, many)])
    )
    scores = score(candidates, False)[0]
    order = np.argsort(-scores, kind="stable")
    starts = candidates[_apart(candidates, order)]
    found = _stepped(space, score, _climbed(space, score, starts, _STEPS))
    found = np.concatenate([found, candidates[order[: 4 * _STARTS]]])
    ordered: Floats = found[np.argsort(-score(found, False)[0], kind="stable")]
    return ordered


def _near(space: Space, around: Floats, rng: np.random.Generator, many: int) -> Floats:
    """Points that differ from good ones in some of their coordinates, by little."""
    if not len(around):
        return np.empty((0, space.columns))
    centres = around[np.arange(many) % len(around)]
    deviations = np.array(_NEAR)[rng.integers(len(_NEAR), size=many)]
    changed = rng.random((many, space.varied)) < np.maximum(rng.random((many, 1)), 1.0 / space.varied)
    moved = centres + deviations[:, None] * rng.standard_normal(centres.shape)
    moved = np.where(moved < 0.0, -moved, moved)
    moved = np.where(moved > 1.0, 2.0 - moved, moved)
    return np.where(changed[:, space.groups], moved, centres)


def _apart(candidates: Floats, order: Ints) -> list[int]:
    """The best candidate, and others that are not all beside it: the next best are drawn from further and further."""
    chosen: list[int] = []
    for i in order.tolist():
        distances = [np.abs(candidates[i] - candidates[j]).max() for j in chosen]
        if not distances or min(distances) > 0.05:
            chosen.append(i)
        if len(chosen) == _STARTS:
            break
    return chosen


def _climbed(space: Space, score: Score, starts: Floats, steps: int) -> Floats:
    """Where the slopes lead from ``starts``, all in one search: evaluating them together costs little more than one."""
    free = np.flatnonzero(space.smooth)
    if not len(free):
        return starts

    def descend(flat: Floats) -> tuple[float, Floats]:
        points = starts.copy()
        points[:, free] = flat.reshape(len(starts), len(free))
        values, slopes = score(points, True)
        return -float(values.sum()), -slopes[:, free].ravel()

    begin = starts[:, free].ravel()
    found = minimize(
        descend, begin, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(begin), options={"maxiter": steps}
    )
    climbed = starts.copy()
    climbed[:, free] = found.x.reshape(len(starts), len(free))
    return climbed


def _stepped(space: Space, score: Score, points: Floats) -> Floats:
    """Each of ``points`` after its best steps of single parameters that go in steps, climbed again in between."""
    if space.smooth.all():
        return points
    for _ in range(_ROUNDS):
        moved = _best_steps(space, score, points)
        changed = (moved != points).any(axis=1)
        if not changed.any():
            break
        points = moved
        points[changed] = _climbed(space, score, moved[changed], _STEPS_BETWEEN)
    return points


def _best_steps(space: Space, score: Score, points: Floats) -> Floats:
    """For each of ``points`` the best of itself and those that are one step away; all are looked at together."""
    options = [np.concatenate([point[None, :], space.near(point)]) for point in points]
    scores = np.split(score(np.concatenate(options), False)[0], np.cumsum([len(some) for some in options])[:-1])
    return np.array([some[int(np.argmax(values))] for some, values in zip(options, scores, strict=True)])
