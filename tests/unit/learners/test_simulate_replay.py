"""A simulated run is replayed, stepped through and compared as a recorded one is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from helpers.thoughtful import Thoughtful
from hypothesis import given, settings, strategies as st

from taskmaster.learners.loop import Loop
from taskmaster.learners.parting import part
from taskmaster.learners.points import Sobol
from taskmaster.learners.replay import AskStep, HistoryMaster, TellStep, replay
from taskmaster.learners.simulate import Constant, Exponential, Failures, SimulatedMaster, SimulatedRun

LINE = {"x": (-1e12, 1e12)}
ROUGH = Failures(fail=0.2, lifetime=30.0, repair=Constant(20.0), lost=0.1, late=0.2, notice=5.0)


def shape(point: dict[str, float]) -> float:
    return math.nan if point["x"] % 7 == 3 else point["x"] % 100


class Numb(Thoughtful):
    """Takes NaN, too."""

    def tell(self, point: dict[str, float], output: float) -> None:
        super().tell(point, -1.0 if math.isnan(output) else output)


def simulated(seed: int = 1, learner: Any = None, **keys: Any) -> tuple[SimulatedRun, Loop]:
    master = SimulatedMaster(shape, 5, Exponential(3.0), ROUGH, seed, parameters=LINE, began=1e9)
    loop = Loop(master, learner or Numb(), **{"goal": 40, "retries": 1, "max_failures": None, **keys})
    loop.run()
    return master.runs["run-1"], loop


@given(
    seed=st.integers(0, 1000), goal=st.integers(1, 60), in_flight=st.integers(1, 12), retries=st.integers(0, 2),
    nan=st.sampled_from(["tell", "fail"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_replay_equals_the_run_to_the_bit(seed: int, goal: int, in_flight: int, retries: int, nan: str) -> None:
    """Random latencies, failures, deaths, lost and late answers, retries."""
    run, loop = simulated(seed, goal=goal, in_flight=in_flight, retries=retries, nan=nan)
    again = Numb()
    replayed = replay(again, run)
    assert replayed.divergence is None
    assert again.seen == loop.learner.seen  # type: ignore[attr-defined]
    assert (replayed.told, replayed.failed, replayed.again) == (loop.told, loop.failed, loop.retried)


def test_it_is_stepped_through_up_to_where_one_wants() -> None:
    run, loop = simulated()
    steps: list[Any] = []
    some = replay(Numb(), run, until=10, hook=steps.append)
    assert (some.until, steps[0].told) == (10, 0)
    assert sum(isinstance(step, TellStep) for step in steps) == 10
    assert sum(isinstance(step, AskStep) for step in steps) == some.asks
    other = replay(Numb(turns=20, then=3), run)
    assert other.divergence is not None
    assert 19 <= other.divergence.after < 25, "the 20th output, not counting what was put again"
    over = Loop(HistoryMaster(run), Numb(), goal=loop.told)
    over.run()
    assert over.learner.seen[:30] == loop.learner.seen[:30]  # type: ignore[attr-defined]
    assert over.now() > 1e9


def test_two_simulations_part_where_they_do() -> None:
    assert part(simulated(1)[0], simulated(1)[0]) is None
    parting = part(simulated(1)[0], simulated(2)[0])
    assert parting is not None
    assert parting.told < 5
    parting = part(simulated(1, Numb(20, 0))[0], simulated(1, Numb(20, 3))[0])
    assert parting is not None
    assert 20 <= parting.told < 25
    assert parting.what == "points"


def test_a_run_without_tasks_has_a_history_too() -> None:
    master = SimulatedMaster(abs)
    with master.open() as run:
        assert replay(Numb(), run).asks == 0
        assert repr(run.history()) == "<SimulatedHistory of simulated/run-1: 0 tasks, 0 events>"
        run.tasks.put(-1)
        before = run.history()
        run.results.get()
        assert [result.output for result in run.history().results()] == [1]
        assert (list(before.results()), before.next_seq) == ([], 0), "it is of when it was made"


def test_where_a_simulated_run_parts_no_command_is_named_that_knows_nothing_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    master = SimulatedMaster(lambda point: point["x"], 2, parameters={"x": (0, 1)})
    Loop(master, Sobol(master.parameters), goal=5, name="run-1").run()
    Loop(master, Sobol(master.parameters, seed=7), goal=8, name="run-1").run()
    [said] = [record.getMessage() for record in caplog.records]
    assert "The run is of another learner: of Sobol(); this is Sobol(seed=7); it is told all" in said
    assert said.endswith("(to see more: replay(learner, loop.run_), of taskmaster.learners.replay)")
