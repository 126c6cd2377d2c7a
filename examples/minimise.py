"""SciPy's workers= and emcee's pool= are a Master.

python examples/minimise.py
"""

from __future__ import annotations

import emcee
import numpy as np
from scipy.optimize import differential_evolution, rosen

from taskmaster.learners import WorkMaster
from taskmaster.learners.mapping import MasterMap


def log_probability(x: np.ndarray) -> float:
    return -float(rosen(x)) / 20


def main() -> None:
    with WorkMaster(None, workers=2) as master, MasterMap(master) as workers:
        found = differential_evolution(rosen, [(-2, 2)] * 2, workers=workers, updating="deferred", rng=1)
        print(f"the minimum is at {found.x.round(3)}")
        sampler = emcee.EnsembleSampler(16, 2, log_probability, pool=workers)
        sampler.run_mcmc(found.x + 0.1 * np.random.default_rng(1).standard_normal((16, 2)), 50)
        print(f"{sampler.get_chain(flat=True).shape[0]} steps around it")


if __name__ == "__main__":
    main()
