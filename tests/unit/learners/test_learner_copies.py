"""Learners are copied, to see what they would ask next, and pickled: what a copy does is nothing to its original."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from helpers.learner_kinds import LIBRARIES, OWN
from helpers.learner_suite import Step, play

from taskmaster.bus import values
from taskmaster.learners.record import Record

#: Enough for the first points of a model, and what has come out of order is kept by some.
SOME: list[Step] = [("ask", 3), ("tell", 1), ("tell", 0), ("ask", 2), ("fail", 2), ("ask", 1)] * 3
MORE: list[Step] = [("ask", 2), ("tell", 0), ("fail", 0), ("ask", 3), ("tell", 1), ("ask", 1)]

KINDS: dict[str, Callable[[], Any]] = OWN | {f"library-{name}": make for name, make in LIBRARIES.items()}
#: Nevergrad does not let those be copied that run an algorithm of another library in a thread.
NOT_COPIED = {"library-nevergrad-sequential"}
#: adaptive pickles its own without what is pending, and what is pickled holds no function without a name.
NOT_PICKLED = {"filter", *(name for name in OWN if name.startswith("adaptive"))}


def asked(learner: Record) -> list[bytes]:
    """What a learner that was asked before asks further on."""
    return play(learner, MORE).asked


@pytest.mark.parametrize("name", [name for name in KINDS if name not in NOT_COPIED])
def test_a_copy_asks_the_same_and_leaves_its_original_alone(name: str) -> None:
    learner, twin = KINDS[name](), KINDS[name]()
    play(learner, SOME)
    play(twin, SOME)
    points = [values.encode(point) for point in copy.deepcopy(learner).ask(2)]
    assert points == [values.encode(point) for point in copy.deepcopy(learner).ask(2)]
    other = copy.deepcopy(learner)
    for point in other.ask(3):
        other.tell(point, {"scalar": 1.0, "vector": [1.0, 2.0], "cost": 3.0})
    other.ask(2)
    assert points == [values.encode(point) for point in learner.ask(2)] == [values.encode(p) for p in twin.ask(2)]


@pytest.mark.parametrize("name", [name for name in OWN if name not in NOT_PICKLED])
def test_our_own_are_pickled_in_the_middle(name: str) -> None:
    learner = KINDS[name]()
    play(learner, SOME)
    other = pickle.loads(pickle.dumps(learner))
    assert type(other) is type(learner)
    for _ in range(3):
        points = learner.ask(2)
        assert [values.encode(point) for point in other.ask(2)] == [values.encode(point) for point in points]
        for point in points:
            for one in (learner, other):
                one.tell(point, {"scalar": 1.0, "vector": [1.0, 2.0], "cost": 3.0})
