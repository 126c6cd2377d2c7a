"""The learner suite over the learners of other libraries, with the libraries themselves."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.learner_kinds import LIBRARIES, MODELS
from helpers.learner_suite import Step, hard_schedules, play
from hypothesis import HealthCheck, given, settings

from taskmaster.bus import values

#: These evaluate a point several times, since its outputs differ or it was given several times.
REPEATING = ("optuna-random", "average-1d", "average-noise", "items")
#: These have few points, and each once.
FINITE = ("optuna-grid", "optuna-brute", "items", "rows")


@pytest.mark.parametrize("name", LIBRARIES)
@given(schedule=hard_schedules)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_schedule_replayed_gives_the_same_points_and_none_is_asked_twice(name: str, schedule: list[Step]) -> None:
    learner = LIBRARIES[name]()
    story = play(learner, schedule)

    assert play(LIBRARIES[name](), schedule) == story
    assert len(learner.data) == len(story.told) + len(story.unknown)
    takes_anything = name in ("items", "rows")
    assert learner.nfailed == len(story.failed) + (0 if takes_anything else len(story.unknown))
    lost = story.failed + story.unknown
    again = [data for data in set(story.asked) if story.asked.count(data) > 1 + lost.count(data)]
    assert again == [] or name in REPEATING, again


@pytest.mark.parametrize("name", [name for name in LIBRARIES if name not in FINITE])
def test_what_a_schedule_of_failures_leaves_can_still_learn(name: str) -> None:
    """The first six points fail, three of them before anything else is known."""
    learner = LIBRARIES[name]()
    schedule = [("ask", 4), *[("fail", 0)] * 3, ("nan", 0), ("ask", 2), ("fail", 0), ("nan", 0)]
    schedule += [("ask", 3), ("tell", 1)] * 20
    story = play(learner, schedule)
    assert len(story.told) == 20


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_fitted_again_to_the_same_points(name: str) -> None:
    """With all that can become of a point before the model is there and after."""
    schedule = [("ask", 3), ("nan", 0), ("tell", 1), ("ask", 3), ("cancel", 0), ("tell", 1), ("tell", 1), ("ask", 2)]
    schedule += [("tell", 1), ("tell", 0), ("ask", 2), ("fail", 0), ("nan", 1), ("ask", 3), ("tell", 0), ("ask", 1)]
    learner = MODELS[name]()
    story = play(learner, schedule)
    assert len(story.asked) >= 10
    assert len(set(story.asked)) == len(story.asked)
    assert play(MODELS[name](), schedule) == story
    assert learner.nfailed == 4


def test_another_seed_gives_other_points() -> None:
    for name in ("ax", "optuna-tpe", "nevergrad-DE", "cma", "gest"):
        assert play(LIBRARIES[name](), [("ask", 3)], seed=1) != play(LIBRARIES[name](), [("ask", 3)], seed=2)


def test_what_is_random_elsewhere_in_the_process_is_left_alone() -> None:
    np.random.seed(4)
    expected = np.random.random(3).tolist()
    np.random.seed(4)
    learner = LIBRARIES["cma"]()
    story = play(learner, [("ask", 5), *[("tell", 0)] * 5, ("ask", 5)])
    assert np.random.random(3).tolist() == expected
    np.random.seed(5)
    assert play(LIBRARIES["cma"](), [("ask", 5), *[("tell", 0)] * 5, ("ask", 5)]) == story
    assert values.decode(story.asked[0]).keys() == {"a", "b"}
