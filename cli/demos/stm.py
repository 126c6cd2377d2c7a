"""``taskmaster demo stm``: an adaptive learner images a surface with the four heads of a simulated probe.

The probe is a process of its own that speaks SCPI over TCP, as hardware does, and the Master is that of the shipped
configuration ``stm.toml``: what a real probe needs is other resources. In the middle one head is unplugged, and comes
back. What it was at is *in doubt*, is held, and is done again only if the instrument's own record says that it was not
done: so at the end that record holds each place once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic, time
from typing import Any, TypeAlias

from taskmaster.bus.errors import DaemonError, EvaluationError, UnknownTask
from taskmaster.bus.status import HeadInfo, HeldTask
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
from taskmaster.cli.demos.daemon import DemoDaemon
from taskmaster.cli.demos.stm_picture import draw_surface
from taskmaster.cli.demos.stm_view import SurfaceView
from taskmaster.config.shipped import example
from taskmaster.drivers.simulated import Laboratory, SimulatorControl
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.client import Lab, Run, connect
from taskmaster.learners.loop import Loop
from taskmaster.learners.protocol import Point
from taskmaster.learners.results import Result

__all__ = ["Imaging", "ProbeDemo", "ProbeReport", "compare"]

#: How often something was done at which x and y.
Places: TypeAlias = Counter[tuple[float, float]]

MASTER = "stm"
HEADS = ("tip-1", "tip-2", "tip-3", "tip-4")
#: Which one is unplugged, and at which parts of the run it is, and is plugged in again.
UNPLUGGED, UNPLUGGED_AT, REPLUGGED_AT = "tip-3", 0.3, 0.5
#: The bias between tip and surface, in V; the side of what is imaged of the surface, in nm.
BIAS, SIZE = 0.5, 250.0
#: Two for each head: one that it is at, and one that waits.
IN_FLIGHT = 8
#: Seconds until a tip stands still: those of a real one, and slow enough to be watched.
SETTLING = 0.1
#: What the amplifier cannot tell from nothing, in A: logarithms end here.
FLOOR = 1e-12
#: Between two looks at the learner's loss.
LOSS_SECONDS = 0.5
#: Seconds that an unplugged head may take to be back, once everything else is done.
PATIENCE = 60.0


@dataclass(frozen=True)
class ProbeReport(DemoReport):
    """What came out, also by head, and what the instrument itself says."""

    #: tasks done, by head
    by_head: dict[str, int]
    #: measurements by the instrument's own record
    measured: int


class Imaging:
    """A learner of the surface: python-adaptive's Learner2D over x and y, at one bias, of the current's logarithm.

    The current falls exponentially with the height of the gap: its logarithm is what shows terraces as terraces.
    """

    def __init__(self) -> None:
        self._learner = AdaptiveLearner.over({"x": (0.0, SIZE), "y": (0.0, SIZE)})

    def ask(self, n: int) -> list[Point]:
        """Places, and the bias."""
        return [{"bias": BIAS, **point} for point in self._learner.ask(n)]

    def tell(self, point: Mapping[str, Any], current: float) -> None:
        """Learn the current in A."""
        self._learner.tell(_place(point), level(current))

    def fail(self, point: Mapping[str, Any], error: BaseException) -> None:
        """Work around a place."""
        self._learner.fail(_place(point), error)

    def loss(self) -> float:
        """The Learner2D's."""
        return self._learner.loss()


