"""Several loops in one program, one learner on several Masters, and what is to be seen of a loop in a notebook."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adaptive
import jupyter_client
import numpy as np
import pytest
from helpers.cli import taskmaster
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, InvalidTask
from taskmaster.learners import Loop, Routes, SimulatedMaster, run_all
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.client import Lab
from taskmaster.learners.export import export_run
from taskmaster.learners.inorder import InOrder
from taskmaster.learners.points import Random, Sequence, Sobol
from taskmaster.learners.results import Result
from taskmaster.learners.routed import RoutedResult
from taskmaster.learners.simulate import Recorded
from taskmaster.learners.simulate.recorded import durations_in, durations_of
from taskmaster.learners.target import Target

PLANE: dict[str, Any] = {"parameters": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}, "outputs": {"z": {}}}
HALF: dict[str, Any] = {**PLANE, "parameters": {"x": {"min": 0, "max": 0.5}, "y": {"min": 0, "max": 1}}}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon(
        {
            "plane": function("plane", workers=2, **PLANE),
            "half": function("plane", workers=1, **HALF),
            "off": function("plane", workers=0, **PLANE),
            "empty": function("plane", workers=0, **PLANE),
        }
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def test_what_is_gathered_goes_out_when_it_is_sent_or_waited_for(lab: Lab, daemon: Daemon) -> None:
    """Nobody may find tasks forgotten: not who waits for results or for the disk, nor who gathers no more."""
    point = {"x": 0.25, "y": 0.25}
    with lab["plane"].open() as run:

        def known() -> int:
            return next(info.tasks for info in lab.runs("plane") if info.run == run.number)

        run.tasks.gather()
        run.tasks.put(point)
        assert known() == 0, "it is kept"
        assert run.results.get(PATIENCE).output == 0.5, "who waits has it sent"
        run.tasks.put(point)
        run.tasks.put(point)
        assert known() == 1
        run.tasks.send()
        run.flush(PATIENCE)
        assert known() == 3
        run.tasks.put(point)
        run.flush(PATIENCE)
        assert known() == 4
        run.tasks.put(point)
        run.tasks.gather(False)
        run.flush(PATIENCE)
        assert known() == 5
        assert [result.output for result in run.results] == [0.5] * 4


RAISING = """
from taskmaster.learners.points import Random

class Bad(Random):
    def tell(self, point, output):
        if self.npoints == 3:
            raise ZeroDivisionError("too flat")
        super().tell(point, output)

def make(parameters, outputs, seed, options):
    return Bad(parameters)
