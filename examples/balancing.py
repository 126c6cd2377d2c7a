"""Three temperatures on one instrument: the sharpest peak gets most points, and the probe travels little.

pip install adaptive
python examples/balancing.py
"""

from __future__ import annotations

import adaptive

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.balancing import Balancing
from taskmaster.learners.movecost import MoveCost
from taskmaster.learners.travel import Travel

TEMPERATURES = (4.0, 77.0, 300.0)


def response(point: dict[str, float]) -> float:
    """A resonance that is the wider the warmer it is."""
    return 1 / (1 + ((point["f"] - 0.1) / (0.002 * point["T"] + 0.01)) ** 2)


def main() -> None:
    lines = [AdaptiveLearner(adaptive.Learner1D(None, (-1.0, 1.0)), ["f"]) for _ in TEMPERATURES]
    balancing = Balancing(lines, "loss", fixed=[{"T": temperature} for temperature in TEMPERATURES])
    learner = MoveCost(balancing, Travel({"f": 1.0, "T": 10.0}), ahead=8)
    with WorkMaster(response, workers=2) as master:
        Loop(master.open("resonance"), learner, goal=120).run()
    for temperature, line in zip(TEMPERATURES, lines, strict=True):
        print(f"T = {temperature:g}: {line.npoints} points")


if __name__ == "__main__":
    main()
