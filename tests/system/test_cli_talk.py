"""Commands that talk to a daemon, as a program and a person in a pipe see them: one daemon for all."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from helpers.cli import Program
from helpers.daemon import Daemon, function
from helpers.documents import document, section, tables
from helpers.places import StartDaemon, short_folder
from helpers.visits import Visits
from helpers.waiting import eventually

from taskmaster.bus.status import DaemonStatus, MasterStatus, RunInfo
from taskmaster.learners.client import Lab

X = {"x": {"unit": "mm", "min": 0, "max": 100}}
CLI = document("docs/cli.md")


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with short_folder() as folder, Visits(folder) as visits:
        yield visits


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, visits: Visits) -> Daemon:
    masters = {
        "square": function("square", parameters=X, outputs={"y": {"unit": "mm²"}}),
        "fragile": function("square_or_raise", parameters={"x": {}}, outputs={"y": {}}),
        "failing": function("square_or_raise", parameters={"x": {"min": 2e6, "max": 3e6}}, outputs={"y": {}}),
        "costly": function("height_and_cost", parameters=X, outputs={"height": {"nan": True}, "cost": {}}),
        "echo": function("echo"),
        "visit": function("visit", env=visits.env),
        "broken": function("not_there"),
    }
    return start_shared_daemon(masters)


@pytest.fixture
def typed(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """``typed("status", "--json")``, with the daemon's address in the environment."""
    monkeypatch.setenv("TASKMASTER", daemon.address)
    return Program(capsys, monkeypatch)


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def documented(heading: str, which: int = 0) -> list[str]:
    """The keys in the tables of docs/cli.md under this heading; ``which`` of them."""
    return [row[0] for row in tables(section(CLI, heading))[which]]


