"""The least value in a few dozen evaluations: a Gaussian process, four at a time.

pip install scipy threadpoolctl
python examples/gp_optimise.py
"""

from __future__ import annotations

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.gp import GaussianProcess


def loss(point: dict[str, float]) -> float:
    """Rosenbrock's valley; a real one would take minutes for each point."""
    return 100 * (point["y"] - point["x"] ** 2) ** 2 + (1 - point["x"]) ** 2


def main() -> None:
    learner = GaussianProcess({"x": (-2.0, 2.0), "y": (-1.0, 3.0)})
    with WorkMaster(loss, workers=2) as master:
        Loop(master.open("valley", seed=1), learner, goal=60, in_flight=4).run()
    point, value = learner.best()
    print(f"{value:.4f} at x = {point['x']:.2f}, y = {point['y']:.2f}")


if __name__ == "__main__":
    main()
