"""A serial instrument whose plug is pulled a hundred times while it works: a real daemon, over a pseudo-terminal.

The simulator counts what it is told, and each answer has the place in it to which it belongs. So it shows if anything
was done twice, or if an answer was taken for another task's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from helpers.places import StartDaemon
from helpers.waiting import eventually

from taskmaster.bus import messages as m
from taskmaster.bus.status import HeadInfo
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab, Run

CYCLES = 100
#: Tasks that wait at the beginning of each cycle.
AHEAD = 6
#: Far from any other place in nm, so that even a tip that is not quite there is told apart.
PLACES = [{"x": float(x), "y": float(y)} for x in range(0, 500, 10) for y in range(0, 500, 10)]
STM: dict[str, Any] = {
    "driver": "serial",
    "identity": "ACME,STM-HEAD,0001,.*",
    "query_timeout": "0.1 s",
    "reconnect": {"first": "10 ms", "longest": "50 ms"},
    "quarantine_after": 1000,
    "parameters": {"x": {"min": 0, "max": 500}, "y": {"min": 0, "max": 500}},
    "outputs": {"x": {}, "y": {}},
    "commands": {
        "open": ["*CLS", "TIP:APPROACH"],
        "set": ["POS {x:.3f},{y:.3f}"],
        "wait": {"query": "*OPC?", "until": "1", "timeout": "10 s"},
        "read": {
            "x": {"query": "POS?", "pattern": "(.*),"},
            "y": {"query": "POS?", "pattern": ",(.*)"},
        },
        "safe": ["BIAS 0", "TIP:WITHDRAW"],
    },
}


@pytest.fixture
def probe(place: Path) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=1, settling=0.004, drift=0, pty=place / "tty") as probe:
        yield probe


@pytest.fixture
def lab(probe: Laboratory, start_daemon: StartDaemon) -> Iterator[Lab]:
    with start_daemon({"stm": {**STM, "resource": probe["tip-1"].pty}}).connect() as lab:
        eventually(lambda: head(lab).state == "ready", "the head to be ready")
        yield lab


def head(lab: Lab) -> HeadInfo:
    info: HeadInfo
    (info,) = lab.ask(m.ListHeads(0)).heads
    return info


class Work:
    """A run that always has tasks waiting; what is in doubt in it fails, since nobody can tell."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.run: Run = lab["stm"].open()
        self.places = iter(Random(7).sample(PLACES, len(PLACES)))
        self.put: list[dict[str, float]] = []
        self.doubts = 0

    @property
    def ended(self) -> int:
        (info,) = (info for info in self.lab.runs() if info.run == self.run.number)
        return info.done + info.failed

    def keep_going(self) -> None:
        more = [next(self.places) for _ in range(AHEAD - (len(self.put) - self.ended))]
        if more:
            self.run.tasks.put_many(more)
            self.put += more

    def resolve(self) -> None:
        for held in self.lab.held():
            self.doubts += 1
            self.lab.resolve(held.run, held.index, "fail", reason="the plug was out")

    def goes_on(self, ended: int) -> bool:
        """Whether a further task has come to its end by itself."""
        self.resolve()
        return self.ended - self.doubts > ended

    def is_through(self) -> bool:
        self.resolve()
        return self.ended == len(self.put)


def visits(probe: Laboratory) -> Counter[tuple[float, ...]]:
    actions = probe.control.actions("tip-1").actions
    return Counter(action.arguments for action in actions if action.command == "POS")


@pytest.mark.slow
def test_a_hundred_times_unplugged_nothing_is_done_twice_or_lost_or_mistaken(probe: Laboratory, lab: Lab) -> None:
    work, chance = Work(lab), Random(1)
    for cycle in range(CYCLES):
        work.keep_going()
        if cycle % 10 == 9:
            probe.control.power_cycle("tip-1", seconds=0.01)
        else:
            time.sleep(chance.uniform(0, 0.01))  # any moment of a task: in mid-write, in mid-read, between two
            probe.control.unplug("tip-1", seconds=chance.choice((0.001, 0.003, 0.02)))
        undisturbed = work.ended - work.doubts
        eventually(lambda seen=undisturbed: work.goes_on(seen), f"it to be back after cycle {cycle}")  # type: ignore[misc]
    eventually(lambda: work.is_through(), "every task to have ended")

    results = list(work.run.results)
    assert sorted(result.index for result in results) == list(range(len(work.put)))
    done = [result for result in results if result.error is None]
    for result in done:
        wanted, seen = result.input, result.output
        assert (seen["x"], seen["y"]) == pytest.approx((wanted["x"], wanted["y"]), abs=1.0)
    assert len(done) + work.doubts == len(results), "what failed had been in doubt"
    gone = visits(probe)
    assert max(gone.values()) == 1, "nothing was done twice"
    assert {(result.input["x"], result.input["y"]) for result in done} <= gone.keys()
    assert work.doubts >= CYCLES / 10, "it was pulled in the middle of tasks"