def objects(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def words(text: str) -> list[str]:
    """Results as they are printed for people, in the order of their tasks, without how long they took and where."""
    return sorted(" ".join(line.partition("  (")[0].split()) for line in text.splitlines())


# -- status -----------------------------------------------------------------------------------------------------------


def test_status_says_how_everything_is(typed: Program, lab: Lab) -> None:
    eventually(lambda: lab["broken"].statistics().reason, "the Master that cannot start to be noticed")
    eventually(lambda: lab["square"].slots, "the other to have started")
    lines = typed("status").out.splitlines()
    assert lines[0].startswith("daemon   tested, TaskMaster ")
    assert lines[1].startswith("address  ipc:///")
    table = {line.split()[0]: line.split() for line in lines if line.startswith(("square ", "echo ", "broken "))}
    assert table["square"][1:3] == ["ready", "1"]
    assert table["broken"][1:4] == ["crash", "loop", "0"]
    assert lines[-1].startswith("Master 'broken': ConfigError: function 'evaluations:not_there': module 'evaluations'")
    assert lines[-1].endswith("; when that is mended: taskmaster resume broken")


def test_status_for_programs_is_what_the_protocol_says(typed: Program) -> None:
    said = typed("status", "square", "--json")
    status = json.loads(said.out)
    assert status.keys() == {*DaemonStatus.__struct_fields__, "address"}
    [master] = status["masters"]
    assert master.keys() == set(MasterStatus.__struct_fields__)
    assert msgspec.convert(master, MasterStatus).name == "square"
    assert len(said.out.splitlines()) == 1


def test_status_of_one_master_lists_its_workers(typed: Program, lab: Lab) -> None:
    eventually(lambda: lab["square"].slots and lab["echo"].slots, "both to have started")
    said = typed("status", "square")
    assert said.out.count("square") == 3, "the Master, its worker, and that one's name"
    assert "echo-" not in said.out
    assert "echo-" in typed("status", "--workers").out
    said = typed("status", "sqare")
    assert said.status == 8
    assert said.err.endswith(" has no Master 'sqare'; did you mean 'square'?\n")


# -- submit and watch -------------------------------------------------------------------------------------------------


def test_points_are_put_and_their_results_printed(typed: Program) -> None:
    said = typed("submit", "square", "3", "x=0.5", '{"x": 2}', "--wait")
    assert (said.status, said.err) == (0, "")
    assert words(said.out) == ["0 x=3 → 9 mm²", "1 x=0.5 → 0.25 mm²", "2 x=2 → 4 mm²"]


def test_results_for_programs_have_the_documented_keys(typed: Program) -> None:
    said = typed("submit", "fragile", "3", "2e6", "--wait", "--json")
    assert said.status == 9
    assert said.err == "taskmaster: 1 of 2 tasks without an output\n"
    done, failed = sorted(objects(said.out), key=lambda row: int(row["index"]))
    keys = documented("Of results")
    at = keys.index("*inputs*")
    assert list(done) == list(failed) == [*keys[:at], "x", "y", *keys[at + 2 :]]
    assert (done["x"], done["y"], done["outcome"], done["error"], done["attempt"]) == (3.0, 9.0, "done", None, 1)
    assert (failed["y"], failed["outcome"]) == (None, "failed")
    assert failed["error"] == "ValueError: 2000000.0 is too large"
    assert done["started"] < done["finished"]

    [row] = objects(typed("submit", "echo", "[1, null]", "--wait", "--json").out)
    assert (row["input"], row["output"]) == ([1, None], [1, None])


def test_a_run_is_begun_and_gone_on_with_by_its_name(typed: Program) -> None:
    said = typed("submit", "square", "1", "2", "--run", "both", "--json")
    first = json.loads(said.out)
    assert list(first) == documented("Of `submit`")
    assert (first["name"], first["first"], first["count"]) == ("both", 0, 2)
    said = typed("submit", "square", "3", "--run", "both")
    assert said.out == f"run {first['run']} (square/both): 1 task put, from number 2 on\n"
    said = typed("watch", "square", "both", "--json")
    assert (said.status, said.err) == (0, ""), "it is closed, so watching it ends"
    assert sorted(row["y"] for row in objects(said.out)) == [1.0, 4.0, 9.0]


def test_points_come_from_files_and_standard_input(
    typed: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "points.csv").write_text("x\n1\n2\n")
    (tmp_path / "points.jsonl").write_text('{"x": 3}\n{"x": 4}\n')
    for source in ("points.csv", "points.jsonl"):
        assert typed("submit", "square", "--file", tmp_path / source, "--run", "files").status == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n5\n")))
    assert typed("submit", "square", "--file", "-", "--format", "csv", "--run", "files").status == 0
    rows = objects(typed("watch", "square", "files", "--json").out)
    assert sorted(row["x"] for row in rows) == [1, 2, 3, 4, 5]

    said = typed("submit", "square", "--file", tmp_path / "points.txt")
    assert (said.status, said.err.count("add --format csv or --format jsonl")) == (2, 1)
    said = typed("submit", "square", "--file", tmp_path / "nowhere.csv")
    assert (said.status, said.err) == (1, f"taskmaster: {tmp_path}/nowhere.csv: No such file or directory\n")
    (tmp_path / "empty.csv").write_text("x\n")
    assert typed("submit", "square", "--file", tmp_path / "empty.csv").err.endswith("empty.csv has no points\n")


def test_of_many_points_one_that_is_none_keeps_all_from_being_put(typed: Program, lab: Lab) -> None:
    before = lab.runs()
    said = typed("submit", "square", "1", "2", "-3")
    assert said.status == 11
    assert said.err == (
        "taskmaster: Master 'square': parameter 'x' must be a number in [0, 100] mm, got -3.0 (in '-3')\n"
    )
    assert lab.runs() == before


def test_watch_follows_the_newest_run_and_says_which_there_are(typed: Program) -> None:
    typed("submit", "square", "7", "--run", "newest", "--wait")
    said = typed("watch", "square")
    assert said.out.startswith("0  x=7  → 49 mm²")
    assert said.err.endswith(", square/newest:\n")
    said = typed("watch", "square", "newst")
    assert (said.status, said.err) == (8, "taskmaster: Master 'square' has no run 'newst'; did you mean 'newest'?\n")
    said = typed("watch", "broken")
    assert said.status == 8
    assert said.err.endswith(" has no run yet; 'taskmaster submit' or 'taskmaster learn' begins one\n")


# -- learn ------------------------------------------------------------------------------------------------------------


def test_a_learner_chooses_the_points_and_goes_on_with_its_run(typed: Program, lab: Lab) -> None:
    line = ("learn", "square", "--learner", "sobol", "--run", "filled", "--seed", "7")
    said = typed(*line, "--goal", "npoints=16", "--json")
    result = json.loads(said.out)
    assert list(result) == documented("Of `learn`")
    assert (said.status, result["name"], result["interrupted"]) == (0, "filled", False)
    assert result["points"] == 16

    said = typed(*line, "--goal", "npoints=24", "--goal", "seconds=60")
    assert said.status == 0
    assert ": 24 points in " in said.out, "the sixteen were told it again, and not evaluated again"
    [run] = [run for run in lab.runs("square") if run.name == "filled"]
    assert (run.closed, run.seed) == (True, 7)


@pytest.mark.parametrize(
    ("learner", "options"),
    [
        ("ax:fast", ["initialization_budget=18"]),
        ("optuna:TPESampler", ["n_startup_trials=5", "multivariate=true"]),
        ("optuna:QMCSampler", []),
        ("nevergrad:DE", ["budget=100"]),
        ("adaptive:Learner1D", []),
    ],
)
def test_a_learner_of_a_library_is_called_by_the_librarys_name(
    typed: Program, learner: str, options: list[str]
) -> None:
    run = learner.replace(":", "-")
    line = ("learn", "square", *options, "--learner", learner, "--run", run, "--seed", "3")
    said = typed(*line, "--goal", "npoints=12")
    assert said.status == 0, said.err
    assert ": 12 points in " in said.out
    said = typed(*line, "--goal", "npoints=20")
    assert ": 20 points in " in said.out
    assert "the learner now asks" not in said.err, "it asked again what is recorded"


def test_a_learner_may_be_named_in_quotes_with_its_options(typed: Program) -> None:
    """As it is for simulate, and as `runs show` and the table of a study print it."""
    said = typed("learn", "square", "--learner", "random n=5", "--run", "quoted")
    assert said.status == 0, said.err
    assert ": 5 points in " in said.out
    said = typed("runs", "replay", "square/quoted", "--learner", "random n=5")
    assert (said.status, "it asks the same as then" in said.out) == (0, True), said.err
    said = typed("learn", "square", "--learner", "random 'n=5")
    assert (said.status, "no closing quotation" in said.err) == (2, True), said.err


def test_a_learner_that_looks_for_the_best_says_what_it_found(typed: Program) -> None:
    line = ("learn", "square", "--learner", "optuna", "--run", "found", "--seed", "3", "--goal", "npoints=20")
    said = typed(*line)
    found = re.search(r"^best (\S+) at x=(\S+)$", said.out, re.MULTILINE)
    assert found is not None, said.out
    assert float(found[2]) ** 2 == pytest.approx(float(found[1]), rel=1e-2)
    best = json.loads(typed(*line, "--json").out)["best"]
    assert best["output"] == best["point"]["x"] ** 2
    assert "best" not in typed("learn", "square", "--learner", "sobol", "--goal", "npoints=4").out


def test_the_best_of_several_outputs_is_named_and_of_several_objectives_there_is_one_of_each(typed: Program) -> None:
    line = ("learn", "costly", "--goal", "npoints=30", "--in-flight", "2", "--seed", "3")
    said = typed(*line, "--learner", "optuna:NSGAIISampler", "maximize=height", "minimize=cost", "--run", "front")
    cost, height = re.findall(r"^best (\w+) (\S+) at x=(\S+)$", said.out, re.MULTILINE)
    assert (height[0], cost[0]) == ("height", "cost"), said.out
    assert float(height[1]) == pytest.approx(float(height[2]) / 10, rel=1e-2)
    assert float(cost[1]) == pytest.approx(float(cost[2]) ** 2 / 100, rel=1e-2)
    assert float(cost[2]) < float(height[2])

    for run, options in (
        ("own", ["evolution", "maximize=height"]),
        ("wrapped", ["evolution", "wrap.output=height", "wrap.negate=yes", "wrap.dedup=yes"]),
    ):
        learner, *given = options
        said = typed(*line, "--learner", learner, *given, "--run", run)
        [best] = re.findall(r"^best (\w+) (\S+) at x=(\S+)$", said.out, re.MULTILINE)
        assert best[0] == "height", said.out
        assert float(best[1]) == pytest.approx(float(best[2]) / 10, rel=1e-2)
        assert 0.5 < float(best[1]) <= 0.9
        assert " with NaN" in said.out
        told = json.loads(typed(*line, "--learner", learner, *given, "--run", run, "--json").out)
        assert told["best"] == told["bests"][0]
        assert (told["best"]["name"], told["nans"] > 0, told["goal_reached"]) == ("height", True, True)


def test_a_learner_that_ends_before_the_goal_is_said_to(typed: Program) -> None:
    line = ("learn", "square", "--learner", "sobol", "n=3", "--run", "few", "--goal")
    said = typed(*line, "npoints=12")
    assert said.status == 0
    assert "the goal, 12 points, is not reached: the learner has no more points to ask for" in said.out
    assert json.loads(typed(*line, "npoints=12", "--json").out)["goal_reached"] is False
    assert "not reached" not in typed(*line, "npoints=3").out
    assert json.loads(typed(*line[:-1], "--json").out)["goal_reached"] is None


def test_an_option_that_a_library_looks_at_late_leaves_no_run(typed: Program, lab: Lab) -> None:
    said = typed("learn", "square", "--learner", "optuna:TPESampler", "n_startup_trials=x", "--run", "never")
    assert said.status == 2
    assert "learner 'optuna:TPESampler' with n_startup_trials=x fails at point 1: TypeError: " in said.err
    assert "never" not in [run.name for run in lab.runs("square")]
    said = typed("simulate", "--learner", "optuna:TPESampler n_startup_trials=x")
    assert said.status == 2
    assert "n_startup_trials=x fails at point 1: TypeError: " in said.err


def test_what_nan_counts_as_is_said_when_a_run_is_begun(typed: Program, lab: Lab) -> None:
    line = ("learn", "square", "--learner", "sobol", "--run", "holes", "--goal", "npoints=4")
    assert typed(*line, "--nan", "fail").status == 0
    [run] = [run for run in lab.runs("square") if run.name == "holes"]
    assert run.metadata["nan"] == "fail"
    said = typed(*line, "--nan", "tell")
    assert said.status == 1
    assert "has taken NaN for a failure from its beginning; leave nan out, or take a new run" in said.err


def test_a_learner_that_has_no_more_points_needs_no_goal(typed: Program) -> None:
    assert ": 5 points in " in typed("learn", "square", "--learner", "grid", "--option", "n=5").out


def test_a_learner_whose_points_all_fail_is_not_left_to_it(typed: Program) -> None:
    said = typed("learn", "failing", "--learner", "random", "--goal", "npoints=5", "--max-failures", "7")
    assert said.status == 1
    assert "'failing': 7 tasks have failed one after the other, the last with ValueError: " in said.err
    said = typed("learn", "failing", "--learner", "random", "--goal", "seconds=0.1", "--max-failures", "0")
    assert " failed" in said.out


def test_learners_are_listed(typed: Program) -> None:
    said = typed("learn", "--list")
    assert said.status == 0
    assert "\nlatin-hypercube  n=100 points" in said.out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("random --option m=5", "learner 'random' has no option 'm'; it takes 'n'"),
        ("adaptive --option output=z", "the Master has no output 'z'; it has 'y'"),
    ],
)
def test_a_learner_that_cannot_be_had_is_said(line: str, message: str, typed: Program) -> None:
    said = typed("learn", "square", "--learner", *line.split())
    assert said.status == 2
    assert said.err.startswith("taskmaster: ")
    assert message in said.err


