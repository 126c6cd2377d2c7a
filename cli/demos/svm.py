"""``taskmaster demo svm``: an adaptive learner maps how well a classifier recognises digits.

Three kinds of processes take part: this one, with the learner; a daemon of the demo's own; and its two workers. Kill
the daemon in the middle (the demo says how) and it is started again: not a result is lost, none comes twice, and the
points are those of a run that nobody disturbed. For that the learner is told in the order of asking (`InOrder`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taskmaster.bus.errors import EvaluationError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import format_duration
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
from taskmaster.cli.demos.svm_map import draw_map
from taskmaster.cli.demos.svm_view import DemoView, point_text
from taskmaster.config.shipped import example
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.client import Lab, Run, connect
from taskmaster.learners.inorder import InOrder
from taskmaster.learners.loop import Loop
from taskmaster.learners.results import Result

__all__ = ["ClassifierDemo", "ClassifierReport"]

#: Tasks in flight: four for each worker, enough that none waits for another's slow task, few enough that the learner's
#: choices rest on what is known. Fixed, since the points depend on it.
AHEAD = 8


@dataclass(frozen=True)
class ClassifierReport(DemoReport):
    """What came out: also the best settings and what they give."""

    best: dict[str, float]
    accuracy: float


class ClassifierDemo(Demonstration):
    """The digits example."""

    config = "svm"
    question = "How well does a support-vector classifier recognise handwritten digits?"
    usual_points = 300
    packages = (("adaptive", "adaptive"), ("scikit-learn", "sklearn"))

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._parameters: tuple[Field, ...] = ()
        self._output = Field("output")

    def run(self, state: Path, *, temporary: bool) -> None:
        started = DemoDaemon(example(self.config), state, self._new_log(), temporary=temporary)
        with started as daemon, connect(daemon.address) as lab:
            master = lab["svm"]
            self._parameters, self._output = master.parameters, master.outputs[0]
            run = master.open(RUN, seed=SEED)
            self._introduce(daemon, lab)
            with DemoView(self.stage.console, self.total, self._output.name, live=self.stage.live) as view:
                daemon.on_restart = lambda: view.say(daemon.restarted_text)
                daemon.on_failure = lambda: lab.close(timeout=0)
                self._explore(run, view, daemon)

    def _introduce(self, daemon: DemoDaemon, lab: Lab) -> None:
        self.stage.say(f"[bold]{self.question}[/]")
        self.stage.say(
            f"Process {daemon.pid} is the daemon {lab.name!r} with the Master 'svm' on two worker processes; process "
            f"{os.getpid()} is the learner. Every task and result is on disk before anybody hears of it: kill the "
            f"daemon, if you like ([bold]kill -9 {daemon.pid}[/]), and watch."
        )

    def _explore(self, run: Run, view: DemoView, daemon: DemoDaemon) -> None:
        surface = AdaptiveLearner.over(self._parameters)
        learner = InOrder(surface, AHEAD, self.total)

        def on_result(loop: Loop, result: Result) -> None:
            self.results.append(result)
            if result.error is None:
                view.update(len(self.results), surface.loss(), result.input, result.output)

        loop = Loop(run, learner, in_flight=AHEAD, hook=on_result)
        try:
            loop.run()
        finally:
            self.restarts = daemon.restarts
            if daemon.error is not None:
                raise daemon.error
        if loop.interrupted:
            raise KeyboardInterrupt
        run.close()

    # -- what came out ------------------------------------------------------------------------------------------------

    def report(self, seconds: float) -> ClassifierReport:
        done = sorted((result for result in self.results if result.error is None), key=lambda result: result.index)
        if not done:
            raise EvaluationError(f"none of {len(self.results)} points could be evaluated: {self.results[0].error}")
        names = [field.name for field in self._parameters]
        points = np.array([[result.input[name] for name in names] for result in done])
        values = [float(result.output) for result in done]
        report = ClassifierReport(
            points=len(done),
            failed=len(self.results) - len(done),
            seconds=seconds,
            restarts=self.restarts,
            picture=self._picture,
            table=self._table,
            best=dict(done[int(np.argmax(values))].input),
            accuracy=max(values),
        )
        draw_map(report.picture, self.question, self._parameters, self._output, points, values)
        self._write_table(report.table, names, done)
        check_complete([(result.seq, result.index) for result in self.results], self.total)
        self._conclude(report)
        return report

    def _write_table(self, file: Path, names: list[str], done: list[Result]) -> None:
        headings = ["index", *names, self._output.name, "worker", "attempt", "started", "finished"]
        rows = (
            [
                result.index,
                *(result.input[name] for name in names),
                result.output,
                result.worker,
                result.attempt,
                f"{result.started:.6f}",
                f"{result.finished:.6f}",
            ]
            for result in done
        )
        write_table(file, headings, rows)

    def _conclude(self, report: ClassifierReport) -> None:
        say = self.stage.conclude
        failed = f" ({report.failed} failed)" if report.failed else ""
        restarts = over_restarts(report.restarts)
        say(f"{report.points} points in {format_duration(report.seconds)}{failed}, none lost, none twice{restarts}.")
        say(f"Best: {self._output.name} [bold]{report.accuracy:.4f}[/] at [bold]{point_text(report.best)}[/]")
        say(f"Map:   {report.picture}\nTable: {report.table}")
