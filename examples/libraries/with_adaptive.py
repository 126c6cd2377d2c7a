"""Points where a function varies most, by python-adaptive: pip install adaptive"""

import math

import adaptive

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adaptive import AdaptiveLearner

if __name__ == "__main__":
    with WorkMaster(lambda point: math.tanh(20 * point["x"]), parameters={"x": (-1, 1)}) as master:
        learner = AdaptiveLearner(adaptive.Learner1D(None, bounds=(-1, 1)))
        Loop(master.open("step"), learner, goal=30).run()
        near = sum(abs(point["x"]) < 0.2 for point, _ in learner.data)
        print(f"{learner.npoints} points, {near} of them at the step, loss {learner.loss():.3f}")  # learner.plot()
