"""The chambers' picture: how the plants grew, and what that had to do with the climate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from taskmaster.cli.demos.chambers import Trial

__all__ = ["draw_room"]

_LABELS = {
    "temperature": "temperature (°C)",
    "humidity": "humidity (%)",
    "light": "light (µmol/m²/s)",
    "co2": "CO₂ (ppm)",
}


def draw_room(file: Path, history: Sequence[tuple[float, dict[str, float]]], trials: Sequence[Trial]) -> None:
    """Write a PNG: the masses of ``history`` over the days, and the growth of ``trials`` by climate.

    No display is needed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 7.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([["mass"] * 4, list(_LABELS)], height_ratios=(3, 2))
    days = np.array([day for day, _ in history])
    chambers = list(history[0][1]) if history else []
    for i, chamber in enumerate(chambers):
        masses = [plants[chamber] for _, plants in history]
        axes["mass"].plot(
            days, masses, linewidth=1, color=f"C{i % 10}", linestyle="-" if i < 10 else "--", label=chamber
        )
    axes["mass"].set(title=f"Plants in {len(chambers)} chambers", xlabel="day", ylabel="dry matter (g)", yscale="log")
    axes["mass"].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="x-small")
    rounds = [trial.round for trial in trials]
    rates = [trial.rate for trial in trials]
    for name, label in _LABELS.items():
        values = [trial.climate[name] for trial in trials]
        dots = axes[name].scatter(values, rates, c=rounds, cmap="viridis", s=14, edgecolors="black", linewidths=0.3)
        axes[name].set(xlabel=label)
        axes[name].label_outer()
    axes["temperature"].set(ylabel="relative growth (1/day)")
    figure.colorbar(dots, ax=axes["co2"], label="round")
    figure.savefig(file)
