"""What a learner cannot do, done around it: a logarithm, a region, one output of several, the other sign.

python examples/around_a_learner.py
"""

from __future__ import annotations

import math

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.evolution import Evolution
from taskmaster.learners.transforms import Filter, Log, Transform


def grown(point: dict[str, float]) -> dict[str, object]:
    """A plant's mass: most with a dose of 10⁻³ at 24 °C."""
    mass = math.exp(-((math.log10(point["dose"]) + 3) ** 2) - ((point["T"] - 24) / 5) ** 2)
    return {"mass": mass, "colour": "green" if mass > 0.5 else "brown"}


def main() -> None:
    learner = Transform(
        Evolution({"dose": (-6.0, 0.0), "T": (10.0, 40.0)}), {"dose": Log()}, output="mass", negate=True
    )
    safe = Filter(learner, lambda point: point["T"] < 30)
    with WorkMaster(grown, workers=2) as master:
        Loop(master.open("plants", seed=1), safe, goal=400, in_flight=12).run()
    point, mass = safe.best(output="mass")
    print(f"mass {mass:.3f} with a dose of {point['dose']:.1e} at {point['T']:.1f} °C")


if __name__ == "__main__":
    main()