@pytest.mark.parametrize(
    ("learner", "package", "extra"), [("adaptive", "adaptive", "adaptive"), ("sobol", "scipy", "qmc")]
)
def test_a_learner_whose_package_is_missing_leaves_no_run(
    learner: str, package: str, extra: str, typed: Program, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)  # what Python takes for "not to be had"
    said = typed("learn", "square", "--learner", learner, "--run", f"by-{learner}")
    assert said.status == 1
    assert said.err.endswith(f": pip install {package} (it is in the extra {extra!r})\n")
    assert f"by-{learner}" not in [run.name for run in lab.runs("square")]


def test_what_is_done_with_a_run_has_the_documented_keys(typed: Program) -> None:
    def told(*line: str) -> Any:
        return json.loads(typed(*line, "--json").out)

    told("learn", "square", "--learner", "random", "--run", "keys", "--seed", "7", "--goal", "npoints=8")
    same, other = (told("runs", "replay", "square/keys", "--learner", name) for name in ("random", "sobol"))
    assert list(same) == list(other) == documented("Of `runs replay`")
    assert list(other["divergence"]) == documented("Of `runs replay`", 1)
    assert (same["same"], same["divergence"], same["loss"]) == (True, None, None)

    line = ("runs", "fork", "square/keys", "--at", "4", "keys-2")
    fork = told(*line)
    assert list(fork) == documented("Of `runs fork`")
    assert (fork["name"], fork["existed"]) == ("keys-2", False)
    diff, none = told("runs", "diff", "square/keys", "square/keys-2"), told("runs", "diff", "square/keys", "keys")
    assert list(diff) == list(none) == documented("Of `runs diff`")
    assert list(none.values()) == [True, None, None, None, None]

    told("learn", "square", "--learner", "random", "--run", "keys-2", "--goal", "npoints=9")
    again = told(*line)
    assert (again["run"], again["existed"], again["tasks"] > fork["tasks"]) == (fork["run"], True, True)
    said = typed(*line)
    assert said.status == 0
    assert f"run {fork['run']} (square/keys-2) is there already: it was forked from the first 4 events" in said.out
    assert f"(square/keys) before, and has {again['tasks']} tasks and {again['events']} events by now" in said.out


