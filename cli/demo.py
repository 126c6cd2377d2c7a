"""``taskmaster demo``: a real learner drives a real, parallel evaluation through a daemon, with everything on disk.

Three kinds of processes take part: this one, with the learner; a daemon of the demo's own; and its two workers. Kill
the daemon in the middle (the demo says how) and it is started again: not a result is lost, none comes twice, and the
points are those of a run that nobody disturbed. For that the learner is told in the order of asking (`InOrder`).
"""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import current_thread, main_thread
from time import monotonic

import numpy as np
from rich.console import Console

from taskmaster.bus.errors import CallerError, DaemonError, EvaluationError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or, format_duration, lacking
from taskmaster.cli.demo_daemon import DemoDaemon
from taskmaster.cli.demo_map import draw_map
from taskmaster.cli.demo_view import DemoView, point_text
from taskmaster.config.shipped import example
from taskmaster.learners.adaptive import AdaptiveLearner
from taskmaster.learners.client import Lab, Run, connect
from taskmaster.learners.inorder import InOrder
from taskmaster.learners.loop import Loop
from taskmaster.learners.results import Result

__all__ = ["DEMOS", "Demo", "DemoReport", "check_complete", "run_demo"]

#: Tasks in flight: four for each worker, enough that none waits for another's slow task, few enough that the learner's
#: choices rest on what is known. Fixed, since the points depend on it.
AHEAD = 8
#: The name of the demo's run; with a state folder of one's own it is gone on with.
RUN = "demo"
SEED = 1
#: What it needs beyond TaskMaster, and by which name that is imported.
_PACKAGES = {"adaptive": "adaptive", "scikit-learn": "sklearn", "matplotlib": "matplotlib"}


@dataclass(frozen=True)
class Demo:
    """What can be demonstrated."""

    #: name of the shipped configuration, and of the Master in it
    config: str
    master: str
    question: str
    points: int


@dataclass(frozen=True)
class DemoReport:
    """What came out."""

    #: evaluated, and those that failed besides
    points: int
    failed: int
    best: dict[str, float]
    accuracy: float
    seconds: float
    restarts: int
    map: Path
    table: Path


DEMOS = {
    "svm": Demo("svm", "svm", "How well does a support-vector classifier recognise handwritten digits?", 300),
}


