"""Optuna chooses, under a constraint: pip install optuna"""

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adapters.optuna import OptunaLearner


def reactor(point):
    loss = (point["x"] - 1) ** 2 + (point["catalyst"] != "Pd")
    return {"loss": loss, "heat": 40 * point["x"]}


if __name__ == "__main__":
    parameters = {"x": (-2, 4), "catalyst": {"kind": "str", "choices": ("Pd", "Pt", "Ni")}}
    with WorkMaster(reactor, parameters=parameters, outputs={"loss": {}, "heat": {}}) as master:
        learner = OptunaLearner(master.master.parameters, "TPESampler", minimize="loss", constraints="heat <= 30")
        Loop(master.open("reactor", seed=1), learner, goal=60).run()
        point, loss = learner.best()
        print(f"{point['catalyst']} at {point['x']:.2f}: loss {loss:.2f} after {len(learner.study.trials)} trials")
