"""The Loop: each learner against a real Master, goals, resuming, and a daemon that dies in the middle."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import adaptive
import numpy as np
import pytest
from helpers import recorded
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE

from taskmaster.bus.errors import CallerError, InvalidTask
from taskmaster.learners import Loop, loss, npoints, seconds
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.client import Lab, Master, Run
from taskmaster.learners.inorder import InOrder
from taskmaster.learners.loop import LearnerStuck, TooManyFailures
from taskmaster.learners.points import Grid, Random, Sequence, Sobol
from taskmaster.learners.protocol import describe
from taskmaster.learners.results import Result

PLANE: dict[str, Any] = {"parameters": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}, "outputs": {"z": {}}}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "plane": function("plane", workers=2, **PLANE),
        "alone": function("plane", **PLANE),
        "peak": function("peak"),
        "square": function("square_or_raise", parameters={"x": {}}, outputs={"y": {}}),
        "off": function("plane", workers=0, **PLANE),
    }
    return start_shared_daemon(masters)


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def points_of(daemon: Daemon, run: Run) -> list[Any]:
    """What was evaluated, by the journal, in the order of the tasks."""
    outcomes = recorded.outcomes(daemon.state, run.number)
    assert len({outcome.index for outcome in outcomes}) == len(outcomes), "none was evaluated twice"
    return [outcome.point for outcome in sorted(outcomes, key=lambda outcome: outcome.index)]


def asked_of(daemon: Daemon, run: Run) -> list[tuple[int, int]]:
    """What the learner was asked, by the journal: the last event that it had been told, and for how many points."""
    return [(after, asked) for _, after, asked in recorded.asks(daemon.state, run.number) if asked > 0]


# -- learners ---------------------------------------------------------------------------------------------------------

LEARNERS: dict[str, Callable[[Master], Any]] = {
    "Sequence": lambda master: Sequence(np.linspace(0, 1, 40).reshape(20, 2), names=["x", "y"]),
    "Grid": lambda master: Grid(master.parameters, n=5),
    "Random": lambda master: Random(master.parameters, n=30),
    "Sobol": lambda master: Sobol(master.parameters, n=32),
    "in order": lambda master: InOrder(Sobol(master.parameters), ahead=4, limit=16),
}
COUNTS = {"Sequence": 20, "Grid": 25, "Random": 30, "Sobol": 32, "in order": 16}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_that_ends_is_told_everything_it_asked(lab: Lab, daemon: Daemon, name: str) -> None:
    told: list[Result] = []
    loop = Loop(lab["plane"], LEARNERS[name](lab["plane"]), hook=lambda loop, result: told.append(result))
    with loop.run() as run:
        assert loop.told == len(told) == COUNTS[name] == run.next_index
        assert all(z == point["x"] + point["y"] for point, z in told)
        assert [result.seq for result in told] == list(range(COUNTS[name]))
    assert run.metadata["learner"] == describe(loop.learner)
    assert int(run.metadata["in_flight"]) == loop.in_flight == 2 * 2, (
        "two for each worker, although they had to start first"
    )


ADAPTIVE: dict[str, Callable[[], AdaptiveLearner]] = {
    "1D": lambda: AdaptiveLearner(adaptive.Learner1D(None, bounds=(-1, 1))),
    "2D": lambda: AdaptiveLearner(adaptive.Learner2D(None, bounds=[(-1, 1), (-1, 1)])),
    "ND": lambda: AdaptiveLearner(adaptive.LearnerND(None, bounds=[(-1, 1)] * 3)),
}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_learners_go_where_it_is_interesting(lab: Lab, name: str) -> None:
    learner = ADAPTIVE[name]()
    with Loop(lab["peak"], learner, goal=60, in_flight=4).run():
        near = [point for point, _ in learner.data if np.linalg.norm(np.atleast_1d(point)) < 0.5]
        assert learner.npoints == 60
        evenly = {"1D": 0.5, "2D": 0.2, "ND": 0.065}[name]  # the share of the volume
        assert len(near) / 60 > evenly
        assert learner.loss() < math.inf


# -- goals ------------------------------------------------------------------------------------------------------------


def test_goals_end_it_and_combine(lab: Lab) -> None:
    def loop(goal: Any) -> Loop:
        loop = Loop(lab["plane"], Sobol(lab["plane"].parameters), goal=goal, in_flight=4)
        loop.run().close()
        return loop

    assert loop(7).told == 7
    assert loop(npoints(7) | npoints(9)).told == 7
    assert loop(npoints(7) & npoints(9)).told == 9
    assert loop(lambda loop: loop.told >= 5).told == 5
    assert loop(npoints(10**9) | seconds(0.2)).elapsed >= 0.2
    with pytest.raises(CallerError, match=r"needs a learner with a loss\(\); Sobol has none"):
        loop(loss(0.1))


def test_a_loss_is_a_goal(lab: Lab) -> None:
    learner = ADAPTIVE["1D"]()
    loop = Loop(lab["peak"], learner, goal=loss(0.05) & npoints(10))
    loop.run().close()
    assert learner.loss() <= 0.05
    assert loop.told >= 10
    statistics = loop.statistics()
    assert (statistics.told, statistics.failed, statistics.loss) == (loop.told, 0, learner.loss())
    assert statistics.rate > 0


def test_a_loop_goes_on_when_it_is_given_another_goal(lab: Lab, daemon: Daemon) -> None:
    learner = Sobol(lab["plane"].parameters)
    loop = Loop(lab["plane"], learner, goal=10, in_flight=3)
    with loop.run() as run:
        assert learner.npoints == 10
        loop.goal = npoints(20)
        assert loop.run() is run
        assert learner.npoints == 20
    assert len({(point["x"], point["y"]) for point, _ in learner.data}) == 20


@pytest.mark.parametrize("goal", [npoints(1), npoints(17), npoints(17) | npoints(40), npoints(3) & npoints(17)])
def test_a_goal_of_points_puts_no_task_that_nobody_would_wait_for(lab: Lab, goal: Any) -> None:
    learner = Sequence([{"x": 2e6 if k % 3 == 1 else k} for k in range(100)])
    loop = Loop(lab["square"], learner, goal=goal, in_flight=8)
    with loop.run() as run:
        assert loop.told in (1, 17)
        assert (run.next_index, run.open_tasks) == (loop.told + loop.failed, 0), "each failure has let another be put"


def test_time_is_up_whatever_is_being_evaluated(lab: Lab) -> None:
    for goal in (seconds(0.2), seconds(0.2) | npoints(5)):
        loop = Loop(lab["off"], Sobol(lab["off"].parameters), goal=goal, in_flight=4)
        run = loop.run()
        assert 0.2 <= loop.elapsed < PATIENCE / 3
        assert (loop.told, run.open_tasks) == (0, 4), "what is in flight stays with the run"
        run.cancel()
        run.close()
    failing = Loop(lab["square"], Random({"x": (2e6, 3e6)}), goal=seconds(0.2), max_failures=None)
    failing.run().close()
    assert failing.failed > 1


def test_a_condition_of_ones_own_is_looked_at_once_there_is_something_to_look_at(lab: Lab) -> None:
    learner = Random(lab["plane"].parameters)
    loop = Loop(lab["plane"], learner, goal=lambda loop: learner.best()[1] > 0)
    loop.run().close()
    assert loop.told >= 1
    failing = Loop(lab["square"], Random({"x": (2e6, 3e6)}), goal=lambda loop: loop.failed >= 5, in_flight=2)
    failing.run().close()
    assert (failing.told, failing.failed) == (0, 5)


def test_a_learner_that_asks_for_nothing_more_is_not_waited_for(lab: Lab) -> None:
    class Shy:
        def ask(self, n: int) -> list[Any]:
            return []

        def tell(self, point: Any, output: Any) -> None:
            raise AssertionError("nothing was asked")

    with pytest.raises(LearnerStuck, match=r"after 0 results and 0 failures the learner \(.*Shy\) asks for nothing"):
        Loop(lab["plane"], Shy(), goal=5).run()


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_failures_are_told_to_learners_that_want_to_hear_of_them(lab: Lab) -> None:
    learner = Sequence([{"x": 1.0}, {"x": 2e6}, {"x": 3.0}])
    loop = Loop(lab["square"], learner)
    loop.run().close()
    assert (loop.told, loop.failed, learner.nfailed) == (2, 1, 1)


def test_failures_are_tried_again_as_often_as_asked(lab: Lab, daemon: Daemon) -> None:
    learner = Sequence([{"x": 2e6}, {"x": 3.0}])
    loop = Loop(lab["square"], learner, retries=2)
    with loop.run() as run:
        assert (loop.told, loop.failed, learner.nfailed, run.next_index) == (1, 1, 1, 4)
    again = Loop(lab["square"], Sequence([{"x": 2e6}, {"x": 3.0}]), retries=2, name=run.name)
    again.run().close()
    assert (again.told, again.failed, again.run_.next_index) == (1, 1, 4), "resumed, there was nothing left to do"


def test_where_every_task_fails_the_loop_ends_and_says_so(lab: Lab) -> None:
    large = [{"x": 2e6}]
    loop = Loop(lab["square"], Sequence([{"x": 1.0}, *large * 300]), goal=10, in_flight=2)
    with pytest.raises(
        TooManyFailures, match=r"'square': 100 tasks .* the last with ValueError: .*000000.0 is too lar"
    ):
        loop.run()
    assert (loop.told, loop.failed) == (1, 100)
    again = Loop(lab["square"], Sequence([{"x": 1.0}, *large * 120, {"x": 2.0}]), name=loop.run_.name, max_failures=19)
    with pytest.raises(TooManyFailures, match="19 tasks"):  # the hundred on record are not held against it
        again.run()
    again.run().close()
    assert (again.told, again.failed) == (2, 120)
    with pytest.raises(CallerError, match=r"max_failures must be a whole number from 1 to .*, not 0"):
        Loop(lab["square"], Sequence(large), max_failures=0)


def test_failures_between_successes_do_not_end_it(lab: Lab) -> None:
    points = [{"x": 2e6 if k % 3 else k} for k in range(30)]
    loop = Loop(lab["square"], Sequence(points), max_failures=3)
    loop.run().close()
    assert (loop.told, loop.failed) == (10, 20)


def test_a_learner_that_asks_what_the_master_does_not_take(lab: Lab) -> None:
    with pytest.raises(InvalidTask, match=r"'plane'.*'x'.*2"):
        Loop(lab["plane"], Sequence([{"x": 2.0, "y": 0.0}])).run()


def test_errors_of_the_hook_come_through_and_the_loop_can_go_on(lab: Lab) -> None:
    told: list[int] = []

    def hook(loop: Loop, result: Result) -> None:
        told.append(result.index)
        if len(told) == 5:
            raise ZeroDivisionError

    loop = Loop(lab["plane"], Random(lab["plane"].parameters, n=20), hook=hook)
    with pytest.raises(ZeroDivisionError):
        loop.run()
    loop.run().close()
    assert sorted(told) == list(range(20))


def test_a_run_whose_results_were_taken_is_refused(lab: Lab) -> None:
    with lab["plane"].open() as run:
        run.tasks.put({"x": 0, "y": 0})
        run.results.get(PATIENCE)
        with pytest.raises(CallerError, match="some of its results were taken"):
            Loop(run, Random(lab["plane"].parameters))
    with pytest.raises(CallerError, match=r"in_flight must be a whole number from 1 to .*, not 0"):
        Loop(lab["plane"], Random(lab["plane"].parameters), in_flight=0)


# -- the same again ---------------------------------------------------------------------------------------------------


def test_each_ask_is_recorded_with_what_the_learner_had_been_told(lab: Lab, daemon: Daemon) -> None:
    """The exact interleaving of asks and tells can be rebuilt from the journal alone."""
    asked: list[tuple[int, int]] = []
    told = -1

    class Noted(Random):
        def ask(self, n: int) -> Any:
            asked.append((told, n))
            return super().ask(n)

    def hook(loop: Loop, result: Result) -> None:
        nonlocal told
        told = result.seq

    loop = Loop(lab["plane"], Noted(lab["plane"].parameters), goal=40, in_flight=5, hook=hook)
    with loop.run() as run:
        run.flush()
        asks = [(min(k and k + 4, 40), *ask) for k, ask in enumerate(asked)]
        assert len(asks) == 40, "the goal did not need the last four"
        assert recorded.asks(daemon.state, run.number) == asks
        assert run.next_index == 40
        loop.goal = npoints(50)
        loop.run()
        run.flush()
    asks = recorded.asks(daemon.state, run.number)
    assert asked == [(-1, 5), *((after, 1) for after in range(49))]
    assert [ask[1:] for ask in asks if ask[2] > 0] == asked, "also those of which the points were put later"
    assert [ask for ask in asks if ask[2] == 0] == [(40 + k, 35 + k, 0) for k in range(4)], "which says so"


@pytest.mark.parametrize(("in_flight", "at_once"), [(127, 1), (128, 2), (200, 3)])
def test_with_many_in_flight_it_is_asked_for_some_at_once(
    lab: Lab, daemon: Daemon, in_flight: int, at_once: int
) -> None:
    master = lab["plane"]
    with Loop(master, Random(master.parameters), goal=400, in_flight=in_flight).run() as run:
        run.flush()
        asked = asked_of(daemon, run)
    assert asked[0] == (-1, in_flight)
    assert {n for _, n in asked[1:]} == {at_once}
    assert [after for after, _ in asked[1:]] == list(range(at_once - 1, 399, at_once))


@pytest.mark.parametrize("name", ["Random", "Sobol"])
def test_the_same_seed_asks_the_same_points(lab: Lab, daemon: Daemon, name: str) -> None:
    def points(seed: int | None) -> list[Any]:
        with Loop(lab["plane"], LEARNERS[name](lab["plane"]), seed=seed).run() as run:
            return points_of(daemon, run)

    assert points(5) == points(5)
    assert points(5) != points(6)
    assert points(None) != points(None)


def test_the_same_order_of_events_asks_the_same_points(lab: Lab, daemon: Daemon) -> None:
    """One worker finishes in the order in which it begins, so an adaptive learner asks the same each time."""

    def points() -> list[Any]:
        learner = AdaptiveLearner(adaptive.Learner2D(None, bounds=[(0, 1), (0, 1)]), names=["x", "y"])
        with Loop(lab["alone"], learner, goal=40, in_flight=3).run() as run:
            for _ in run.results:
                pass
            return points_of(daemon, run)

    assert points() == points()


class Thoughtful:
    """Asks what depends on all it was told, in which order, and when it was asked; now and then for what fails."""

    def __init__(self) -> None:
        self.thought = 1

    def ask(self, n: int) -> list[dict[str, float]]:
        return [{"x": self._think(k) * (1e6 if self._think(k) % 4 == 1 else 1)} for k in range(n)]

    def tell(self, point: dict[str, float], output: float) -> None:
        self._think(round(output))

    def fail(self, point: dict[str, float], error: BaseException) -> None:
        self._think(-1)

    def _think(self, of: int) -> int:
        self.thought = (self.thought * 31 + of + 7) % 100_003
        return self.thought


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("again", ["the same loop", "another loop"])
def test_neither_goals_on_the_way_nor_failures_change_what_is_asked(
    lab: Lab, daemon: Daemon, again: str, retries: int
) -> None:
    def loop(goal: int, name: str | None = None) -> Loop:
        return Loop(lab["square"], Thoughtful(), goal=goal, in_flight=4, retries=retries, name=name)

    undisturbed = loop(40)
    undisturbed.run().close()
    disturbed = loop(6)
    disturbed.run()
    for goal in (7, 19, 40):
        if again == "the same loop":
            disturbed.goal = npoints(goal)
        else:
            disturbed.run_.detach()
            disturbed = loop(goal, disturbed.run_.name)
        disturbed.run()
        assert disturbed.told == goal
    disturbed.run_.close()
    assert undisturbed.failed > 4, "or it shows nothing"
    for of in (points_of, asked_of):
        assert of(daemon, disturbed.run_) == of(daemon, undisturbed.run_)


# -- resuming ---------------------------------------------------------------------------------------------------------


def data(loop: Loop) -> list[Any]:
    """What its learner was told."""
    learner: Any = loop.learner
    if isinstance(learner, InOrder):
        learner = learner.learner
    told: list[Any] = learner.data
    return told


@pytest.mark.parametrize("name", [*COUNTS, "adaptive"])
def test_a_run_resumed_by_its_name_replays_the_learner(lab: Lab, daemon: Daemon, name: str) -> None:
    def learner() -> Any:
        if name == "adaptive":
            return AdaptiveLearner(adaptive.Learner2D(None, bounds=[(0, 1), (0, 1)]), names=["x", "y"])
        return LEARNERS[name](lab["plane"])

    title = f"{name} {time.monotonic()}"
    goal = 30 if name == "adaptive" else None
    first = Loop(lab["plane"], learner(), goal=8, name=title)
    first.run().detach()
    resumed = Loop(lab["plane"], learner(), goal=goal, name=title)
    with resumed.run() as run:
        for _ in run.results:
            pass
    assert data(resumed)[: len(data(first))] == data(first), "it is told the same in the same order"
    assert resumed.told == (goal or COUNTS[name])
    points = points_of(daemon, run)
    assert len({tuple(point.values()) for point in points}) == len(points), "no point was asked twice"
    if goal is None:
        with Loop(lab["plane"], learner(), seed=run.seed).run() as undisturbed:
            assert points_of(daemon, undisturbed) == points


def test_another_learner_is_told_what_was_measured_and_goes_on(
    lab: Lab, daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    with Loop(lab["plane"], Random(lab["plane"].parameters, n=10, seed=1), name="changed").run():
        pass
    learner = Random(lab["plane"].parameters, n=20, seed=2)
    with caplog.at_level(logging.WARNING):
        loop = Loop(lab["plane"], learner, goal=30, name="changed")
        loop.run().close()
    assert loop.told == learner.npoints == 30, "ten that were there, twenty of its own"
    assert [record.message for record in caplog.records if "it is told all recorded results" in record.message]


LOOPS = """
import sys
from taskmaster.learners import Loop, connect
from taskmaster.learners.points import Sobol