class ProbeDemo(Demonstration):
    """The four-head probe."""

    config = "stm"
    question = "What does the surface look like?"
    usual_points = 900
    packages = (("adaptive", "adaptive"), ("pyvisa", "pyvisa"), ("pyvisa-py", "pyvisa_py"))

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._began = time()
        self._told = 0
        self._loop: Loop | None = None
        self._measured: Places = Counter()

    def run(self, state: Path, *, temporary: bool) -> None:
        with Laboratory("probe", heads=len(HEADS), settling=SETTLING, seed=SEED) as probe:
            resources = {MASTER: {head.name: head.resource for head in probe.heads}}
            log = self._new_log()
            started = DemoDaemon(example(self.config), state, log, temporary=temporary, resources=resources)
            with started as daemon, connect(daemon.address) as lab:
                run = lab[MASTER].open(RUN, seed=SEED)
                self._introduce(daemon, probe)
                with SurfaceView(self.stage.console, self.total, SIZE, live=self.stage.live) as view:
                    daemon.on_restart = lambda: view.say(daemon.restarted_text)
                    daemon.on_failure = lambda: lab.close(timeout=0)
                    self._image(run, view, daemon, _Attendant(self, lab, run, probe.control, view))
                self._measured = measured_by(probe.control)

    @property
    def share(self) -> float:
        """How much of the points is measured, from 0 to 1."""
        return self._told / self.total

    @property
    def is_ending(self) -> bool:
        """Whether nothing further is asked: what is in flight is waited for, what is in doubt, too."""
        return self._loop is not None and self._loop.interrupted

    def _introduce(self, daemon: DemoDaemon, probe: Laboratory) -> None:
        self.stage.say(f"[bold]{self.question}[/]")
        self.stage.say(
            f"Process {probe.process.pid} is a simulated probe of {len(HEADS)} heads, each at a port of its own; "
            f"process {daemon.pid} is the daemon with the Master {MASTER!r}, as in {example(self.config).name}. "
            f"One head will be unplugged; kill the daemon, too, if you like ([bold]kill -9 {daemon.pid}[/])."
        )

    def _image(self, run: Run, view: SurfaceView, daemon: DemoDaemon, attendant: _Attendant) -> None:
        learner = Imaging()
        looked, loss = 0.0, math.inf

        def on_result(loop: Loop, result: Result) -> None:
            nonlocal looked, loss
            self.results.append(result)
            if result.error is None:
                self._told = loop.told
                if monotonic() - looked > LOSS_SECONDS:  # it costs the learner as much as many points
                    looked, loss = monotonic(), learner.loss()
                place = result.input["x"], result.input["y"]
                view.measured(loop.told, loss, result.worker, result.index, place, level(result.output))

        loop = self._loop = Loop(run, learner, goal=self.total, in_flight=IN_FLIGHT, hook=on_result)
        attention = Attention(run.master.lab, MASTER, attendant.turn, daemon.on_failure)
        try:
            with attention:
                loop.run()
                if not loop.interrupted:
                    attendant.settled.wait(PATIENCE)
        finally:
            self.restarts = daemon.restarts
            for error in (daemon.error, attention.error):
                if error is not None:
                    raise error
        if loop.interrupted:
            raise KeyboardInterrupt
        run.close()

    # -- what came out ------------------------------------------------------------------------------------------------

    def report(self, seconds: float) -> ProbeReport:
        done = sorted((result for result in self.results if result.error is None), key=lambda result: result.index)
        failed = [result for result in self.results if result.error is not None]
        if not done:
            raise EvaluationError(f"none of {len(self.results)} points could be measured: {failed[0].error}")
        check_complete([(result.seq, result.index) for result in self.results], len(self.results))
        # What is older was measured by another instrument, of an earlier demo.
        here = (result for result in done if result.finished >= self._began)
        compare(places(here), places(failed), self._measured)
        report = ProbeReport(
            points=len(done),
            failed=len(failed),
            seconds=seconds,
            restarts=self.restarts,
            picture=self._picture,
            table=self._table,
            by_head=dict(Counter(result.worker for result in done)),
            measured=self._measured.total(),
        )
        draw_surface(report.picture, SIZE, done, HEADS)
        self._write_table(report.table, done)
        self._conclude(report)
        return report

    def _write_table(self, file: Path, done: Sequence[Result]) -> None:
        headings = ["index", "bias", "x", "y", "current", "head", "attempt", "started", "finished"]
        rows = (
            (
                result.index,
                *(result.input[name] for name in headings[1:4]),
                result.output,
                result.worker,
                result.attempt,
                f"{result.started:.6f}",
                f"{result.finished:.6f}",
            )
            for result in done
        )
        write_table(file, headings, rows)

    def _conclude(self, report: ProbeReport) -> None:
        say = self.stage.conclude
        failed = f" ({report.failed} failed)" if report.failed else ""
        restarts = over_restarts(report.restarts)
        shares = ", ".join(f"{head} {report.by_head.get(head, 0)}" for head in HEADS)
        say(f"{report.points} points in {format_duration(report.seconds)}{failed}, none lost{restarts}: {shares}.")
        say(f"The instrument's own record: {count(report.measured, 'measurement')}, each of a task, none twice.")
        say(f"Picture: {report.picture}\nTable:   {report.table}")


