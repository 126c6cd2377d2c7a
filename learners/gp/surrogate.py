"""A regression that is fitted again at certain numbers of points, and grows by a row for each of them in between."""

from __future__ import annotations

import math

import numpy as np

from taskmaster.learners.gp.model import SHORTEST, Factor, Hyper, Posterior, fit
from taskmaster.learners.gp.scale import RAW, Scale, names
from taskmaster.learners.space import Floats, Ints

__all__ = ["Surrogate"]

#: Hyperparameters are fitted anew after each twentieth part of the points more than at the last time.
_SHARE = 20
#: From so many points on, a search for hyperparameters starts from the last ones only, and takes few steps.
_MATURE = 100
_STEPS = (50, 8)
#: Hyperparameters are fitted to so many points: the better third of these, and an even selection of the others.
_FITTED = 150
#: The shortest length of labels: between two points that failed, others are expected to.
_SHORTEST_OF_LABELS = 0.2
#: What is predicted from: the better half of so many, and the latest.
_KEPT = 1000


class Surrogate:
    """What is known of one output over the cube. ``noise`` is its standard deviation, if that is known.

    ``labels`` says that the values are ±1, which are taken as they are.
    """

    def __init__(self, groups: Ints, kernel: str, noise: float | None, labels: bool = False) -> None:
        self._groups = groups
        self._kernel = kernel
        self._noise = noise
        self._labels = labels
        self._codes: list[Floats] = []
        self._values: list[float] = []
        self._next_fit = 0
        #: by the name of the shape
        self._hypers: dict[str, Hyper] = {}
        #: how outputs are turned into what the regression gets, as of the last fit
        self.scale = RAW
        self._factor: Factor | None = None
        #: which of the points are the factor's rows
        self._rows: list[int] = []

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, code: Floats, value: float) -> None:
        """``value`` was found at ``code``, ``(columns,)``."""
        self._codes.append(code)
        self._values.append(value)

    def best(self, k: int) -> Floats:
        """The points, ``(k, columns)`` or fewer, of the ``k`` least values."""
        order = np.argsort(np.array(self._values), kind="stable")[:k]
        return np.array([self._codes[i] for i in order.tolist()])

    def posterior(self) -> Posterior:
        """What is to be expected elsewhere; in the outputs' scale as of now."""
        if self._factor is None or len(self) >= self._next_fit:
            self._factor = self._fitted_anew()
        factor = self._factor
        factor.truncate(len(self._rows))
        fresh = range(self._rows[-1] + 1, len(self))
        if fresh:
            self._rows += fresh
            factor.extend(np.array([self._codes[i] for i in fresh]))
        values = np.array([self._values[i] for i in self._rows])
        if self._labels:
            return Posterior(factor, values, (float(values.sum()) + 1.0) / (len(values) + 2.0))
        return Posterior(factor, self.scale(values))

    # -- fitting ------------------------------------------------------------------------------------------------------

    def _fitted_anew(self) -> Factor:
        """Choose scale and hyperparameters anew, and make the factor with them."""
        n = len(self)
        values = np.array(self._values)
        rows = _selected(values)
        x, y = np.array([self._codes[i] for i in rows.tolist()]), values[rows]
        scales = [RAW] if self._labels else [Scale.of(values, shape) for shape in names(self._noise)]
        least = math.inf
        for scale in scales:
            hyper, value = self._fitted(x, y, scale, mature=n > _MATURE)
            value -= scale.log_slopes(y)
            if value < least:
                least, self.scale = value, scale
            self._hypers[scale.shape] = hyper
        self._rows = _kept(values)
        self._next_fit = n + max(1, n // _SHARE)
        factor = Factor(self._hypers[self.scale.shape], self._groups, self._kernel)
        factor.extend(np.array([self._codes[i] for i in self._rows]))
        return factor

    def _fitted(self, x: Floats, y: Floats, scale: Scale, mature: bool) -> tuple[Hyper, float]:
        noise = None if self._noise is None else (self._noise / scale.unit / scale.deviation) ** 2
        last = self._hypers.get(scale.shape)
        return fit(
            x,
            scale(y),
            self._groups,
            self._kernel,
            noise=noise,
            starts=[] if last is None else [last],
            afresh=last is None or not mature,
            steps=_STEPS[mature],
            shortest=_SHORTEST_OF_LABELS if self._labels else SHORTEST,
        )


def _selected(values: Floats) -> Ints:
    """The rows, ascending, that hyperparameters are fitted to."""
    if len(values) <= _FITTED:
        return np.arange(len(values))
    order = np.argsort(values, kind="stable")
    better, others = order[: _FITTED // 3], np.sort(order[_FITTED // 3 :])
    evenly = np.linspace(0, len(others) - 1, _FITTED - len(better)).astype(int)
    return np.sort(np.concatenate([better, others[evenly]]))


def _kept(values: Floats) -> list[int]:
    """The rows, ascending, that predictions are made from; the last is always among them."""
    n = len(values)
    if n <= _KEPT:
        return list(range(n))
    latest = set(range(n - _KEPT // 2, n))
    better = [i for i in np.argsort(values, kind="stable").tolist() if i not in latest]
    return sorted(latest.union(better[: _KEPT - len(latest)]))