lab = connect(sys.argv[1])
Loop(lab["plane"], Sobol(lab["plane"].parameters), goal=2000, name="killed", in_flight=4,
     hook=lambda loop, result: loop.told == 100 and print("far enough", flush=True)).run()
"""


def test_a_loop_that_was_killed_goes_on_in_another_process(lab: Lab, daemon: Daemon) -> None:
    with subprocess.Popen([sys.executable, "-c", LOOPS, daemon.address], stdout=subprocess.PIPE) as learner:
        assert learner.stdout is not None
        assert learner.stdout.readline() == b"far enough\n"
        learner.kill()
    loop = Loop(lab["plane"], Sobol(lab["plane"].parameters), goal=300, name="killed")
    assert loop.in_flight == 4, "as it was"
    with loop.run() as run:
        for _ in run.results:
            pass
        points = points_of(daemon, run)
    n = len(points)
    with Loop(lab["plane"], Sobol(lab["plane"].parameters, n=n), seed=run.seed).run() as undisturbed:
        assert points_of(daemon, undisturbed) == points


# -- the daemon dies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Sobol", "adaptive, in order"])
def test_a_daemon_killed_again_and_again_changes_nothing(lab: Lab, daemon: Daemon, name: str) -> None:
    def learner() -> Any:
        if name == "Sobol":
            return Sobol(lab["plane"].parameters, n=80)
        bounds = [(0, 1), (0, 1)]
        return InOrder(AdaptiveLearner(adaptive.Learner2D(None, bounds=bounds), names=["x", "y"]), ahead=4, limit=80)

    def hook(loop: Loop, result: Result) -> None:
        if loop.told in (7, 50):
            daemon.restart()

    with Loop(lab["plane"], learner(), seed=3, in_flight=4).run() as run:
        undisturbed = points_of(daemon, run)
    disturbed = Loop(lab["plane"], learner(), seed=3, in_flight=4, hook=hook)
    with disturbed.run() as run:
        assert disturbed.told == 80
        assert points_of(daemon, run) == undisturbed
