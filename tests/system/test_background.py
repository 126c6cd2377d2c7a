"""A loop beside the program that started it: its end, its errors, Ctrl-C, and looks at its learner meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import adaptive
import jupyter_client
import pytest
from helpers.daemon import function
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, Fenced
from taskmaster.learners import AdaptiveLearner, Loop, SimulatedMaster
from taskmaster.learners.client import Lab, Master
from taskmaster.learners.goals import npoints
from taskmaster.learners.points import Random


@pytest.fixture(scope="module")
def lab(start_shared_daemon: StartDaemon) -> Iterator[Lab]:
    x: dict[str, Any] = {"parameters": {"x": {"min": -1, "max": 1}}, "outputs": {"y": {}}}
    seconds: dict[str, Any] = {"parameters": {"seconds": {"min": 0, "max": 100}}, "outputs": {"y": {}}}
    masters = {"square": function("square", workers=2, **x), "wait": function("wait", workers=2, **seconds)}
    with start_shared_daemon(masters).connect() as lab:
        yield lab


@pytest.fixture
def square(lab: Lab) -> Master:
    return lab["square"]


def learner(master: Master) -> Random:
    return Random(master.parameters, seed=3)


def endless(master: Master) -> Loop:
    return Loop(master, learner(master), goal=10**9, in_flight=8)


class Raising(Random):
    def tell(self, point: Any, output: Any) -> None:
        super().tell(point, output)
        if self.npoints == 5:
            raise ArithmeticError("at five")


def test_it_runs_beside_and_is_waited_for(square: Master) -> None:
    loop = Loop(square, learner(square), goal=200)
    with pytest.raises(CallerError, match=r"was not started: start\(\) it, or run\(\) it here"):
        loop.wait()
    assert loop.start() is loop
    assert loop.wait() is loop.run_
    assert (loop.told, loop.is_running, loop.run_.open_tasks) == (200, False, 0)
    loop.goal = npoints(300)
    loop.start().wait()
    assert loop.told == 300


def test_what_it_ends_by_is_raised_and_said_where_nobody_waits(
    square: Master, caplog: pytest.LogCaptureFixture
) -> None:
    loop = Loop(square, Raising(square.parameters), goal=10, in_flight=1).start()
    eventually(lambda: not loop.is_running, "it ends")
    assert "the loop has ended by ArithmeticError: at five (loop.wait() raises it)" in caplog.text
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="at five") as caught:
            loop.wait()
    assert "taskmaster runs replay" in caught.value.__notes__[0]
    caplog.clear()
    again = Loop(square, learner(square), goal=10, name=loop.run_.name).start()
    again.wait()
    assert (again.told, [record.message for record in caplog.records if "ended by" in record.message]) == (10, [])


def test_a_hook_cannot_wait_for_its_own_loop(square: Master) -> None:
    loop = Loop(square, learner(square), goal=20, hook=lambda loop, result: loop.wait(PATIENCE))
    with pytest.raises(CallerError, match=r"its loop cannot wait for itself.* loop\.stop\(\) has it end"):
        loop.start().wait(PATIENCE)


def test_stop_ends_it_in_good_order_and_it_can_be_started_again(square: Master) -> None:
    loop = endless(square).start()
    eventually(lambda: loop.told > 20, "results come")
    assert loop.is_running
    with pytest.raises(TimeoutError, match="has not ended within 0"):
        loop.wait(0.0)
    loop.stop()
    loop.wait(PATIENCE)
    assert (loop.interrupted, loop.run_.open_tasks, loop.told) == (True, 0, loop.run_.next_index)
    before = loop.told
    loop.start()
    eventually(lambda: loop.told > before, "it goes on")
    loop.leave()
    loop.wait(PATIENCE)
    loop.goal = npoints(loop.told + 10)
    loop.run()


def test_a_loop_or_a_learner_that_is_at_work_is_not_started_again(square: Master) -> None:
    loop = endless(square)
    same = Loop(loop.run_, learner(square), goal=5)
    loop.start()
    try:
        for again in (loop.start, loop.run):
            with pytest.raises(CallerError, match="runs already: wait\\(\\) for it, or stop\\(\\) it first"):
                again()
        other = Loop(square, loop.learner, goal=5)
        with pytest.raises(
            CallerError, match=rf"another loop, over run '{loop.run_.name}', is at work with the learner"
        ):
            other.start()
        with pytest.raises(CallerError, match="is at work with the run"):
            same.run()
        second = Loop(square, learner(square), goal=50).start()
        assert second.wait(PATIENCE) is second.run_, "two with a learner each do not disturb each other"
    finally:
        loop.leave()
        loop.wait(PATIENCE)


def test_another_loop_over_the_run_of_that_name_ends_the_former(
    square: Master, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a cell is run a second time."""
    first = Loop(square, learner(square), goal=10**9, name="cell").start()
    eventually(lambda: first.told > 20, "it runs")
    second = Loop(square, learner(square), goal=300, name="cell").start()
    with pytest.raises(Fenced):
        first.wait(PATIENCE)
    second.wait(PATIENCE)
    assert second.divergence is None
    assert second.told >= 300


