"""Which settings let a support-vector classifier recognise handwritten digits? An adaptive learner finds out.

The same as `taskmaster demo`, in plain Python with a daemon embedded in this program: two processes evaluate the
cross-validated accuracy over (log10 C, log10 gamma), and a Learner2D of python-adaptive puts points where the surface
is steep. At the end there is a map of it, ``svm_digits.png``.

    pip install adaptive scikit-learn matplotlib
    python examples/svm_digits.py [POINTS [PICTURE]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import adaptive
import matplotlib.tri
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

from taskmaster.learners import Loop, Result, WorkMaster
from taskmaster.learners.adaptive import AdaptiveLearner

BOUNDS = [(-2.0, 4.0), (-6.0, 0.0)]
PIXELS, LABELS = load_digits(return_X_y=True)
CHOSEN = np.random.default_rng(0).permutation(len(LABELS))[:1000]


def accuracy(point: dict[str, float]) -> float:
    """The share of a thousand digits that is recognised, each by what was learnt from the others."""
    classifier = SVC(C=10.0 ** point["log_C"], gamma=10.0 ** point["log_gamma"])
    return float(cross_val_score(classifier, PIXELS[CHOSEN] / 16.0, LABELS[CHOSEN], cv=3).mean())


def draw(learner: AdaptiveLearner, file: Path) -> None:
    """A map of what was learnt, with the points and the best of them."""
    points = np.array([[point["log_C"], point["log_gamma"]] for point, _ in learner.data])
    values = np.array([value for _, value in learner.data])
    figure = Figure(figsize=(8, 6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="log10 C", ylabel="log10 gamma", title="Accuracy of recognising digits")
    surface = axes.tripcolor(matplotlib.tri.Triangulation(*points.T), values, shading="gouraud")
    figure.colorbar(surface, label="share recognised")
    axes.plot(*points.T, "k.", markersize=2)
    axes.plot(*points[values.argmax()], "r*", markersize=16)
    figure.savefig(file)


def main(points: int = 200, picture: str = "svm_digits.png") -> None:
    learner = AdaptiveLearner(adaptive.Learner2D(None, bounds=BOUNDS), names=["log_C", "log_gamma"])

    def show(loop: Loop, result: Result) -> None:
        if learner.npoints % 25 == 0:
            print(f"{learner.npoints} points, best so far {learner.best()[1]:.4f}")

    with WorkMaster(accuracy, workers=2) as master:
        Loop(master.open("digits"), learner, goal=points, hook=show).run()

    best, value = learner.best()
    draw(learner, Path(picture))
    print(f"best: {value:.4f} at C = {10 ** best['log_C']:.3g}, gamma = {10 ** best['log_gamma']:.3g}")
    print(f"map:  {Path(picture).absolute()}")


if __name__ == "__main__":
    main(*(int(text) if text.isdigit() else text for text in sys.argv[1:3]))  # type: ignore[arg-type]
