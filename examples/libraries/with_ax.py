"""Bayesian optimisation by Ax; PyTorch comes with it: pip install ax-platform"""

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adapters.ax import AxLearner

if __name__ == "__main__":
    with WorkMaster(lambda p: (p["x"] - 1) ** 2 + p["y"], parameters={"x": (-2, 4), "y": (0, 1)}) as master:
        learner = AxLearner(master.master.parameters, initialization_budget=6)
        Loop(master.open("bowl", seed=1), learner, goal=12, in_flight=3).run()
        point, value = learner.best()
        print(f"x = {point['x']:.1f}, y = {point['y']:.1f} after {learner.npoints} points")
