"""Our mappers beside each other and beside joblib, on the four workloads of `uneven`; as a table, and as a picture.

The picture, time against size: ``python -m benchmarks.figures.mapping docs/assets/mappers.svg``. Its times are
by the processor's time that the tasks take themselves: 0.5 is what two workers can do at best.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from benchmarks.bench import Bench
from benchmarks.contest import Limits, Round, Row, at_most, compare, interleave, median
from benchmarks.evaluated.functions import spin
from benchmarks.figures.uneven import Workload, workloads
from benchmarks.rig import WORKERS
from taskmaster.learners.mappers import DynamicParallelMapper, GuidedMapper, SerialMapper, StaticParallelMapper
from taskmaster.learners.workmaster import WorkMaster

__all__ = ["Curves", "draw", "mappers", "measured"]

#: Gets the durations spun, and gives their sum.
Work = Callable[[Sequence[float]], float]
#: By workload and mapper: (number of tasks, seconds by seconds of work).
Curves: TypeAlias = dict[str, dict[str, list[tuple[int, float]]]]

STATIC, DYNAMIC, JOBLIB = "StaticParallelMapper", "DynamicParallelMapper", "joblib, loky"
LIMITS: dict[str, Limits] = {
    STATIC: (None, at_most(1.05)),
    DYNAMIC: (None, at_most(1.05)),
    JOBLIB: (None, at_most(1.0)),
}
#: Shares of a full workload's tasks in the picture.
SHARES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
ROUNDS = 5


def mappers(bench: Bench) -> list[Row]:
    """Each workload takes two workers about a second."""
    rows = []
    with _contestants() as works:
        for workload in workloads(bench.size):
            rounds = {name: _timed(workload, work) for name, work in works.items() if name != "SerialMapper"}
            contestants = bench.contestants(rounds.pop("GuidedMapper"), **rounds)
            rows += compare(f"map: {workload.name}", "s", interleave(contestants, bench.rounds), LIMITS)
    return rows


@contextlib.contextmanager
def _contestants() -> Iterator[dict[str, Work]]:
    import joblib

    with contextlib.ExitStack() as stack:
        master = stack.enter_context(WorkMaster(None, workers=WORKERS))
        kinds = (StaticParallelMapper, DynamicParallelMapper, GuidedMapper)
        works: dict[str, Work] = {kind.__name__: _by(stack.enter_context(kind(master))) for kind in kinds}
        parallel: Any = stack.enter_context(joblib.Parallel(WORKERS))
        works["SerialMapper"] = _by(SerialMapper())
        works[JOBLIB] = lambda durations: float(sum(parallel(joblib.delayed(spin)(seconds) for seconds in durations)))
        yield works


def _by(mapper: Callable[..., list[float]]) -> Work:
    return lambda durations: sum(mapper(spin, durations))


def _timed(workload: Workload, work: Work) -> Round:
    """Seconds for all of it. Raises RuntimeError if something was left out."""

    def run() -> float:
        began = time.perf_counter()
        total = work(workload.durations)
        seconds = time.perf_counter() - began
        if not math.isclose(total, sum(workload.durations)):
            raise RuntimeError(f"work of {total:g} s was done, not of {sum(workload.durations):g} s")
        return seconds

    return run


# -- the picture ------------------------------------------------------------------------------------------------------


def measured(shares: Sequence[float] = SHARES, rounds: int = ROUNDS) -> Curves:
    """Each mapper over the sizes."""
    found: Curves = {}
    with _contestants() as works:
        for share in shares:
            for workload in workloads(lambda full, share=share: max(2, round(full * share))):  # type: ignore[misc]
                n, of_all = len(workload.durations), sum(workload.durations)
                curves = found.setdefault(workload.name, {})
                if any(n == size for curve in curves.values() for size, _ in curve):
                    continue  # of the fewest tasks there are as few for the next share
                timed = {name: _timed(workload, work) for name, work in works.items()}
                for name, seconds in interleave(timed, rounds).items():
                    curves.setdefault(name, []).append((n, median(seconds) / of_all))
    return found


def draw(path: str, found: Curves) -> Any:
    """Time by work against the number of tasks; the figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True).flat
    for panel, (name, curves) in zip(panels, found.items()):
        for label, points in curves.items():
            panel.plot(*zip(*points), marker="o", markersize=3, label=label)
        panel.axhline(1 / WORKERS, color="0.7", linestyle=":", zorder=0)
        panel.set(title=name, xscale="log", yscale="log", xlabel="tasks", ylabel="time / work")
        # Of less than a decade there would be ticks like 6 × 10⁻¹.
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        panel.xaxis.set_major_locator(LogLocator())
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
    figure.axes[0].legend()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
    return figure


if __name__ == "__main__":
    draw(sys.argv[1], measured())
