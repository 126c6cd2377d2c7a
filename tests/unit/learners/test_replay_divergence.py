"""Where a learner parts from the record: the first difference is found, to the bit, and said with what led to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adaptive
import numpy as np
import pytest
from adaptive.runner import SequentialExecutor, replay_log
from helpers.rambling import Play, Rambler, live
from helpers.rehearsal import Rehearsal, RehearsedRun, Stage

from taskmaster.bus import values
from taskmaster.bus.errors import CallerError, RunClosed
from taskmaster.bus.fields import Field
from taskmaster.learners import npoints
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.history import History
from taskmaster.learners.loop import Loop
from taskmaster.learners.parting import part
from taskmaster.learners.playback import Divergence
from taskmaster.learners.replay import AskStep, HistoryMaster, Step, TellStep, replay

PLANE = (Field("x"), Field("y"))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.journal.close()


def recorded(
    stage: Stage, learner: Any, *, goal: int = 12, in_flight: int = 3, choices: tuple[int, ...] = ()
) -> History:
    """The record of a run of a learner; one task after the other is done, unless ``choices`` say otherwise."""
    play = Play(iter(choices), evaluate=lambda point: 1.5)
    run, _ = live(stage, learner, play, events=10**6, in_flight=in_flight, retries=1, goal=goal)
    return Rehearsal(stage, play).history(run.number)


class Script:
    """Asks what it is given, whatever it is told."""

    def __init__(self, *points: Any) -> None:
        self.points = list(points)
        self.told: list[Any] = []

    def ask(self, n: int) -> list[Any]:
        asked, self.points = self.points[:n], self.points[n:]
        return asked

    def tell(self, point: Any, output: Any) -> None:
        self.told.append((point, output))


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (0.0, -0.0),
        (1, 1.0),
        (1, True),
        (math.nan, 1.0),
        ([1.0], (1.0,)),
        (np.float64(1), 1.0),
        (np.zeros(2), np.array([0.0, -0.0])),
        (np.zeros(2, np.float32), np.zeros(2)),
        ({"a": 1, "b": 2}, {"a": 1}),
        ("1", 1),
        (0.1 + 0.2, 0.3),
        (1.0, lambda: None),
    ],
)
def test_points_are_compared_to_the_bit(stage: Stage, then: Any, now: Any) -> None:
    history = recorded(stage, Script("a", "b", then, "d"), goal=4, in_flight=2)
    assert replay(Script("a", "b", then, "d"), history).divergence is None
    divergence = replay(Script("a", "b", now, "d"), history).divergence
    assert divergence is not None
    assert (divergence.ask, divergence.after, divergence.asked, divergence.index) == (1, 0, 1, 2)


@pytest.mark.parametrize("value", [math.nan, -0.0, np.array([math.nan, -0.0]), (math.nan,), [None, {"x": b"y"}], 2**70])
def test_what_is_the_same_is_the_same(stage: Stage, value: Any) -> None:
    history = recorded(stage, Script("a", value, value, 1.0), goal=4, in_flight=2)
    assert replay(Script("a", value, value, 1.0), history)


def test_a_number_is_the_same_where_the_master_declares_a_number(tmp_path: Path) -> None:
    stage = Stage(tmp_path, PLANE)
    history = recorded(stage, Script({"x": 1.0, "y": 2.0}, {"x": -0.0, "y": 0.0}), goal=2, in_flight=2)
    assert replay(Script({"y": 2, "x": 1}, {"x": -0.0, "y": 0.0}), history)
    assert not replay(Script({"y": 2, "x": 1}, {"x": 0.0, "y": 0.0}), history)
    assert not replay(Script({"y": 2, "x": 1, "z": 3}, {"x": -0.0, "y": 0.0}), history), "which could not be put"
    stage.journal.close()


def test_the_first_divergence_says_what_was_asked_then_and_now_and_what_was_told_before(stage: Stage) -> None:
    history = recorded(stage, Script(*range(12)))
    changed = Script(*range(7), "other", *range(8, 12))
    replayed = replay(changed, history)
    assert not replayed
    found = replayed.divergence
    assert isinstance(found, Divergence)
    assert (found.ask, found.after, found.asked, found.index, found.recorded, found.now) == (
        5,
        4,
        1,
        7,
        (7,),
        ("other",),
    )
    assert [result.seq for result in found.told] == [4]
    assert str(found) == (
        "task 7 was 7, the learner now asks 'other' there (ask 5, for 1 points after event 4; told since the ask "
        "before: events 4 to 4)"
    )
    assert [point for point, _ in changed.told] == list(range(12)), "it is told everything that was measured"
    assert replayed.pending == ("other",)
    assert changed.points == list(range(8, 12)), "and not asked any more"


@pytest.mark.parametrize(
    ("now", "why", "index"),
    [
        (Script(0, 1), "task 2 was 2, the learner now asks nothing there", 2),
        (Script(0, 1, 2), "task 3 was 3, the learner now asks nothing there", 3),
    ],
)
def test_a_learner_that_gives_fewer_points(stage: Stage, now: Script, why: str, index: int) -> None:
    divergence = replay(now, recorded(stage, Script(*range(8)), goal=8)).divergence
    assert divergence is not None
    assert (divergence.why, divergence.index) == (why, index)


def test_a_learner_that_gives_more_points_than_it_did(stage: Stage) -> None:
    class Slow(Script):
        """Gives at most two at a time."""

        def ask(self, n: int) -> list[Any]:
            return super().ask(min(n, 2))

    history = recorded(stage, Slow(*range(9)), goal=9, in_flight=3)
    assert replay(Slow(*range(9)), history)
    divergence = replay(Script(*range(9)), history).divergence
    assert divergence is not None
    assert divergence.why.startswith("the learner gave more points, at an earlier ask")


def test_a_changed_learner_is_tried_on_what_was_measured(stage: Stage) -> None:
    """Steps as the hook hears of them; and as far as one wants to go."""
    history = recorded(stage, Rambler(False), choices=tuple(range(1, 200, 7)))
    steps: list[Step] = []
    with pytest.raises(ZeroDivisionError) as raised:
        replay(Rambler(False), history, hook=lambda step: 1 / 0)
    assert not getattr(raised.value, "__notes__", []), "it is not the learner that has raised"
    with pytest.raises(CallerError, match=r"a hook of replay\(\) is called with each step; 3 is no function"):
        replay(Rambler(False), history, hook=3)  # type: ignore[arg-type]
    whole = replay(learner := Rambler(False), history, hook=steps.append)
    asks, tells = [s for s in steps if isinstance(s, AskStep)], [s for s in steps if isinstance(s, TellStep)]
    assert len(asks) == whole.asks > 5
    assert [step.result.seq for step in tells] == [result.seq for result in history.results()]
    assert {step.how for step in tells} >= {"told", "failed", "again"}
    assert len(tells) == whole.told + whole.failed + whole.again

    for until in range(history.next_seq + 1):
        some: list[Step] = []
        part_of = Rambler(False)
        replayed = replay(part_of, history, until=until, hook=some.append)
        assert replayed.until == until
        assert part_of.seen == learner.seen[: len(part_of.seen)]
        assert len(some) == len([step for step in steps if step.told <= until])


class Other(Rambler):
    """Asks what nobody has asked before; keeps what it was told from what it is asked for."""

    def ask(self, n: int) -> list[Any]:
        return [f"another {k}" for k in range(n)]


@pytest.mark.parametrize("nan", ["tell", "fail"])
def test_a_loop_and_a_replay_tell_another_learner_the_same(stage: Stage, nan: str) -> None:
    """Of a run with failures, points that were put again, and NaN: also behind the first difference."""
    play = Play(iter(range(1, 200, 7)), evaluate=lambda point: math.nan if len(values.encode(point)) % 3 == 0 else 1.5)
    lab = Rehearsal(stage, play)
    first = Loop(lab, Rambler(False), goal=16, in_flight=3, retries=1, nan=nan, max_failures=None)
    first.run()
    assert first.retried > 3
    assert first.statistics().nans > 1

    history = lab.history(1)
    same = Rambler(False)
    assert replay(same, history).divergence is None
    assert same.seen == first.learner.seen  # type: ignore[attr-defined]

    tried = Other(False)
    replayed = replay(tried, history)
    assert replayed.divergence is not None
    assert replayed.again == first.retried
    loop = Loop(lab, learner := Other(False), goal=replayed.told)
    loop.run()
    assert (loop.told, loop.failed, loop.retried) == (replayed.told, replayed.failed, replayed.again)
    assert learner.seen == tried.seen


def test_what_a_learner_raises_says_where_and_how_to_get_there(stage: Stage) -> None:
    class Fragile(Rambler):
        def tell(self, point: Any, output: Any) -> None:
            super().tell(point, output)
            if sum(b"tell" in what for what in self.seen) == 4:
                raise ZeroDivisionError("no slope")

    history = recorded(stage, Rambler(False))
    with pytest.raises(ZeroDivisionError) as raised:
        replay(Fragile(False), history)
    (note,) = raised.value.__notes__
    step = int(note.partition("--until ")[2].split()[0])
    assert "taskmaster runs replay m/run --until" in note
    assert replay(learner := Fragile(False), history, until=step).divergence is None, "as far as there all is well"
    assert sum(b"tell" in what for what in learner.seen) == 3


class Moody(Script):
    """Gives nothing every other time, and at the fifth ask, or when it is told for the fourth time, it raises."""

    def __init__(self, where: str) -> None:
        super().__init__(*range(20))
        self.where = where
        self.asks = 0

    def ask(self, n: int) -> list[Any]:
        self.asks += 1
        if self.where == "ask" and self.asks == 5:
            raise ZeroDivisionError("nothing to go by")
        return super().ask(n) if self.asks % 2 else []

    def tell(self, point: Any, output: Any) -> None:
        super().tell(point, output)
        if self.where == "tell" and len(self.told) == 4 and self.asks == 4:
            raise ZeroDivisionError("no slope")


@pytest.mark.parametrize(("where", "step"), [("ask", 4), ("tell", 3)])
def test_what_a_learner_raised_in_a_run_it_raises_in_its_replay(stage: Stage, where: str, step: int) -> None:
    """What it was asked in vain before, and the ask at which it raised, are on record though no task came of them."""
    lab = Rehearsal(stage, Play(iter(()), evaluate=lambda point: 2.0))
    loop = Loop(lab, Moody(where), goal=12, in_flight=4)
    with pytest.raises(ZeroDivisionError) as raised:
        loop.run()
    assert f"--until {step} " in raised.value.__notes__[0]
    history = lab.history(1)
    replayed = Moody(where)
    with pytest.raises(ZeroDivisionError) as again:
        replay(replayed, history)
    assert f"--until {step} " in again.value.__notes__[0]
    assert (replayed.asks, replayed.told) == (loop.learner.asks, loop.learner.told)  # type: ignore[attr-defined]
    mended = Moody("nowhere")
    assert replay(mended, history), "which is as good as it was up to there"

    loop.run()  # the ask is repeated, and on record once
    asks = [ask.after for block in lab.history(1).asks() for ask in block.asks if ask.asked > 0]
    assert asks == sorted(set(asks))


def test_a_learner_that_gives_too_many_points_parts_from_any_record(stage: Stage) -> None:
    class Generous(Script):
        def ask(self, n: int) -> list[Any]:
            return super().ask(n + 1 if len(self.told) == 3 else n)

    history = recorded(stage, Script(*range(12)))
    divergence = replay(Generous(*range(12)), history).divergence
    assert divergence is not None
    assert divergence.why == "the learner gives 2 points, though it is asked for 1"
    assert (divergence.after, divergence.recorded, divergence.now) == (2, (5,), (5, 6))


def test_a_loop_over_a_record_goes_through_it_and_ends_with_it(stage: Stage) -> None:
    history = recorded(stage, Rambler(False), choices=tuple(range(1, 200, 7)))
    seen: list[int] = []
    loop = Loop(
        HistoryMaster(history), Rambler(False), goal=npoints(6), hook=lambda loop, result: seen.append(result.seq)
    )
    loop.run()
    assert loop.told == 6
    with pytest.raises(RunClosed, match=r"the record of run 'm/run' ends here"):
        Loop(HistoryMaster(history), Rambler(False), goal=100).run()
    assert HistoryMaster(history).play(Rambler(False), until=6).until == 6


def test_a_record_whose_asks_were_too_many_to_note_says_so(stage: Stage) -> None:
    """A learner that gives nothing, ten thousands of times: there is a bound, and behind it the record has a gap."""

    class Patient(Rambler):
        def ask(self, n: int) -> list[Any]:
            self._see(("ask", n))
            return [1.0] if len(self.seen) in (1, 40_000) else []

    run = Rehearsal(stage, Play(iter(()))).open("run", seed=3)
    learner = Patient(False)
    learner.seed(np.random.default_rng(3))
    for _ in range(40_000):
        points = learner.ask(1)
        run.tasks.new_ask(-1, 1)
        for point in points:
            run.tasks.put(point)
            run.pump()
    assert run.next_index == 2
    history = Rehearsal(stage, Play(iter(()))).history(run.number)
    asks = [ask for block in history.asks() for ask in block.asks]
    assert 30_000 < len(asks) < 33_000
    divergence = replay(Patient(False), history).divergence
    assert divergence is not None
    assert divergence.why == "the record has a gap: it does not say what the learner was asked here"


def test_points_that_nobody_asked_for_are_told_as_they_are(stage: Stage) -> None:
    """Put by hand into a learner's run: by whoever knows of something better."""
    lab = Rehearsal(stage, Play(iter(()), evaluate=lambda point: 2.0))
    first = Loop(lab, Script(1, 2, 3, 4), goal=2, in_flight=2, name="run")
    first.run()
    by_hand: RehearsedRun = first.run_  # type: ignore[assignment]
    by_hand.tasks.put("by hand")
    by_hand.pump()
    again = Loop(lab, Script(1, 2, 3, 4), goal=5, in_flight=2, name="run")
    again.run()
    learner = Script(1, 2, 3, 4)
    assert replay(learner, lab.history(by_hand.number))
    assert sorted(map(str, (point for point, _ in learner.told))) == ["1", "2", "3", "4", "by hand"]


