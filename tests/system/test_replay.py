"""Replay and forks against a real daemon: loops that are killed, runs that are forked, and the commands for both."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Program, Terminal, taskmaster
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.thoughtful import Thoughtful
from helpers.twins import told_to_both
from helpers.waiting import PATIENCE

from taskmaster.bus.errors import CallerError, Conflict, UnknownRun
from taskmaster.learners import Loop
from taskmaster.learners.client import Lab
from taskmaster.learners.history import History
from taskmaster.learners.parting import part
from taskmaster.learners.points import Random
from taskmaster.learners.replay import replay

PLANE: dict[str, Any] = {"parameters": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}, "outputs": {"z": {}}}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "plane": function("plane", workers=2, **PLANE),
        "square": function("square_or_raise", workers=2, parameters={"x": {}}, outputs={"y": {}}),
        "once": function("echo", on_lost="hold"),
        "off": function("echo", workers=0),
        "echo": function("echo", workers=2),
    }
    return start_shared_daemon(masters)


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


# -- loops that are killed --------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from helpers.thoughtful import Thoughtful
from taskmaster.learners import Loop, connect

address, events, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def hook(loop, result):
    if result.seq == events:
        os.kill(os.getpid(), signal.SIGKILL)

lab = connect(address)
Loop(lab["square"], Thoughtful(), goal=60, name="killed", in_flight=in_flight, retries=1, hook=hook).run()
"""


def test_a_loop_killed_at_any_step_goes_on_and_all_of_it_replays(lab: Lab, daemon: Daemon) -> None:
    for events, in_flight in ((0, 3), (7, 6), (8, 2), (40, 4)):
        command = [sys.executable, "-c", KILLED, daemon.address, str(events), str(in_flight)]
        assert subprocess.run(command, cwd="tests", timeout=PATIENCE).returncode == -signal.SIGKILL
    learner = Thoughtful()
    loop = Loop(lab["square"], learner, goal=60, name="killed", retries=1)
    loop.run().close()
    assert loop.divergence is None
    assert (loop.told, loop.in_flight) == (60, 3)
    assert loop.failed > 4, "or it shows nothing"

    again = Thoughtful()
    replayed = replay(again, lab["square"].watch("killed"))
    assert replayed.divergence is None
    assert (replayed.told, replayed.failed, replayed.again) == (60, loop.failed, loop.retried)
    assert again.seen == learner.seen, "and so in what it was asked behind the last task"


