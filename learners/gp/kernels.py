"""Covariances between points, as functions of their squared scaled distance, with their slopes.

``r² = Σ ((xᵢ − x'ᵢ) / ℓᵢ)²``, with one length ``ℓ`` for each parameter (automatic relevance determination). C. E.
Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning (2006), chapters 4 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from taskmaster.learners.space import Floats

__all__ = ["KERNELS", "Kernel", "squared_distances"]

#: Squared distances → correlations, and their derivatives by the squared distance.
Kernel: TypeAlias = Callable[[Floats], tuple[Floats, Floats]]


def matern52(squared: Floats) -> tuple[Floats, Floats]:
    """Matérn's with ν = 5/2: functions that can be differentiated twice."""
    s = np.sqrt(5.0 * squared)
    decay = np.exp(-s)
    slope = (1.0 + s) * decay
    return slope + (5.0 / 3.0) * squared * decay, (-5.0 / 6.0) * slope


def rbf(squared: Floats) -> tuple[Floats, Floats]:
    """The squared exponential: functions without any roughness."""
    correlation = np.exp(-0.5 * squared)
    return correlation, -0.5 * correlation


#: By their names as options.
KERNELS: Mapping[str, Kernel] = {"matern": matern52, "rbf": rbf}


def squared_distances(a: Floats, b: Floats, kinds: Sequence[slice] = ()) -> Floats:
    """Between the rows of ``a``, ``(n, d)``, and of ``b``, ``(m, d)``: ``(n, m)``, exactly zero for equal rows.

    ``kinds`` are columns of which all but one are zero in each row: those of a parameter without an order.
    """
    total = np.zeros((len(a), len(b)))
    many = {k for columns in kinds for k in range(columns.start, columns.stop)}
    for k in range(a.shape[1]):  # the shorter form by a product of matrices cancels where points are close
        if k in many:
            continue
        difference = a[:, k, None] - b[None, :, k]
        difference *= difference
        total += difference
    for columns in kinds:  # there rows are the same or far apart, and nothing cancels but to zero
        ours, theirs = a[:, columns], b[:, columns]
        total += (ours * ours).sum(axis=1)[:, None] + (theirs * theirs).sum(axis=1) - 2.0 * (ours @ theirs.T)
    return total


#: ln √(2π)
LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)