def test_a_simulation_has_the_documented_keys_and_no_figures_that_json_does_not_know(typed: Program) -> None:
    line = ("--learner", "random", "--seeds", "2", "--evaluations", "4", "--workers", "1,2", "--goal")
    for goal, reached in (("-5", False), ("1e9", True)):
        told = json.loads(typed("simulate", *line, goal, "--json").out, parse_constant=pytest.fail)
        assert list(told) == documented("Of `simulate`")
        for row in told["rows"]:
            assert list(row) == documented("Of `simulate`", 1)
            assert [type(row[key]) is float for key in ("seconds", "evaluations")] == [reached, reached]
            assert [row[key] is None for key in ("seconds", "evaluations")] == [not reached, not reached]


BREW = """
seen = []

def taste(point):
    seen.append(point)
    return point["cups"] + len(point["kind"]) + point["hot"]

def minutes(point):
    if point["cups"] > 9:
        raise KeyError("kettle")
    return 60.0 * point["cups"]
"""


def test_a_simulation_has_parameters_of_every_kind_and_durations_of_points(
    typed: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brewing.py").write_text(BREW)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "brewing", raising=False)
    line = ["simulate", "--learner", "random", "--function", "brewing:taste", "--latency", "brewing:minutes"]
    line += ["--path", str(tmp_path), "--seeds", "1", "--workers", "1", "--evaluations", "20", "--goal", "4", "--json"]
    kinds = ["--parameter", "kind=tea|oat milk", "--parameter", "hot=true|false", "--parameter"]
    told = json.loads(typed(*line, *kinds, "cups=int:1,3").out)
    seen = sys.modules["brewing"].seen
    assert {point["kind"] for point in seen} == {"tea", "oat milk"}
    assert {point["hot"] for point in seen} == {True, False}
    assert {point["cups"] for point in seen} == {1, 2, 3}
    assert all(type(point["cups"]) is int for point in seen)
    assert told["latency"] == "OfPoint(minutes)"
    [row] = told["rows"]
    reached = next(k for k, point in enumerate(seen) if sys.modules["brewing"].taste(dict(point)) <= 4)
    assert row["seconds"] == sum(60.0 * point["cups"] for point in seen[: reached + 1])

    seen.clear()
    typed(*line, *kinds, "cups=1|2.5")
    assert {point["cups"] for point in seen} == {1, 2.5}
    with pytest.raises(KeyError, match="kettle") as raised:
        typed(*line, *kinds, "cups=int:10,12")
    assert "The function of the latency raised that for the point {'kind': " in raised.value.__notes__[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "x,y\n1,2\n", "is no export of a run: it has no column 'outcome'"),
        ("a.csv", "outcome,started,finished\ndone,a,b\n", "is no export of a run: ValueError: Invalid isoformat"),
        ("a.jsonl", "{\n", "is no export of a run: JSONDecodeError: "),
        ("a.pq", "no parquet", "is no export of a run: "),
        ("a.csv", "outcome,started,finished\ncancelled,0,0\n", "has no task that was evaluated, so there are no"),
    ],
)
def test_durations_of_what_is_no_export_are_refused(
    name: str, content: str, said: str, typed: Program, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    told = typed("simulate", "--learner", "random", "--durations", str(tmp_path / name))
    assert told.status == 2
    assert f"taskmaster: --durations {tmp_path / name}: '{tmp_path / name}' {said}" in told.err


@pytest.mark.parametrize("goals", ["loss=0.1", "npoints=5 loss=0.1"])
def test_a_goal_that_the_learner_knows_nothing_of_leaves_no_run(goals: str, typed: Program, lab: Lab) -> None:
    wanted = [f"--goal={goal}" for goal in goals.split()]
    said = typed("learn", "square", "--learner", "random", *wanted, "--run", "lossless")
    assert said.status == 2
    assert said.err.startswith("taskmaster: a goal of loss ≤ 0.1 needs a learner with a loss(); Random has none; see '")
    assert "lossless" not in [run.name for run in lab.runs("square")]


def test_nobody_waits_for_a_master_that_has_given_up(typed: Program, lab: Lab) -> None:
    eventually(lambda: lab["broken"].statistics().state == "crash loop", "its workers to be given up")
    said = typed("submit", "broken", "1", "2", "--wait")
    assert said.status == 9
    last = said.err.splitlines()[-1]  # an alarm of the daemon's may have come before
    assert last.startswith("taskmaster: 2 tasks must wait: Master 'broken' cannot start its workers (")
    assert last.endswith("; when that is mended: taskmaster resume broken")
    runs = len(lab.runs("broken"))
    said = typed("learn", "broken", "--learner", "random")
    assert (said.status, len(lab.runs("broken"))) == (9, runs)


# -- pause, cancel, runs ----------------------------------------------------------------------------------------------


def test_a_run_is_paused_cancelled_in_part_and_gone_on_with(typed: Program, lab: Lab) -> None:
    said = typed("pause", "echo")
    assert said.out == "Master 'echo' is paused; go on with: taskmaster resume echo\n"
    said = typed("submit", "echo", *"abcde", "--run", "letters", "--json")
    assert said.err == "taskmaster: its tasks wait: Master 'echo' is paused; go on with it: taskmaster resume echo\n"
    number = json.loads(said.out)["run"]
    assert typed("pause", "echo", "--run", "letters").out.endswith(f"taskmaster resume echo --run {number}\n")
    said = typed("cancel", "echo/letters", "0", "2-3")
    assert said.out == f"run {number} (echo/letters): 3 tasks cancelled\n"
    shown = json.loads(typed("runs", "show", "letters", "--json").out)
    assert (shown["open"], shown["cancelled"], shown["state"]) == (2, 3, "paused")
    assert typed("resume", "echo", "--run", str(number)).out == f"run '{number}' of Master 'echo' goes on\n"
    assert typed("resume", "echo").status == 0
    said = typed("watch", "echo", "letters")
    assert words(said.out) == ["0 a cancelled", "1 b → b", "2 c cancelled", "3 d cancelled", "4 e → e"]
    assert json.loads(typed("runs", "show", "letters", "--json").out)["state"] == "closed"


def test_tasks_that_a_run_does_not_have_are_not_said_to_be_cancelled(typed: Program) -> None:
    typed("submit", "square", "1", "2", "3", "--run", "three", "--wait")
    for wanted, none in (("3", "task 3"), ("7-9", "tasks 7-9")):
        said = typed("cancel", "square/three", "0", wanted)
        assert (said.status, said.out) == (8, "")
        assert said.err.endswith(f"(square/three) has no {none}: it has 3 tasks, the last is number 2\n")
    for had in ("2", "1-9", "--all"):
        assert typed("cancel", "square/three", had).out.endswith(": 0 tasks cancelled\n"), "they have their outcomes"


def test_what_is_queued_is_cancelled_and_what_has_begun_goes_on(typed: Program, visits: Visits) -> None:
    typed("submit", "visit", *map(str, range(20)), "--run", "begun")
    visit = visits.next()
    number = int(typed("cancel", "begun", "--all", "--queued").out.split()[-3])
    assert 10 < number < 20
    assert typed("cancel", "begun", "--all", "--queued").out.endswith(": 0 tasks cancelled\n")
    visit.go()
    eventually(lambda: json.loads(typed("runs", "show", "begun", "--json").out)["done"] == 1, "the first to end")
    typed("cancel", "begun", "--all")


def test_all_of_a_run_is_cancelled(typed: Program, visits: Visits) -> None:
    typed("submit", "visit", "1", "2", "--run", "stopped")
    visit = visits.next()
    assert typed("cancel", "stopped", "--all").out.endswith("2 tasks cancelled\n")
    visit.await_end()
    assert [line.split()[-1] for line in typed("watch", "visit", "stopped").out.splitlines()] == ["cancelled"] * 2


def test_runs_are_listed_and_shown(typed: Program) -> None:
    typed("submit", "fragile", "1", "2e6", "--run", "mixed", "--wait")
    runs = json.loads(typed("runs", "list", "--json").out)
    assert runs == sorted(runs, key=lambda run: run["run"])
    keys = [*RunInfo.__struct_fields__, *documented("Of `runs list`")]
    assert all(list(run) == keys for run in runs)
    [mixed] = [run for run in runs if run["name"] == "mixed"]
    assert (mixed["tasks"], mixed["done"], mixed["failed"], mixed["open"], mixed["state"]) == (2, 1, 1, 0, "closed")
    line = next(line for line in typed("runs", "list", "fragile").out.splitlines() if " mixed " in line)
    assert line.split()[:3] == [str(mixed["run"]), "fragile", "mixed"]
    assert line.split()[-4:] == ["2", "0", "1", "closed"]
    for name in (str(mixed["run"]), "fragile/mixed", "mixed"):
        shown = typed("runs", "show", name).out.splitlines()
        assert shown[:3] == [f"run       {mixed['run']}", "Master    fragile", "name      mixed"]
        assert "tasks     2: 1 done, 1 failed, 0 cancelled, 0 open" in shown


@pytest.mark.parametrize("command", ["runs show", "runs export", "runs delete --yes", "cancel --all"])
def test_a_run_that_there_is_not_is_said_with_the_nearest(command: str, typed: Program) -> None:
    typed("submit", "square", "1", "--run", "nearby")
    said = typed(*command.split(), "square/neaby")
    assert said.status == 8
    assert said.err.startswith("taskmaster: there is no run 'square/neaby' ('taskmaster runs list' lists them)")
    assert said.err.endswith("; did you mean 'square/nearby'?\n")
    assert typed(*command.split(), "9999").status == 8
    assert typed(*command.split(), "sqare/nearby").err.endswith("has no Master 'sqare'; did you mean 'square'?\n")


def test_what_changes_something_says_so_to_programs_too(typed: Program) -> None:
    def told(*line: str) -> Any:
        said = typed(*line, "--json")
        assert (said.status, said.err) == (0, ""), line
        return json.loads(said.out)

    assert told("pause", "echo") == {"master": "echo", "run": None, "paused": True}
    number = json.loads(typed("submit", "echo", "1", "2", "--run", "told", "--json").out)["run"]
    run = {"run": number, "master": "echo", "name": "told"}
    assert told("pause", "echo", "--run", "told") == {"master": "echo", "run": number, "paused": True}
    assert told("cancel", "told", "--all") == {**run, "cancelled": 2, "held": 0}
    assert list(told("resume", "echo", "--run", "told")) == documented("Of `pause` and `resume`")
    assert told("resume", "echo") == {"master": "echo", "run": None, "paused": False}
    assert typed("runs", "delete", "told", "--json").status == 1, "nobody is asked"
    assert told("runs", "delete", "told", "--yes") == run
    assert told("version")["version"] in typed("version").out


def test_a_name_that_several_runs_have_needs_its_master(typed: Program) -> None:
    for master in ("square", "echo"):
        typed("submit", master, "1", "--run", "twice")
    said = typed("runs", "show", "twice")
    assert said.status == 8
    assert said.err == "taskmaster: several runs are called 'twice': name one of square/twice, echo/twice\n"


def test_deleting_has_to_be_confirmed_and_spares_open_tasks(typed: Program, visits: Visits) -> None:
    typed("submit", "visit", "1", "--run", "rubbish")
    visit = visits.next()
    said = typed("runs", "delete", "rubbish")
    assert said.status == 1
    assert (
        said.err
        == "taskmaster: deleting has to be confirmed: add --yes where there is no person or no terminal to ask\n"
    )
    said = typed("runs", "delete", "rubbish", "--yes")
    assert said.status == 1
    assert said.err == "taskmaster: run 'rubbish' has 1 task without an outcome; cancel it first\n"
    visit.go()
    typed("watch", "visit", "rubbish")
    assert typed("runs", "delete", "rubbish", "--yes").out.endswith("(visit/rubbish) is deleted\n")
    assert typed("runs", "show", "rubbish").status == 8