class Watched(Random):
    """Notes whether it is asked or told while somebody looks."""

    looked = False
    disturbed = 0

    def ask(self, n: int) -> Any:
        self.disturbed += self.looked
        return super().ask(n)

    def tell(self, point: Any, output: Any) -> None:
        self.disturbed += self.looked
        super().tell(point, output)


def test_a_learner_is_left_in_peace_while_somebody_looks() -> None:
    """Of a loop that never waits for anything, too."""
    master = SimulatedMaster(lambda point: point["x"], workers=2, parameters={"x": (0, 1)})
    watched = Watched(master.parameters)
    loop = Loop(master, watched, goal=10**9).start()
    counts = []
    for _ in range(20):
        with loop.still():
            watched.looked = True
            counts.append(watched.npoints)
            time.sleep(0.002)
            assert watched.npoints == counts[-1]
            assert loop.statistics().told == counts[-1], "who looks may look at the loop as well"
            watched.looked = False
        time.sleep(0.001)
    loop.stop()
    loop.wait(PATIENCE)
    assert watched.disturbed == 0
    assert counts[-1] > counts[0], "it has gone on in between"
    with loop.still():
        loop.goal = npoints(loop.told + 5)
        loop.interrupted = False
        loop.run()


def test_who_looks_again_and_again_does_not_keep_the_loop_from_going_on() -> None:
    loop = Loop(SimulatedMaster(lambda point: point["x"], parameters={"x": (0, 1)}), Random({"x": (0, 1)}), goal=100)
    deadline = time.monotonic() + PATIENCE
    looks = 0
    with loop.still():  # it has to give way from its first turn on
        loop.start()
    while loop.is_running and time.monotonic() < deadline:
        with loop.still(), loop.still():
            time.sleep(0.001)  # as long as a drawing takes: the loop is awake then, and sees that somebody looks
            looks += 1
    assert (loop.told, loop.is_running) == (100, False)
    assert looks > 10, "nor does the loop keep others from looking"


def test_a_look_at_the_figures_does_not_wait_for_a_learner_that_thinks(square: Master) -> None:
    thinking, thought = threading.Event(), threading.Event()

    class Slow(Random):
        def ask(self, n: int) -> Any:
            if self.npoints >= 3:
                thinking.set()
                assert thought.wait(PATIENCE)
            return super().ask(n)

        def loss(self) -> float:
            return 1.0 / max(1, self.npoints)

    loop = Loop(square, Slow(square.parameters), goal=8, in_flight=1).start()
    assert thinking.wait(PATIENCE)
    assert loop.statistics().told == 3
    thought.set()
    loop.wait(PATIENCE)
    assert loop.statistics().loss == 1 / 8


