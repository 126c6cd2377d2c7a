"""The largest Lyapunov exponent of Lorenz systems, one for each row: an evaluator for driver ``gpu``.

The same function runs on a CUDA device and, with ``device = "cpu"``, on the processor. Beside it lies `lorenz.cu`, the
same as one kernel, which on a device is some hundred times as fast: here each operation is a launch of its own.
"""

from __future__ import annotations

from typing import Any

from taskmaster.drivers.gpu import namespace

BETA = 8.0 / 3.0
STEP = 0.01
#: Steps until a trajectory is near its attractor, and those over which it is averaged.
SETTLING, STEPS = 500, 1500


def exponent(rows: Any) -> Any:
    """Of each row (``rho``, ``sigma``) the mean growth of a small deviation, in 1/time."""
    xp = namespace(rows)
    rho, sigma = rows[:, 0], rows[:, 1]
    ones = xp.ones_like(rho)
    state = xp.stack([ones, ones, 20.0 * ones, ones, 0.0 * ones, 0.0 * ones])
    growth = xp.zeros_like(rho)
    for step in range(SETTLING + STEPS):
        state = _step(xp, state, rho, sigma)
        length = xp.sqrt((state[3:] ** 2).sum(0))
        state[3:] /= length
        if step >= SETTLING:
            growth += xp.log(length)
    return growth / (STEPS * STEP)


def _step(xp: Any, state: Any, rho: Any, sigma: Any) -> Any:
    """One step of the classical Runge-Kutta method."""
    a = _rate(xp, state, rho, sigma)
    b = _rate(xp, state + STEP / 2 * a, rho, sigma)
    c = _rate(xp, state + STEP / 2 * b, rho, sigma)
    d = _rate(xp, state + STEP * c, rho, sigma)
    return state + STEP / 6 * (a + 2 * b + 2 * c + d)


def _rate(xp: Any, state: Any, rho: Any, sigma: Any) -> Any:
    """Of the state and of a small deviation from it."""
    x, y, z, u, v, w = state
    return xp.stack(
        [
            sigma * (y - x),
            x * (rho - z) - y,
            x * y - BETA * z,
            sigma * (v - u),
            u * (rho - z) - x * w - v,
            u * y + x * v - BETA * w,
        ]
    )