def test_a_loop_says_where_the_learner_is_another_one_and_goes_on(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    Loop(lab["plane"], Random(lab["plane"].parameters, seed=1), goal=10, name="other").run().close()
    loop = Loop(lab["plane"], Random(lab["plane"].parameters, seed=2), goal=20, name="other")
    loop.run().close()
    assert loop.told == 20
    assert loop.divergence is not None
    assert loop.divergence.index == 0
    assert "run 'other': task 0 was {" in caplog.text


def test_what_is_no_run_is_said_with_how_to_have_one(lab: Lab) -> None:
    given: list[tuple[Any, str]] = [
        (lab["plane"], r"not of <Master .*: give one of this Master's, lab\['plane'\]\.watch\(NAME\)"),
        ("plane/other", r"not of 'plane/other': it is lab\['plane'\]\.watch\('other'\), of lab = connect\(\)"),
        (lab, r"give lab\['MASTER'\]\.watch\(NAME\)"),
    ]
    for what, said in given:
        with pytest.raises(CallerError, match=said):
            replay(Random(lab["plane"].parameters), what)


# -- forks ------------------------------------------------------------------------------------------------------------


def facts(lab: Lab, master: str, name: str, until: int) -> list[tuple[Any, ...]]:
    """The first events of a run, with who evaluated when: what is measured again has other ones."""
    results = History.of(lab[master].watch(name)).results(until)
    return [(r.seq, r.index, r.outcome, r.input, r.worker, r.started, r.finished) for r in results]


def test_a_fork_has_what_was_measured_and_goes_on_another_way(lab: Lab, daemon: Daemon) -> None:
    def learner(seed: int) -> Thoughtful:
        return Thoughtful(turns=21, then=seed)

    Loop(lab["square"], learner(1), goal=40, name="night", in_flight=4).run().close()
    fork = lab["square"].watch("night").fork("morning", 20)
    assert (fork.metadata["forked_from"], fork.metadata["forked_at"]) == ("square/night", "20")
    assert facts(lab, "square", "morning", 20) == facts(lab, "square", "night", 20)
    daemon.restart()
    again = Loop(lab["square"], learner(2), goal=40, name="morning")
    again.run().close()
    assert (again.divergence, again.told, again.in_flight) == (None, 40, 4)
    found = part(History.of(lab["square"].watch("night")), History.of(lab["square"].watch("morning")))
    assert found is not None
    assert found.told >= 20
    assert facts(lab, "square", "morning", 20) == facts(lab, "square", "night", 20)

    assert lab.fork(lab["square"].watch("night").number, "morning", 20).run == fork.run, "asked again"
    with pytest.raises(Conflict, match="has a run 'morning' already"):
        lab["square"].watch("night").fork("morning", 21)
    with pytest.raises(CallerError, match=r"run 'night' has \d+ events, it cannot be forked at 1000"):
        lab["square"].watch("night").fork("noon", 1000)
    with pytest.raises(UnknownRun):
        lab.fork(10**6, "noon")


def test_a_fork_shares_large_payloads_and_survives_the_other_run(lab: Lab, daemon: Daemon) -> None:
    """One block in a payload file, and results by the thousand: cut where the fork is."""
    with lab["echo"].open("large") as run:
        run.tasks.put(-1)
        run.results.get(PATIENCE)
        run.tasks.put_many(np.arange(30_000.0))
        for _ in run.results:
            pass
    half, few = lab.fork(run.number, "half", 15_000), lab.fork(run.number, "few", 0)
    assert (half.tasks, half.done) == (30_001, 30_001), "all of the block had been put"
    assert (few.tasks, few.done) == (1, 1)
    lab.delete_run(run.number)
    daemon.restart()
    history = History.of(lab["echo"].watch("half"))
    outputs = {result.index: (result.input, result.output) for result in history.results()}
    assert outputs == {0: (-1, -1), **{k + 1: (float(k), float(k)) for k in range(30_000)}}


def test_open_tasks_of_a_fork_are_evaluated_unless_that_does_harm(lab: Lab) -> None:
    with lab["off"].open("waiting") as waiting:
        waiting.tasks.put_many([1, 2, 3])
        waiting.flush()
        fork = waiting.fork("also waiting")
        assert (fork.tasks, fork.paused) == (3, False)
        waiting.cancel()
    lab["off"].open("also waiting").cancel()

    lab["once"].pause()
    with lab["once"].open("instrument") as run:
        run.tasks.put_many([1, 2])
        run.flush()
        fork = run.fork("again")
        assert fork.paused, "it would act a second time"
        lab["once"].resume()
        assert sorted(result.output for result in run.results) == [1, 2]
    with lab["once"].open("again") as again:
        assert again.open_tasks == 2
        again.resume()
        assert sorted(result.output for result in again.results) == [1, 2]


async def _record(lab: Any, daemon: Daemon) -> None:
    async with lab["echo"].open() as run:
        run.tasks.new_ask(None, 3)
        await run.tasks.put_many([1, "two", [3]])
        await run.flush()
        blocks = [(block.first, block.points.rows(), block.asks[0].asked) async for block in run.record()]
        assert blocks == [(0, [1, "two", [3]], 3)]

        run.tasks.new_ask(1, 2)  # and it gave nothing
        await run.flush()
        await run.flush()
        run.tasks.new_ask(2, 1)
        await run.flush()
        run.tasks.new_ask()
        await run.flush()
        (block,) = [block async for block in run.record()]
        assert [(ask.offset, ask.after, ask.asked) for ask in block.asks] == [(0, -1, 3), (3, 1, 2), (3, 2, 1)]
        run.tasks.new_ask(2, 5)
        await run.tasks.put(4)
        await run.flush()
        asks = [(block.first + ask.offset, ask.after, ask.asked) async for block in run.record() for ask in block.asks]
        assert asks == [(0, -1, 3), (3, 1, 2), (3, 2, 1), (3, -1, -1), (3, 2, 5)]
        fork = await run.fork(f"{run.name} forked", 0)
        assert fork.tasks == 3, "the fourth was put because of event 2"
        assert (await lab.fork(run.number, fork.name, 0)).run == fork.run


test_both_clients_read_the_record_and_fork = told_to_both(_record)


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def typed(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setenv("TASKMASTER", daemon.address)
    return Program(capsys, monkeypatch)


def test_the_commands_replay_compare_and_fork(lab: Lab, typed: Program) -> None:
    parameters = lab["plane"].parameters
    Loop(lab["plane"], Random(parameters), goal=12, name="one", seed=4, in_flight=2).run().close()
    said = typed("runs", "replay", "plane/one", "--learner", "random", "--json")
    assert said.status == 0
    outcome = json.loads(said.out)
    assert (outcome["events"], outcome["told"], outcome["same"], outcome["divergence"]) == (12 + 1, 12, True, None)
    said = typed("runs", "replay", "plane/one", "--learner", "random", "--until", "5")
    assert (said.status, said.out.splitlines()[-1]) == (0, "it asks the same as then")
    assert "5 events, asked 6 times, 5 outputs told" in said.out

    said = typed("runs", "replay", "plane/one", "--learner", "sobol")
    assert said.status == 1
    assert "it parts from the record: task 0 was {'x': 0." in said.out
    assert "\n  now:  x=0." in said.out

    said = typed("runs", "fork", "plane/one", "--at", "6", "two")
    assert said.status == 0
    assert said.out.startswith("run ")
    assert "go on with it: taskmaster learn plane --run two --learner …" in said.out
    said = typed("runs", "diff", "plane/one", "plane/two")
    assert (said.status, said.out.splitlines()[0]) == (1, "they part after 7 events"), "the fork was asked nothing more"
    assert "no further" in said.out
    assert typed("runs", "diff", "plane/two", "plane/two").out == "they are the same\n"
    assert json.loads(typed("runs", "diff", "plane/one", "plane/two", "--json").out)["same"] is False

    assert "--step needs a terminal" in typed("runs", "replay", "plane/one", "--learner", "random", "--step").err
    said = typed("runs", "replay", "plane/one", "--learner", "rando")
    assert (said.status, "did you mean 'random'?" in said.err) == (2, True)


WALK = """
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
        if self.x > 0.7 and self.step == 0.1:
            raise ArithmeticError("too far")
"""


def test_a_learner_of_ones_own_learns_replays_and_is_simulated(
    daemon: Daemon, typed: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "walking.py").write_text(WALK)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    said = typed("learn", "plane", "--learner", "walking:Walk", "--run", "walk", "--goal", "npoints=8")
    assert (said.status, ": 8 points in " in said.out) == (0, True)
    monkeypatch.chdir("/")
    said = typed("runs", "replay", "plane/walk", "--learner", "walking:Walk", "--path", tmp_path)
    assert said.out.splitlines()[1:] == ["walking.Walk", "it asks the same as then"]
    said = typed("runs", "replay", "plane/walk", "--learner", "walking:Walk", "--option", "step=0.06")
    assert (said.status, "the learner now asks {'x': 0.06, 'y': 0.5} there" in said.out) == (1, True)
    said = typed("simulate", "--learner", "walking:Walk", "--evaluations", "5", "--seeds", "1")
    assert said.out.splitlines()[1].startswith("walking:Walk ")

    line = ("learn", "plane", "--learner", "walking:Walk", "step=0.1", "--run", "raised")
    said = taskmaster(*line, folder=tmp_path, TASKMASTER=daemon.address)
    assert said.status == 1
    assert said.err.startswith("taskmaster: ArithmeticError: too far. The learner raised when it was told the output")
    said = typed("runs", "replay", "plane/walk", "--learner", "wandering:Walk")
    assert (said.status, "'wandering', and there is no such module in /" in said.err) == (2, True)


HALVER = """
from gest_api.generator import Generator

class Halver(Generator):
    def __init__(self, vocs, least=0.0):
        super().__init__(vocs)
        self.x, self.least = 1.0, least

    def _validate_vocs(self, vocs):
        pass

    def suggest(self, n=None):
        if self.x < self.least:
            return None
        points = [{"x": self.x / 2 ** k, "y": 0.5} for k in range(n or 1)]
        self.x /= 2 ** len(points)
        return points

    def ingest(self, results):
        pass
"""


def test_a_generator_of_ones_own_is_found_where_its_learner_would_be(
    typed: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halving.py").write_text(HALVER)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = ("--learner", "gest:halving:Halver", "minimize=z")
    monkeypatch.chdir("/")
    said = typed("learn", "plane", *name, "--run", "halved", "--goal", "npoints=5")
    assert said.status == 2
    assert "no generator can be imported from 'halving:Halver': there is no module 'halving' in /" in said.err
    monkeypatch.chdir(tmp_path)
    said = typed("learn", "plane", *name, "--run", "halved", "--goal", "npoints=5", "--in-flight", "1")
    assert (said.status, ": 5 points in " in said.out) == (0, True), said.err
    assert typed("runs", "replay", "plane/halved", *name, "--path", tmp_path).status == 0
    [line] = [line for line in typed("runs", "show", "plane/halved").out.splitlines() if "runs replay" in line]
    assert line.endswith(f" --path {tmp_path}")

    said = typed("learn", "plane", *name, "least=0.2", "--run", "halved no more", "--in-flight", "1")
    assert said.status != 0
    assert "suggest(1) of generator Halver gave None: it has to give a list of dicts, each with x, y" in said.err


@pytest.mark.parametrize(
    ("learner", "options"),
    [
        ("optuna:RandomSampler", ["maximize=z"]),
        ("cma:CMAES", ["minimize=z", "popsize=5"]),
        ("nevergrad:DE", ["minimize=z"]),
        ("adaptive:LearnerND", []),
        ("gp", ["minimize=z"]),
        ("evolution", ["maximize=z"]),
        ("latin-hypercube", ["n=6"]),
        ("halton", ["wrap.in-order=4"]),
        ("grid", ["n=3"]),
    ],
)
def test_a_learner_by_its_name_learns_and_is_replayed(typed: Program, learner: str, options: list[str]) -> None:
    line = ("--learner", learner, *options)
    said = typed("learn", "plane", *line, "--run", f"by {learner}", "--goal", "npoints=6")
    assert (said.status, ": 6 points in " in said.out) == (0, True), said.err
    said = typed("runs", "replay", f"plane/by {learner}", *line)
    assert (said.status, said.out.splitlines()[-1]) == (0, "it asks the same as then"), said.out


def test_a_run_is_stepped_through_at_a_terminal(lab: Lab, daemon: Daemon) -> None:
    Loop(lab["plane"], Random(lab["plane"].parameters), goal=8, name="stepped", seed=4, in_flight=2).run().close()
    command = ["runs", "replay", "plane/stepped", "--learner", "random", "--until", "3", "--step"]
    with Terminal(*command, environment={"TASKMASTER": daemon.address}) as terminal:
        terminal.await_text(r" 3  told task \d, x=0.* → .*\n +Random over x, y, 3 points\n(  .*\n)*.*Enter: one step")
        terminal.press("\r")
        terminal.await_text(r" 3  asked for 1: x=0\.\d+ y=0\.\d+\n +Random over x, y, 3 points\n")
        terminal.press("p\r")
        terminal.await_text(r"it would ask x=0\.\d+ y=0\.\d+")
        terminal.press("\r")
        terminal.await_text(r" 4  told task \d, x=0.* → .*\n +Random over x, y, 4 points")
        terminal.press("2\r")
        terminal.await_text(r" 5  told task \d")
        terminal.press("c\r")
        assert terminal.wait() == 0
        assert terminal.lines[-1] == "it asks the same as then"
    with Terminal(*command, environment={"TASKMASTER": daemon.address}) as terminal:
        terminal.await_text("step: ")
        terminal.press("\x04")
        assert terminal.wait() == 0, "Ctrl-D leaves"
        assert "Traceback" not in terminal.text
