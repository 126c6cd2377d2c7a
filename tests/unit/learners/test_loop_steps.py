"""What a Loop does at each step, in virtual time: hooks, goals, retries, bad luck with learners and outputs."""

from __future__ import annotations

import io
import logging
import math
import os
import pty
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime, time as time_of_day, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from taskmaster.bus.errors import CallerError, InvalidTask, TaskCancelled, TaskFailed
from taskmaster.learners.goals import loss, npoints, until
from taskmaster.learners.loop import LearnerStuck, Loop, TooManyFailures
from taskmaster.learners.looping.hooks import Hooks
from taskmaster.learners.looping.live import LivePlot
from taskmaster.learners.looping.progress import Progress
from taskmaster.learners.looping.several import run_all
from taskmaster.learners.points import Random, Sequence as Points
from taskmaster.learners.replay import replay
from taskmaster.learners.results import Result
from taskmaster.learners.simulate import Exponential, Failures, SimulatedMaster

LINE = {"x": (0.0, 1.0)}


def picky(x: float) -> float:
    if x < 0:
        raise ValueError("below zero")
    return math.nan if x > 100 else x * x


def lab(**settings: Any) -> SimulatedMaster:
    return SimulatedMaster(**{"f": picky, "workers": 2, "latency": Exponential(1.0), **settings})


class Told:
    """A learner of a list of points, without a fail()."""

    def __init__(self, points: Sequence[Any], n: int = 1_000_000) -> None:
        self.points = list(points)
        self.told: list[tuple[Any, Any]] = []

    def ask(self, n: int) -> list[Any]:
        asked, self.points = self.points[:n], self.points[n:]
        return asked

    def tell(self, point: Any, output: Any) -> None:
        self.told.append((point, output))

    def done(self) -> bool:
        return not self.points


# -- hooks ------------------------------------------------------------------------------------------------------------


