"""All that makes one point more promising than another, as one score with its slopes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from taskmaster.learners.gp.acquisition import confidence_bound, log_expected_improvement, log_success
from taskmaster.learners.gp.model import Posterior
from taskmaster.learners.space import Floats

__all__ = ["Promise"]

#: Values, and derivatives by means and by deviations, of an acquisition.
_Value = tuple[Floats, Floats, Floats]
#: Below this, improvements on their own and by their logarithm are so unlikely that only their order means anything.
_DEEP = -10.0
#: By so much of the cube's edge a point is moved to see how its way changes.
_SMALL = 1e-6


@dataclass(frozen=True)
class Promise:
    """``kappa`` is that of the confidence bound; without, it is the logarithm of the expected improvement.

    ``success`` is a regression on ±1 that weights it with the probability that there will be an output. ``toll`` is
    what a way to the points costs, ``(m, columns)`` → ``(m,)``.
    """

    posterior: Posterior
    kappa: float | None = None
    success: Posterior | None = None
    toll: Callable[[Floats], Floats] | None = None
    #: the least value, of each alternative
    _best: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_best", self.posterior.fitted.min(axis=0))

    def __call__(self, points: Floats, with_slopes: bool) -> tuple[Floats, Floats]:
        """Scores, ``(m,)``, of points ``(m, columns)``, and slopes, ``(m, columns)``; none unless wanted."""
        values, slopes = _chain(self.posterior, self._gain, points, with_slopes)
        if self.success is not None:
            chance = partial(log_success, noise=self.success.factor.hyper.noise)
            more, steeper = _chain(self.success, chance, points, with_slopes)
            values, slopes = values + more, slopes + steeper
        if self.toll is not None:
            tolls = self.toll(points)
            values = values - tolls
            for k in range(points.shape[1] if with_slopes else 0):
                # towards the middle, where there is a point in any case
                step = np.where(points[:, k] < 0.5, _SMALL, -_SMALL)
                moved = points.copy()
                moved[:, k] += step
                slopes[:, k] -= (self.toll(moved) - tolls) / step
        return values, slopes

    def _gain(self, means: Floats, deviations: Floats) -> _Value:
        if self.kappa is not None:
            return confidence_bound(means, deviations, self.kappa)
        gain = log_expected_improvement(means, deviations, self._best)
        return gain if self.success is None and self.toll is None else _shallow(*gain)


def _shallow(values: Floats, by_means: Floats, by_deviations: Floats) -> _Value:
    """The same order with less depth, for what else is to count besides.

    Where the model is sure that nothing can be gained, the logarithm goes down to minus millions. Not even the
    certainty of a failure would make up for that: all points would go to where nothing has ever come back from.
    """
    depth = np.maximum(_DEEP - values, 0.0)
    share = 1.0 / (1.0 + depth)
    return np.maximum(values, _DEEP) - np.log1p(depth), by_means * share, by_deviations * share


def _chain(
    posterior: Posterior, value: Callable[[Floats, Floats], _Value], points: Floats, with_slopes: bool
) -> tuple[Floats, Floats]:
    """What ``value`` makes of the means and deviations at ``points``, and its slopes there."""
    if not with_slopes:
        return value(*posterior.predict(points))[0], np.empty((len(points), 0))
    means, deviations, back = posterior.slopes(points)
    values, by_means, by_deviations = value(means, deviations)
    return values, back(by_means, by_deviations)
