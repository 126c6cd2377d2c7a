"""Regression by a Gaussian process whose data grow point by point.

scikit-learn's GaussianProcessRegressor fits hyperparameters just as well. It does not serve here because of what an
optimiser needs besides: no slopes of a prediction (so the acquisition could not be climbed), no row added to a factor
once made (each of a batch of pending points would cost n³), and no priors on its hyperparameters, without which the
length scales of the first dozen points run to their bounds. What is left of it would be a Cholesky factor, which is
SciPy's. The search for hyperparameters is SciPy's L-BFGS-B.

The inverse of the Cholesky factor is what is kept, not the factor: a row is added by two products of a matrix with a
vector, and predictions are products, too, of which BLAS makes the most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

from taskmaster.learners.gp.kernels import KERNELS, LOG_ROOT_2PI, squared_distances
from taskmaster.learners.space import Floats, Ints

__all__ = ["SHORTEST", "Evidence", "Factor", "Hyper", "Posterior", "fit"]

#: Added to the noise, as a share of the amplitude: what keeps the factor of close points accurate.
_JITTER = 1e-8
#: Bounds: lengths in edges of the unit cube; of logarithms: variances in those of the standardised outputs.
SHORTEST, _LONGEST = 5e-3, 1e3
_AMPLITUDES = (math.log(1e-2), math.log(1e3))
_NOISES = (math.log(1e-7), math.log(4.0))


@dataclass(frozen=True)
class Hyper:
    """What a process is like; ``lengths`` has shape ``(parameters,)``, variances are in units of outputs squared."""

    lengths: Floats
    amplitude: float
    noise: float


#: Normal distributions of the logarithms, (mean, standard deviation). Lengths grow with the root of the number of
#: parameters, as the distances in the cube do: C. Hvarfner, E. O. Hellsten, L. Nardi, ICML 2024, arXiv:2402.02229.
_LENGTH_PRIOR = (math.sqrt(2.0), math.sqrt(3.0))
_AMPLITUDE_PRIOR = (0.0, 1.0)
_NOISE_PRIOR = (math.log(1e-4), 2.5)


def _prior(parameters: int, noise: float | None) -> tuple[Floats, Floats]:
    """Means and deviations of all logarithms, lengths first; where the noise is known it is no question."""
    mean, deviation = _LENGTH_PRIOR
    lengths = [(mean + 0.5 * math.log(max(parameters, 1)), deviation)] * parameters
    each = np.array([*lengths, _AMPLITUDE_PRIOR, *([_NOISE_PRIOR] if noise is None else [])])
    return each[:, 0], each[:, 1]


def fit(
    x: Floats,
    y: Floats,
    groups: Ints,
    kernel: str,
    *,
    noise: float | None = None,
    starts: Sequence[Hyper] = (),
    afresh: bool = True,
    steps: int = 50,
    shortest: float = SHORTEST,
) -> tuple[Hyper, float]:
    """The most probable hyperparameters for ``x``, ``(n, columns)``, and ``y``, ``(n,)``, of mean 0 and deviation 1.

    ``groups`` says to which parameter each column belongs; ``noise`` is its variance if that is known. The search
    starts from each of ``starts`` and, if ``afresh``, from the prior's means, and takes at most so many ``steps``. No
    length is below ``shortest``. Returns them with the negative logarithm of their probability.
    """
    evidence = Evidence(x, y, groups, kernel, noise, shortest)
    best, value = evidence.means, math.inf
    options = {"maxiter": steps, "maxfun": 2 * steps}
    for start in [*([evidence.means] if afresh else []), *map(evidence.pack, starts)]:
        found = minimize(evidence, start, jac=True, method="L-BFGS-B", bounds=evidence.bounds, options=options)
        if found.fun < value:
            best, value = found.x, float(found.fun)
    return evidence.unpack(best), value


class Evidence:
    """The negative logarithm of the posterior of the hyperparameters, with its gradient; the mean is profiled out."""

    def __init__(
        self, x: Floats, y: Floats, groups: Ints, kernel: str, noise: float | None, shortest: float = SHORTEST
    ) -> None:
        n, parameters = len(x), int(groups.max(initial=-1)) + 1
        self._kernel = KERNELS[kernel]
        self._y = y
        self._noise = noise
        self._parameters = parameters
        self._squared = np.zeros((parameters, n * n))
        for k, group in enumerate(groups.tolist()):
            self._squared[group] += squared_distances(x[:, [k]], x[:, [k]]).ravel()
        self.means, self._deviations = _prior(parameters, noise)
        self.bounds = (
            [(math.log(shortest), math.log(_LONGEST))] * parameters
            + [_AMPLITUDES]
            + ([_NOISES] if noise is None else [])
        )

    def pack(self, hyper: Hyper) -> Floats:
        logs = [*np.log(hyper.lengths), math.log(hyper.amplitude)]
        if self._noise is None:
            logs.append(math.log(max(hyper.noise, 1e-300)))
        packed: Floats = np.clip(np.array(logs), *np.array(self.bounds).T)
        return packed

    def unpack(self, logs: Floats) -> Hyper:
        lengths = np.exp(logs[: self._parameters])
        noise = math.exp(logs[self._parameters + 1]) if self._noise is None else self._noise
        return Hyper(lengths, math.exp(logs[self._parameters]), noise)

    def __call__(self, logs: Floats) -> tuple[float, Floats]:
        hyper = self.unpack(logs)
        n, weights = len(self._y), hyper.lengths**-2.0
        correlations, slopes = self._kernel((weights @ self._squared).reshape(n, n))
        covariance = hyper.amplitude * correlations
        covariance[np.diag_indices(n)] += hyper.noise + _JITTER * hyper.amplitude
        factor, failed = lapack.dpotrf(covariance, lower=1, clean=0)
        if failed:
            return 1e25, np.zeros_like(logs)
        log_determinant = 2.0 * float(np.log(np.diagonal(factor)).sum())
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        ones = inverse.sum(axis=0)
        residual = self._y - float(ones @ self._y) / float(ones.sum())
        alpha = inverse @ residual
        deviation = (logs - self.means) / self._deviations
        value = 0.5 * (float(residual @ alpha) + log_determinant + float(deviation @ deviation)) + n * LOG_ROOT_2PI

        inverse -= np.outer(alpha, alpha)  # twice the derivative of the value by the covariance, from here on
        gradient = deviation / self._deviations
        by_distance = (inverse * slopes).ravel()
        gradient[: self._parameters] -= hyper.amplitude * weights * (self._squared @ by_distance)
        trace = float(np.trace(inverse))
        gradient[self._parameters] += 0.5 * hyper.amplitude * (float(np.vdot(inverse, correlations)) + _JITTER * trace)
        if self._noise is None:
            gradient[self._parameters + 1] += 0.5 * hyper.noise * trace
        return value, gradient


class Factor:
    """The inverse of the Cholesky factor of a covariance matrix, growing row by row; room doubles when it is used up.

    ``scale`` are the reciprocal lengths of the columns, ``(columns,)``.
    """

    def __init__(self, hyper: Hyper, groups: Ints, kernel: str) -> None:
        self.hyper = hyper
        self._kernel = KERNELS[kernel]
        self._kinds = [columns for columns in _columns(groups) if columns.stop - columns.start > 1]
        self.scale: Floats = 1.0 / hyper.lengths[groups]
        self.n = 0
        self._x = np.empty((64, len(self.scale)))
        self._inverse = np.zeros((64, 64))

    @property
    def x(self) -> Floats:
        """The points, each coordinate by its length: ``(n, columns)``."""
        return self._x[: self.n]

    @property
    def inverse(self) -> Floats:
        """The inverse of the lower factor: ``(n, n)``, lower."""
        return self._inverse[: self.n, : self.n]

    def truncate(self, n: int) -> None:
        """Forget all points after the first ``n``."""
        self._inverse[n : self.n] = 0.0
        self.n = n

    def extend(self, points: Floats) -> None:
        """Add points, ``(m, columns)``, in coordinates of the unit cube."""
        n, m = self.n, len(points)
        self._make_room(n + m)
        scaled = points * self.scale
        covariance = self.among(scaled)
        covariance[np.diag_indices(m)] += self.hyper.noise + _JITTER * self.hyper.amplitude
        across = self.inverse @ self.covariances(scaled)[0]
        factor = _lower_factor(covariance - across.T @ across, _JITTER * self.hyper.amplitude)
        corner, _ = lapack.dtrtri(factor, lower=1)
        corner = np.tril(corner)
        self._inverse[n : n + m, :n] = -(corner @ (across.T @ self.inverse))
        self._inverse[n : n + m, n : n + m] = corner
        self._x[n : n + m] = scaled
        self.n = n + m

    def covariances(self, scaled: Floats) -> tuple[Floats, Floats]:
        """Of the points with others, already divided by the lengths, and their slopes: ``(n, m)`` both."""
        correlations, slopes = self._kernel(squared_distances(self.x, scaled, self._kinds))
        return self.hyper.amplitude * correlations, self.hyper.amplitude * slopes

    def among(self, scaled: Floats) -> Floats:
        """Covariances of others with each other, already divided by the lengths: ``(m, m)``."""
        return self.hyper.amplitude * self._kernel(squared_distances(scaled, scaled, self._kinds))[0]

    def _make_room(self, n: int) -> None:
        room = len(self._x)
        if n <= room:
            return
        while room < n:
            room *= 2
        x, inverse = np.empty((room, self._x.shape[1])), np.zeros((room, room))
        x[: self.n], inverse[: self.n, : self.n] = self.x, self.inverse
        self._x, self._inverse = x, inverse


def _columns(groups: Ints) -> list[slice]:
    """The columns of each parameter, which stand together."""
    ends = np.cumsum(np.bincount(groups)).tolist() if len(groups) else []
    return [slice(start, stop) for start, stop in zip([0, *ends], ends)]


def _lower_factor(matrix: Floats, least: float) -> Floats:
    """The lower Cholesky factor; where rounding has made ``matrix`` indefinite, of it with more on its diagonal."""
    jitter = 0.0
    while True:
        factor, failed = lapack.dpotrf(matrix + jitter * np.eye(len(matrix)), lower=1, clean=1)
        if not failed:
            return np.asarray(factor)
        jitter = max(10.0 * jitter, least)


#: Derivatives of a score by means, ``(s, m)``, and by deviations, ``(m,)`` → its slopes, ``(m, columns)``.
Back: TypeAlias = Callable[[Floats, Floats], Floats]


class Posterior:
    """What is to be expected after outputs ``y``, ``(n,)`` or ``(n, s)`` for ``s`` alternatives of them."""

    def __init__(self, factor: Factor, y: Floats, mean: float | None = None) -> None:
        self.factor = factor
        columns = y.reshape(factor.n, -1)
        inverse = factor.inverse
        ones = inverse.sum(axis=1)
        if mean is None:
            mean = float(ones @ (inverse @ columns[:, 0])) / float(ones @ ones)
        #: of the process
        self.mean = mean
        self._alpha = inverse.T @ (inverse @ (columns - mean))
        self._columns = columns
        #: the function at the points themselves, without the noise: ``(n, s)``
        self.fitted = columns - (factor.hyper.noise + _JITTER * factor.hyper.amplitude) * self._alpha

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Means ``(s, m)`` and standard deviations ``(m,)`` of the function at ``points``, ``(m, columns)``."""
        covariances, _ = self.factor.covariances(points * self.factor.scale)
        return self._moments(covariances, self.factor.inverse @ covariances)

    def joint(self, points: Floats) -> tuple[Floats, Floats]:
        """Means ``(s, m)`` and the lower factor ``(m, m)`` of the covariance of the function at ``points``."""
        scaled = points * self.factor.scale
        covariances, _ = self.factor.covariances(scaled)
        explained = self.factor.inverse @ covariances
        own = self.factor.among(scaled) - explained.T @ explained
        return self._means(covariances), _lower_factor(own, _JITTER * self.factor.hyper.amplitude)

    def extended(self, points: Floats, outcomes: Floats) -> Posterior:
        """What is to be expected after ``outcomes``, ``(s, m)`` for alternatives, of ``points``, ``(m, columns)``, too.

        The factor has these points from then on.
        """
        known = np.tile(self._columns, (1, len(outcomes) // self._columns.shape[1]))
        self.factor.extend(points)
        return Posterior(self.factor, np.concatenate([known, outcomes.T]), self.mean)

    def slopes(self, points: Floats) -> tuple[Floats, Floats, Back]:
        """As :meth:`predict`, and what makes slopes of a score from its derivatives by these means and deviations."""
        factor = self.factor
        scaled = points * factor.scale
        covariances, by_distance = factor.covariances(scaled)
        explained = factor.inverse @ covariances
        means, deviations = self._moments(covariances, explained)
        weights = factor.inverse.T @ explained

        def back(by_means: Floats, by_deviations: Floats) -> Floats:
            by_covariances = self._alpha @ by_means - weights * (by_deviations / deviations)
            return self._summed(by_distance * by_covariances, scaled)

        return means, deviations, back

    def _summed(self, weights: Floats, scaled: Floats) -> Floats:
        """``Σᵢ weightsᵢ · 2 (x − xᵢ) / ℓ²`` for each point: how its squared distances change, weighted."""
        difference: Floats = scaled * weights.sum(axis=0)[:, None] - weights.T @ self.factor.x
        difference *= 2.0 * self.factor.scale
        return difference

    def _means(self, covariances: Floats) -> Floats:
        return self.mean + self._alpha.T @ covariances

    def _moments(self, covariances: Floats, explained: Floats) -> tuple[Floats, Floats]:
        amplitude = self.factor.hyper.amplitude
        variances = amplitude - np.einsum("nm,nm->m", explained, explained)
        return self._means(covariances), np.sqrt(np.maximum(variances, 1e-12 * amplitude))