"""


def test_a_learner_that_raises_is_no_mistake_of_ours_on_the_command_line(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(RAISING)
    package = tmp_path / "bad-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[taskmaster.learners]\nbad = bad:make\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = ["learn", "plane", "--learner", "bad", "--run", "flat", "--goal", "npoints=9"]
    said = taskmaster(*command, "--address", daemon.address, PYTHONPATH=path)
    assert said.status == 1
    [line] = [line for line in said.err.splitlines() if "ZeroDivisionError" in line]
    assert line.startswith("taskmaster: ZeroDivisionError: too flat. The learner raised when it was told the output of")
    assert "at step 3 of run 'flat' of Master 'plane'" in line
    assert "taskmaster runs replay plane/flat --until 3 --learner" in line
    assert "mistake in TaskMaster" not in said.err


# -- many loops in one program ----------------------------------------------------------------------------------------


def test_loops_run_at_the_same_time_and_are_not_mixed_up(lab: Lab) -> None:
    learners = [Random(lab["plane"].parameters, seed=k, n=60) for k in range(4)]
    loops = [Loop(lab["plane"], learner, name=f"together {k}") for k, learner in enumerate(learners)]
    runs = run_all(loops)
    for k, (run, learner) in enumerate(zip(runs, learners)):
        run.close()
        assert run.name == f"together {k}"
        alone = Random(lab["plane"].parameters, seed=k, n=60).ask(60)
        assert sorted(point["x"] for point, _ in learner.data) == sorted(point["x"] for point in alone)
        assert all(z == point["x"] + point["y"] for point, z in learner.data)


def test_where_one_raises_the_others_go_on(lab: Lab) -> None:
    def fuse(loop: Loop, result: Result) -> None:
        raise ZeroDivisionError(loop.run_.name)

    def loop(hook: Any = None) -> Loop:
        return Loop(lab["plane"], Random(lab["plane"].parameters, n=40), hook=hook)

    good, one, other = loop(), loop(fuse), loop(fuse)
    with pytest.raises(ExceptionGroup, match="2 of 3 loops failed") as raised:
        run_all([one, good, other])
    assert {str(error) for error in raised.value.exceptions} == {one.run_.name, other.run_.name}
    assert good.told == 40
    third = loop(fuse)
    with pytest.raises(ZeroDivisionError):
        run_all([loop(), third])
    with pytest.raises(CallerError, match="two of these loops have the same learner"):
        run_all([Loop(lab["plane"], good.learner), Loop(lab["plane"], good.learner)])


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_all_of_them_in_order(lab: Lab) -> None:
    def hook(loop: Loop, result: Result) -> None:
        if loop.told == 20:
            press_ctrl_c()

    loops = [Loop(lab["plane"], Random(lab["plane"].parameters), hook=hook if k == 1 else None) for k in range(3)]
    run_all(loops)
    for loop in loops:
        assert loop.interrupted
        assert loop.told == loop.run_.next_index
        assert loop.run_.open_tasks == 0
    told = [loop.told for loop in loops]
    for loop in loops:
        loop.goal = loop.goal | (lambda loop: loop.told >= 200)
    run_all(loops)
    assert all(loop.told >= 200 > before for loop, before in zip(loops, told)), "they go on"
    for loop in loops:
        loop.run_.close()


def pressing_twice(loops: list[Loop], tasks: int) -> threading.Thread:
    """Presses Ctrl-C when each of the loops has put so many tasks, and again when all have heard of it."""

    def finger() -> None:
        eventually(lambda: all(loop.run_.next_index == tasks for loop in loops), "the tasks to be put")
        press_ctrl_c()
        eventually(lambda: all(loop.interrupted for loop in loops), "the loops to hear of it")
        press_ctrl_c()

    thread = threading.Thread(target=finger)
    thread.start()
    return thread


@pytest.mark.parametrize("n", [1, 2])
def test_the_second_ctrl_c_leaves_at_once_though_nothing_comes(lab: Lab, n: int) -> None:
    loops = [Loop(lab["off"], Random(lab["off"].parameters, n=2), in_flight=2) for _ in range(n)]
    pressing = pressing_twice(loops, tasks=2)
    with pytest.raises(KeyboardInterrupt):
        run_all(loops) if n > 1 else loops[0].run()
    pressing.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for loop in loops:
        assert loop.run_.open_tasks == 2, "what is in flight stays with the run"
        loop.run_.cancel()
    run_all(loops)
    for loop in loops:
        assert loop.failed == 2, "and is heard of when it goes on"
        loop.run_.close()


# -- one learner on several Masters -----------------------------------------------------------------------------------


def masters_of(learner_hook: list[Result]) -> list[str]:
    return [result.master for result in learner_hook if isinstance(result, RoutedResult)]


def test_points_go_where_they_can_be_evaluated_and_where_there_is_room(lab: Lab) -> None:
    seen: list[Result] = []
    learner = Random(lab["plane"].parameters, n=120)
    routes = Routes([lab["half"], lab["plane"]], parameters=lab["plane"].parameters)
    assert isinstance(routes, Target)
    loop = Loop(routes, learner, hook=lambda loop, result: seen.append(result))
    assert loop.in_flight == 2 * 3
    loop.run().close()
    assert loop.told == 120
    assert all(z == point["x"] + point["y"] for point, z in learner.data)
    where = dict.fromkeys(("half", "plane"), 0)
    for result, master in zip(seen, masters_of(seen)):
        where[master] += 1
        assert master == "plane" or result.input["x"] <= 0.5, "the other does not go there"
    assert min(where.values()) > 10
    assert [result.seq for result in seen] == list(range(120))


def test_nothing_is_left_of_a_routed_run_that_is_closed(lab: Lab) -> None:
    before = set(threading.enumerate())
    routes = Routes([lab["half"], lab["plane"]], parameters=lab["plane"].parameters)
    with Loop(routes, Random(lab["plane"].parameters, n=10)).run():
        assert set(threading.enumerate()) > before, "a thread waits at each Master"
    assert set(threading.enumerate()) <= before
    Loop(routes, Random(lab["plane"].parameters, n=10)).run().detach()
    assert set(threading.enumerate()) <= before


def test_a_routed_run_leaves_at_the_second_ctrl_c_though_nothing_comes(lab: Lab, daemon: Daemon) -> None:
    with daemon.connect() as elsewhere:
        routes = Routes([lab["off"], elsewhere["empty"]], lambda point, master, in_flight: in_flight)
        loop = Loop(routes, Random(lab["off"].parameters, n=4), in_flight=4)
        pressing = pressing_twice([loop], tasks=4)
        with pytest.raises(KeyboardInterrupt):
            loop.run()
        pressing.join()
        assert loop.run_.open_tasks == 4
        for run in loop.run_.runs:  # type: ignore[attr-defined]
            run.cancel()
        with loop.run():
            assert loop.failed == 4, "it goes on, and hears that they were cancelled"


def test_what_is_no_route(lab: Lab, daemon: Daemon) -> None:
    simulated = SimulatedMaster(lambda point: 0.0, parameters=lab["plane"].parameters)
    wrong: list[tuple[Any, str]] = [
        ([], "needs a Master to begin with"),
        (lab["plane"], "takes several Masters in a list"),
        (["plane"], "takes several Masters in a list, not 'plane'"),
        ([lab["plane"], lab["half"], lab["plane"]], "has Master 'plane' twice"),
        ([simulated, simulated], "has Master 'simulated' twice"),
    ]
    for masters, message in wrong:
        with pytest.raises(CallerError, match=message):
            Routes(masters)
    with daemon.connect() as again, pytest.raises(CallerError, match="has Master 'plane' twice"):
        Routes([lab["plane"], again["plane"]])
    with pytest.raises(CallerError, match="route to simulated ones or to real ones"):
        Routes([lab["plane"], simulated]).open()


def test_points_go_where_they_cost_least(lab: Lab) -> None:
    def cost(point: Any, master: Target, in_flight: int) -> float:
        return {"half": 1.0, "plane": 2.0}[master.name] if point["y"] < 0.5 else float("inf")

    seen: list[Result] = []
    points = Sequence([{"x": 0.1, "y": 0.1 * k} for k in range(5)])
    loop = Loop(Routes([lab["plane"], lab["half"]], cost), points, hook=lambda loop, result: seen.append(result))
    loop.run().close()
    assert masters_of(seen) == ["half"] * 5
    with pytest.raises(InvalidTask, match="none of the Masters 'plane', 'half' can evaluate"):
        Loop(Routes([lab["plane"], lab["half"]], cost), Sequence([{"x": 0.1, "y": 0.9}])).run()


def learner() -> AdaptiveLearner:
    return AdaptiveLearner(adaptive.Learner2D(None, bounds=[(0, 1), (0, 1)]), names=["x", "y"])


def test_runs_at_several_masters_are_gone_on_with(lab: Lab, daemon: Daemon) -> None:
    def go(name: str, goal: int, stop_at: int = 0) -> Any:
        def hook(loop: Loop, result: Result) -> None:
            if loop.told == stop_at:
                raise InterruptedError

        routes = Routes([lab["half"], lab["plane"]], parameters=lab["plane"].parameters)
        loop = Loop(routes, InOrder(learner(), ahead=6, limit=goal), in_flight=6, name=name, hook=hook)
        if stop_at:
            with pytest.raises(InterruptedError):
                loop.run()
            loop.run_.detach()
        else:
            loop.run().close()
        return loop

    go("disturbed", 80, stop_at=30)
    again, undisturbed = go("disturbed", 80), go("undisturbed", 80)
    assert again.told == undisturbed.told == 80
    assert again.statistics().unasked == 0, "what was measured was asked for again, and found"
    assert again.learner.learner.data == undisturbed.learner.learner.data, "told in order it asks the same"
    tasks = {run.name: run.tasks for run in lab.runs("half")}
    assert 0 < tasks["disturbed"] < 80


def test_another_learner_over_several_masters_is_told_what_was_measured(lab: Lab) -> None:
    routes = Routes([lab["half"], lab["plane"]], parameters=lab["plane"].parameters)
    Loop(routes, Random(lab["plane"].parameters, n=20, seed=1), name="changed").run()
    other = Random(lab["plane"].parameters, n=25, seed=2)
    loop = Loop(Routes([lab["half"], lab["plane"]], parameters=lab["plane"].parameters), other, name="changed")
    loop.run()
    points = [(point["x"], point["y"]) for point, _ in other.data]
    own = [(point["x"], point["y"]) for point in Random(lab["plane"].parameters, n=25, seed=2).ask(25)]
    assert set(own) <= set(points), "each of its own was measured"
    assert len(set(points)) == len(points) == 45, "and the twenty that were there"
    assert all(z == point["x"] + point["y"] for point, z in other.data)


# -- the durations of a real run --------------------------------------------------------------------------------------


def test_a_laboratory_is_simulated_with_the_durations_of_a_run(lab: Lab, tmp_path: Path) -> None:
    with Loop(lab["plane"], Sobol(lab["plane"].parameters, n=50), name="measured").run():
        pass
    info = next(run for run in lab.runs("plane") if run.name == "measured")
    durations = durations_of(lab, info)
    assert len(durations) == 50
    assert (durations >= 0).all()
    for name in ("run.csv", "run.jsonl", "run.parquet"):
        export_run(lab, info, tmp_path / name)
        assert durations_in(tmp_path / name) == pytest.approx(durations, abs=2e-6), name
    master = SimulatedMaster(
        lambda point: 0.0, 2, Recorded(durations, in_order=True), parameters=lab["plane"].parameters
    )
    run = master.open()
    run.tasks.put_many(Sobol(lab["plane"].parameters, n=50).ask(50))
    seen = sorted(run.results, key=lambda result: result.index)
    assert [result.finished - result.started for result in seen] == pytest.approx(durations, abs=1e-9)
    with pytest.raises(CallerError, match="no task that was evaluated"):
        durations_in(_empty(tmp_path / "empty.csv"))
    with pytest.raises(CallerError, match="no export of a run"):
        durations_in(_empty(tmp_path / "other.csv", "a,b\n1,2\n"))


def _empty(file: Path, text: str = "outcome,started,finished\n") -> Path:
    file.write_text(text)
    return file


# -- in a notebook ----------------------------------------------------------------------------------------------------

CELL = """
from taskmaster.learners import LivePlot, Loop, Progress, SimulatedMaster
from taskmaster.learners.points import Random
lab = SimulatedMaster(lambda point: point["x"], parameters={"x": (0, 1)})
Loop(lab, Random(lab.parameters, n=500), hook=[Progress(), LivePlot(seconds=0.0)]).run()
"""


def test_progress_and_a_live_plot_in_a_notebook() -> None:
    shown: list[tuple[str, dict[str, Any]]] = []

    def on_output(message: dict[str, Any]) -> None:
        if message["msg_type"] in ("display_data", "update_display_data"):
            shown.append((message["msg_type"], message["content"]["data"]))

    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3", startup_timeout=PATIENCE)
    try:
        reply = client.execute_interactive(CELL, timeout=PATIENCE, output_hook=on_output)
        assert reply["content"]["status"] == "ok", reply
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    pages = [(kind, data) for kind, data in shown if "text/html" in data]
    pictures = [(kind, data) for kind, data in shown if "image/png" in data]
    for each in (pages, pictures):
        kinds = [kind for kind, _ in each]
        assert kinds[0] == "display_data"
        assert kinds[1:], "they are replaced"
        assert set(kinds[1:]) == {"update_display_data"}
    assert "<progress" in pages[-1][1]["text/html"]
    assert "500 points" in pages[-1][1]["text/html"]
    assert len(np.frombuffer(pictures[-1][1]["image/png"].encode(), np.uint8)) > 1000
