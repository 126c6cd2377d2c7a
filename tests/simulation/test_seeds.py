"""The whole daemon, its workers and clients, through years of bad luck; what is promised is checked all the time."""

from __future__ import annotations

import os

from simulation.runner import STEPS, run

#: More by hand: TASKMASTER_SEEDS=5000 python -m pytest tests/simulation
SEEDS = int(os.environ.get("TASKMASTER_SEEDS", "220"))


def test_every_promise_holds_whatever_happens_in_between() -> None:
    summary = run(range(SEEDS), jobs=os.cpu_count() or 1)

    assert not summary.bad, summary.explain(STEPS)
    assert summary.seeds == SEEDS
    assert summary.steps >= 300_000 * SEEDS // 220, "a seed has become too short to be worth its name"
    assert min(summary.deaths, summary.executions, summary.deliveries) > 0
