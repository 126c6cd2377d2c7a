"""``taskmaster demo chambers``: which climate has a plant grow most? Twelve growth chambers look for it in rounds.

The chambers are simulated, a day in a second, by a process of its own that speaks SCPI over TCP; the Master is that of
the shipped configuration ``chambers.toml``. A trial is two tasks: one sets a climate and weighs a seedling; days later,
another puts out the lights and weighs it again. In the second round a heater sticks: the chamber's own limiter cuts it
off, which is what such a thing is for; the daemon finds out, and the other chambers go on.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

from rich.table import Table

from taskmaster.bus.errors import DaemonError, EvaluationError, NotAllowed, UnknownTask
from taskmaster.bus.status import HeadInfo
from taskmaster.bus.text import count, format_duration
from taskmaster.cli.demos.attending import Attention
from taskmaster.cli.demos.base import (
    RUN,
    SEED,
    Demonstration,
    DemoReport,
    Stage,
    check_complete,
    over_restarts,
    write_table,
)
from taskmaster.cli.demos.chambers_picture import draw_room
from taskmaster.cli.demos.chambers_search import ShrinkingBox
from taskmaster.cli.demos.chambers_view import RoomView, climate_text
from taskmaster.cli.demos.daemon import DemoDaemon
from taskmaster.config.shipped import example
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab, Run, connect
from taskmaster.learners.protocol import Point
from taskmaster.learners.results import Result

__all__ = ["ChambersDemo", "GrowthReport", "Trial"]

MASTER = "chambers"
CHAMBERS = 12
#: Simulated seconds in a second: a day.
DAY = 86400.0
#: Days that a climate is tried: long enough to weigh the difference, short enough for a seedling not to be crowded.
TRIAL_DAYS = 5.0
#: The chamber whose heater sticks, and the round in which it does, at the end of which it is repaired.
STUCK, STUCK_IN = "chamber-5", 2
#: What plants are weighed in: no light, nothing special.
REST = {"temperature": 22.0, "humidity": 60.0, "light": 0.0, "co2": 430.0}
#: Seconds that the heads may take to be connected, and how often that is looked at.
PATIENCE, LOOK = 60.0, 0.1


@dataclass(frozen=True)
class Trial:
    """What came of a climate."""

    round: int
    chamber: str
    climate: Point
    #: g of dry matter, before and after
    before: float
    after: float
    #: relative growth rate per day
    rate: float


@dataclass(frozen=True)
class GrowthReport(DemoReport):
    """What came out: also the climate of the fastest growth, its rate per day, and how many days passed."""

    best: Point
    rate: float
    days: float


class ChambersDemo(Demonstration):
    """The room of growth chambers. Its points are climates that are tried."""

    config = "chambers"
    question = "In which climate does a plant grow most?"
    usual_points = 84
    packages = (("pyvisa", "pyvisa"), ("pyvisa-py", "pyvisa_py"))

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.trials: list[Trial] = []
        #: the masses of all plants by the day
        self.history: list[tuple[float, dict[str, float]]] = []
        self._first = 0

    def run(self, state: Path, *, temporary: bool) -> None:
        with Laboratory("chambers", count=CHAMBERS, factor=DAY, seed=SEED) as room:
            resources = {MASTER: {head.name: head.resource for head in room.heads}}
            log = self._new_log()
            started = DemoDaemon(example(self.config), state, log, temporary=temporary, resources=resources)
            with started as daemon, connect(daemon.address) as lab:
                run = lab[MASTER].open(RUN, seed=SEED, since="now")  # the plants of an earlier demo are gone
                self._first = run.next_index
                self._introduce(daemon, room)
                with RoomView(self.stage.console, self.total, live=self.stage.live) as view:
                    daemon.on_restart = lambda: view.say(daemon.restarted_text)
                    daemon.on_failure = lambda: lab.close(timeout=0)
                    self._attended(_Room(lab, run, room, view, self), daemon)
                run.close()

    @property
    def reached(self) -> int:
        return len(self.trials)

    def _introduce(self, daemon: DemoDaemon, room: Laboratory) -> None:
        self.stage.say(f"[bold]{self.question}[/]")
        self.stage.say(
            f"Process {room.process.pid} simulates {CHAMBERS} growth chambers, a day in a second; process "
            f"{daemon.pid} is the daemon with the Master {MASTER!r}, as in {example(self.config).name}. "
            f"One heater will stick; kill the daemon, too, if you like ([bold]kill -9 {daemon.pid}[/])."
        )

    def _attended(self, room: _Room, daemon: DemoDaemon) -> None:
        attention = Attention(room.lab, MASTER, room.turn, daemon.on_failure)
        try:
            with attention:
                room.grow()
        finally:
            self.restarts = daemon.restarts
            for error in (daemon.error, attention.error):
                if error is not None:
                    raise error

    # -- what came out ------------------------------------------------------------------------------------------------

    def report(self, seconds: float) -> GrowthReport:
        if not self.trials:
            raise EvaluationError(f"no climate could be tried: {self.results[0].error if self.results else 'no head'}")
        check_complete([(result.seq, result.index - self._first) for result in self.results], len(self.results))
        best = max(self.trials, key=lambda trial: trial.rate)
        report = GrowthReport(
            points=len(self.trials),
            failed=sum(result.error is not None for result in self.results),
            seconds=seconds,
            restarts=self.restarts,
            picture=self._picture,
            table=self._table,
            best=best.climate,
            rate=best.rate,
            days=self.history[-1][0] if self.history else 0.0,
        )
        draw_room(report.picture, self.history, self.trials)
        rows = ([t.round, t.chamber, *t.climate.values(), t.before, t.after, f"{t.rate:.5f}"] for t in self.trials)
        write_table(report.table, ["round", "chamber", *REST, "before", "after", "rate"], rows)
        self._conclude(report)
        return report

    def _conclude(self, report: GrowthReport) -> None:
        say = self.stage.conclude
        failed = f" ({count(report.failed, 'task')} failed)" if report.failed else ""
        say(
            f"{count(report.points, 'climate')} in {report.days:.0f} days, which took "
            f"{format_duration(report.seconds)}{failed}, no result lost{over_restarts(report.restarts)}. The best:"
        )
        table = Table.grid(padding=(0, 2))
        for trial in sorted(self.trials, key=lambda trial: -trial.rate)[:5]:
            table.add_row(
                f"{trial.rate:.3f} per day", climate_text(trial.climate), trial.chamber, f"round {trial.round}"
            )
        self.stage.console.print(table)
        say(f"Picture: {report.picture}\nTable:   {report.table}")


class _Room:
    """The gardener: what is done in a round, and by hand."""

    def __init__(self, lab: Lab, run: Run, room: Laboratory, view: RoomView, demo: ChambersDemo) -> None:
        self.lab = lab
        self._run = run
        self._room = room
        self._control = room.control
        self._view = view
        self._demo = demo
        self._heads: Sequence[HeadInfo] = ()
        self._looked = Event()
        parameters = {field.name: field.limits for field in run.master.parameters}
        self._search = ShrinkingBox(parameters, SEED)
        #: when the first round began, in simulated seconds
        self._began = 0.0
        #: what grows where, and its mass at the beginning
        self._growing: dict[str, tuple[Point, float]] = {}
        self._is_repaired = False

    # -- its rounds ---------------------------------------------------------------------------------------------------

    def grow(self) -> None:
        """Try as many climates as there are to be points, but those of chambers that fail."""
        self._wait_for_heads()
        self._began = self._control.time()
        left = self._demo.total
        for number in range(1, math.ceil(left / CHAMBERS) + 1):
            for head in self._room.heads:
                by_hand(head.address, "DOOR:OPEN;PLANT:SOW;DOOR:CLOSE")
            self._try(number, min(left, len(self._ready())))
            left -= CHAMBERS
            if number == STUCK_IN:
                self._repair()

    def _try(self, number: int, n: int) -> None:
        """One round, of ``n`` climates."""
        self._view.do(f"round {number}: {count(n, 'climate')} set, seedlings weighed")
        since = self._days
        self._growing.clear()
        for result in self._evaluate(self._search.ask(n)):
            if result.error is None:
                self._growing[result.worker] = (result.input, result.output["mass"])
        self._view.do(f"round {number}: growing")
        if number == STUCK_IN:
            self._pass_until(since + 0.4 * TRIAL_DAYS)
            self._stick()
        self._pass_until(since + TRIAL_DAYS)
        self._view.do(f"round {number}: weighed")
        days = self._days - since
        for result in self._evaluate([REST] * len(self._ready())):
            if result.error is None and result.worker in self._growing:
                self._learn(number, result.worker, result.output["mass"], days)
        self._view.on_progress(len(self._demo.trials))

    def _evaluate(self, points: list[Point]) -> list[Result]:
        """Each in one of the chambers that are free, which is each of them when there are as many points."""
        self._run.tasks.put_many(points)
        results = [self._run.results.get() for _ in points]
        self._demo.results += results
        for result in results:
            if result.error is not None:
                self._view.say(f"Task {result.index} failed: {result.error.args[0]}")
        return results

    def _learn(self, number: int, chamber: str, mass: float, days: float) -> None:
        climate, before = self._growing.pop(chamber)
        rate = math.log(max(mass, 1e-6) / max(before, 1e-6)) / days
        self._search.tell(climate, rate)
        self._demo.trials.append(Trial(number, chamber, climate, before, mass, rate))
        assert self._search.best is not None
        best, highest = self._search.best
        self._view.grown(chamber, rate, f"best {highest:.3f} per day at {climate_text(best)}")

    @property
    def _days(self) -> float:
        """Since the first round began."""
        return (self._control.time() - self._began) / DAY

    def _pass_until(self, day: float) -> None:
        while (left := day - self._days) > 0:
            Event().wait(left)  # a day is a second

    def _ready(self) -> list[str]:
        return [info.head for info in self._heads if info.state in ("ready", "busy")]

    def _wait_for_heads(self) -> None:
        deadline = monotonic() + PATIENCE
        while len(self._ready()) < CHAMBERS:
            self._looked.clear()
            if not self._looked.wait(max(0.0, deadline - monotonic())):
                states = ", ".join(f"{info.head} is {info.state} {info.reason}".strip() for info in self._heads)
                raise DaemonError(f"the chambers are not ready after {PATIENCE:g} s: {states}")

    # -- what happens meanwhile ---------------------------------------------------------------------------------------

    def turn(self, heads: Sequence[HeadInfo]) -> None:
        """A look at the chambers."""
        truth = {head.name: self._control.truth(head.name) for head in self._room.heads}
        day = self._days
        self._view.look(day if self._began else 0.0, heads, truth)
        if self._began:
            self._demo.history.append((day, {head: values["biomass"] for head, values in truth.items()}))
        for held in self.lab.held(MASTER, run=self._run.number):
            if next((info.safe for info in heads if info.head == held.worker), False):
                try:  # to set a climate and weigh a plant a second time does no harm
                    self.lab.resolve(held.run, held.index, "retry", attempt=held.attempt)
                except UnknownTask:
                    pass  # the head itself has found out meanwhile
        self._put_back(next(info for info in heads if info.head == STUCK))
        self._heads = heads
        self._looked.set()

    def _put_back(self, stuck: HeadInfo) -> None:
        """Once it is repaired: what an interlock has tripped at stays safe until somebody says so."""
        if self._is_repaired and stuck.state == "tripped":
            try:
                self.lab.set_head(MASTER, STUCK, inside=True)
            except NotAllowed:
                return  # it is to be seen to hold twice in a row, which takes a while
            self._view.say(f"taskmaster heads {MASTER} --in {STUCK}")

    def _stick(self) -> None:
        self._control.overheat(STUCK)
        self._view.say(f"The heater of {STUCK} sticks. Its own limiter cuts it off at 45 °C.")

    def _repair(self) -> None:
        self._control.overheat(STUCK, hot=False)
        by_hand(self._room[STUCK].address, "ALAR:RES")
        self._view.say(f"{STUCK} is repaired, its limiter reset.")
        self._is_repaired = True


def by_hand(address: str, line: str) -> None:
    """What a person does at the instrument itself, or tells it past the daemon."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as instrument:
        instrument.sendall(f"{line};*OPC?\n".encode())
        instrument.recv(64)
