"""How many tasks a Loop keeps in flight: as the learner wants, as somebody says, as is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners import Evolution, GaussianProcess, Loop, OptunaLearner, SimulatedMaster
from taskmaster.learners.balancing import Balancing
from taskmaster.learners.guards import Dedup
from taskmaster.learners.movecost import MoveCost
from taskmaster.learners.points import Random, Sobol
from taskmaster.learners.protocol import Learner
from taskmaster.learners.travel import Travel

X = (Field("x", min=0, max=1), Field("y", min=0, max=1))


class Own:
    def __init__(self, wanted: Any) -> None:
        self.wanted, self.slots = wanted, 0

    def best_in_flight(self, slots: int) -> Any:
        self.slots = slots
        return self.wanted

    def ask(self, n: int) -> list[Any]:
        return [{"x": 0.5, "y": 0.5}] * n

    def tell(self, point: Any, output: Any) -> None:
        pass


def master(workers: int = 8) -> SimulatedMaster:
    return SimulatedMaster(lambda point: point["x"], workers=workers, parameters=X)


@pytest.mark.parametrize(
    ("learner", "wanted"),
    [
        (Sobol(X), 16),
        (Evolution(X), 16),
        (GaussianProcess(X), 8),
        (OptunaLearner(X), 8),
        (Dedup(GaussianProcess(X)), 8),
        (Dedup(Random(X)), 16),
        (MoveCost(GaussianProcess(X), Travel({"x": 1.0})), 8),
        (Balancing([GaussianProcess(X), OptunaLearner(X)], "cycle"), 8),
        (Balancing([GaussianProcess(X), Random(X)], "cycle"), 16),
        (Own(3), 3),
    ],
)
def test_as_the_learner_wants_and_recorded(learner: Learner, wanted: int) -> None:
    loop = Loop(master(), learner, goal=1)
    assert (loop.in_flight, loop.run_.metadata["in_flight"]) == (wanted, str(wanted))


def test_somebody_may_say_otherwise_and_a_run_keeps_to_what_it_was_begun_with() -> None:
    lab = master(4)
    assert Loop(lab, GaussianProcess(X), goal=1, in_flight=7).in_flight == 7
    Loop(lab, GaussianProcess(X), goal=2, name="kept", seed=1).run().detach()
    own = Own(9)
    assert Loop(lab, own, goal=3, name="kept").in_flight == 4
    assert Loop(lab, own, goal=3).in_flight == 9
    assert own.slots == 4


@pytest.mark.parametrize("wanted", [0, -1, 2.5, None, "many"])
def test_what_is_no_number_of_tasks_is_said_before_there_is_a_run(wanted: Any) -> None:
    lab = master()
    with pytest.raises(
        CallerError, match=r"best_in_flight\(\) of the learner \(tests\.unit\.learners\.test_in_flight\.Own\)"
    ):
        Loop(lab, Own(wanted), goal=1, name="none")
    assert lab.open("none").metadata == {}
