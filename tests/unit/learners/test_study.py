"""Studies: learners compared in virtual time, as rows, as a table, as a picture, and on the command line."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
from pathlib import Path
from typing import Any

import adaptive
import pytest
from helpers.cli import Program

from taskmaster.bus.errors import CallerError
from taskmaster.cli.exits import INTERRUPTED
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.declared import as_fields
from taskmaster.learners.goals import loss
from taskmaster.learners.loop import Loop
from taskmaster.learners.points import Grid, Random, Sobol
from taskmaster.learners.simulate import Exponential, Failures, HalfNormal, SimulatedMaster, Trial, study
from taskmaster.learners.simulate.functions import FUNCTIONS, over

SQUARE = as_fields({"x": (0, 1), "y": (0, 1)})
LEARNERS: dict[str, Any] = {
    "random": lambda parameters, outputs: Random(parameters),
    "sobol": lambda parameters, outputs: Sobol(parameters),
}


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(capsys, monkeypatch)


def test_a_study_says_who_gets_there_first() -> None:
    seen: list[Trial] = []
    found = study(
        LEARNERS, over("sphere", SQUARE), SQUARE, goal=0.5, seeds=7, workers=(1, 4), latency=HalfNormal(60.0),
        evaluations=150, on_trial=seen.append,
    )  # fmt: skip
    assert len(found.trials) == len(seen) == 2 * 2 * 7
    assert [(row.learner, row.workers) for row in found.rows()] == [
        ("random", 1), ("sobol", 1), ("random", 4), ("sobol", 4),
    ]  # fmt: skip
    by = {(row.learner, row.workers): row for row in found.rows()}
    for name in LEARNERS:
        alone, four = by[name, 1], by[name, 4]
        assert alone.reached > 3
        assert alone.evaluations == pytest.approx(four.evaluations, abs=8), "the points are the same"
        assert alone.seconds > 2.5 * four.seconds, "and four are almost four times as fast"
        assert alone.idle < 0.01
    for trial in found.trials:
        assert list(trial.best) == sorted(trial.best, reverse=True)
        assert list(trial.times) == sorted(trial.times)
        assert trial.is_reached == (trial.best[-1] <= 0.5)
        assert trial.evaluations == (len(trial.best) if trial.is_reached else math.inf)


def test_the_same_study_again_finds_the_same() -> None:
    def once() -> Any:
        failures = Failures(fail=0.1, lifetime=600.0)
        return study(LEARNERS, over("ackley", SQUARE), SQUARE, seeds=3, latency=Exponential(60.0), failures=failures)

    assert once() == once()


def test_more_may_be_better_and_a_loss_may_be_the_goal() -> None:
    hill = study(LEARNERS, lambda point: point["x"], SQUARE, goal=0.9, seeds=3, minimize=False)
    assert all(trial.best[-1] >= 0.9 for trial in hill.trials if trial.is_reached)
    assert any(trial.is_reached for trial in hill.trials)
    line = as_fields({"x": (-1, 1)})
    learner = {"adaptive": lambda parameters, outputs: AdaptiveLearner.over(parameters)}
    curve = study(learner, lambda point: point["x"] ** 2, line, goal=loss(0.1), seeds=2)
    assert all(trial.is_reached and trial.evaluations < 100 for trial in curve.trials)
    assert curve.goal == "loss ≤ 0.1"


def test_a_learner_that_ends_early_and_outputs_that_are_several() -> None:
    def f(point: Any) -> Any:
        return {"a": point["x"], "b": -point["x"]}

    outputs = as_fields({"a": {}, "b": {}})
    grids: dict[str, Any] = {"grid": lambda parameters, outputs: Grid(parameters, n=3)}
    found = study(grids, f, SQUARE, outputs=outputs, output="b", seeds=[5], goal=-5.0)
    (row,) = found.rows()
    assert (row.reached, row.trials, row.best) == (0, 1, -1.0)
    with pytest.raises(CallerError, match="give one at least"):
        study({}, f, SQUARE)


def test_the_table_and_the_plot(tmp_path: Path) -> None:
    found = study(LEARNERS, over("branin", SQUARE), SQUARE, goal=0.0, seeds=2, workers=(1, 8), evaluations=20)
    lines = found.table().splitlines()
    assert lines[0].split("  ")[0] == "learner"
    assert len(lines) == 1 + 4
    assert "0 of 2" in lines[1]
    figure = found.plot(tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 5000
    assert [axes.get_title() for axes in figure.axes] == ["1 worker", "8 workers"]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list(LEARNERS)
    assert figure.axes[0].get_yscale() == "log"
    said = [label.get_text() for label in figure.axes[0].yaxis.get_ticklabels(which="both")]
    assert any(said)
    assert all(re.fullmatch(r"[-\d.e+]*", label) for label in said), "plain figures"


def test_a_plot_of_what_gave_nan_at_first_is_logarithmic_too() -> None:
    cold: list[object] = []

    def f(point: dict[str, float]) -> float:
        if len(cold) < 3:
            cold.append(point)
            return math.nan
        return 1.0 + point["x"]

    found = study(LEARNERS, f, SQUARE, seeds=2, evaluations=20, workers=[1])
    assert math.isnan(found.trials[0].best[0])
    assert found.plot().axes[0].get_yscale() == "log"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_test_functions_are_least_at_0(name: str) -> None:
    f = over(name, SQUARE)
    values = [f(point) for point in Sobol(SQUARE, seed=1, n=4096).ask(4096)]
    assert 0 <= min(values) < 0.2 * sorted(values)[2048]
    with pytest.raises(CallerError, match="over numbers within limits"):
        over(name, as_fields({"x": {}, "y": {}}))
    with pytest.raises(CallerError, match="no test function is called 'spher'; did you mean 'sphere'"):
        over("spher", SQUARE)


@pytest.mark.parametrize("workers", [4, 8])
def test_adaptive_told_out_of_order_needs_few_more_points_than_its_own_runner(workers: int) -> None:
    def peak(x: float) -> float:
        return x + 4e-4 / (4e-4 + (x - 0.123) ** 2)

    serial = adaptive.Learner1D(peak, (-1, 1))
    adaptive.runner.simple(serial, loss_goal=0.02)
    driven = Loop(
        SimulatedMaster(peak, workers, Exponential(1.0)),
        AdaptiveLearner(adaptive.Learner1D(None, (-1, 1))),
        goal=loss(0.02),
        in_flight=workers,
    )
    driven.run()
    assert driven.told <= 1.2 * serial.npoints


def test_ctrl_c_ends_a_study_at_once_and_no_trial_is_taken_for_one_that_ended() -> None:
    """The loop of a trial would end in good order, and be a trial like the others, and the next one would begin."""
    ended: list[Trial] = []
    presses = iter([True])

    def pressed(point: dict[str, float]) -> float:
        if len(ended) == 1 and next(presses, False):
            os.kill(os.getpid(), signal.SIGINT)
        return point["x"]

    with pytest.raises(KeyboardInterrupt):
        study(LEARNERS, pressed, SQUARE, goal=-1.0, seeds=3, evaluations=20, on_trial=ended.append)
    assert len(ended) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- the command line -------------------------------------------------------------------------------------------------


def test_learners_are_compared_on_the_command_line(typed: Program, tmp_path: Path) -> None:
    command: list[str | Path] = [
               "simulate", "--learner", "sobol", "--learner", "latin-hypercube n=20", "--function", "sphere", "--seeds",
               "3", "--evaluations", "20", "--goal", "5", "--workers", "1,4", "--plot", tmp_path / "s.png"]  # fmt: skip
    said = typed(*command)
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].split() == ["learner", "workers", "reached", "time", "to", "goal", "evaluations", "to", "goal",
                                "best", "idle"]  # fmt: skip
    assert [line.split("  ")[0] for line in lines[1:5]] == ["sobol", "latin-hypercube n=20"] * 2
    assert (tmp_path / "s.png").exists()
    assert typed(*command).out == said.out, "it prints the same again"
    rows = json.loads(typed(*command, "--json").out)["rows"]
    assert {(row["learner"], row["workers"]) for row in rows} == {
        (name, n) for name in ("sobol", "latin-hypercube n=20") for n in (1, 4)
    }


def test_how_many_are_in_flight_for_each_worker_is_said(typed: Program, tmp_path: Path) -> None:
    command = ("simulate", "--learner", "evolution", "--function", "branin", "--seeds", "3", "--goal", "0.4", "--json",
               "--evaluations", "120", "--workers", "8", "--latency", "exponential 60")  # fmt: skip

    def row(*more: str) -> Any:
        (found,) = json.loads(typed(*command, *more).out)["rows"]
        return found

    assert row() == row("--in-flight", "2") != row("--in-flight", "1")
    assert row("--in-flight", "4") != row("--in-flight", "2")
    assert typed(*command, "--in-flight", "0").status == 2


def test_a_function_of_ones_own_and_durations_of_a_file(typed: Program, tmp_path: Path) -> None:
    (tmp_path / "valley.py").write_text("def depth(point):\n    return (point['a'] - 3) ** 2\n")
    with (tmp_path / "run.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("outcome", "started", "finished"), ("done", 10.0, 17.0), ("cancelled", "", "")])
    command = ("simulate", "--learner", "random", "--function", "valley:depth", "--path", tmp_path, "--parameter",
               "a=0,10", "--durations", tmp_path / "run.csv", "--evaluations", "4", "--workers", "1", "--goal", "100",
               "--json")  # fmt: skip
    (row,) = json.loads(typed(*command).out)["rows"]
    assert row["seconds"] == 7.0, "the first is good enough, and takes what was measured"


@pytest.mark.parametrize("trials", [0, 3])
def test_ctrl_c_leaves_with_a_table_of_what_has_ended(typed: Program, tmp_path: Path, trials: int) -> None:
    (tmp_path / f"pressed{trials}.py").write_text(
        "import itertools, os, signal\n"
        "number = itertools.count(1)\n"
        "def depth(point):\n"
        f"    if next(number) == {10 * trials + 5}:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return point['x']\n"
    )
    said = typed("simulate", "--learner", "sobol", "--learner", "random", "--function", f"pressed{trials}:depth",
                 "--path", tmp_path, "--seeds", "2", "--evaluations", "10", "--workers", "1", "--goal",
                 "-1")  # fmt: skip
    assert said.status == INTERRUPTED
    assert f"interrupted after {trials} of 4 trials" in said.err
    table = [line.split()[:5] for line in said.out.splitlines()[1:]]
    assert table == ([["sobol", "1", "0", "of", "2"], ["random", "1", "0", "of", "1"]] if trials else [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learner", "sobl"], "there is no learner 'sobl'; did you mean 'sobol'?"),
        (["--learner", "sobol m=3"], "has no option 'm'; it takes 'n'; see 'taskmaster simulate --help'"),
        (
            ["--learner", "gp maximise=yes", "--learner", "sobol"],
            "mean 'maximize'? That was learner 'gp maximise=yes'; see",
        ),
        (["--learner", "sobol n"], "an option of a learner takes KEY=VALUE, not 'n'"),
        (["--learner", "sobol 'n=3"], '--learner "sobol \'n=3": no closing quotation'),
        (["--learner", "sobol", "--latency", "half-normal:60"], "write 'constant SECONDS', 'half-normal MEAN [LEAST]'"),
        (["--learner", "sobol", "--latency", "halfnormal:60"], "write 'constant SECONDS', 'half-normal MEAN [LEAST]'"),
        (["--learner", "sobol", "--latency", "gaussian 3"], "there is no law 'gaussian' for --latency"),
        (["--learner", "sobol", "--latency", "pareto 3"], "write 'pareto LEAST SHAPE', in seconds"),
        (["--learner", "sobol", "--goal", "low"], "--goal takes a number, or loss=0.01, not 'low'"),
        (["--learner", "sobol", "--goal", "loss=1"], "needs a learner with a loss()"),
        (["--learner", "sobol", "--workers", "many"], "--workers takes numbers like 8 or 1,4,8, not 'many'"),
        (["--learner", "sobol", "--parameter", "x=1"], "write x=0,1 for real numbers from 0 to 1"),
        (["--learner", "sobol", "--function", "spher"], "no test function is called 'spher'"),
        (["--learner", "sobol", "--fail", "2"], "fail of Failures is a probability"),
    ],
)
def test_what_is_typed_wrongly_is_said(typed: Program, arguments: list[str], message: str) -> None:
    said = typed("simulate", "--evaluations", "2", "--seeds", "1", *arguments)
    assert said.status == 2
    assert message in said.err


def test_a_study_ends_where_nothing_succeeds() -> None:
    """Failures count as evaluations; and a function that always raises is said, not hidden in a row of dashes."""
    lost = study(
        LEARNERS, over("sphere", SQUARE), SQUARE, goal=0.5, seeds=2, evaluations=20, failures=Failures(late=1.0)
    )
    assert [(row.reached, math.isnan(row.best)) for row in lost.rows()] == [(0, True), (0, True)]
    assert lost.table().count(" – ") >= 2
    with pytest.raises(CallerError, match=r"all 12 evaluations that random asked for have failed, .* KeyError: 'z'"):
        study(LEARNERS, lambda point: point["z"], SQUARE, seeds=1, evaluations=12)
    half = study(
        LEARNERS, over("sphere", SQUARE), SQUARE, goal=-1.0, seeds=3, evaluations=40, failures=Failures(fail=0.5)
    )
    assert all(10 < len(trial.best) < 30 for trial in half.trials)


def test_what_is_being_evaluated_is_not_work_that_was_done() -> None:
    """One of two workers is at it for an hour when the other has ended after a minute, and the other rests since."""
    master = SimulatedMaster(float, workers=2, latency=lambda point: point)
    with master.open() as run:
        run.tasks.put_many([60.0, 3600.0])
        run.results.get()
        assert master.statistics().idle == 0.0
        run.results.get()
        assert master.statistics().idle == pytest.approx((3600 - 60) / 7200)
        run.tasks.put(3600.0)
        with pytest.raises(TimeoutError):
            run.results.get(timeout=400.0)
        assert master.statistics().idle == pytest.approx((3540 + 400) / 8000), "what it will have done does not count"


@pytest.mark.parametrize(
    ("file", "message"),
    [("study.foo", "file.png, .pdf or .svg"), ("nowhere/study.png", "there is no folder 'nowhere'")],
)
def test_a_plot_that_cannot_be_written_is_said_before_the_study(typed: Program, file: str, message: str) -> None:
    said = typed("simulate", "--learner", "sobol", "--evaluations", "10000000", "--plot", file)
    assert (said.status, message in said.err) == (2, True)


class Short:
    """Breaks off."""

    def __init__(self) -> None:
        self._told = 0

    def ask(self, n: int) -> list[Any]:
        return [{"x": 0.5, "y": 0.5}] * n

    def tell(self, point: Any, output: Any) -> None:
        self._told += 1
        if self._told == 3:
            raise ArithmeticError("too far")


def test_what_a_learner_raises_is_said_with_the_trial_and_names_nothing_that_nobody_has() -> None:
    learners = LEARNERS | {"short": lambda parameters, outputs: Short()}
    with pytest.raises(ArithmeticError) as raised:
        study(learners, over("sphere", SQUARE), SQUARE, seeds=[5, 6], workers=[3], evaluations=9)
    first, second = raised.value.__notes__
    assert first.startswith("The learner raised when it was told the output of task ")
    assert first.endswith("of Master 'simulated', after 2 events.")
    assert second.startswith("That was learner 'short' of a study, in its trial with seed 5 and 3 workers: ")

    def none(parameters: Any, outputs: Any) -> Any:
        raise KeyError("z")

    with pytest.raises(KeyError) as refused:
        study({"none": none}, over("sphere", SQUARE), SQUARE, seeds=[7], workers=[1])
    assert refused.value.__notes__[-1].startswith(
        "That was learner 'none' of a study, in its trial with seed 7 and 1 w"
    )


def test_which_output_a_learner_learns_is_said_by_itself(typed: Program, tmp_path: Path) -> None:
    (tmp_path / "two_of_them.py").write_text("def both(point):\n    return {'u': point['x'], 'v': 1.0}\n")
    command = ("simulate", "--function", "two_of_them:both", "--path", tmp_path, "--seeds", "1", "--output", "u")
    said = typed(*command, "--learner", "sobol", "--learner", "evolution", "--maximize")
    assert said.status == 2
    assert "there are several outputs, 'u', 'v': say which with output=NAME" in said.err
    assert "That was learner 'evolution' of a study, in its trial with seed 0 and 8 workers" in said.err
    assert "--output says what the table compares; what a learner learns its options say: 'NAME maximize=u'" in said.err
    assert typed(*command, "--learner", "evolution maximize=u", "--evaluations", "9").status == 0
    said = typed("simulate", "--learner", "sobol", "--learner", "latin-hypercube")
    assert "'latin-hypercube' needs option 'n', the number of points, like n=1000. That was learner" in said.err
