"""The figure of a study; needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import count, lacking

if TYPE_CHECKING:
    from taskmaster.learners.simulate.study import Study, Trial

__all__ = ["plot_study", "require_plot"]

#: Points of a curve.
_POINTS = 400
_INCHES = (4.6, 3.4)


def require_plot(file: str | os.PathLike[str]) -> None:
    """Raise CallerError if a plot could not be written there: before the hours of which it would be the plot."""
    path = Path(file)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CallerError(lacking("the plot of a study needs", "matplotlib", "plot", error)) from None
    known = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise CallerError(f"a plot is written to a file.png, .pdf or .svg, not to {str(path)!r}")
    if not path.parent.is_dir():
        raise CallerError(f"there is no folder {str(path.parent)!r} for the plot {path.name!r}")


def plot_study(study: Study, file: Any = None) -> Any:
    """A panel for each number of workers, a curve for each learner: the median of the best so far, with quartiles.

    Returns the matplotlib Figure. Raises CallerError if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CallerError(lacking("the plot of a study needs", "matplotlib", "plot", error)) from None
    groups = list(study.groups())
    numbers = list(dict.fromkeys(trials[0].workers for trials in groups))
    figure = Figure(figsize=(_INCHES[0] * len(numbers), _INCHES[1]), layout="constrained")
    panels = figure.subplots(1, len(numbers), sharey=True, squeeze=False)[0]
    for panel, workers in zip(panels, numbers):
        for trials in groups:
            if trials[0].workers == workers and any(trial.times for trial in trials):
                _draw(panel, trials)
        panel.set_title(count(workers, "worker"))
        panel.set_xlabel("time / s")
        if all(_is_positive(line.get_ydata()) for line in panel.lines):
            panel.set_yscale("log")
            _label_plainly(panel.yaxis)
    panels[0].set_ylabel(f"best so far ({'least' if study.minimize else 'most'})")
    if panels[0].lines:
        panels[0].legend()
    if file is not None:
        figure.savefig(file)
    return figure


def _is_positive(values: NDArray[np.float64]) -> bool:
    """Whether all that is known of a curve is above 0: at its beginning nothing may be, where the first were NaN."""
    return bool((values[~np.isnan(values)] > 0).all())


def _label_plainly(axis: Any) -> None:
    """Label those ticks of a logarithmic axis that matplotlib would, but by 0.6, not by 6 × 10⁻¹."""
    from matplotlib.ticker import LogFormatter

    class Plainly(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.set_major_formatter(Plainly())
    axis.set_minor_formatter(Plainly())


def _draw(panel: Any, trials: Sequence[Trial]) -> None:
    end = max(trial.times[-1] for trial in trials if trial.times)
    begin = max(trial.times[0] for trial in trials if trial.times)
    times = np.linspace(min(begin, end), end, _POINTS)
    curves = np.array([_at(trial, times) for trial in trials if trial.times])
    low, middle, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
    (line,) = panel.plot(times, middle, label=trials[0].learner)
    panel.fill_between(times, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def _at(trial: Trial, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Its best so far at these times; after its end, the last."""
    last = np.searchsorted(np.asarray(trial.times), times, side="right") - 1
    return np.asarray(trial.best)[np.maximum(last, 0)]
