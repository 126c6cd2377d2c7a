"""One learner on two Masters: a quick model for most points, the dear instrument for those that it is worth.

python examples/several_masters.py
"""

from __future__ import annotations

from typing import Any

from taskmaster.learners import Loop, Routes, SimulatedMaster
from taskmaster.learners.points import Sobol
from taskmaster.learners.simulate import HalfNormal
from taskmaster.learners.target import Target

SCAN = {"x": (0, 1), "y": (0, 1)}


def height(point: dict[str, float]) -> float:
    return point["x"] * point["y"]


def cost(point: Any, master: Target, in_flight: int) -> float:
    """Seconds until it would be there: the model is quick, but says nothing of the right half."""
    if master.name == "probe":
        return 600 * (in_flight + 1) / 4
    return 10 * (in_flight + 1) if point["x"] < 0.5 else float("inf")


def main() -> None:
    probe = SimulatedMaster(height, workers=4, latency=HalfNormal(600), parameters=SCAN, name="probe")
    model = SimulatedMaster(height, workers=1, latency=10, parameters=SCAN, name="model")
    loop = Loop(Routes([probe, model], cost), Sobol(probe.parameters, n=64))
    with loop.run() as run:
        shares = ", ".join(f"{each.next_index} by the {each.master.name}" for each in run.runs)
    print(f"{loop.told} points in {loop.elapsed / 3600:.1f} h: {shares}")


if __name__ == "__main__":
    main()
