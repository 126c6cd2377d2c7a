"""Ctrl-C may strike between any two steps of a loop: it ends in good order, with nothing taken and not told."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from helpers.daemon import function
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError
from taskmaster.learners.client import Lab, Run
from taskmaster.learners.goals import npoints
from taskmaster.learners.loop import Loop
from taskmaster.learners.points import Random
from taskmaster.learners.results import Result

ENDLESS = 10**9


@pytest.fixture(scope="module")
def lab(start_shared_daemon: StartDaemon) -> Iterator[Lab]:
    parameters: dict[str, Any] = {"x": {"min": -1, "max": 1}}
    daemon = start_shared_daemon({"square": function("square", workers=2, parameters=parameters, outputs={"y": {}})})
    with daemon.connect() as lab:
        yield lab


@pytest.fixture
def run(lab: Lab) -> Iterator[Run]:
    with lab["square"].open() as run:
        yield run


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def endless(run: Run, after: Mapping[int, Callable[[], object]]) -> Loop:
    """A loop that only Ctrl-C can end; what is to be done ``after`` so many results."""

    def hook(loop: Loop, result: Result) -> None:
        if loop.told in after:
            after[loop.told]()

    return Loop(run, Random(run.master.parameters), goal=ENDLESS, in_flight=8, hook=hook)


def test_the_first_ends_it_when_what_is_in_flight_has_ended_wherever_it_strikes(lab: Lab) -> None:
    chance = random.Random(7)
    for _ in range(40):
        with lab["square"].open() as run:
            finger = threading.Timer(chance.uniform(0, 0.03), press_ctrl_c)
            loop = endless(run, {1: finger.start})
            assert loop.run() is run
            finger.join()
            assert loop.interrupted
            assert loop.told == run.next_index
            assert run.open_tasks == 0


def test_the_second_leaves_between_two_steps_and_the_same_loop_goes_on(lab: Lab) -> None:
    """It must not strike within one, nor in the middle of a message to the daemon."""
    chance = random.Random(11)
    for _ in range(40):
        with lab["square"].open() as run:
            first = chance.uniform(0, 0.01)
            fingers = [threading.Timer(first, press_ctrl_c)]
            fingers.append(threading.Timer(first + chance.uniform(0, 0.0005), press_ctrl_c))
            loop = endless(run, {1: fingers[0].start, 2: fingers[1].start})
            with contextlib.suppress(KeyboardInterrupt):
                loop.run()  # the first ends it, where the second is late
                for finger in fingers:
                    finger.join()
            loop.goal = npoints(loop.told + 50)
            loop.run()
            assert loop.told == run.next_index - run.open_tasks
            told = cast("Random", loop.learner).data
            assert len({point["x"] for point, _ in told}) == len(told) == loop.told, "nothing was told twice"


class Thoughtful(Random):
    """Thinks for ever."""

    def __init__(self, *args: Any, at: str) -> None:
        super().__init__(*args)
        self.at = at
        self.thinking = threading.Event()

    def _think(self, at: str) -> None:
        if at == self.at and self.npoints > 10:
            self.thinking.set()
            while not threading.Event().wait(0.01):
                pass  # a signal that comes just before it waits is heard when it has waited

    def ask(self, n: int) -> Any:
        points = super().ask(n)
        self._think("ask")
        return points

    def tell(self, point: Any, output: Any) -> None:
        super().tell(point, output)
        self._think("tell")


@pytest.mark.parametrize("at", ["ask", "tell"])
def test_the_second_interrupts_a_learner_that_thinks_for_ever_and_another_goes_on(lab: Lab, at: str) -> None:
    learner = Thoughtful(lab["square"].parameters, at=at)
    loop = Loop(lab["square"], learner, in_flight=4, name=f"thoughtful {at}", seed=1)

    def finger() -> None:
        assert learner.thinking.wait(PATIENCE)
        press_ctrl_c()
        eventually(lambda: loop.interrupted, "the loop to hear of it")
        press_ctrl_c()

    pressing = threading.Thread(target=finger)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    pressing.join()
    with pytest.raises(CallerError, match="broken off while its learner was asked or told"):
        loop.run()
    loop.run_.detach()
    again = Loop(lab["square"], Random(lab["square"].parameters), goal=30, in_flight=4, name=f"thoughtful {at}")
    again.run().close()
    assert again.told == again.run_.next_index == 30
    assert again.divergence is None


def test_the_second_leaves_at_once(run: Run) -> None:
    loop = endless(run, {20: press_ctrl_c, 21: press_ctrl_c})
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert loop.told == 21
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_leaves_the_handlers_of_others_alone(run: Run) -> None:
    pressed = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        Loop(run, Random(run.master.parameters), goal=10, hook=lambda loop, result: press_ctrl_c()).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(pressed) >= 10