def run_demo(
    which: str = "svm",
    output_folder: str | Path = "demo-output",
    *,
    points: int | None = None,
    state: str | Path | None = None,
    headless: bool = False,
    console: Console | None = None,
) -> DemoReport:
    """Run a demo to its end, print what it does and found, and write a map and a table into ``output_folder``.

    ``points`` are evaluated, by default as many as fit into a minute on two cores. ``state`` is where the daemon keeps
    its journal: by default a temporary folder; in a folder of one's own an interrupted demo goes on where it was.
    ``headless`` prints plain lines instead of drawing in place, as is done where there is no terminal.

    Raises CallerError for an unknown demo or missing packages, DaemonError if the daemon cannot run or the results do
    not add up, and KeyboardInterrupt when it was interrupted (by Ctrl-C, SIGTERM or SIGHUP), having said so and ended
    every process.
    """
    demo = _find(which)
    console = console or Console()
    began = monotonic()
    folder = Path(output_folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    exploration = _Exploration(demo, points or demo.points, folder, console, live=console.is_terminal and not headless)
    with _ended_as_by_ctrl_c(), _state_folder(state) as place:
        try:
            exploration.run(place, temporary=state is None)
        except KeyboardInterrupt:
            _say_interrupted(console, exploration, None if state is None else place)
            raise
    return exploration.report(monotonic() - began)


def _find(which: str) -> Demo:
    if which not in DEMOS:
        raise CallerError(f"there is no demo {which!r}{did_you_mean_or(which, DEMOS)}")
    missing = [package for package, name in _PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise CallerError(lacking("the demo needs", " ".join(missing), "demo"))
    return DEMOS[which]


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Have a request to end, and a terminal that is closed, end the demo in order, too."""
    if current_thread() is not main_thread():
        yield  # signals are another's business
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _state_folder(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        folder = Path(given).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="taskmaster-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _say_interrupted(console: Console, exploration: _Exploration, kept: Path | None) -> None:
    console.print(
        f"\nInterrupted after {len(exploration.results)} of {exploration.total} points. "
        "The daemon and its workers have been ended; nothing runs on."
    )
    if kept is not None:
        console.print(f"What was measured is kept: go on with the same state folder, {kept}", soft_wrap=True)


class _Exploration:
    """One demo under way."""

    def __init__(self, demo: Demo, total: int, folder: Path, console: Console, *, live: bool) -> None:
        self.demo = demo
        self.total = total
        #: in the order in which they came
        self.results: list[Result] = []
        self._folder = folder
        self._console = console
        self._live = live
        self._restarts = 0
        self._parameters: tuple[Field, ...] = ()
        self._output = Field("output")

    def run(self, state: Path, *, temporary: bool) -> None:
        """Evaluate all points, with a daemon whose journal is in ``state``."""
        log = self._folder / "daemon.log"
        log.unlink(missing_ok=True)
        started = DemoDaemon(example(self.demo.config), state, log, temporary=temporary)
        with started as daemon, connect(daemon.address) as lab:
            master = lab[self.demo.master]
            self._parameters, self._output = master.parameters, master.outputs[0]
            run = master.open(RUN, seed=SEED)
            self._introduce(daemon, lab)
            with DemoView(self._console, self.total, self._output.name, live=self._live) as view:
                daemon.on_restart = lambda: self._on_restart(daemon, view)
                daemon.on_failure = lambda: lab.close(timeout=0)
                self._explore(run, view, daemon)

    def _introduce(self, daemon: DemoDaemon, lab: Lab) -> None:
        say = self._console.print
        say(f"[bold]{self.demo.question}[/]", highlight=False)
        say(
            f"Process {daemon.pid} is the daemon {lab.name!r} with the Master {self.demo.master!r} on two worker "
            f"processes; process {os.getpid()} is the learner. Every task and result is on disk before anybody hears "
            f"of it: kill the daemon, if you like ([bold]kill -9 {daemon.pid}[/]), and watch.",
            highlight=False,
        )

    def _on_restart(self, daemon: DemoDaemon, view: DemoView) -> None:
        view.say(f"The daemon was killed; started again on the same journal as process {daemon.pid}.")

    def _explore(self, run: Run, view: DemoView, daemon: DemoDaemon) -> None:
        learner = InOrder(AdaptiveLearner.over(self._parameters), AHEAD, self.total)

        def on_result(loop: Loop, result: Result) -> None:
            self.results.append(result)
            if result.error is None:
                view.update(len(self.results), learner.loss(), result.input, result.output)

        loop = Loop(run, learner, in_flight=AHEAD, hook=on_result)
        try:
            loop.run()
        finally:
            self._restarts = daemon.restarts
            if daemon.error is not None:
                raise daemon.error
        if loop.interrupted:
            raise KeyboardInterrupt
        run.close()

    # -- what came out ------------------------------------------------------------------------------------------------

    def report(self, seconds: float) -> DemoReport:
        """Write the map and the table, and say what was found.

        Raises EvaluationError if no point has an output, and DaemonError if a result is missing or came twice.
        """
        done = sorted((result for result in self.results if result.error is None), key=lambda result: result.index)
        if not done:
            raise EvaluationError(f"none of {len(self.results)} points could be evaluated: {self.results[0].error}")
        names = [field.name for field in self._parameters]
        points = np.array([[result.input[name] for name in names] for result in done])
        values = [float(result.output) for result in done]
        report = DemoReport(
            points=len(done),
            failed=len(self.results) - len(done),
            best=dict(done[int(np.argmax(values))].input),
            accuracy=max(values),
            seconds=seconds,
            restarts=self._restarts,
            map=self._folder / f"{self.demo.config}.png",
            table=self._folder / f"{self.demo.config}.csv",
        )
        draw_map(report.map, self.demo.question, self._parameters, self._output, points, values)
        self._write_table(report.table, names, done)
        check_complete([(result.seq, result.index) for result in self.results], self.total)
        self._conclude(report)
        return report

    def _write_table(self, file: Path, names: list[str], done: list[Result]) -> None:
        with open(file, "w", newline="", encoding="utf-8") as text:
            rows = csv.writer(text)
            rows.writerow(["index", *names, self._output.name, "worker", "attempt", "started", "finished"])
            for result in done:
                inputs = [result.input[name] for name in names]
                rows.writerow(
                    [
                        result.index,
                        *inputs,
                        result.output,
                        result.worker,
                        result.attempt,
                        f"{result.started:.6f}",
                        f"{result.finished:.6f}",
                    ]
                )

    def _conclude(self, report: DemoReport) -> None:
        def say(text: str) -> None:
            self._console.print(text, highlight=False, soft_wrap=True)

        restarts = {0: "", 1: ", over one restart of the daemon"}.get(
            report.restarts, f", over {report.restarts} restarts of the daemon"
        )
        failed = f" ({report.failed} failed)" if report.failed else ""
        say(f"{report.points} points in {format_duration(report.seconds)}{failed}, none lost, none twice{restarts}.")
        say(f"Best: {self._output.name} [bold]{report.accuracy:.4f}[/] at [bold]{point_text(report.best)}[/]")
        say(f"Map:   {report.map}\nTable: {report.table}")


def check_complete(results: Sequence[tuple[int, int]], total: int) -> None:
    """See that of ``total`` tasks each has one result: ``results`` are (seq, index), in the order in which they came.

    Raises DaemonError.
    """
    seqs = [seq for seq, _ in results]
    times = Counter(index for _, index in results)
    lost = [index for index in range(total) if index not in times]
    twice = [index for index, n in times.items() if n > 1]
    if lost or twice or any(later <= earlier for earlier, later in pairwise(seqs)):
        raise DaemonError(
            f"the results do not add up, which is a mistake in TaskMaster: lost {lost}, twice {twice}, in the order "
            f"{seqs}; please report it"
        )
