"""Every learner in a loop that is killed and goes on: what is on record is what a new one asks, to the bit.

The daemon's decisions and its journal are the real ones, see helpers/rehearsal.py; Hypothesis chooses which task ends
next and how, and after which results the loop is killed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.learner_kinds import LIBRARIES, MODELS, OWN
from helpers.learner_suite import evaluate
from helpers.rambling import Play, live
from helpers.rehearsal import Rehearsal, Stage
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from taskmaster.bus import values
from taskmaster.learners.parting import part
from taskmaster.learners.protocol import Learner
from taskmaster.learners.record import Record
from taskmaster.learners.replay import replay

LEARNERS: dict[str, Callable[[], Record]] = OWN | LIBRARIES

#: what becomes of each task, and how many events pass between two restarts
choices = st.lists(st.integers(0, 4095), min_size=10, max_size=40)
lives = st.lists(st.integers(0, 9), min_size=1, max_size=3)


def measure(point: Any) -> dict[str, Any]:
    """What the Master makes of a point: sometimes nothing but NaN."""
    if sum(values.encode(point)) % 11 == 0:
        return {"scalar": math.nan, "vector": [math.nan, 0.0], "cost": 1.0}
    return evaluate(point)


def edited(point: Any, index: int) -> Any:
    """What somebody makes of a point before they approve it: one nearer to the middle."""
    if isinstance(point, dict):
        return {name: edited(value, index) for name, value in point.items()}
    if isinstance(point, tuple):
        return tuple(edited(value, index) for value in point)
    return 0.9 * point + 0.05 if isinstance(point, float) else point


@pytest.mark.parametrize("name", LEARNERS)
@given(choices=choices, lives=lives, in_flight=st.integers(2, 5), retries=st.integers(0, 1))
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to look for a shorter story takes minutes for some of these
)
def test_killed_at_any_step_it_goes_on_as_if_it_had_not_been(
    name: str, choices: list[int], lives: list[int], in_flight: int, retries: int
) -> None:
    live_on(LEARNERS[name], choices, lives, in_flight, retries, goal=20)


@pytest.mark.parametrize("name", MODELS)
def test_one_that_fits_a_model_goes_on_as_well(name: str) -> None:
    """Killed before there is a model, and after; what became of its tasks is made up."""
    choices = [k * 5 % 17 + 16 * k for k in range(40)]
    live_on(MODELS[name], choices, lives=[3, 5], in_flight=3, retries=1, goal=8)


def test_candidates_of_nevergrad_are_taken_from_sets_in_the_same_order_each_time() -> None:
    """Their own names are random. Here one is taken from among those that are on no Pareto front."""
    choices = [4095, 349, 1338, 328, 6, 355, 492, 441, 160, 1466, 2257, 7, 1669, 1208, 3046]
    choices += [88, 8, 2620, 4000, 128, 32, 35, 1000, 289, 396, 164, 269, 130, 3077, 873]
    for _ in range(5):
        live_on(LEARNERS["nevergrad-several"], choices, lives=[9, 8, 5], in_flight=5, retries=1, goal=20)


def live_on(
    make: Callable[[], Record], choices: list[int], lives: list[int], in_flight: int, retries: int, goal: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        play = Play(iter(choices), evaluate=measure, edit=edited)
        events = 0
        for more in [*lives, 10**6]:
            events += more
            learner = make()
            run, loop = live(stage, learner, play, events=events, in_flight=in_flight, retries=retries, goal=goal)
            assert loop.divergence is None

        again = make()
        assert isinstance(again, Learner)
        replayed = replay(again, Rehearsal(stage, play).history(run.number))
        assert replayed.divergence is None
        assert values.encode(again.data) == values.encode(learner.data)
        assert again.nfailed == learner.nfailed
        stage.journal.close()


@pytest.mark.parametrize("name", LEARNERS)
@given(choices=choices, in_flight=st.integers(2, 5), at=st.integers(0, 12))
@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_forked_at_any_event_it_goes_on_from_there_and_is_known_to_part_behind_it(
    name: str, choices: list[int], in_flight: int, at: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        play = Play(iter(choices), evaluate=measure, edit=edited)
        run, _ = live(stage, LEARNERS[name](), play, events=10**6, in_flight=in_flight, retries=1, goal=12)
        lab = Rehearsal(stage, play)
        source = lab.history(run.number)
        at = min(at, source.next_seq)
        fork = stage.fork(run.number, "fork", at)
        one = LEARNERS[name]()
        assert isinstance(one, Learner)
        assert replay(one, lab.history(fork.run)).divergence is None

        learner = LEARNERS[name]()
        _, loop = live(stage, learner, play, events=10**6, in_flight=in_flight, retries=1, goal=20, name="fork")
        assert loop.divergence is None
        forked = lab.history(fork.run)
        again = LEARNERS[name]()
        assert isinstance(again, Learner)
        assert replay(again, forked).divergence is None
        assert values.encode(again.data) == values.encode(learner.data)
        assert part(forked, forked) is None
        parting = part(source, forked)
        # "end": what the goal of the one had no use for, though it was asked before, was put in the other.
        assert parting is None or parting.told >= at or parting.what == "end"
        stage.journal.close()
