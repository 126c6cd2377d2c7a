"""What is to be seen of a loop while it runs: a line of progress, a picture that grows, a word at the first failure.

pip install adaptive matplotlib
python examples/watch_a_loop.py [POINTS [PICTURE]]
"""

from __future__ import annotations

import math
import sys

import adaptive

from taskmaster.learners import Hooks, LivePlot, Loop, Progress, WorkMaster, npoints, seconds
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.results import Result


def ring(point: dict[str, float]) -> float:
    """A sharp ring, and a spot in which nothing can be measured."""
    if math.hypot(point["x"] - 0.6, point["y"]) < 0.1:
        raise ValueError("the detector is saturated")
    return math.tanh(20 * (math.hypot(point["x"], point["y"]) - 0.6))


class Word(Hooks):
    def failed(self, loop: Loop, result: Result, error: Exception) -> None:
        if loop.failed == 1:
            print(f"at {result.input}: {error.args[0]}; it goes on")


def main(points: int = 300, picture: str = "ring.png") -> None:
    learner = AdaptiveLearner(adaptive.Learner2D(None, [(-1, 1), (-1, 1)]), ["x", "y"])
    with WorkMaster(ring, workers=2, parameters={"x": (-1, 1), "y": (-1, 1)}) as master:
        goal = npoints(points) | seconds(60)
        Loop(master, learner, goal=goal, hook=[Progress(), LivePlot(picture), Word()]).run()
    print(f"{learner.npoints} points in {picture}")


if __name__ == "__main__":
    main(*(int(text) if text.isdigit() else text for text in sys.argv[1:3]))  # type: ignore[arg-type]
