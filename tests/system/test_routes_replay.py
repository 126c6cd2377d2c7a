"""One learner on Masters of two daemons, or of one: loops that are killed, and what the commands make of a leg."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Program
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.thoughtful import Thoughtful
from helpers.waiting import PATIENCE

from taskmaster.bus.errors import CallerError
from taskmaster.learners import Loop, Routes
from taskmaster.learners.client import Lab
from taskmaster.learners.parting import part
from taskmaster.learners.playback import LOST
from taskmaster.learners.points import Random
from taskmaster.learners.replay import HistoryMaster, replay

PLANE: dict[str, Any] = {"parameters": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}, "outputs": {"z": {}}}
SQUARE: dict[str, Any] = {"parameters": {"x": {}}, "outputs": {"y": {}}}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "plane": function("plane", workers=2, **PLANE),
        "half": function("plane", workers=1, **PLANE),
        "square": function("square_or_raise", workers=1, **SQUARE),
        "slow": function("square_or_raise_slowly", workers=2, **SQUARE),
    }
    return start_shared_daemon(masters)


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.fixture
def elsewhere(start_daemon: StartDaemon) -> Daemon:
    return start_daemon({"square": function("square_or_raise", workers=2, **SQUARE)}, name="elsewhere")


# -- loops that are killed --------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from helpers.thoughtful import Thoughtful
from taskmaster.learners import Loop, Routes, connect

one, other, events, in_flight = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])

def hook(loop, result):
    if result.seq == events:
        os.kill(os.getpid(), signal.SIGKILL)

routes = Routes([connect(one)["square"], connect(other)["square"]])
Loop(routes, Thoughtful(), goal=60, name="killed", in_flight=in_flight, retries=1, hook=hook).run()
"""


def kill(script: str, *arguments: object) -> None:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    assert subprocess.run(command, cwd="tests", timeout=PATIENCE).returncode == -signal.SIGKILL


def test_a_loop_over_two_daemons_killed_at_any_step_goes_on_and_all_of_it_replays(
    lab: Lab, daemon: Daemon, elsewhere: Daemon
) -> None:
    for events, in_flight in ((0, 3), (7, 6), (8, 2), (40, 4)):
        kill(KILLED, daemon.address, elsewhere.address, events, in_flight)
    with elsewhere.connect() as other:
        learner = Thoughtful()
        loop = Loop(Routes([other["square"], lab["square"]]), learner, goal=60, name="killed", retries=1)
        loop.run().close()
        assert (loop.divergence, loop.statistics().unasked) == (None, 0)
        assert (loop.told, loop.in_flight) == (60, 3)
        assert loop.failed > 4, "or it shows nothing"

        legs = [lab["square"].watch("killed"), other["square"].watch("killed")]
        assert min(leg.next_index for leg in legs) > 10
        for run in (legs, legs[::-1], loop.run_, Routes([lab["square"], other["square"]]).history("killed")):
            again = Thoughtful()
            replayed = replay(again, run)
            assert replayed.divergence is None
            assert (replayed.told, replayed.failed, replayed.again) == (60, loop.failed, loop.retried)
            assert again.seen == learner.seen, "and so in what it was asked behind the last task"
        with pytest.raises(
            CallerError, match="run 'square/killed' is one leg of a run over 'square' and 'square', and"
        ):
            replay(Thoughtful(), legs[0])


#: Every third point goes to a daemon that is killed soon. When the other one has measured what was put behind something
#: that cannot have come to the first, the loop is killed, too.
LOSING = """
import itertools, os, signal, sys
from helpers.thoughtful import Thoughtful
from taskmaster.learners import Hooks, Loop, Routes, connect

one, other, pid = *sys.argv[1:3], int(sys.argv[3])
turns = itertools.count()

def cost(point, master, in_flight):
    n, k = divmod(next(turns), 2)
    return k if n % 3 == 0 else 1 - k

class Losing(Hooks):
    known = lost = None

    def put(self, loop, first, points):
        lacking, _ = loop.run_.runs
        if self.known is not None and self.lost is None and lacking.next_index > self.known:
            self.lost = first

    def result(self, loop, result):
        if result.seq == 3:
            self.known = loop.run_.runs[0].next_index
            os.kill(pid, signal.SIGKILL)
        if self.lost is not None and result.leg == 1 and result.index > self.lost:
            os.kill(os.getpid(), signal.SIGKILL)

routes = Routes([connect(one)["square"], connect(other)["square"]], cost)
Loop(routes, Thoughtful(), goal=60, name="lost", in_flight=12, hook=Losing()).run()
"""