def test_runs_part_where_a_learner_would_notice(stage: Stage) -> None:
    def run(name: str, learner: Any, evaluate: Callable[[Any], Any] = lambda point: 1.5) -> History:
        play = Play(iter(()), evaluate=evaluate)
        made, _ = live(stage, learner, play, events=10**6, in_flight=3, retries=1, goal=8, name=name)
        return Rehearsal(stage, play).history(made.number)

    one = run("one", Script(*range(8)))
    assert part(one, run("same", Script(*range(8)))) is None
    parting = part(one, run("points", Script(*range(5), "other", 6, 7)))
    assert parting is not None
    assert (parting.told, parting.what, parting.one, parting.other) == (3, "points", "task 5 is 5", "task 5 is 'other'")
    parting = part(one, run("results", Script(*range(8)), lambda point: 1.5 if point < 6 else -1.5))
    assert parting is not None
    assert (parting.told, parting.what) == (6, "results")
    parting = part(one, run("longer", Script(*range(8), 8, 9), lambda point: 1.5))
    assert parting is not None, "it has given two points more, so that it was asked for fewer in the end"
    assert (parting.told, parting.what, parting.one) == (7, "asks", "after event 6 2 points were asked for")


# -- adaptive's own log -----------------------------------------------------------------------------------------------