class Noted(Hooks):
    """Writes everything down."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, loop: Loop) -> None:
        self.lines.append("started")

    def asked(self, loop: Loop, wanted: int, points: Sequence[Any]) -> None:
        self.lines.append(f"asked for {wanted}, got {len(points)}")

    def put(self, loop: Loop, first: int, points: Sequence[Any]) -> None:
        self.lines.append(f"put {first} {points}")

    def told(self, loop: Loop, result: Result) -> None:
        self.lines.append(f"told {result.index}")

    def failed(self, loop: Loop, result: Result, error: TaskFailed | TaskCancelled) -> None:
        self.lines.append(f"failed {result.index}: {error}".partition("\n")[0])

    def retried(self, loop: Loop, result: Result, tries: int) -> None:
        self.lines.append(f"retried {result.index} after {tries}")

    def result(self, loop: Loop, result: Result) -> None:
        self.lines.append(f"result {result.index}")

    def ended(self, loop: Loop, error: BaseException | None) -> None:
        self.lines.append(f"ended {error!r}")


def test_hooks_hear_of_every_step() -> None:
    noted, results = Noted(), []
    learner = Points([1.0, -1.0, 3.0])
    loop = Loop(
        lab(workers=1, latency=1.0),
        learner,
        in_flight=2,
        retries=1,
        hook=[noted, lambda loop, result: results.append(result.index)],
    )
    loop.run()
    assert noted.lines == [
        "started",
        "asked for 2, got 2",
        "put 0 [1.0, -1.0]",
        "told 0",
        "result 0",
        "asked for 1, got 1",
        "put 2 [3.0]",
        "retried 1 after 1",
        "result 1",
        "put 3 [-1.0]",
        "told 2",
        "result 2",
        "asked for 1, got 0",
        "failed 3: ValueError: below zero",
        "result 3",
        "ended None",
    ]
    assert results == [0, 1, 2, 3]


def test_hooks_hear_how_it_ended_and_their_own_errors_come_through() -> None:
    class Fuse(Noted):
        def told(self, loop: Loop, result: Result) -> None:
            super().told(loop, result)
            if loop.told == 3:
                raise ZeroDivisionError("blown")

    fuse = Fuse()
    loop = Loop(lab(), Points(range(10)), hook=fuse, in_flight=2)
    with pytest.raises(ZeroDivisionError):
        loop.run()
    assert fuse.lines[-1] == "ended ZeroDivisionError('blown')"
    with pytest.raises(CallerError, match="a hook is a function"):
        Loop(lab(), Points([1.0]), hook=3)  # type: ignore[arg-type]


STEPS = ("started", "asked", "put", "told", "failed", "retried", "result", "ended")


def interrupted_by_its_hook(step: str, master: SimulatedMaster, name: str) -> tuple[list[float], int]:
    """What a learner is told where the hook raises at every third ``step``, and how often it did."""
    calls = raised = 0
    notes: list[str] = []

    def fuse(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 1:
            raise ZeroDivisionError(step)

    learner = Told([0.1 * k for k in range(-10, 30)])
    loop = Loop(master, learner, in_flight=3, retries=1, name=name, hook=type("Fuse", (Hooks,), {step: fuse})())
    while not (learner.done() and loop.told == 30):
        try:
            loop.run()
        except ZeroDivisionError as error:
            raised += 1
            notes += getattr(error, "__notes__", [])
    assert not notes, "it is not the learner that has raised"
    assert (loop.failed, loop.retried, loop.run_.next_index) == (10, 10, 50)
    return [point for point, _ in learner.told], raised


@pytest.mark.parametrize("step", STEPS)
def test_whatever_step_a_hook_raises_at_it_is_behind_it_when_the_loop_goes_on(step: str) -> None:
    master = lab(workers=3, seed=4)
    undisturbed, _ = interrupted_by_its_hook("none", lab(workers=3, seed=4), "run")
    for how in ("made", "gone on with"):
        told, raised = interrupted_by_its_hook(step, master, "run")
        assert told == undisturbed
        assert raised or (step, how) == ("put", "gone on with"), "there everything was put already"


# -- goals ------------------------------------------------------------------------------------------------------------


def test_goals_combine_with_whatever_stands_for_one() -> None:
    assert repr(3 | npoints(200)) == "3 points or 200 points"
    assert repr(timedelta(hours=1) & (npoints(5) | time_of_day(18))) == "3600 s and (5 points or until 18:00:00)"
    loop = Loop(lab(), Points(range(50)), goal=(lambda loop: loop.told >= 7) | npoints(20), in_flight=1)
    loop.run()
    assert loop.told == 7


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: Loop(lab(), Points([1.0]), goal="18:00"), r"a goal is .* until\('18:00'\) or .*, not '18:00'"),  # type: ignore[arg-type]
    (lambda: Loop(lab(), Points([1.0]), goal=2.5), "a goal of points must be a whole number"),  # type: ignore[arg-type]
    (lambda: loss(math.nan), "a goal of loss is a number, not nan"),
    (lambda: loss("small"), "a goal of loss is a number, not 'small'"),  # type: ignore[arg-type]
    (lambda: Loop("svm", Points([1.0])), r"over a Master, lab\['name'\], .*, not 'svm'"),  # type: ignore[arg-type]
    (lambda: Loop(lab(), Points), "a learner is an object, not a class: make one of Sequence"),  # type: ignore[arg-type]
    (lambda: Loop(lab(), "sobol"), r"'sobol' is no learner: it has no ask\(n\)"),  # type: ignore[arg-type]
    (lambda: Loop(lab(), Points([1.0]), hook=Progress), r"not a class: give Progress\(\)"),  # type: ignore[arg-type]
    (lambda: Loop(lab(), Points([1.0]), hook="abc"), "a hook is a function .* not 'abc'"),  # type: ignore[arg-type]
    (lambda: Loop(lab(), Points([1.0]), hook=[3]), "a hook is a function .* not 3"),  # type: ignore[list-item]
    (lambda: LivePlot("nowhere/plot.png"), "there is no folder 'nowhere'"),
    (lambda: LivePlot("plot.txt"), "cannot be a 'txt' file; matplotlib draws .* png"),
    (lambda: run_all(Loop(lab(), Points([1.0]))), "run_all takes loops in a list, not <Loop"),  # type: ignore[arg-type]
    (lambda: run_all([3]), r"run_all takes loops in a list, not \[3\]"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("slip", "message"), WRONG, ids=[message for _, message in WRONG])
def test_slips_are_said_before_anything_is_put(slip: Callable[[], object], message: str) -> None:
    with pytest.raises(CallerError, match=message):
        slip()


def test_until_a_time_of_day_or_a_date() -> None:
    began = datetime(2026, 11, 22, 17, 30)

    def ended(goal: Any) -> datetime:
        master = SimulatedMaster(lambda point: 0.0, latency=Exponential(40.0), parameters=LINE, began=began)
        loop = Loop(master, Random(master.parameters), goal=goal)
        loop.run()
        assert loop.statistics().fraction == 1.0
        return datetime.fromtimestamp(loop.now())

    assert ended(until("18:00")) == datetime(2026, 11, 22, 18, 0)
    assert ended(time_of_day(17, 0)) == datetime(2026, 11, 23, 17, 0), "that was today: tomorrow's"
    assert ended(datetime(2026, 11, 22, 19, 15)) == datetime(2026, 11, 22, 19, 15)
    assert ended("2026-11-22 17:45" and until("2026-11-22 17:45")) == datetime(2026, 11, 22, 17, 45)
    assert ended(timedelta(minutes=2)) == began + timedelta(minutes=2)
    assert ended(until("18:00") & npoints(2000)) > datetime(2026, 11, 22, 18, 0)
    assert ended(until("2026-11-22 12:00")) == began, "that is over"
    with pytest.raises(CallerError, match="not 'teatime'"):
        until("teatime")


def test_a_day_of_25_hours_is_no_trouble() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    began = datetime(2026, 10, 24, 12, 0, tzinfo=berlin)
    master = SimulatedMaster(lambda point: 0.0, latency=3600.0, parameters=LINE, began=began)
    loop = Loop(master, Random(master.parameters), goal=time_of_day(11, 0, tzinfo=berlin))
    loop.run()
    assert loop.elapsed == 24 * 3600


def test_a_clock_that_is_set_meanwhile_moves_the_goal_and_nothing_else() -> None:
    """The clock is put back an hour at half past five: the loop ends when it shows six, and has taken 90 minutes."""
    began = datetime(2026, 11, 22, 17, 0).timestamp()
    master = SimulatedMaster(lambda point: 0.0, latency=30.0, parameters=LINE, began=began)
    run = master.open()
    run.time = lambda: master.clock() - (3600.0 if master.clock() > began + 1800 else 0.0)  # type: ignore[method-assign]
    loop = Loop(run, Random(master.parameters), goal=until("18:00"), in_flight=2)
    loop.run()
    assert loop.elapsed == pytest.approx(2 * 3600, abs=61)
    assert loop.statistics().rate == pytest.approx(2 / 30, rel=0.2)


# -- failures ---------------------------------------------------------------------------------------------------------


def test_an_instrument_that_gives_nan_and_nothing_else_ends_the_loop() -> None:
    master = lab(f=lambda x: math.nan)
    learner = Random(LINE)
    with pytest.raises(TooManyFailures, match="5 tasks have failed one after the other, the last with NaN"):
        Loop(master, learner, nan="fail", max_failures=5, goal=1000).run()
    loop = Loop(master, Random(LINE), max_failures=5, goal=50)
    loop.run()
    assert loop.told == 50, "there it is an output"


# -- retries ----------------------------------------------------------------------------------------------------------


def test_a_function_says_what_is_tried_again() -> None:
    tried: list[tuple[float, str, int]] = []

    def retries(point: float, error: TaskFailed, tries: int) -> bool:
        tried.append((point, error.kind, tries))
        return point == -2.0 and tries < 3

    loop = Loop(lab(latency=1.0), Points([-1.0, -2.0]), retries=retries)
    loop.run()
    assert sorted(tried) == [
        (-2.0, "ValueError", 1),
        (-2.0, "ValueError", 2),
        (-2.0, "ValueError", 3),
        (-1.0, "ValueError", 1),
    ]
    assert (loop.failed, loop.statistics().retried) == (2, 2)


# -- bad luck with outputs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [math.nan, {"y": 1.0, "z": math.nan}, np.array([1.0, math.nan]), [1.0, math.nan]])
def test_nan_is_told_or_taken_for_a_failure(output: Any) -> None:
    def told(nan: str) -> tuple[int, int, int]:
        learner = Points([1.0, 2.0])
        loop = Loop(lab(f=lambda x: output if x > 1 else 1.0), learner, nan=nan)
        loop.run()
        assert loop.statistics().nans == 1
        return loop.told, loop.failed, learner.nfailed

    assert told("tell") == (2, 0, 0)
    assert told("fail") == (1, 1, 1)
    with pytest.raises(CallerError, match="'tell' or 'fail', not 'drop'"):
        Loop(lab(), Points([1.0]), nan="drop")


def test_a_run_keeps_to_what_becomes_of_nan() -> None:
    """Whoever goes on with it need not say it again, and cannot say otherwise: the learner would have another past."""
    master = lab(f=lambda x: math.nan if x == 1 else x)
    Loop(master, Points([1.0, 2.0]), nan="fail", name="failing").run()
    again = Loop(master, Points([1.0, 2.0, 3.0]), name="failing")
    again.run()
    assert (again.told, again.failed, again.divergence) == (2, 1, None)
    with pytest.raises(CallerError, match="'failing' has taken NaN for a failure from its beginning; leave nan out"):
        Loop(master, Points([1.0]), nan="tell", name="failing")
    with pytest.raises(
        CallerError, match=r"'open' has taken NaN for an output .*: give the loop its Master and a name"
    ):
        Loop(master.open("open"), Points([1.0]), nan="fail")
    opened = Loop(master.open("known", metadata={"nan": "fail"}), Points([1.0, 2.0]), nan="fail")
    opened.run()
    assert (opened.told, opened.failed) == (1, 1)


def test_failures_that_a_learner_cannot_be_told_of_are_dropped_counted_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    learner = Told([1.0, -1.0, -2.0, 2.0])
    loop = Loop(lab(latency=1.0), learner)
    loop.run()
    seen = loop.statistics()
    assert (seen.told, seen.failed, seen.dropped) == (2, 2, 2)
    assert len(learner.told) == 2
    (said,) = [record.message for record in caplog.records]
    assert "has no fail(), so it is not told of points that fail; the first: -1.0, below zero" in said


# -- bad luck with learners -------------------------------------------------------------------------------------------


def test_a_learner_that_raises_leaves_the_run_open_and_says_where_that_was() -> None:
    class Fickle(Told):
        """Raises once at each of these."""

        def __init__(self) -> None:
            super().__init__(range(12))
            self.asks = self.tells = 0

        def ask(self, n: int) -> list[Any]:
            self.asks += 1
            if self.asks == 4:
                raise RuntimeError("no idea")
            return super().ask(n)

        def tell(self, point: Any, output: Any) -> None:
            self.tells += 1
            if self.tells == 7:
                raise ArithmeticError("did not converge")
            super().tell(point, output)

    learner = Fickle()
    loop = Loop(lab(latency=1.0), learner, in_flight=3, name="night")
    with pytest.raises(RuntimeError) as asking:
        loop.run()
    (note,) = asking.value.__notes__
    assert "asked for 1 points: at step 3 of run 'night' of Master 'simulated', after 3 events." in note
    assert "or replay it up to there: replay(learner, loop.run_, until=3), of taskmaster.learners.replay" in note
    assert replay(Told(range(12)), loop.run_, until=3).told == 3, "as it says"
    with pytest.raises(ArithmeticError) as telling:
        loop.run()
    (note,) = telling.value.__notes__
    assert "told the output of task 6, 6: at step 6 of run 'night'" in note
    loop.run()
    assert sorted(point for point, _ in learner.told) == list(range(12)), "told of all, and of each once"


def test_a_learner_that_gives_too_many_points_is_told_so() -> None:
    class Generous(Told):
        def ask(self, n: int) -> list[Any]:
            return super().ask(n + 1)

    with pytest.raises(CallerError, match=r"Generous\) was asked for 4 points and gave 5") as raised:
        Loop(lab(), Generous(range(9)), in_flight=4).run()
    assert "at step 0 of run" in raised.value.__notes__[0]


@pytest.mark.parametrize("after", [0, 3])
def test_a_learner_that_gives_none_though_nothing_is_in_flight_is_not_waited_for(after: int) -> None:
    class Shy(Told):
        def done(self) -> bool:
            return False

    with pytest.raises(
        LearnerStuck, match=rf"after {after} results and 0 failures the learner \(.*Shy\) asks for noth"
    ):
        Loop(lab(), Shy(range(after)), goal=5).run()


def test_a_point_that_is_asked_twice_is_evaluated_twice_and_said(caplog: pytest.LogCaptureFixture) -> None:
    learner = Told([{"x": 0.5}, {"x": 0.5}, {"x": 0.5}, {"x": 0.25}])
    master = SimulatedMaster(lambda point: point["x"], workers=1, parameters=LINE)
    loop = Loop(master, learner, in_flight=4)
    loop.run()
    assert [point["x"] for point, _ in learner.told] == [0.5, 0.5, 0.5, 0.25]
    assert loop.statistics().repeated == 2
    (said,) = [record.message for record in caplog.records]
    assert "asks for {'x': 0.5}, which is in flight already" in said
    one_after_the_other = Loop(lab(), Told([1.0, 1.0, 1.0]), in_flight=1)
    one_after_the_other.run()
    assert one_after_the_other.statistics().repeated == 0


def test_each_learner_is_told_of_the_very_object_that_it_has_asked() -> None:
    """So that whoever holds several learners behind one can tell equal points of theirs apart."""
    points = [{"x": 0.5}, {"x": 0.5}]
    learner = Told(points)
    Loop(SimulatedMaster(lambda point: 1.0, latency=Exponential(1.0), parameters=LINE), learner).run()
    assert {id(point) for point, _ in learner.told} == {id(point) for point in points}


class Strict(Told):
    """Takes what it has asked for and nothing else."""

    def __init__(self, points: Sequence[Any]) -> None:
        super().__init__(points)
        self.known = set(points)

    def tell(self, point: Any, output: Any) -> None:
        if point not in self.known:
            raise KeyError(point)
        super().tell(point, output)


@pytest.mark.parametrize("kind", [Told, Strict])
def test_a_point_that_was_never_asked_is_told_if_the_learner_takes_it(
    kind: Callable[[Any], Told], caplog: pytest.LogCaptureFixture
) -> None:
    master = lab(latency=1.0)
    Loop(master, Told([1.0, 2.0, 3.0]), name="night").run()
    learner = kind([7.0, 8.0, 9.0, 10.0])
    with caplog.at_level(logging.WARNING):
        loop = Loop(master, learner, name="night")
        loop.run()
    assert sorted(point for point, _ in learner.told if point > 6) == [7.0, 8.0, 9.0, 10.0], "its own, whatever else"
    seen = loop.statistics()
    assert (seen.unasked, seen.repeated) == (3, 0)
    taken = 3 if kind is Told else 0
    assert (len(learner.told), seen.told, seen.dropped) == (4 + taken, 4 + taken, 3 - taken)
    refused = [record.message for record in caplog.records if "was not asked for by this learner" in record.message]
    assert len(refused) == (1 if kind is Strict else 0), "the first is said, all are counted"


# -- progress ---------------------------------------------------------------------------------------------------------


def test_progress_where_there_is_no_terminal_is_a_line_in_the_end() -> None:
    stream = io.StringIO()
    loop = Loop(lab(f=lambda x: x, failures=Failures(fail=0.3)), Told(range(40)), hook=Progress(stream))
    loop.run()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith(f"{loop.told} points  {loop.failed} failed ({loop.failed} dropped)  ")
    assert line.endswith("  0 in flight")


def test_progress_on_a_terminal_is_one_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    Loop(lab(), Points([1.0, 2.0]), goal=2, hook=Progress(stream)).run()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.count("\r") == 2, "the first at once, the last at the end"
    assert "2 points" in text


def test_what_is_recorded_makes_a_loop_no_faster() -> None:
    master = lab(workers=2, latency=10.0)
    Loop(master, Points(range(100)), goal=60, in_flight=4, name="slow").run()
    again = Loop(master, Points(range(100)), goal=90, in_flight=4, name="slow")
    again.run()
    assert again.told == 90
    assert again.statistics().rate == pytest.approx(2 / 10, rel=0.2)


def test_progress_on_a_terminal_that_does_not_know_its_width_is_whole() -> None:
    master, slave = pty.openpty()
    assert os.get_terminal_size(slave).columns == 0
    with open(slave, "w", encoding="utf-8") as stream:
        Loop(lab(), Points([1.0, 2.0]), goal=2, hook=Progress(stream)).run()
        print("that is all", file=stream, flush=True)
        text = ""
        while "that is all" not in text:  # a terminal gives what has come so far
            text += os.read(master, 4096).decode()
    os.close(master)
    assert text.count("0 in flight\x1b[K") == 1


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_live_plot_into_a_file(tmp_path: Path, dimensions: int) -> None:
    from matplotlib import image

    parameters = dict.fromkeys("xyz"[:dimensions], (0.0, 1.0))
    master = SimulatedMaster(lambda point: sum(point.values()), parameters=parameters)
    plot = LivePlot(tmp_path / "plot.png", seconds=0.0)
    Loop(master, Random(master.parameters, n=20), hook=plot).run()
    pixels = image.imread(tmp_path / "plot.png")
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 3, "there is something to be seen"
    assert [file.name for file in tmp_path.iterdir()] == ["plot.png"]


def test_a_live_plot_of_ones_own(tmp_path: Path) -> None:
    seen: list[int] = []

    def draw(axes: Any, loop: Loop) -> None:
        seen.append(loop.told)
        axes.plot([0, loop.told])

    Loop(lab(), Points([1.0, 2.0, 3.0]), hook=LivePlot(tmp_path / "plot.svg", draw=draw, seconds=0.0)).run()
    assert seen[-1] == 3
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")
    with pytest.raises(CallerError, match="needs a notebook to be drawn in, or a file"):
        LivePlot()


def test_looks_take_a_small_share_of_the_time() -> None:
    class Ponderous(Points):
        def loss(self) -> float:
            self.looks = getattr(self, "looks", 0) + 1
            end = time.perf_counter() + 0.02
            while time.perf_counter() < end:
                pass
            return 1.0

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    learner = Ponderous(range(2000))
    Loop(lab(f=float), learner, hook=Progress(Terminal())).run()
    assert learner.looks <= 4


# -- points that do not stay what they were ---------------------------------------------------------------------------


class Reusing:
    """Gives one object again and again, after a step; ``copy`` is what it should do."""

    def __init__(self, point: Any, copy: Callable[[Any], Any] = lambda point: point) -> None:
        self.point, self.copy = point, copy
        self.told: list[tuple[Any, Any]] = []

    def ask(self, n: int) -> list[Any]:
        points = []
        for _ in range(n):
            self.step()
            points.append(self.copy(self.point))
        return points

    def step(self) -> None:
        x = self.point["x"]
        if isinstance(x, np.ndarray):
            x += 0.01
        else:
            self.point["x"] = x + 0.01

    def tell(self, point: Any, output: Any) -> None:
        self.told.append((float(np.sum(point["x"])), output))


VECTOR = {"x": {"kind": "float", "shape": [2]}}


def total(point: Any) -> float:
    return float(np.sum(point["x"]))


@pytest.mark.parametrize(
    ("point", "copy", "parameters"),
    [
        ({"x": 0.0}, dict, LINE),
        ({"x": np.zeros(2)}, lambda point: {"x": point["x"].copy()}, VECTOR),
    ],
)
def test_a_learner_that_changes_its_points_behind_is_not_told_what_was_measured_elsewhere(
    point: Any, copy: Callable[[Any], Any], parameters: Any
) -> None:
    broken = Reusing(dict(point) if copy is dict else copy(point))
    loop = Loop(lab(f=total, parameters=parameters), broken, goal=10, in_flight=4)
    with pytest.raises(
        CallerError, match=r"Reusing\) gave .* and has changed it since, to .*: give a new one"
    ) as raised:
        loop.run()
    assert all(x == output for x, output in broken.told), "before, they were the same"
    assert re.search(r"told of task \d, .*: at step \d of run", raised.value.__notes__[0])
    goes_on = Loop(loop.run_.master, Reusing(copy(point), copy), goal=10, in_flight=4)
    goes_on.run()
    assert goes_on.told == 10


def test_what_a_learner_notes_with_its_points_is_its_own() -> None:
    class Noting(Reusing):
        def ask(self, n: int) -> list[Any]:
            self.given = super().ask(n)
            return self.given

        def tell(self, point: Any, output: Any) -> None:
            super().tell(point, output)
            for mine in self.given:
                mine["seen"] = True

    learner = Noting({"x": 0.0}, dict)
    Loop(lab(f=total, parameters=LINE), learner, goal=10, in_flight=4).run()
    assert [x == output for x, output in learner.told] == [True] * 10


def test_a_point_that_is_nan_or_holds_one_stays_what_it_is() -> None:
    """It equals nothing, not even itself."""
    learner = Told([math.nan, np.float64("nan"), {"x": math.nan, "y": np.array([1.0, math.nan])}, {"x": [math.nan]}])
    noted = learner.points[2]

    def note(loop: Loop, result: Result) -> None:
        noted["seen"] = True

    Loop(lab(f=lambda point: 1.0, workers=1), learner, in_flight=4, hook=note).run()
    assert len(learner.told) == 4


def test_points_that_are_arrays_are_known_to_be_in_flight(caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop(lab(f=total, parameters=VECTOR), Told([{"x": np.ones(2)}, {"x": np.ones(2)}]), in_flight=2)
    loop.run()
    assert loop.statistics().repeated == 1
    assert "which is in flight already" in caplog.text


def test_a_point_that_the_master_does_not_take_is_said_with_its_learner_and_step() -> None:
    loop = Loop(lab(f=total, parameters=LINE), Told([{"x": 0.5}, {"x": 0.6}, {"x": 7.0}]), in_flight=1)
    with pytest.raises(InvalidTask, match="'x' must be a number in") as raised:
        loop.run()
    (note,) = raised.value.__notes__
    assert re.search(r"The learner \(.*Told\) asked for \{'x': 7.0\}: at step 2 of run 'run-1'", note)
    assert "replay it up to there: replay(learner, loop.run_, until=2)" in note


# -- what a learner says of itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", [None, "high", True, 1j])
def test_a_loss_that_is_no_number_is_said_with_its_learner(figure: Any) -> None:
    class Unsure(Told):
        def loss(self) -> Any:
            return figure

    for goal, hook in ((loss(0.1), None), (npoints(3), Progress(io.StringIO()))):
        with pytest.raises(CallerError, match=r"loss\(\) of the learner \(.*Unsure\) gave .*: it is a number"):
            Loop(lab(), Unsure([1.0, 2.0, 3.0]), goal=goal, hook=hook).run()


def test_a_loss_may_be_any_number() -> None:
    class Sure(Told):
        def loss(self) -> Any:
            return np.array(0.05)

    loop = Loop(lab(), Sure([1.0, 2.0, 3.0]), goal=loss(0.1), hook=Progress(io.StringIO()))
    loop.run()
    assert loop.statistics().loss == 0.05


def test_a_learner_that_raises_when_it_is_asked_whether_it_is_done_says_where() -> None:
    class Torn(Told):
        def done(self) -> bool:
            raise ZeroDivisionError("torn")

    with pytest.raises(ZeroDivisionError) as raised:
        Loop(lab(), Torn([1.0, 2.0])).run()
    assert "raised when it was asked whether it is done: at step 0 of run 'run-1'" in raised.value.__notes__[0]
