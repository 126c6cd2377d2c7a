"""Any optimiser of Nevergrad: pip install nevergrad"""

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adapters.nevergrad import NevergradLearner


def machine(point):
    return (point["speed"] - 0.4) ** 2 + abs(point["teeth"] - 12) / 10


if __name__ == "__main__":
    parameters = {"speed": (0, 1), "teeth": {"kind": "int", "min": 5, "max": 40}}
    with WorkMaster(machine, parameters=parameters) as master:
        learner = NevergradLearner(master.master.parameters, "TwoPointsDE", budget=200)
        Loop(master.open("gears", seed=1), learner, goal=200).run()
        point, value = learner.best()
        print(f"{point['teeth']} teeth at speed {point['speed']:.1f}")
