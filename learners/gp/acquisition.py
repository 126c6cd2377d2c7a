"""What a point promises, for a function to be made small, with slopes to climb.

The logarithm of the expected improvement is S. Ament, S. Daulton, D. Eriksson, M. Balandat, E. Bakshy, NeurIPS 2023,
arXiv:2310.20708: where the improvement itself underflows, which is most of the space, its logarithm still has slopes.
The confidence bound is N. Srinivas, A. Krause, S. Kakade, M. Seeger, ICML 2010, arXiv:0912.3995.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr

from taskmaster.learners.gp.kernels import LOG_ROOT_2PI
from taskmaster.learners.space import Floats

__all__ = ["confidence_bound", "log_expected_improvement", "log_h", "log_success"]

_DOUBTFUL = 0.1
_FORBIDDING = 100.0
_C2 = 0.5 * math.log(0.5 * math.pi)
#: Below this, the two leading terms of log h(z) are exact to rounding.
_FAR = -1.0 / math.sqrt(np.finfo(np.float64).eps)


def log_h(z: Floats) -> Floats:
    """``log(φ(z) + z Φ(z))``, accurate for all ``z``; Ament et al., equation 9."""
    near = np.maximum(z, -1.0)
    density = np.exp(-0.5 * near * near - LOG_ROOT_2PI)
    direct = np.log(density + near * ndtr(near))
    middle = np.clip(z, _FAR, -1.0)
    tail = np.log(erfcx(-middle * math.sqrt(0.5)) * -middle) + _C2
    with np.errstate(divide="ignore"):
        far = -0.5 * z * z - LOG_ROOT_2PI
        below = np.where(z > _FAR, np.log(-np.expm1(np.minimum(tail, -1e-300))), -2.0 * np.log(np.maximum(-z, 1.0)))
    return np.where(z > -1.0, direct, far + below)


def log_expected_improvement(means: Floats, deviations: Floats, best: Floats) -> tuple[Floats, Floats, Floats]:
    """The logarithm of the improvement on ``best``, ``(s,)``, that is expected, averaged over ``s`` alternatives.

    ``means`` is ``(s, m)``, ``deviations`` is ``(m,)``. Returns values, ``(m,)``, and their derivatives by means,
    ``(s, m)``, and by deviations, ``(m,)``.
    """
    z = (best[:, None] - means) / deviations
    values = log_h(z)
    peak = values.max(axis=0)
    shares = np.exp(values - peak)
    total = shares.sum(axis=0)
    shares /= total
    by_z = np.exp(log_ndtr(z) - values)
    value = np.log(deviations) + peak + np.log(total / len(best))
    return value, -shares * by_z / deviations, (1.0 - (shares * z * by_z).sum(axis=0)) / deviations


def confidence_bound(means: Floats, deviations: Floats, kappa: float) -> tuple[Floats, Floats, Floats]:
    """How far below zero the function may be at ``kappa`` deviations; in the same form."""
    value = kappa * deviations - means.mean(axis=0)
    return value, np.full_like(means, -1.0 / len(means)), np.full_like(deviations, kappa)


def log_success(means: Floats, deviations: Floats, noise: float) -> tuple[Floats, Floats, Floats]:
    """The logarithm of the probability that a regression on ±1 is above zero; in the same form, of one alternative.

    Least-squares classification: Rasmussen and Williams, section 6.5. What is less probable than ``_DOUBTFUL`` counts
    ``_FORBIDDING`` times: points are not to be spent again and again where they are all but certain to fail.
    """
    spread = np.sqrt(deviations**2 + noise)
    z = means[0] / spread
    value = log_ndtr(z)
    by_z = np.exp(-0.5 * z * z - LOG_ROOT_2PI - value)
    doubt = np.minimum(value - math.log(_DOUBTFUL), 0.0)
    by_z = by_z * np.where(doubt < 0.0, 1.0 + _FORBIDDING, 1.0)
    value = value + _FORBIDDING * doubt
    return value, (by_z / spread)[None, :], -by_z * z * deviations / spread**2
