"""The probe's picture: the surface with the sampled points, and when which head was at work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmaster.learners.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_surface"]

#: Of the heads, in turn; apart from each other and from viridis, also for the colour-blind (Okabe & Ito, 2008).
_COLOURS = ("white", "#E69F00", "#D55E00", "#CC79A7")


def draw_surface(file: Path, size: float, done: Sequence[Result], heads: Sequence[str]) -> None:
    """Write a PNG of the current over a square of ``size`` nm, linear between neighbouring points.

    Below it stand the tasks of each head over the time. No display is needed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 7.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    surface, timeline = figure.subplots(2, 1, height_ratios=(6, 1))
    _draw_map(surface, size, done, heads)
    _draw_timeline(timeline, done, heads)
    figure.savefig(file)


def _draw_map(axes: Axes, size: float, done: Sequence[Result], heads: Sequence[str]) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.tri import Triangulation

    x, y = np.array([(result.input["x"], result.input["y"]) for result in done]).T
    # What the amplifier shows where nothing flows may be below nothing.
    current = np.maximum([abs(float(result.output)) for result in done], 1e-12)
    low, high = np.quantile(current, (0.01, 0.99))
    norm = LogNorm(low, max(high, 1.001 * low))
    colours = axes.tripcolor(Triangulation(x, y), current, shading="gouraud", cmap="viridis", norm=norm)
    axes.figure.colorbar(colours, ax=axes, label="tunnelling current (A)", pad=0.02)
    for head, colour in zip(heads, _COLOURS, strict=True):
        own = np.array([result.worker == head for result in done])
        axes.plot(x[own], y[own], label=f"{head}: {own.sum()}", **_dots(colour))
    axes.set(
        title=f"A surface, imaged by {len(heads)} heads at {len(done)} points that a learner chose",
        xlabel="x (nm)",
        ylabel="y (nm)",
        xlim=(0, size),
        ylim=(0, size),
        aspect="equal",
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(heads), markerscale=3, frameon=True)


def _dots(colour: str) -> dict[str, Any]:
    return {
        "marker": "o", "linestyle": "", "color": colour, "markersize": 2.2,
        "markeredgecolor": "black", "markeredgewidth": 0.25, "clip_on": False,
    }  # fmt: skip


def _draw_timeline(axes: Axes, done: Sequence[Result], heads: Sequence[str]) -> None:
    began = min(result.started for result in done)
    for row, (head, colour) in enumerate(zip(heads, _COLOURS, strict=True)):
        spans = [(result.started - began, result.finished - result.started) for result in done if result.worker == head]
        axes.broken_barh(spans, (row - 0.35, 0.7), facecolors=colour, edgecolors="black", linewidth=0.2)
    axes.set(xlabel="time (s)", yticks=range(len(heads)), yticklabels=heads, ylim=(len(heads) - 0.5, -0.5))
    axes.set_title("tasks of each head; one was unplugged for a while", fontsize="medium")
