"""What holds for every learner, whatever the order in which its points are answered.

See helpers/learner_suite.py for what a schedule is; learners of other libraries are in test_adapters_suite.py.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.documents import ROOT
from helpers.learner_kinds import LIBRARIES, OWN
from helpers.learner_suite import Step, long_way, play, schedules
from hypothesis import given, settings, strategies as st

from taskmaster.bus import values
from taskmaster.learners.balancing import Balancing
from taskmaster.learners.guards import Pending
from taskmaster.learners.movecost import MoveCost
from taskmaster.learners.points import Halton, LatinHypercube, Random, Sobol
from taskmaster.learners.protocol import Endable, Learner, Seeded


@pytest.mark.parametrize("name", OWN)
@given(schedule=schedules)
@settings(max_examples=10, deadline=None)
def test_a_schedule_replayed_gives_bitwise_the_same_points(name: str, schedule: list[Step]) -> None:
    story = play(OWN[name](), schedule)
    assert play(OWN[name](), schedule) == story


@pytest.mark.parametrize("name", OWN)
@given(schedule=schedules)
@settings(max_examples=10, deadline=None)
def test_points_are_asked_once_and_what_is_told_is_kept(name: str, schedule: list[Step]) -> None:
    learner = OWN[name]()
    story = play(learner, schedule)

    assert learner.data == story.told
    assert learner.npoints == len(story.told)
    assert learner.nfailed == len(story.failed)
    again = [data for data in set(story.asked) if story.asked.count(data) > 1 + story.failed.count(data)]
    may_repeat = Random | Halton | Sobol | LatinHypercube | Balancing | Pending | MoveCost
    assert again == [] or isinstance(learner, may_repeat), again


@pytest.mark.parametrize("name", ["sequence", "rows", "grid", "sobol", "latin"])
def test_a_finite_learner_is_done_when_all_its_points_are_answered(name: str) -> None:
    learner = OWN[name]()
    assert isinstance(learner, Learner)
    assert isinstance(learner, Endable)
    in_flight = list(learner.ask(4))
    answered = 0
    while in_flight:
        assert not learner.done()
        point = in_flight.pop(len(in_flight) // 2)
        if answered % 3:
            learner.tell(point, 1.0)
        else:
            learner.fail(point, RuntimeError("no"))
        answered += 1
        in_flight += learner.ask(1)
    assert learner.done()
    assert learner.npoints + learner.nfailed == answered


@pytest.mark.parametrize("name", [name for name in OWN if not name.startswith("adaptive")])
@given(cuts=st.lists(st.integers(0, 90), max_size=8))
@settings(max_examples=8, deadline=None)
def test_how_many_points_are_asked_for_at_a_time_does_not_change_them(name: str, cuts: list[int]) -> None:
    parts, whole = OWN[name](), OWN[name]()
    for learner in (parts, whole):
        if isinstance(learner, Seeded):
            learner.seed(np.random.default_rng(7))
    assert isinstance(parts, Learner)
    assert isinstance(whole, Learner)
    in_parts = [point for n in cuts for point in parts.ask(n)]
    assert [values.encode(p) for p in in_parts] == [values.encode(p) for p in whole.ask(sum(cuts))]


#: All in one process, because libraries take seconds to be imported.
PROGRAM = """
from helpers.learner_kinds import LIBRARIES, OWN
from helpers.learner_suite import long_way

for name, make in (OWN | LIBRARIES).items():
    print(name, long_way(make()))
"""


def test_points_do_not_depend_on_the_process_they_are_computed_in() -> None:
    """Sets are in these libraries: were the order of one to depend on hashes or addresses, a resume would diverge."""
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}  # here it is another one
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests"
    ) as process:
        here = [f"{name} {long_way(make())}" for name, make in (OWN | LIBRARIES).items()]
        assert process.communicate(timeout=120)[0].splitlines() == here
