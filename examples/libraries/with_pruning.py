"""Optuna gives up what comes to nothing, by the loss that training tells each epoch: pip install optuna"""

import time

import optuna

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adapters.optuna import OptunaLearner
from taskmaster.learners.adapters.pruning import Pruning


def train(point):
    loss = 1.0
    for epoch in range(10):
        time.sleep(0.05)
        loss *= 0.65 + abs(point["rate"] - 0.5)
        yield {"epoch": epoch, "loss": loss}  # its progress
    return loss  # its output


if __name__ == "__main__":
    with WorkMaster(train, workers=2, parameters={"rate": (0, 1)}, outputs={"loss": {}}) as master:
        run = master.open("training", seed=1)
        learner = OptunaLearner(run.master.parameters, minimize="loss", prunes=True)
        with Pruning(run, optuna.pruners.MedianPruner(n_startup_trials=3), value="loss", step="epoch") as pruning:
            Loop(run, learner, goal=12, hook=pruning).run()
        point, loss = learner.best()
        trials = len(learner.study.trials)
        print(f"rate {point['rate']:.2f}: loss {loss:.2f} after {trials} trials, {pruning.pruned} of them pruned")
