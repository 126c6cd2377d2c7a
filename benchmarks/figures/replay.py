"""Replay: what it takes to play a recorded run to its learner, beside that learner's own asking and telling.

The run is one of adaptive's Learner1D, recorded by a Loop. Its rival makes the same calls in the same order, all of
them in memory: the record is read from the journal, page by page, and compared with what is asked, by us alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import adaptive

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_most, compare, interleave
from benchmarks.rig import MasterTable
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.client import Lab, Master
from taskmaster.learners.history import History
from taskmaster.learners.loop import Loop
from taskmaster.learners.replay import AskStep, Step, replay

__all__ = ["replayed"]

PEAK = MasterTable("square", "square")
POINTS = 100_000
IN_FLIGHT = 64
RIVAL = "its ask and tell alone"


def replayed(bench: Bench) -> list[Row]:
    """Seconds for a run of a hundred thousand points."""
    with bench.daemon(PEAK, durability="crash") as (rig, lab):
        history = _recorded(lab, rig.master(lab), bench.size(POINTS))
        steps: list[Step] = []
        replay(_learner(), history, hook=steps.append)
        contestants = bench.contestants(_by_us(history), **{RIVAL: _alone(steps)})
        figures = interleave(contestants, bench.rounds)
    return compare("replay of 100 000 points", "s", figures, {RIVAL: (at_most(1.2), None)})


def _learner() -> AdaptiveLearner:
    return AdaptiveLearner(adaptive.Learner1D(None, (-1.0, 1.0)))


def _recorded(lab: Lab, master: Master, n: int) -> History:
    loop = Loop(master, _learner(), goal=n, in_flight=IN_FLIGHT)
    loop.run().close()
    return History.of(loop.run_)


def _by_us(history: History) -> Round:
    def run() -> float:
        learner = _learner()
        began = time.perf_counter()
        same = replay(learner, history)
        seconds = time.perf_counter() - began
        assert same, same.divergence
        return seconds

    return run


def _alone(steps: Sequence[Step]) -> Round:
    calls: list[Any] = [
        step.asked if isinstance(step, AskStep) else (step.result.input, step.result.output) for step in steps
    ]

    def run() -> float:
        learner = _learner()
        began = time.perf_counter()
        for call in calls:
            if isinstance(call, int):
                learner.ask(call)
            else:
                learner.tell(*call)
        return time.perf_counter() - began

    return run