def test_ctrl_c_while_somebody_waits_is_for_the_loop(square: Master) -> None:
    loop = endless(square).start()
    eventually(lambda: loop.told > 5, "it runs")
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    loop.wait(PATIENCE)
    assert (loop.interrupted, loop.run_.open_tasks) == (True, 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_ctrl_c_does_not_wait_for_what_is_in_flight(lab: Lab) -> None:
    wait = lab["wait"]
    loop = Loop(wait, _Long(), goal=4).start()
    eventually(lambda: loop.run_.next_index == 4, "all is in flight")

    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        eventually(lambda: loop.interrupted, "the first is heard")
        os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Timer(0.05, press)
    finger.start()
    with pytest.raises(KeyboardInterrupt):
        loop.wait(PATIENCE)
    finger.join()
    eventually(lambda: not loop.is_running, "it has left")
    assert loop.run_.next_index - loop.told == 4
    with contextlib.suppress(CallerError):
        loop.run_.cancel()


class _Long:
    def ask(self, n: int) -> list[dict[str, float]]:
        return [{"seconds": 60.0}] * n

    def tell(self, point: Any, output: Any) -> None:
        pass


def test_adaptive_draws_itself_while_it_learns(square: Master) -> None:
    """Real plots, of a learner that is told meanwhile."""
    holoviews = pytest.importorskip("holoviews", reason="holoviews is not installed: make test installs it")
    wrapped = AdaptiveLearner(adaptive.Learner1D(None, (-1, 1)))
    loop = Loop(square, wrapped, goal=10**9).start()
    try:
        drawn: list[int] = []
        deadline = time.monotonic() + PATIENCE
        while len(drawn) < 5 or drawn[-1] == drawn[0]:
            assert time.monotonic() < deadline, "it learns nothing more"
            with loop.still():
                npoints_, plot = wrapped.npoints, wrapped.plot()
            assert isinstance(plot, holoviews.core.Dimensioned)
            if npoints_ > 3:
                drawn.append(sum(len(part) for part in plot.traverse(lambda part: part, [holoviews.Scatter])))
                assert drawn[-1] == npoints_
    finally:
        loop.stop()
        loop.wait(PATIENCE)


# -- in a notebook ----------------------------------------------------------------------------------------------------

BEGIN = """
import adaptive
import jupyter_client
from taskmaster.learners import AdaptiveLearner, Loop, WorkMaster
def bump(point):
    return 1 / (0.01 + point["x"] ** 2)
master = WorkMaster(bump, workers=1, parameters={"x": (-1, 1)}, outputs={"y": {}})
learner = AdaptiveLearner(adaptive.Learner1D(None, (-1, 1)))
loop = Loop(master.open("bump"), learner, goal=10**9).start()
print(loop.is_running)
"""
LOOK = """
import time
while loop.told < 20:
    time.sleep(0.01)
with loop.still():
    print(learner.npoints == loop.statistics().told)
"""
PLOT = """
import holoviews
holoviews.extension("bokeh")
with loop.still():
    plot = loop.learner.plot()
plot
"""
WAIT = """
import os
print("waits", os.getpid(), flush=True)
loop.wait()
print(loop.interrupted, loop.run_.open_tasks)
master.close()
"""


def test_a_loop_runs_beside_the_cells_of_a_notebook() -> None:
    """It goes on from cell to cell; to interrupt the cell that waits for it ends it in good order."""
    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3", startup_timeout=PATIENCE)
    printed: list[str] = []
    shown: list[dict[str, Any]] = []

    def on_output(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            printed.append(content["text"])
            if found := re.search(r"waits (\d+)", content["text"]):
                threading.Timer(0.2, os.kill, (int(found[1]), signal.SIGINT)).start()
        elif "data" in content:
            shown.append(content["data"])

    try:
        for cell in (BEGIN, LOOK, *([PLOT] if find_spec("holoviews") else []), WAIT):
            reply = client.execute_interactive(cell, timeout=PATIENCE, output_hook=on_output)
            assert reply["content"]["status"] == "ok", "".join(reply["content"].get("traceback", []))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    text = re.sub(r"waits \d+|stopping: .*", "", "".join(printed))
    assert text.split() == ["True", "True", "True", "0"]
    if find_spec("holoviews"):
        assert any("text/html" in data and "bokeh" in str(data).lower() for data in shown)
