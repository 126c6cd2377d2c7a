"""What the example configurations evaluate, on the handwritten digits that scikit-learn ships."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Digits used of the 1797 there are, so that an evaluation takes a fraction of a second.
SAMPLES = 1000
#: Parts the digits are cut into; each is recognised by what was learnt from the others.
FOLDS = 3


@cache
def load() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The digits, shape (SAMPLES, 64) with pixels scaled to [0, 1], and which they are, shape (SAMPLES,)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(labels))[:SAMPLES]
    return pixels[chosen] / 16.0, labels[chosen]


def unload() -> None:
    """Forget the digits."""
    load.cache_clear()


def accuracy(point: Mapping[str, Any]) -> float:
    """The share of digits that a support-vector classifier recognises, by cross-validation.

    ``point`` has ``log_C`` and ``log_gamma``, the decimal logarithms of the penalty and of the RBF kernel's factor.
    """
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    pixels, labels = load()
    classifier = SVC(C=10.0 ** point["log_C"], gamma=10.0 ** point["log_gamma"])
    return float(cross_val_score(classifier, pixels, labels, cv=FOLDS).mean())


def picture(exposure: float, filter: str, frames: int) -> NDArray[np.float64]:
    """A simulated camera's picture of the first digit, shape (8, 8), in counts: the mean of so many noisy ``frames``.

    ``exposure`` is in ms; ``filter`` is what stands before the lens.
    """
    transmission = {"none": 1.0, "red": 0.6, "green": 0.7, "blue": 0.4}[filter]
    light = load()[0][0].reshape(8, 8) * exposure * transmission
    counts = np.random.default_rng().poisson(light, size=(frames, 8, 8))
    return np.asarray(counts.mean(axis=0))
