"""Simulation: a Master in virtual time, to see how learners fare before a laboratory does.

A thousand hours of eight heads take seconds, and the same seed gives the same history, to the bit.
"""

from taskmaster.learners.simulate.failures import Failures
from taskmaster.learners.simulate.latency import Constant, Exponential, HalfNormal, OfPoint, Pareto, Recorded
from taskmaster.learners.simulate.master import SimulatedMaster, SimulationStatistics
from taskmaster.learners.simulate.result import SimulatedResult
from taskmaster.learners.simulate.run import SimulatedRun
from taskmaster.learners.simulate.study import Study, Trial, study

__all__ = [
    "Constant",
    "Exponential",
    "Failures",
    "HalfNormal",
    "OfPoint",
    "Pareto",
    "Recorded",
    "SimulatedMaster",
    "SimulatedResult",
    "SimulatedRun",
    "SimulationStatistics",
    "Study",
    "Trial",
    "study",
]