class _Attendant:
    """Unplugs a head and plugs it in again; and says what becomes of tasks in doubt, having looked at the instrument.

    Where a person would read off the instrument what it has done, this looks at the simulator's record of it.
    """

    def __init__(self, demo: ProbeDemo, lab: Lab, run: Run, control: SimulatorControl, view: SurfaceView) -> None:
        #: the head is back, and nothing is in doubt
        self.settled = Event()
        self._demo = demo
        self._lab = lab
        self._run = run
        self._control = control
        self._view = view
        self._plugged: bool | None = None
        #: the head was seen to be gone
        self._missed = False

    def turn(self, heads: Sequence[HeadInfo]) -> None:
        """A look at the heads."""
        self._view.look(heads)
        by_name = {info.head: info for info in heads}
        self._pull_the_plug()
        for held in self._lab.held(MASTER, run=self._run.number):
            self._attend_to(held, by_name.get(held.worker))
        is_well = by_name[UNPLUGGED].state in ("ready", "busy")
        self._missed |= self._plugged is not None and not is_well
        if self._plugged and is_well and not self.settled.is_set():
            if self._missed:
                self._view.say(f"{UNPLUGGED} is back: connected, identified, initialised.")
            self.settled.set()

    def _pull_the_plug(self) -> None:
        if self._plugged is None and self._demo.share >= UNPLUGGED_AT:
            self._plugged = False
            self._control.unplug(UNPLUGGED)
            self._view.say(f"{UNPLUGGED} is unplugged. The others go on.")
        elif self._plugged is False and (self._demo.share >= REPLUGGED_AT or self._demo.is_ending):
            self._plugged = True
            self._control.replug(UNPLUGGED)
            self._view.say(f"{UNPLUGGED} is plugged in again.")

    def _attend_to(self, held: HeldTask, head: HeadInfo | None) -> None:
        if head is None or not head.safe:
            return  # it is to be looked at when it is at rest
        done = measured_by(self._control)[key(held.input)]
        action, reason = ("fail", "measured, but the answer was lost") if done else ("retry", "")
        self._view.say(
            f"By the instrument's record, task {held.index} was {'measured' if done else 'not measured'}: "
            f"taskmaster resolve {held.run} {held.index} {action}"
        )
        try:
            self._lab.resolve(held.run, held.index, action, reason=reason, attempt=held.attempt)
        except UnknownTask:
            pass  # the head itself has found out meanwhile what became of it


def level(current: float) -> float:
    """The logarithm of a current in A, to base 10."""
    return math.log10(max(abs(current), FLOOR))


def key(point: Mapping[str, Any]) -> tuple[float, float]:
    """A place as the instrument is told it."""
    return float(f"{point['x']:.3f}"), float(f"{point['y']:.3f}")


def places(results: Iterable[Result]) -> Places:
    """Where these tasks were to measure."""
    return Counter(key(result.input) for result in results)


def measured_by(control: SimulatorControl) -> Places:
    """How often was measured at each place, by the instrument's own record."""
    total: Places = Counter()
    for head in HEADS:
        total.update({(x, y): n for (x, y), n in control.actions(head).measured("x", "y").items()})
    return total


def compare(done: Places, failed: Places, measured: Places) -> None:
    """See that what was ``measured``, by the instrument's record, is what has results: each place as often as asked.

    A task that failed may have been measured, or not. Raises DaemonError.
    """
    missing, more = done - measured, measured - done - failed
    if missing or more:
        raise DaemonError(
            f"the results and the instrument's record do not agree, which is a mistake in TaskMaster: not measured "
            f"{sorted(missing)}, measured without a result {sorted(more)}; please report it"
        )


def _place(point: Mapping[str, Any]) -> dict[str, float]:
    return {"x": point["x"], "y": point["y"]}
