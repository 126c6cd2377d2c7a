"""``taskmaster demo``: learners drive real, parallel evaluations through a daemon, with everything on disk.

Each demonstration is a program of several processes: this one, with the learner; a daemon of its own, with its workers;
and, where instruments take part, their simulators. All of them end with this one, however that ends.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from time import monotonic

from rich.console import Console

from taskmaster.bus.errors import CallerError, StateUnwritable
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.cli.demos.base import Demonstration, DemoReport, Stage
from taskmaster.cli.demos.chambers import ChambersDemo
from taskmaster.cli.demos.stm import ProbeDemo
from taskmaster.cli.demos.svm import ClassifierDemo

__all__ = ["DEMOS", "DemoReport", "run_demo"]

DEMOS: Mapping[str, type[Demonstration]] = {demo.config: demo for demo in (ProbeDemo, ChambersDemo, ClassifierDemo)}

#: What every demo needs beyond TaskMaster, each with the name by which it is imported.
_PACKAGES = (("matplotlib", "matplotlib"), ("scipy", "scipy"), ("threadpoolctl", "threadpoolctl"))


def run_demo(
    which: str = "stm",
    output_folder: str | Path = "demo-output",
    *,
    points: int | None = None,
    state: str | Path | None = None,
    headless: bool = False,
    console: Console | None = None,
) -> DemoReport:
    """Run a demo to its end, print what it does and found, and write a picture and a table into ``output_folder``.

    ``points`` are evaluated, by default as many as fit into a minute on two cores. ``state`` is where the daemon keeps
    its journal: by default a temporary folder; in a folder of one's own an interrupted demo goes on where it was.
    ``headless`` prints plain lines instead of drawing in place, as is done where there is no terminal.

    Raises CallerError for an unknown demo, missing packages or an output folder that cannot be made, StateUnwritable
    for such a state folder, DaemonError if the daemon cannot run or the results do not add up, and KeyboardInterrupt
    when it was interrupted (by Ctrl-C, SIGTERM or SIGHUP), having said so and ended every process.
    """
    kind = _find(which)
    console = console or Console()
    began = monotonic()
    folder = Path(output_folder).absolute()
    if problem := _not_made(folder):
        raise CallerError(f"the output folder {folder} {problem}; name another one by -o")
    demo = kind(Stage(console, folder, console.is_terminal and not headless, points))
    with _ended_as_by_ctrl_c(), _state_folder(state) as place, _calm_algebra():
        try:
            demo.run(place, temporary=state is None)
        except KeyboardInterrupt:
            _say_interrupted(console, demo, None if state is None else place)
            raise
    return demo.report(monotonic() - began)


def _find(which: str) -> type[Demonstration]:
    if which not in DEMOS:
        raise CallerError(f"there is no demo {which!r}{did_you_mean_or(which, DEMOS)}")
    demo = DEMOS[which]
    missing = [package for package, name in (*_PACKAGES, *demo.packages) if importlib.util.find_spec(name) is None]
    if missing:
        raise CallerError(lacking("the demo needs", " ".join(missing), "demo"))
    return demo


def _calm_algebra() -> AbstractContextManager[object]:
    """Keep linear algebra to one thread.

    OpenBLAS has a thread for each processor also for the small matrices of a learner, and they wait for each other by
    spinning. Where processors are few and busy, as they are with heads and a daemon on them, that made adaptive's
    Learner2D ten times as slow.
    """
    from threadpoolctl import threadpool_limits

    importlib.import_module("scipy.linalg")  # brings an OpenBLAS of its own, and only what is loaded can be limited
    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


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


def _not_made(folder: Path) -> str:
    """Make a folder, if need be, to write into; why that cannot be done, if it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "cannot be written into"


@contextmanager
def _state_folder(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        folder = Path(given).absolute()
        if problem := _not_made(folder):
            raise StateUnwritable(f"the state folder {folder} {problem}; name another one by --state")
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="taskmaster-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _say_interrupted(console: Console, demo: Demonstration, kept: Path | None) -> None:
    console.print(
        f"\nInterrupted after {demo.reached} of {demo.total} points. "
        "The daemon and its workers have been ended; nothing runs on."
    )
    if kept is not None:
        console.print(f"What was measured is kept: go on with the same state folder, {kept}", soft_wrap=True)
