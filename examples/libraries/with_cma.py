"""CMA-ES by pycma, whole generations over results that come in any order: pip install cma"""

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adapters.cma import CmaLearner


def rosenbrock(point):
    return 100 * (point["y"] - point["x"] ** 2) ** 2 + (1 - point["x"]) ** 2


if __name__ == "__main__":
    with WorkMaster(rosenbrock, parameters={"x": (-2, 2), "y": (-1, 3)}) as master:
        learner = CmaLearner(master.master.parameters, popsize=8)
        Loop(master.open("valley", seed=1), learner, goal=600).run()
        point, value = learner.best()
        print(f"x = {point['x']:.2f}, y = {point['y']:.2f} after {learner.strategy.countiter} generations")
