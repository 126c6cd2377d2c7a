"""The largest value where evaluations are cheap and many: differential evolution.

python examples/evolution.py
"""

from __future__ import annotations

import math

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.evolution import Evolution


def gain(point: dict[str, float]) -> float:
    """Full of dents; the highest point is at 0.3, 0.3."""
    return sum(math.cos(20 * (x - 0.3)) - 5 * (x - 0.3) ** 2 for x in point.values())


def main() -> None:
    learner = Evolution({"a": (-2.0, 2.0), "b": (-2.0, 2.0)}, maximize=True)
    with WorkMaster(gain, workers=2) as master:
        Loop(master.open("dents", seed=1), learner, goal=1000, in_flight=16).run()
    point, value = learner.best()
    print(f"{value:.4f} at a = {point['a']:.2f}, b = {point['b']:.2f}")


if __name__ == "__main__":
    main()