class Asked1D(adaptive.Learner1D):  # type: ignore[misc]
    """Keeps what it has asked."""

    def ask(self, n: int, tell_pending: bool = True) -> Any:
        points, gains = super().ask(n, tell_pending)
        self.asked = [*getattr(self, "asked", []), *points]
        return points, gains


def peak(x: float) -> float:
    return 1e-4 / (1e-4 + (x - 0.3) ** 2)


def test_adaptives_own_log_does_not_replay_a_run_with_retries_and_ours_does(tmp_path: Path) -> None:
    failed: set[float] = set()

    def at_the_second_try(x: float) -> float:
        if x not in failed and len(failed) < 8:
            failed.add(x)
            raise RuntimeError("a cable was loose")
        return peak(x)

    learner = Asked1D(at_the_second_try, bounds=(-1, 1))
    runner = adaptive.BlockingRunner(
        learner, npoints_goal=30, executor=SequentialExecutor(), ntasks=3, retries=1, log=True
    )
    again = Asked1D(at_the_second_try, bounds=(-1, 1))
    replay_log(again, runner.log)
    assert again.asked[: len(learner.asked)] != learner.asked, (
        "it asks the learner for the points that were retried, too"
    )

    stage = Stage(tmp_path, (Field("x", min=-1, max=1),), (Field("y"),))
    ours = Asked1D(None, bounds=(-1, 1))
    # the first eight tasks that end have failed: 1 is a failure, 3 is done
    play = Play(iter([1] * 8), evaluate=lambda point: peak(point["x"]))
    run, loop = live(stage, AdaptiveLearner(ours, ["x"]), play, events=10**6, in_flight=3, retries=1, goal=30)
    assert loop.retried > 4
    replayed = Asked1D(None, bounds=(-1, 1))
    assert replay(AdaptiveLearner(replayed, ["x"]), Rehearsal(stage, play).history(run.number))
    assert replayed.asked == ours.asked[: len(replayed.asked)]
    assert len(replayed.asked) >= 30
    assert dict(replayed.data) == dict(ours.data)
    stage.journal.close()
