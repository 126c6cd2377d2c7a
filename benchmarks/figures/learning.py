"""Loops: how many points a second a learner gets through, and how many more it needs for being told out of order.

The learner is adaptive's Learner1D, which takes about as long to ask and tell as everything else takes together. It is
driven by our Loop; by adaptive's own Runner on a ProcessPoolExecutor; and by nobody, asked and told in a line, which is
the most that there could be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import adaptive

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_least, at_most, compare, interleave, single
from benchmarks.evaluated.functions import square
from benchmarks.rig import WORKERS, MasterTable
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.client import Master
from taskmaster.learners.goals import loss
from taskmaster.learners.loop import Loop
from taskmaster.learners.simulate import Exponential, HalfNormal, SimulatedMaster

__all__ = ["efficiency", "loop", "simulated"]

SQUARE = MasterTable("square", "square")
RUNNER, ALONE = "adaptive.Runner on ProcessPoolExecutor", "its ask and tell alone"
BOUNDS = (-1.0, 1.0)
#: Kept in flight by us: of a task that takes no time most are on their way. The learner alone has as many pending.
IN_FLIGHT = 256
POINTS = 5_000
SIMULATED = 200_000
#: Where adaptive's documents begin: a peak that is to be found.
_PEAK = 0.02


def loop(bench: Bench) -> list[Row]:
    """Points a second of a learner on a function that costs nothing, with two workers."""
    n = bench.size(POINTS)
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as processes:
        list(processes.map(square, range(100)))
        with bench.daemon(SQUARE, durability="crash") as (rig, lab):
            contestants = bench.contestants(
                _by_loop(rig.master(lab), n), **{RUNNER: _by_runner(processes, n), ALONE: _alone(n)}
            )
            figures = interleave(contestants, bench.rounds)
    limits = {RUNNER: (at_least(2.0), None), ALONE: (at_least(0.6), None)}
    return compare("adaptive Learner1D in a loop", "points/s", figures, limits)


def _by_loop(master: Master, n: int) -> Round:
    def run() -> float:
        loop = Loop(master, AdaptiveLearner(adaptive.Learner1D(None, BOUNDS)), goal=n, in_flight=IN_FLIGHT)
        began = time.perf_counter()
        loop.run()
        seconds = time.perf_counter() - began
        loop.run_.close()
        return n / seconds

    return run


def _by_runner(processes: ProcessPoolExecutor, n: int) -> Round:
    def run() -> float:
        learner = adaptive.Learner1D(square, BOUNDS)
        began = time.perf_counter()
        adaptive.BlockingRunner(learner, npoints_goal=n, executor=processes, shutdown_executor=False)
        return n / (time.perf_counter() - began)

    return run


def _alone(n: int) -> Round:
    def run() -> float:
        learner = adaptive.Learner1D(None, BOUNDS)
        began = time.perf_counter()
        pending = list(learner.ask(IN_FLIGHT)[0])
        for k in range(n):
            learner.tell(pending[k], square(pending[k]))
            pending += learner.ask(1)[0]
        return n / (time.perf_counter() - began)

    return run


def simulated(bench: Bench) -> list[Row]:
    """Events a second of a simulation without a learner: each is the end of a task, with its result taken."""
    n = bench.size(SIMULATED)

    def run() -> float:
        run = SimulatedMaster(square, workers=8, latency=HalfNormal(60.0)).open()
        points = [float(k) for k in range(n)]
        began = time.perf_counter()
        run.tasks.put_many(points)
        for _ in run.results:
            pass
        return n / (time.perf_counter() - began)

    figures = interleave({"ours": run}, bench.rounds)
    return [single("simulated events", "events/s", figures["ours"], must=at_least(200_000))]


def efficiency(bench: Bench) -> list[Row]:
    """Points to a loss, as multiples of what its own serial runner needs; in virtual time."""
    target = 0.1 if bench.quick else 0.01
    rows = []
    for workers in (4, 8):
        ratios = [
            points_to(target, lambda x, off=off: _peak(x, off), workers, seed) / serial(target, off)
            for seed, off in enumerate(_offsets(bench))
        ]
        rows.append(
            single(f"points to a loss, {workers} workers / serial", "×", ratios, must=at_most(1.2)),
        )
    return rows


def _offsets(bench: Bench) -> Sequence[float]:
    return [0.3] if bench.quick else [-0.7, -0.31, 0.0, 0.123, 0.5]


def _peak(x: float, off: float) -> float:
    return x + _PEAK**2 / (_PEAK**2 + (x - off) ** 2)


def serial(target: float, off: float) -> int:
    """Points that adaptive's own runner needs."""
    learner = adaptive.Learner1D(lambda x: _peak(x, off), BOUNDS)
    adaptive.runner.simple(learner, loss_goal=target)
    return int(learner.npoints)


def points_to(target: float, f: Callable[[float], float], workers: int, seed: int) -> int:
    """Points that it needs through a Loop, told out of order."""
    lab = SimulatedMaster(f, workers, Exponential(1.0), seed=seed)
    learner = AdaptiveLearner(adaptive.Learner1D(None, BOUNDS))
    driven = Loop(lab, learner, goal=loss(target), in_flight=workers)
    driven.run()
    assert math.isfinite(learner.loss())
    return driven.told
