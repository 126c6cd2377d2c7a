"""Which learner is quickest on an eight-head instrument whose heads now and then break down? Ask a simulation first.

python compare_learners.py [study.png]
"""

import sys

from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.declared import as_fields
from taskmaster.learners.points import Random, Sobol
from taskmaster.learners.simulate import Failures, HalfNormal, study
from taskmaster.learners.simulate.functions import over

scan = as_fields({"x": (0, 1), "y": (0, 1)})
learners = {
    "random": lambda parameters, outputs: Random(parameters),
    "sobol": lambda parameters, outputs: Sobol(parameters),
    "adaptive": lambda parameters, outputs: AdaptiveLearner.over(parameters),
}
found = study(
    learners,
    over("branin", scan),
    scan,
    goal=1.0,
    evaluations=60,
    seeds=5,
    workers=(1, 8),
    latency=HalfNormal(60.0),
    failures=Failures(fail=0.02, lifetime=8 * 3600.0),
)
print(found.table())
if len(sys.argv) > 1:
    found.plot(sys.argv[1])