def test_what_came_to_no_disk_as_its_daemon_and_the_loop_were_killed_is_put_again(
    lab: Lab, daemon: Daemon, elsewhere: Daemon
) -> None:
    kill(LOSING, elsewhere.address, daemon.address, elsewhere.pid)
    elsewhere.wait()
    elsewhere.start()
    with elsewhere.connect() as other:
        routes = Routes([other["square"], lab["square"]])
        assert LOST in [ask.asked for block in routes.history("lost").asks() for ask in block.asks], (
            "or it shows nothing"
        )
        assert replay(Thoughtful(), routes.history("lost")).divergence is None
        learner = Thoughtful()
        loop = Loop(routes, learner, goal=60, name="lost")
        loop.run().close()
        assert (loop.divergence, loop.told, loop.statistics().unasked) == (None, 60, 0)
        again = Thoughtful()
        assert replay(again, loop.run_)
        assert again.seen == learner.seen
        over = Loop(HistoryMaster(loop.run_), Thoughtful(), goal=60)
        over.run()
        assert (over.told, over.divergence) == (60, None)


def test_a_loop_over_two_daemons_says_where_the_learner_is_another_one(
    lab: Lab, daemon: Daemon, elsewhere: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    with elsewhere.connect() as other:
        routes = Routes([lab["square"], other["square"]])
        Loop(routes, Thoughtful(), goal=20, name="other").run().close()
        loop = Loop(routes, Thoughtful(turns=10, then=1), goal=40, name="other")
        loop.run().close()
        assert loop.told == 40
        assert loop.divergence is not None
        assert loop.divergence.after >= 9
        assert "run 'other': task " in caplog.text


def was_the_same(lab: Lab, name: str) -> bool:
    """Whether a run replays, of which more may come all the time."""
    try:
        return bool(replay(Thoughtful(), lab["slow"].watch(name)))
    except CallerError as error:
        return any(text in str(error) for text in ("too fast for its legs to be read", "it came while this was read"))


def test_what_is_recorded_is_read_as_it_was_at_one_time_though_its_loop_goes_on(lab: Lab) -> None:
    begun = threading.Event()
    routes = Routes([lab["slow"], lab["square"]])
    loop = Loop(routes, Thoughtful(), goal=400, name="going on", in_flight=4, hook=lambda loop, result: begun.set())
    thread = threading.Thread(target=loop.run)
    thread.start()
    assert begun.wait(PATIENCE)
    assert was_the_same(lab, "going on")
    while thread.is_alive():
        assert was_the_same(lab, "going on")
    thread.join()
    again = Thoughtful()
    assert replay(again, loop.run_)
    assert again.seen == loop.learner.seen  # type: ignore[attr-defined]
    loop.run_.close()


# -- legs of one daemon: what the commands make of them ---------------------------------------------------------------


@pytest.fixture
def typed(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setenv("TASKMASTER", daemon.address)
    return Program(capsys, monkeypatch)


def test_the_commands_read_all_legs_of_which_one_is_named(lab: Lab, typed: Program) -> None:
    routes, parameters = Routes([lab["plane"], lab["half"]]), lab["plane"].parameters
    for name, seed in (("one", 4), ("two", 4), ("three", 5)):
        Loop(routes, Random(parameters), goal=12, name=name, seed=seed, in_flight=2).run().close()
    for leg in ("plane/one", "half/one"):
        said = typed("runs", "replay", leg, "--learner", "random", "--json")
        outcome = json.loads(said.out)
        assert (said.status, outcome["events"], outcome["told"], outcome["same"]) == (0, 12, 12, True)
    said = typed("runs", "replay", "half/one", "--learner", "random", "--until", "5")
    assert (said.status, said.out.splitlines()[-1]) == (0, "it asks the same as then")
    assert re.match(r"runs \d+ and \d+ \(plane\+half/one\): 5 events, asked 6 times, 5 outputs told\n", said.out)
    said = typed("runs", "replay", "plane/one", "--learner", "sobol")
    assert (said.status, "it parts from the record: task 0 was {'x': 0." in said.out) == (1, True)

    assert typed("runs", "diff", "plane/one", "half/one").out == "they are the same\n"
    said = typed("runs", "diff", "plane/one", "half/three")
    assert said.out.splitlines()[0] == "they part after 0 events"
    assert "\n  plane+half/one: task 0 is {" in said.out
    assert "\n  plane+half/three: task 0 is {" in said.out

    said = typed("runs", "fork", "half/one", "four")
    assert "\nit is of one leg of a run over 'plane' and 'half': it has what 'half' measured, and not what" in said.out
    assert "learner can go on with it\n" in said.out
    assert "taskmaster learn" not in said.out
    for line in (["runs", "replay", "half/four", "--learner", "random"], ["runs", "diff", "plane/one", "half/four"]):
        said = typed(*line)
        assert said.status != 0
        assert "run 'half/four' was forked from 'half/one', one leg of a run over 'plane' and 'half'" in said.err
    for name in ("one", "four"):
        said = typed("learn", "half", "--learner", "random", "--run", name)
        assert said.status != 0
        assert "one leg of a run over 'plane' and 'half'" in said.err
    with pytest.raises(CallerError, match="was forked from 'half/one'"):
        Routes([lab["plane"], lab["half"]]).open("four")


def test_a_leg_of_which_the_others_are_elsewhere_says_what_to_do(lab: Lab, elsewhere: Daemon, typed: Program) -> None:
    with elsewhere.connect() as other:
        Loop(Routes([lab["slow"], other["square"]]), Thoughtful(), goal=9, name="apart").run().close()
        with lab["square"].open("apart"):
            pass  # of the same names, and no leg of it
        said = typed("runs", "replay", "slow/apart", "--learner", "random")
        assert said.status != 0
        assert "run 'slow/apart' is one leg of a run over 'slow' and 'square', and the one at 'square' is" in said.err
        assert (
            "replay(learner, [lab['slow'].watch('apart'), lab['square'].watch('apart')]), each Master from" in said.err
        )
        assert replay(Thoughtful(), [lab["slow"].watch("apart"), other["square"].watch("apart")])


RAISING = """
from helpers.thoughtful import Thoughtful

class Rash(Thoughtful):
    def tell(self, point, output):
        if len(self.seen) > 20:
            raise ZeroDivisionError("too flat")
        super().tell(point, output)
"""


def test_the_note_of_a_learner_that_raises_says_what_works(
    lab: Lab, elsewhere: Daemon, typed: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rash.py").write_text(RAISING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    rash = __import__("rash").Rash
    with pytest.raises(ZeroDivisionError) as raised:
        Loop(Routes([lab["slow"], lab["square"]]), rash(), goal=60, name="rash").run()
    (note,) = raised.value.__notes__
    assert "of run 'rash' of Master 'slow+square', after" in note
    _, command = note.split("or replay it up to there: taskmaster ")
    said = typed(*shlex.split(command.replace("…", "rash:Rash")))
    assert (said.status, said.out.splitlines()[-1]) == (0, "it asks the same as then")
    until = int(shlex.split(command)[4])
    assert f"{until} events, asked" in said.out
    assert "ZeroDivisionError: too flat" in typed("runs", "replay", "slow/rash", "--learner", "rash:Rash").err

    with elsewhere.connect() as other:
        with pytest.raises(ZeroDivisionError) as raised:
            Loop(Routes([lab["slow"], other["square"]]), rash(), goal=60, name="rash apart").run()
        (note,) = raised.value.__notes__
        text = "replay(learner, Routes([lab['slow'], lab['square']]).history('rash apart'), until="
        assert text in note
        step = int(note.split(text)[1].split(")")[0])
        history = Routes([lab["slow"], other["square"]]).history("rash apart")
        assert replay(rash(), history, until=step).until == step
        with pytest.raises(ZeroDivisionError):
            replay(rash(), history)


def test_part_compares_routed_runs(lab: Lab) -> None:
    def run(name: str, then: int) -> Any:
        loop = Loop(Routes([lab["slow"], lab["square"]]), Thoughtful(12, then), goal=30, name=name, in_flight=1, seed=1)
        return loop.run()

    one, same, other = run("part one", 0), run("part same", 0), run("part other", 5)
    assert part(one, same) is None
    parting = part(one.runs[0], list(other.runs))
    assert parting is not None
    assert 11 <= parting.told <= 14
