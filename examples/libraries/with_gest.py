"""A generator of gest-api, here of libEnsemble, drives a Master: pip install gest-api libensemble"""

from libensemble.gen_classes import UniformSample

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.adapters.gest import GestLearner, vocs_of

if __name__ == "__main__":
    with WorkMaster(lambda point: point["x"] ** 2, parameters={"x": (-1, 1)}) as master:
        vocs = vocs_of(master.master.parameters, minimize="square")
        learner = GestLearner(vocs, lambda vocs, seed: UniformSample(vocs, random_seed=seed))
        Loop(master.open("sample", seed=1), learner, goal=50).run()
        print(f"{learner.npoints} points, the least output is {learner.best()[1]:.3f}")
