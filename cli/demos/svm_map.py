"""The demo's picture: what was learnt over two parameters, where it was measured, and which setting was best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.fields import Field

__all__ = ["draw_map"]


def draw_map(
    file: Path, title: str, fields: Sequence[Field], output: Field, points: NDArray[np.float64], values: Sequence[float]
) -> None:
    """Write a PNG of ``values``, shape ``(n,)``, at ``points``, shape ``(n, 2)``; linear between neighbouring points.

    ``fields`` are the two parameters, with limits and units. No display is needed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.tri import Triangulation

    figure = Figure(figsize=(8.0, 6.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low, high = np.array([field.limits for field in fields]).T
    # Neighbours are found in the unit square, as the learner does it, so that units do not matter.
    triangles = Triangulation(*((points - low) / (high - low)).T).triangles
    x, y = points.T
    surface = axes.tripcolor(Triangulation(x, y, triangles), np.asarray(values), shading="gouraud", cmap="viridis")
    figure.colorbar(surface, label=_label(output), pad=0.02)
    dots: dict[str, Any] = {"color": "white", "markersize": 4.0, "markeredgecolor": "black", "markeredgewidth": 0.4}
    axes.plot(x, y, ".", label=f"{len(x)} points evaluated", clip_on=False, **dots)
    best = int(np.argmax(values))
    axes.plot(
        x[best],
        y[best],
        "*",
        color="red",
        markersize=16,
        markeredgecolor="white",
        label=f"best: {output.name} {values[best]:.4f} at ({x[best]:.2f}, {y[best]:.2f})",
    )
    axes.set(
        title=title, xlabel=_label(fields[0]), ylabel=_label(fields[1]), xlim=fields[0].limits, ylim=fields[1].limits
    )
    axes.legend(loc="lower left", framealpha=0.9)
    figure.savefig(file)


def _label(field: Field) -> str:
    """An axis in words: ``log10 of the penalty C (dimensionless)``."""
    return f"{field.description or field.name} ({field.unit or 'dimensionless'})"
