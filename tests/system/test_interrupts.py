"""Ctrl-C may strike between any two steps of a loop: it ends in good order, with nothing taken and not told."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from helpers.daemon import function
from helpers.places import StartDaemon

from taskmaster.learners.client import Lab, Run
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
