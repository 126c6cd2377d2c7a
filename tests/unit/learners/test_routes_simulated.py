"""One learner on several simulated Masters: they share one virtual time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.thoughtful import Thoughtful
from hypothesis import given, settings, strategies as st

from taskmaster.bus.errors import CallerError, InvalidTask, RunClosed, UnknownRun
from taskmaster.learners import Loop, Routes, SimulatedMaster, run_all
from taskmaster.learners.declared import as_fields
from taskmaster.learners.goals import seconds
from taskmaster.learners.parting import part
from taskmaster.learners.points import Random
from taskmaster.learners.replay import AskStep, HistoryMaster, TellStep, replay
from taskmaster.learners.results import Result
from taskmaster.learners.routed import RoutedResult
from taskmaster.learners.simulate import Constant, Exponential, Failures

LINE = {"x": (0.0, 1.0)}


def master(name: str, workers: int, latency: Any, **settings: Any) -> SimulatedMaster:
    return SimulatedMaster(lambda point: point["x"], workers, latency, parameters=LINE, name=name, **settings)


def routed(goal: Any, *masters: SimulatedMaster, **settings: Any) -> tuple[Loop, list[Result]]:
    seen: list[Result] = []
    learner = Random(masters[0].parameters, seed=1)
    loop = Loop(Routes(masters), learner, goal=goal, hook=lambda loop, result: seen.append(result), **settings)
    loop.run().close()
    return loop, seen


def test_each_does_its_share_of_the_work_in_the_time_that_passes_for_all() -> None:
    quick, slow = master("quick", 2, 10.0), master("slow", 4, 60.0)
    loop, seen = routed(seconds(6000), quick, slow)
    done = {one.name: one.statistics().done for one in (quick, slow)}
    assert done == {"quick": pytest.approx(2 * 600, abs=8), "slow": pytest.approx(4 * 100, abs=8)}
    assert loop.elapsed == quick.clock() == slow.clock() >= 6000
    assert [result.finished for result in seen] == sorted(result.finished for result in seen)
    assert min(quick.statistics().idle, slow.statistics().idle) >= 0
    assert max(quick.statistics().idle, slow.statistics().idle) < 0.01


def test_the_same_seeds_have_the_same_history() -> None:
    def history() -> list[tuple[Any, str, float]]:
        rough = Failures(fail=0.1, lifetime=500.0)
        masters = [master(name, 3, Exponential(10.0), failures=rough, seed=k) for k, name in enumerate("abc")]
        return [(result.input, result.outcome, result.finished) for result in routed(300, *masters)[1]]

    once = history()
    assert once == history()
    assert {outcome for _, outcome, _ in once} == {"done", "failed"}


def test_a_learners_thinking_takes_time_at_all_of_them() -> None:
    one, other = master("one", 1, 1.0, thinking=5.0), master("other", 1, 1000.0)
    routed(20, one, other, in_flight=2)
    assert one.clock() == other.clock() >= 19 * 5


def test_what_would_never_come_is_said() -> None:
    run = Routes([master("one", 1, 1.0), master("other", 1, 1.0)]).open()
    with pytest.raises(CallerError, match="nothing is in flight, so no result would ever come"):
        run.get()
    with pytest.raises(TimeoutError, match="no result within 3 s"):
        run.get(3.0)
    assert run.clock() == 3.0
    run.put({"x": 0.5})
    assert run.get(3.0).output == 0.5


def test_loops_over_simulations_are_as_quick_together_as_alone() -> None:
    """However long their tasks take: a loop that looked up five times a second of theirs would be at it for hours."""
    masters = [master(name, 2, 1e6) for name in "ab"]
    run_all([Loop(one, Random(one.parameters), goal=100) for one in masters])
    assert [one.statistics().done for one in masters] == [100, 100]


# -- resumed and replayed ---------------------------------------------------------------------------------------------

ROUGH = Failures(fail=0.2, lifetime=30.0, repair=Constant(20.0), lost=0.1, late=0.2, notice=5.0)
WIDE = {"x": (-1e12, 1e12)}


def rough(n: int, seed: int) -> list[SimulatedMaster]:
    def rest(point: dict[str, float]) -> float:
        return point["x"] % 100

    return [
        SimulatedMaster(rest, 1 + k, Exponential(3.0), ROUGH, seed + k, parameters=WIDE, name=name)
        for k, name in enumerate("abcd"[:n])
    ]


@given(
    n=st.integers(1, 4), seed=st.integers(0, 1000), goals=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    in_flight=st.integers(1, 12), retries=st.integers(0, 2), nan=st.sampled_from(["tell", "fail"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_replay_equals_the_run_to_the_bit(
    n: int, seed: int, goals: list[int], in_flight: int, retries: int, nan: str
) -> None:
    """Random latencies, failures, deaths, lost and late answers, retries; gone on with as often as there are goals."""
    masters = rough(n, seed)
    told = 0
    for k, more in enumerate(goals):
        told += more
        loop = Loop(
            Routes(masters[k % n :] + masters[: k % n]), Thoughtful(), goal=told, in_flight=in_flight, retries=retries,
            nan=nan, max_failures=None, name="night", seed=seed,
        )  # fmt: skip
        loop.run().close()
        assert (loop.divergence, loop.told, loop.statistics().unasked) == (None, told, 0)
    seen = loop.learner.seen  # type: ignore[attr-defined]
    for run in (loop.run_, [one.runs["night"] for one in masters], Routes(masters).history("night")):
        again = Thoughtful()
        replayed = replay(again, run)
        assert replayed.divergence is None
        assert again.seen == seen
        assert (replayed.told, replayed.failed, replayed.again) == (loop.told, loop.failed, loop.retried)
        assert part(run, loop.run_) is None
    over = Loop(HistoryMaster(loop.run_), Thoughtful(), goal=told, max_failures=None, retries=retries)
    over.run()
    assert over.learner.seen == seen[: len(over.learner.seen)]  # type: ignore[attr-defined]
    assert over.told == told


def night(masters: list[SimulatedMaster], learner: Any = None, **keys: Any) -> Loop:
    loop = Loop(Routes(masters), learner or Thoughtful(), **{"goal": 30, "name": "night", "max_failures": None, **keys})
    loop.run().close()
    return loop


def test_an_ask_that_is_recorded_with_one_leg_is_not_recorded_with_another() -> None:
    """However many asks lie between two tasks of a dear Master: it is not to have those of all the others."""
    dear, cheap = master("dear", 1, 1000.0), master("cheap", 1, 1.0)
    loop = Loop(Routes([dear, cheap]), Random(dear.parameters, seed=1), goal=1000, in_flight=4, name="night", seed=2)
    loop.run().close()
    asks = [[ask for ask in one.runs["night"].asks if ask.asked > 0] for one in (dear, cheap)]
    numbers = [ask.order.number for each in asks for ask in each if ask.order is not None]
    assert len(numbers) == len(set(numbers)) > 990
    assert len(asks[0]) < 10 < len(asks[1])


def test_a_replay_is_stepped_through_and_ends_where_one_wants() -> None:
    loop = night(rough(2, 7), retries=1)
    steps: list[Any] = []
    some = replay(Thoughtful(), loop.run_, until=10, hook=steps.append)
    assert (some.until, steps[0].told) == (10, 0)
    told = [step.result for step in steps if isinstance(step, TellStep)]
    assert [result.seq for result in told] == list(range(10))
    assert {result.master for result in told if isinstance(result, RoutedResult)} == {"a", "b"}
    assert sum(isinstance(step, AskStep) for step in steps) == some.asks
    everything = list(Routes(loop.master.masters).history("night").results())  # type: ignore[attr-defined]
    assert [result.seq for result in everything] == list(range(loop.told + loop.failed + loop.retried))


def test_another_learner_is_told_all_results_and_where_it_parts(caplog: pytest.LogCaptureFixture) -> None:
    masters = rough(2, 3)
    first = night(masters)
    again = night(masters, Thoughtful(turns=12, then=3), goal=40)
    assert again.divergence is not None
    assert 11 <= again.divergence.after < 25, "the 12th that it was told"
    assert "run 'night': task" in caplog.text
    assert (again.told, again.divergence.now != ()) == (40, True)
    parting = part(first.run_, night(rough(2, 4)).run_)
    assert parting is not None


def test_a_loop_that_leaves_points_in_flight_is_gone_on_with() -> None:
    masters = rough(3, 5)
    loop = Loop(Routes(masters), Thoughtful(), goal=seconds(40), name="night", max_failures=None, in_flight=9)
    loop.run()
    assert loop.run_.open_tasks == loop.statistics().in_flight > 0
    pending = replay(Thoughtful(), loop.run_).pending
    assert len(pending) >= loop.run_.open_tasks
    again = night(masters)
    assert (again.divergence, again.statistics().unasked) == (None, 0)
    assert replay(Thoughtful(), again.run_)


class Bound(Random):
    """Asks within what it is told that the parameters are."""

    def __init__(self) -> None:
        super().__init__(as_fields({"x": (0.0, 0.1)}))

    def bind(self, parameters: Any, outputs: Any = ()) -> None:
        super().__init__(parameters)


def test_a_replay_has_the_parameters_that_the_learner_was_given() -> None:
    narrow = SimulatedMaster(abs_x, 1, 1.0, parameters={"x": (0.0, 0.5)}, name="narrow")
    wide = SimulatedMaster(abs_x, 1, 1.0, parameters={"x": (0.0, 1.0)}, name="wide")
    routes = Routes([narrow, wide], parameters=wide.parameters)
    loop = Loop(routes, Bound(), goal=30, name="night", seed=1)
    loop.run().close()
    assert max(point["x"] for point, _ in loop.learner.data) > 0.5  # type: ignore[attr-defined]
    assert replay(Bound(), [narrow.runs["night"], wide.runs["night"]])
    again = Loop(routes, Bound(), goal=40, name="night")
    again.run()
    assert again.divergence is None


class Numpy(Bound):
    """Asks for numbers of numpy, which are compared as they travel."""

    def ask(self, n: int) -> Any:
        return [{"x": np.float64(point["x"])} for point in super().ask(n)]


def test_points_are_compared_as_the_master_has_them_that_they_went_to() -> None:
    narrow = SimulatedMaster(abs_x, 1, 1.0, parameters={"x": (0.0, 0.5)}, name="narrow")
    wide = SimulatedMaster(abs_x, 1, 1.0, parameters={"x": (0.0, 1.0)}, name="wide")
    routes = Routes([narrow, wide], lambda point, master, n: n if point["x"] <= 0.5 or master is wide else math.inf)

    def learner() -> Numpy:
        made = Numpy()
        made.bind(wide.parameters, ())
        made.bind = lambda *_: None  # type: ignore[method-assign]
        return made

    loop = Loop(routes, learner(), goal=30, name="night", seed=1)
    loop.run().close()
    assert wide.runs["night"].next_index > 10
    assert replay(learner(), loop.run_)


def abs_x(point: dict[str, float]) -> float:
    return abs(point["x"])


def test_points_are_put_all_or_none_where_one_is_not_taken() -> None:
    one, other = master("one", 1, 1.0), master("other", 1, 1.0)
    run = Routes([one, other], lambda point, master, n: n).open("night")
    with pytest.raises(InvalidTask):
        run.put_many([{"x": 0.5}, {"x": 0.25}, {"x": 7.0}])
    assert (run.next_index, one.runs["night"].next_index, other.runs["night"].next_index) == (0, 0, 0)
    run.put_many([{"x": 0.5}, {"x": 0.25}, {"x": 0.75}])
    assert [result.index for result in run] == [0, 1, 2]


def test_a_loop_whose_points_are_put_in_part_knows_which() -> None:
    """Where a Master is closed under its hands in the middle of several points, those before were put."""
    one, other = master("one", 1, 1.0), master("other", 1, 1.0)
    loop = Loop(Routes([one, other]), Random(one.parameters, seed=1), goal=9, in_flight=4, name="night", seed=2)
    other.runs["night"].close()
    with pytest.raises(RunClosed, match="was closed here"):
        loop.run()
    assert loop.run_.next_index == one.runs["night"].next_index == 1
    loop = Loop(Routes([one, other]), Random(one.parameters, seed=1), goal=9, name="night")
    loop.run().close()
    assert (loop.told, loop.statistics().unasked) == (9, 0)
    assert replay(Random(one.parameters, seed=1), loop.run_)


# -- what is no whole run ---------------------------------------------------------------------------------------------


def test_a_leg_alone_is_refused_with_what_to_do_instead() -> None:
    masters = rough(2, 7)
    run: Any = night(masters).run_
    text = (
        r"run 'a/night' is one leg of a run over 'a' and 'b', and the one at 'b' is not to be found with it. In a "
        r"program, name all of them: replay\(learner, \[lab\['a'\].watch\('night'\), lab\['b'\].watch\('night'\)\]\)"
    )
    for wrong in (masters[0].runs["night"], masters[0].runs["night"].history()):
        with pytest.raises(CallerError, match=text):
            replay(Thoughtful(), wrong)
        with pytest.raises(CallerError, match=text):
            part(wrong, run)
    with pytest.raises(CallerError, match=text):
        HistoryMaster(masters[0].runs["night"])
    for target in (masters[0], masters[0].open("night")):
        with pytest.raises(
            CallerError, match=r"leg of a run over 'a' and 'b', whose learner has asked the others, too. Go"
        ):
            Loop(target, Thoughtful(), name="night")
    with pytest.raises(
        CallerError, match=r"cannot be forked\. To look at its learner where it was, replay it up to there"
    ):
        run.fork("morning")
    with pytest.raises(CallerError, match="run 'a/alone' is no leg of a run over several Masters"):
        replay(Thoughtful(), [masters[0].open("alone"), masters[1].runs["night"]])


def test_masters_that_are_not_those_of_the_run_are_refused_before_anything_is_opened() -> None:
    one, other, third = rough(3, 7)
    night([one, other])
    third.open("night")
    wrong: list[tuple[list[Any], str]] = [
        ([one, third], "Master 'c' has a run 'night' already, and it is no leg of one over a\\+c; take another name"),
        (
            [one],
            r"run 'night' is over 'a' and 'b': go on with it by Routes\(\[lab\['a'\], lab\['b'\]\]\), not with 'a'",
        ),
        ([one, *rough(4, 1)[3:]], r"run 'night' is over 'a' and 'b': go on with it by .*, not with 'a' and 'd'"),
    ]
    for masters, message in wrong:
        with pytest.raises(CallerError, match=message):
            Routes(masters).open("night")
    night([third, rough(4, 1)[3]], name="other")
    night([one, other], name="other")
    with pytest.raises(CallerError, match="are legs of different ones; take another name"):
        Routes([one, third]).open("other")
    with pytest.raises(UnknownRun, match="Master 'a' has no run 'evening'"):
        Routes([one, other]).history("evening")
    with pytest.raises(CallerError, match="is no Master of its own: name all the Masters in one Routes"):
        Routes([one, Routes([other])])
    costs: list[Any] = [math.nan, "dear"]
    for wrong_cost in costs:
        with pytest.raises(
            CallerError, match=rf"gives a number, infinite where .*; for 'c' and .* gave {wrong_cost!r}"
        ):
            Loop(Routes([third, rough(4, 1)[3]], cost=lambda *_, cost=wrong_cost: cost), Thoughtful(), goal=2).run()
    with pytest.raises(CallerError, match="cannot be one of several"):
        Routes([one, HistoryMaster(Loop(third, Thoughtful(), goal=1, max_failures=None).run())]).open("morning")


def test_a_leg_that_is_missing_is_made_when_the_others_are_there() -> None:
    """The program was killed when it had opened the run at one of its Masters."""
    one, other = rough(2, 7)
    one.open("night", seed=9, metadata={"routed": '["a", "b"]', "routed_leg": "0"})
    loop = night([other, one])
    assert (loop.run_.seed, other.runs["night"].metadata["routed_leg"]) == (9, "1")
    assert replay(Thoughtful(), loop.run_)
