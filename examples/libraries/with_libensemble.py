"""A learner as a generator for libEnsemble, or whatever speaks gest-api: pip install gest-api libensemble optuna"""

from gest_api.vocs import VOCS
from libensemble import Ensemble
from libensemble.alloc_funcs.start_only_persistent import only_persistent_gens
from libensemble.specs import AllocSpecs, ExitCriteria, GenSpecs, LibeSpecs, SimSpecs

from taskmaster.learners.adapters.gest import LearnerGenerator, fields_of
from taskmaster.learners.adapters.optuna import OptunaLearner

if __name__ == "__main__":
    vocs = VOCS(variables={"x": [-2.0, 4.0], "y": [0.0, 1.0]}, objectives={"loss": "MINIMIZE"})
    generator = LearnerGenerator(vocs, OptunaLearner(fields_of(vocs), minimize="loss"), seed=1)
    Ensemble(
        libE_specs=LibeSpecs(nworkers=2, gen_on_manager=True, comms="threads", disable_log_files=True, safe_mode=False),
        gen_specs=GenSpecs(generator=generator, vocs=vocs, batch_size=2, initial_batch_size=4),
        sim_specs=SimSpecs(simulator=lambda point: {"loss": (point["x"] - 1) ** 2 + point["y"] ** 2}, vocs=vocs),
        alloc_specs=AllocSpecs(alloc_f=only_persistent_gens),
        exit_criteria=ExitCriteria(sim_max=20),
    ).run()
    print(f"{generator.learner.npoints} points told, the least loss is {generator.learner.best()[1]:.2f}")
