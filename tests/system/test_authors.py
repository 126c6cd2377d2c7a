"""Which learner a run is of: recorded when it is made and gone on with, used where none is named, and kept to."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Program
from helpers.daemon import Daemon, function
from helpers.documents import document, section, tables
from helpers.places import StartDaemon

from taskmaster.learners import Loop
from taskmaster.learners.client import Lab
from taskmaster.learners.points import Random, Sobol

PLANE: dict[str, Any] = {"parameters": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}, "outputs": {"z": {}}}
GP = ("gp", "maximize=z", "kernel=rbf", "acquisition=ucb", "kappa=3", "wrap.dedup=yes")
WALK = """
import subprocess

class Walk:
    def __init__(self, step=0.05):
        self.step, self.x = step, 0.0

    def ask(self, n):
        points = []
        while len(points) < n and self.x < 0.9:
            self.x = round(self.x + self.step, 9)
            points.append({"x": self.x, "y": 0.5})
        return points

    def tell(self, point, z):
        pass
"""


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"plane": function("plane", workers=2, **PLANE), "echo": function("echo")})


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.fixture
def typed(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setenv("TASKMASTER", daemon.address)
    return Program(capsys, monkeypatch)


@pytest.fixture
def walking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "strolling.py").write_text(WALK)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "strolling", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(typed: Program, run: str) -> dict[str, str]:
    """What ``runs show`` has of a run."""
    lines = typed("runs", "show", run).out.splitlines()
    width = lines[0].index("  ") + 2
    width += len(lines[0][width:]) - len(lines[0][width:].lstrip())
    return {line[:width].strip(): line[width:] for line in lines}


def learners(typed: Program, run: str) -> list[tuple[int, str, str]]:
    found = json.loads(typed("runs", "show", run, "--json").out)["learners"]
    [table] = tables(section(document("docs/cli.md"), "Of `runs show`"))
    assert all(list(one) == [row[0] for row in table] for one in found)
    return [(one["first"], one["by_name"], one["made"]) for one in found]


# -- replayed and gone on with by the record alone --------------------------------------------------------------------


def test_a_run_says_how_its_learner_was_made_and_replays_without_being_told(typed: Program) -> None:
    assert typed("learn", "plane", "--learner", *GP, "--run", "made", "--goal", "npoints=9", "--seed", "5").status == 0
    facts = shown(typed, "plane/made")
    assert facts["learner"] == "GaussianProcess over x, y, nothing twice"
    assert facts["made"] == "Dedup(GaussianProcess(maximize=True, kernel='rbf', acquisition='ucb', kappa=3.0))"
    line = facts["replay"].split()
    assert line == ["taskmaster", "runs", "replay", "plane/made", "--learner", *GP]

    for words in (line[1:], ["runs", "replay", "plane/made"]):
        said = typed(*words)
        assert (said.status, said.out.splitlines()[-1]) == (0, "it asks the same as then"), words
    assert said.err == f"taskmaster: learner {' '.join(GP)}, as it is recorded\n"
    assert typed("runs", "replay", "plane/made", "--learner", "gp", "maximize=z").status == 1, "as given"

    said = typed("learn", "plane", "--run", "made", "--goal", "npoints=12")
    assert (said.status, ": 12 points in " in said.out) == (0, True)
    assert typed("runs", "replay", "plane/made").status == 0
    assert learners(typed, "plane/made") == [(0, " ".join(GP), facts["made"])]


def test_a_learner_of_ones_own_is_taken_from_the_folder_at_hand(typed: Program, walking: Path) -> None:
    learnt = typed(
        "learn", "plane", "--learner", "strolling:Walk", "step=0.1", "--run", "strolled", "--goal", "npoints=5"
    )
    assert learnt.status == 0
    assert typed("runs", "replay", "strolled").status == 0
    (walking / "elsewhere").mkdir()
    said = typed("runs", "replay", "strolled", "--path", "elsewhere")
    assert said.status == 2
    assert f"of which there is no module 'strolling' in {walking}/elsewhere (it was in {walking})" in said.err
    assert f"taskmaster runs replay plane/strolled --learner strolling:Walk step=0.1 --path {walking}" in said.err


@pytest.mark.parametrize(
    ("by_name", "why"),
    [
        ('strolling:subprocess.Popen args=\'["touch", "owned"]\'', "is not defined in that module"),
        ('cma \'popsize=__import__("os").mkdir("owned")\'', "whose options pycma evaluates as Python"),
        ("gest:antigravity.Fly", "imports a module by its name"),
    ],
)
def test_what_somebody_has_recorded_runs_no_code_of_their_choosing(
    lab: Lab, typed: Program, walking: Path, by_name: str, why: str
) -> None:
    name = by_name.partition(":")[0].split()[0]
    lab["plane"].open(name, metadata={"learner": "harmless", "by_name": by_name}).close()
    for words in (("runs", "replay", f"plane/{name}"), ("learn", "plane", "--run", name, "--goal", "npoints=1")):
        said = typed(*words)
        assert (said.status, why in said.err) == (2, True), said.err
    assert not (walking / "owned").exists()


def test_without_a_record_somebody_has_to_say_who(lab: Lab, typed: Program) -> None:
    lab["plane"].open("by hand").close()
    assert "no learner is recorded with run 'plane/by hand': say which" in typed("runs", "replay", "by hand").err
    Loop(lab["plane"].open("of a program"), Sobol(lab["plane"].parameters, n=4)).run().close()
    assert (shown(typed, "of a program")["learner"], shown(typed, "of a program")["made"]) == (
        "Sobol of 4 points over x, y",
        "Sobol(n=4)",
    )
    said = typed("runs", "replay", "of a program")
    assert (said.status, "was made by a program, as Sobol(n=4): say which that is here" in said.err) == (2, True)
    assert typed("runs", "replay", "of a program", "--learner", "sobol", "n=4").status == 0
    for words, error in (
        (("learn", "plane"), "say what chooses the points: --learner NAME"),
        (("learn", "plane", "n=4", "--run", "of a program"), "options of a learner go with --learner NAME"),
        (("runs", "replay", "of a program", "n=4"), "options of a learner go with --learner NAME"),
        (
            ("learn", "plane", "--run", "to come"),
            "taskmaster: Master 'plane' has no run 'to come' yet: say what chooses its points",
        ),
    ):
        said = typed(*words)
        assert (said.status, error in said.err) == (2, True), said.err


# -- another learner --------------------------------------------------------------------------------------------------


def test_another_learner_is_refused_goes_on_in_a_fork_or_takes_over_on_record(lab: Lab, typed: Program) -> None:
    typed("learn", "plane", "--learner", "random", "--run", "kept", "--goal", "npoints=6")
    for words in (("sobol",), ("random", "n=20")):
        said = typed("learn", "plane", "--learner", *words, "--run", "kept", "--goal", "npoints=8")
        assert said.status == 1
        assert f"run plane/kept (6 tasks) is of learner random, not of {' '.join(words)}. " in said.err
        assert "taskmaster runs fork plane/kept NAME, then taskmaster learn plane --learner" in said.err
    assert lab["plane"].watch("kept").next_index == 6

    forked = typed("runs", "fork", "plane/kept", "other way")
    assert "go on with it, by its learner or by another one: taskmaster learn plane --run 'other way'" in forked.out
    said = typed("learn", "plane", "--learner", "sobol", "--run", "other way", "--goal", "npoints=9")
    assert said.status == 0
    assert "The run is of another learner: of random; this is sobol" in said.err
    assert "taskmaster runs fork" not in said.err, "it is one"
    assert learners(typed, "plane/other way") == [(0, "random", "Random()"), (6, "sobol", "Sobol()")]
    assert (
        "is of learner sobol, not of random"
        in typed("learn", "plane", "--learner", "random", "--run", "other way", "--goal", "npoints=9").err
    ), "it was free only until somebody took it"
    assert learners(typed, "plane/kept") == [(0, "random", "Random()")]

    taken = ("learn", "plane", "--learner", "sobol", "--run", "kept", "--goal", "npoints=9", "--take-over")
    assert typed(*taken).status == 0
    assert learners(typed, "plane/kept") == [(0, "random", "Random()"), (6, "sobol", "Sobol()")]
    assert shown(typed, "plane/kept")["from task 6"] == "sobol"
    assert typed("learn", "plane", "--run", "kept", "--goal", "npoints=10").err.startswith(
        "taskmaster: learner sobol, as"
    )
    said = typed("runs", "replay", "plane/kept")
    assert said.status == 1
    assert "it parts from the record: task 6 was" in said.out
    assert "it is of learner sobol, from task 6 on" in said.out


def test_options_that_mean_the_same_and_an_upgrade_are_no_other_learner(
    lab: Lab, typed: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("learn", "plane", "--learner", "evolution", "maximize=z", "--run", "same", "--goal", "npoints=5")
    line = ("learn", "plane", "--learner", "evolution", "wrap.dedup=no", "maximize=yes", "--run", "same")
    assert typed(*line, "--goal", "npoints=6").status == 0
    monkeypatch.setattr("taskmaster.learners.looping.authors.libraries", lambda learner: "numpy 99.0")
    assert typed("learn", "plane", "--run", "same", "--goal", "npoints=7").status == 0
    assert learners(typed, "plane/same") == [(0, "evolution maximize=z", "Evolution(maximize=True)")]
    assert lab["plane"].watch("same").writers()[-1].metadata["libraries"] == "numpy 99.0"


def test_a_program_is_told_which_learner_it_was_and_goes_on(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    plane = lab["plane"]
    Loop(plane, Random(plane.parameters), goal=6, name="two").run().close()
    with caplog.at_level(logging.WARNING):
        Loop(plane, Sobol(plane.parameters), goal=8, name="two").run().close()
    assert (
        "The run is of another learner: of Random(); this is Sobol(); to leave the run as it was, fork it and go on "
        "there: taskmaster runs fork plane/two NAME; it is told all recorded results and goes on"
    ) in caplog.text
    writers = plane.watch("two").writers()
    assert [(one.first, one.metadata.get("made")) for one in writers] == [(0, None), (6, "Sobol()")]
